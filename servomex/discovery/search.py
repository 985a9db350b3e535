"""Discovery: which analysers are on which ports, found by listening and by reads only."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import attrs

from servomex.analyzer.detect import FRAMINGS
from servomex.discovery.survey import Place, Survey
from servomex.enums import ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexConnectionError,
    ServomexError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.errors.validation import choice, seconds, whole
from servomex.models.info import DeviceInfo
from servomex.models.plain import json_value
from servomex.port.link import SerialLink
from servomex.port.names import PortInfo, present_ports, usb_identity
from servomex.runtime.clock import time
from servomex.runtime.locks import Signal
from servomex.runtime.logs import package_log
from servomex.runtime.worker import Worker
from servomex.settings import SerialSettings
from servomex.traffic.symptoms import Symptom

_log = package_log("servomex")

AT_ONCE = 16
"""How many ports are searched at the same time."""
TICK_S = 0.1
"""How often the progress of the threads is checked."""
STOP_S = 15.0
"""How long a thread may take to end: opening a network address cannot be interrupted."""
_MODES = (ProtocolKind.CONTINUOUS_ASCII, *FRAMINGS)
_FRAMING_NAMES = {ProtocolKind.MODBUS_RTU: "Modbus RTU", ProtocolKind.MODBUS_ASCII: "Modbus ASCII"}

V = TypeVar("V")
C = TypeVar("C")
OnProgress = Callable[[int, int], None]


@attrs.frozen
class DiscoveryResult:
    """An analyser that was found, or what was found in its place.

    Attributes:
        port: The port, by the name used for the search.
        usb: The USB adapter of the port; ``None`` when there is none or it is unknown.
        info: The analyser with its channels; ``None`` when there is none.
        address: Modbus slave address that answers, whether an analyser or not; ``None`` for a broadcast, and when
            the result is about the whole port.
        error: Why there is no analyser; ``None`` when there is one.
    """

    port: str
    usb: PortInfo | None
    info: DeviceInfo | None
    address: int | None
    error: ServomexError | None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object, as ``servomex discover --format json`` prints it."""
        info = self.info
        own = {
            "port": self.port,
            "protocol": info.protocol if info else None,
            "baudrate": info.serial_settings.baudrate if info else None,
            "address": self.address,
            "channels": info.channels if info else [],
            "usb": self.usb,
            "error": None if self.error is None else str(self.error),
            "error_type": None if self.error is None else type(self.error).__name__,
        }
        return {name: json_value(value) for name, value in own.items()}

    @property
    def ok(self) -> bool:
        """Whether an analyser was found."""
        return self.info is not None

    @property
    def protocol(self) -> ProtocolKind | None:
        """The communication mode of the analyser; ``None`` when there is none."""
        return self.info.protocol if self.info else None

    @property
    def is_broadcaster(self) -> bool:
        """Whether the analyser broadcasts, so that it is alone on its port and has no address."""
        return self.protocol is ProtocolKind.CONTINUOUS_ASCII

    def __str__(self) -> str:
        """Return one line of text: which analyser was found, or why there is none."""
        if self.info is not None:
            return str(self.info)
        address = "" if self.address is None else f", address {self.address}"
        return f"{self.port}{address}: {self.error.text if self.error else 'no analyser'}"


@attrs.frozen
class _Request:
    """What to search every port for."""

    addresses: tuple[int, ...]
    baudrates: tuple[int, ...]
    framings: tuple[ProtocolKind, ...]
    listen_s: float | None

    @property
    def places(self) -> list[Place]:
        """The addresses and framings to ask on each line."""
        return [Place(address, framing) for address in self.addresses for framing in self.framings]

    @property
    def steps_per_line(self) -> int:
        """The progress steps of a port at one baud rate."""
        return max(1, len(self.places))

    @property
    def steps(self) -> int:
        """The progress steps of a port."""
        return self.steps_per_line * len(self.baudrates)


def find_devices(
    ports: Iterable[str | os.PathLike[str]] | None = None,
    *,
    addresses: Iterable[int] = (1,),
    baudrates: Iterable[int] = (19200,),
    protocols: Iterable[ProtocolKind | str] | None = None,
    listen: float = 2.5,
    on_progress: OnProgress | None = None,
) -> list[DiscoveryResult]:
    """Search ports for analysers, all at the same time.

    Each port is opened at one baud rate after the other, until an analyser is found. At each rate every address is
    asked for two bits in Modbus RTU and in Modbus ASCII, while all incoming bytes are searched for a broadcast.
    Nothing that changes an analyser is sent, and nothing at all once a broadcast is heard. A silent address takes
    some 0.3 s in each framing.

    Args:
        ports: The ports, by any name that :func:`open_device` takes; all that are present when ``None``.
        addresses: Modbus slave addresses, 1 to 247.
        baudrates: 300 to 115200, each with 8 data bits, no parity and 1 stop bit.
        protocols: Which of ``continuous``, ``modbus_rtu`` and ``modbus_ascii`` to look for; all when ``None``.
        listen: Seconds to listen for a broadcast, from the opening and again once one is heard.
        on_progress: Called in this thread with the number of questions done, and the total.

    Returns:
        One result for each analyser, for each address at which something else answers, and for each port on
        which nothing was found or which could not be opened; in the order of the ports.

    Raises:
        ServomexValidationError: An argument is out of range. No port was opened.
    """
    request = _request(addresses, baudrates, protocols, listen)
    if ports is None:
        ports = [info.device for info in present_ports()]
    names = _listed(ports, "ports", _port_name, empty=True)
    searches = [_Search(name, request) for name in names]
    _run_all(searches, on_progress)
    return [result for search in searches for result in search.results]


def discover_port(
    port: str | os.PathLike[str],
    *,
    addresses: Iterable[int] = (1,),
    baudrates: Iterable[int] = (19200,),
    protocols: Iterable[ProtocolKind | str] | None = None,
    listen: float = 2.5,
    on_progress: OnProgress | None = None,
) -> list[DiscoveryResult]:
    """Search one port for analysers in the calling thread: :func:`find_devices` for a single port.

    Arguments, results and errors are those of :func:`find_devices`. A port that fails to open is a result.
    """
    request = _request(addresses, baudrates, protocols, listen)
    search = _Search(_port_name(port), request, on_progress)
    search.run()
    return search.results


def _request(
    addresses: Iterable[int],
    baudrates: Iterable[int],
    protocols: Iterable[ProtocolKind | str] | None,
    listen: float,
) -> _Request:
    """Return the checked request of a search."""
    modes = _MODES if protocols is None else _listed(protocols, "protocols", _mode)
    listen_s = seconds(listen, "listen")
    return _Request(
        _listed(addresses, "addresses", lambda value: whole(value, "address", 1, 247)),
        _listed(baudrates, "baudrates", lambda value: whole(value, "baudrate", 300, 115200)),
        tuple(framing for framing in FRAMINGS if framing in modes),
        listen_s if ProtocolKind.CONTINUOUS_ASCII in modes else None,
    )


def _mode(value: ProtocolKind | str) -> ProtocolKind:
    kind = choice(ProtocolKind, value, "protocol")
    if kind is ProtocolKind.AUTO:
        raise ServomexValidationError(f"protocols may be {', '.join(_MODES)}; omit them to look for all")
    return kind


def _port_name(port: str | os.PathLike[str]) -> str:
    if not isinstance(port, str | os.PathLike) or not os.fspath(port):
        raise ServomexValidationError(f"a port to search must be a path or a URL, not {port!r}")
    return os.fspath(port)


def _listed(values: Iterable[V], what: str, check: Callable[[V], C], *, empty: bool = False) -> tuple[C, ...]:
    """Check each of several values, and drop duplicates.

    Raises:
        ServomexValidationError: It is not a list, or an empty one, or a value is invalid.
    """
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise ServomexValidationError(
            f"{what} must be a list, even for a single one, not {values!r}", cure=f"Write [{values!r}]"
        )
    checked = tuple(dict.fromkeys(map(check, values)))
    if not checked and not empty:
        raise ServomexValidationError(f"an empty list of {what} finds nothing")
    return checked


class _Search:
    """The search of one port: in the calling thread by :meth:`run`, or by its ``worker``.

    Attributes:
        results: What was found, once it has ended.
        steps_done: The progress so far.
        ended: Set when the worker has ended.
    """

    def __init__(self, port: str, request: _Request, on_progress: OnProgress | None = None) -> None:
        self.results: list[DiscoveryResult] = []
        self.steps_done = 0
        self.ended = Signal()
        self.worker = Worker(f"servomex-discovery {port}", self._work)
        self._port = port
        self._request = request
        self._on_progress = on_progress
        self._surveys: list[Survey] = []
        self._link: SerialLink | None = None
        self._cancelled = False

    @property
    def steps(self) -> int:
        """The progress steps in all."""
        return self._request.steps

    def cancel(self) -> None:
        """End the worker as soon as possible: closing the link ends its waits."""
        self._cancelled = True
        if self._link is not None:
            self._link.close()

    def run(self) -> None:
        """Search the port; an error is a result as well."""
        started = time.monotonic()
        usb: PortInfo | None = None
        failure: ServomexError | None = None
        try:
            usb = usb_identity(self._port)
            self._search()
        except ServomexError as error:
            failure = error
        found = sorted(
            (item for survey in self._surveys for item in survey.findings), key=lambda item: item.address or 0
        )
        self.results = [DiscoveryResult(self._port, usb, item.info, item.address, item.error) for item in found]
        if failure or not found:
            failure = failure or _nothing_found(
                self._port, self._request, self._surveys, time.monotonic() - started
            )
            self.results.append(DiscoveryResult(self._port, usb, None, None, failure))
        self._advance_to(self.steps)

    def _work(self, _stopping: threading.Event) -> None:
        try:
            self.run()
        finally:
            self.ended.set()

    def _search(self) -> None:
        """Search at one baud rate after the other, until an analyser is found."""
        for number, baudrate in enumerate(self._request.baudrates, 1):
            survey = self._survey(baudrate)
            if survey.successful:
                self._surveys = [survey]
                return
            self._advance_to(number * self._request.steps_per_line)

    def _survey(self, baudrate: int) -> Survey:
        _log.info("%s: searching at %d baud", self._port, baudrate)
        self._link = SerialLink(self._port, SerialSettings(baudrate=baudrate), auto_reconnect=False)
        with self._link as link:
            if self._cancelled:
                raise ServomexConnectionError("the search was cancelled", ErrorContext(port=self._port))
            survey = Survey(link, self._request.places, self._request.listen_s, self._advance)
            self._surveys.append(survey)
            survey.run()
        return survey

    def _advance(self) -> None:
        self._advance_to(self.steps_done + 1)

    def _advance_to(self, steps: int) -> None:
        news = steps != self.steps_done
        self.steps_done = steps
        if news and self._on_progress is not None:
            self._on_progress(steps, self.steps)


def _run_all(searches: Sequence[_Search], on_progress: OnProgress | None) -> None:
    """Run all searches, some at a time; an interruption ends them and closes their ports."""
    waiting = deque(searches)
    running: list[_Search] = []
    reported = 0
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(waiting.popleft())
                running[-1].worker.start()
            running[0].ended.wait(TICK_S)
            running = [search for search in running if not search.ended.is_set()]
            reported = _report(searches, reported, on_progress)
    except BaseException:
        for search in searches:
            search.cancel()
        raise
    finally:
        for search in searches:
            search.worker.stop(STOP_S)
    for search in searches:
        if search.worker.error is not None:
            raise search.worker.error


def _report(searches: Sequence[_Search], reported: int, on_progress: OnProgress | None) -> int:
    """Report the progress of all searches if there was any since the last report."""
    done = sum(search.steps_done for search in searches)
    if on_progress is not None and done != reported:
        on_progress(done, sum(search.steps for search in searches))
    return done


def _nothing_found(
    port: str, request: _Request, surveys: Sequence[Survey], elapsed_s: float
) -> ServomexTimeoutError:
    """Return the error with what was tried, and what was seen at the baud rate where most was seen."""
    best = max(surveys, key=lambda item: (item.listener.broadcast, bool(item.echo), item.listener.bytes_heard))
    rates = ", ".join(map(str, request.baudrates))
    tried = "" if best.listener.broadcast else f": {_unanswered(request)}"
    verdict = best.listener.verdict(best.echo)
    if best.listener.broadcast and request.listen_s is None:
        seen = "a broadcast was heard: the analyser is in continuous mode, which was not looked for"
        verdict = Symptom(seen, f"Search with {Argument('protocols')} that include it")
    return ServomexTimeoutError(
        f"no analyser found in {elapsed_s:.1f} s at {rates} baud{tried}; {verdict.seen}",
        ErrorContext(port=port),
        cure=verdict.cure,
    )


def _unanswered(request: _Request) -> str:
    tried = []
    if request.framings:
        framings = " or ".join(_FRAMING_NAMES[framing] for framing in request.framings)
        tried.append(f"nothing answered {framings} at {_address_text(request.addresses)}")
    if request.listen_s is not None:
        tried.append("no broadcast arrived (its frame frequency may be longer, or 0)")
    return ", and ".join(tried)


def _address_text(addresses: tuple[int, ...]) -> str:
    if len(addresses) == 1:
        return f"address {addresses[0]}"
    first, last = min(addresses), max(addresses)
    if last - first + 1 == len(addresses):
        return f"addresses {first} to {last}"
    return f"{len(addresses)} addresses from {first} to {last}"
