"""Opening an analyser of a manager: at once, or by repeated attempts until it is reached."""

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict

import attrs

from servomex.analyzer.analyzer import Analyzer
from servomex.analyzer.opening import ids_of, meet, open_device, pointing_to_help, source_of
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexChannelError,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexForeignDeviceError,
    ServomexGatewayError,
    ServomexModbusError,
    ServomexTimeoutError,
)
from servomex.models.frame import Frame
from servomex.models.naming import needed
from servomex.models.tags import NO_TAGS
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log
from servomex.settings import Parity, SerialSettings

if TYPE_CHECKING:
    from servomex.analyzer.detect import Detection, Search

_log = package_log("servomex")

PROBE_S = 0.5
"""Time limit of the question that probes one that did not answer; longer where the line needs more."""
LOOK_S = 0.001
"""How long to wait for a continuous analyser that fell silent: its thread listens all the time."""
WAITS_S = (0.15, 2.4)
"""How long the reply of one that was never heard may take to begin; doubled while other bytes arrive."""
AGAIN_S = 0.4
"""Pause between two attempts to reach an analyser that was never heard. Once there, it is read within 2 s."""
LISTEN_AGAIN_S = 0.2
"""The same where its mode is known to be continuous: its thread listens, and an attempt is only a check."""
UNFIT_S = (1.0, 10.0)
"""First and longest pause after an answer that is not from the wanted analyser; it doubles."""
SEARCH_LISTEN_S = 0.05
"""How long to listen for a broadcast after the probes of a search, so that they do not fill the line."""
SEARCH_STEP_S = 4.0
"""The longest that one round of a search may take: within the time that a thread has to end."""
_UNFIT = (ServomexForeignDeviceError, ServomexChannelError, ServomexConfigurationError, ServomexModbusError)
"""Errors which show that something is there, but not what is wanted."""


class OpenOptions(TypedDict, total=False):
    """The options of :meth:`ServomexManager.add`, where they are explained."""

    protocol: ProtocolKind | str
    address: int
    serial_settings: SerialSettings | None
    baudrate: int | None
    bytesize: int | None
    parity: Parity | None
    stopbits: int | None
    rtscts: bool | None
    xonxoff: bool | None
    exclusive: bool | None
    timeout: float | None
    identify: bool
    channels: Iterable[ChannelId | str] | None
    retries: int
    gap: float | None
    listen: float
    auto_reconnect: bool | None
    tags: Mapping[str, str] | None


@attrs.frozen(kw_only=True)
class Options:
    """How an analyser is to be opened: the options of :meth:`ServomexManager.add`, checked."""

    protocol: ProtocolKind = ProtocolKind.AUTO
    address: int = 1
    serial_settings: SerialSettings | None = None
    timeout: float | None = None
    identify: bool = True
    channels: tuple[ChannelId | str, ...] | None = None
    retries: int = 2
    gap: float | None = None
    listen: float = 10.0
    auto_reconnect: bool | None = None
    tags: Mapping[str, str] = NO_TAGS

    def open(self, name: str, link: SerialLink, protocol: ProtocolKind) -> Analyzer:
        """Open the analyser on an open link, in a mode that is known or yet to be found."""
        return open_device(
            link,
            protocol=protocol,
            address=self.address,
            timeout=self.timeout,
            identify=self.identify,
            channels=self.channels,
            retries=self.retries,
            listen=self.listen,
            name=name,
            tags=self.tags,
        )

    def build(
        self,
        name: str,
        link: SerialLink,
        protocol: ProtocolKind,
        channels: frozenset[ChannelId] | None,
        first: Frame | None = None,
    ) -> Analyzer:
        """Return the analyser in a known mode, on a link that may not be open, without any input or output."""
        return Analyzer(
            link,
            source_of(link, protocol, self.address, self.retries, channels, first),
            timeout=self.timeout,
            owns_link=False,
            name=name,
            tags=self.tags,
        )


class Awaited:
    """An analyser that was never reached: why not, and the attempts to reach it.

    Only the thread of its port calls :meth:`search` and :meth:`meet`; each takes a bounded time.

    Args:
        name: The analyser's name.
        link: Its port.
        options: How it is to be opened.
        protocol: Its mode; ``AUTO`` when that is yet to be found.
        missing: Why its port could not be opened, where that was tried.

    Attributes:
        options: How it is to be opened.
        analyzer: The analyser; ``None`` before its mode is known, and before it has shown which channels have the
            requested names.
        reason: Why it was not reached; ``None`` before the first attempt.
        due: When to try again, on ``time.monotonic()``.
    """

    def __init__(
        self,
        name: str,
        link: SerialLink,
        options: Options,
        protocol: ProtocolKind,
        missing: ServomexError | None = None,
    ) -> None:
        self.options = options
        self.analyzer: Analyzer | None = None
        self.reason: ServomexError | None = None
        self.due: float = time.monotonic()
        self._since = self.due
        self._name = name
        self._link = link
        self._contact: Analyzer | None = None  # which reads all channels if names were requested
        self._unfit = 0
        self._search: Search | None = None
        self._searched_from = 0.0
        self._heard = 0
        self._given_up = False
        self._taking = threading.Lock()
        if protocol is not ProtocolKind.AUTO:
            self.take_mode(protocol)
        if missing is not None:
            self.note(missing)

    @property
    def protocol(self) -> ProtocolKind:
        """Its mode; ``AUTO`` before it is known."""
        return self._contact.protocol if self._contact else ProtocolKind.AUTO

    @property
    def address(self) -> int | None:
        """Modbus slave address, also before the mode is known; ``None`` in continuous mode."""
        return self._contact.mode.address if self._contact else self.options.address

    @property
    def context(self) -> ErrorContext:
        """Where it is."""
        return ErrorContext(self._link.port, self.protocol, self.address).merged(device=self._name)

    @property
    def is_tried(self) -> bool:
        """Whether it was tried, so that the reason is known."""
        return self.reason is not None

    def take_mode(self, protocol: ProtocolKind, first: Frame | None = None) -> None:
        """Make the analyser, now that its mode is known. Any thread may call it; the first call counts.

        Args:
            protocol: The mode.
            first: The broadcast by which it was found.
        """
        with self._taking:
            if self._contact is None and not self._given_up:
                ids = ids_of(self.options.channels)
                self._contact = self.options.build(self._name, self._link, protocol, ids, first)
                if ids is not None or self.options.channels is None:
                    self.analyzer = self._contact
                self.due = time.monotonic()

    def close(self) -> None:
        """Stop making an analyser, and close the one that was made.

        Raises:
            ServomexError: Its thread did not end.
        """
        with self._taking:
            self._given_up = True
            contact = self._contact
        if contact:
            contact.close()

    def search(self, wait_s: float) -> "Detection":
        """Search for the mode once, by reads. The bytes heard are kept for the next search.

        Args:
            wait_s: How long a reply may take to begin.

        Raises:
            ServomexNotFoundError: Nothing was found.
            ServomexConnectionError: The port is closed or lost.
            ServomexTimeoutError: Others kept the port busy.
        """
        from servomex.analyzer.detect import BroadcastListener, Search

        now = time.monotonic()
        if self._search is None:
            self._search, self._searched_from = Search(self._link, self.options.address), now
        elif now - self._searched_from > self.options.listen and self._is_quiet(self._search):
            self._search.listener, self._searched_from, self._heard = BroadcastListener(), now, 0
        with self._link.conversation(now + PROBE_S):
            found = self._search.look(wait_s, SEARCH_LISTEN_S, time.monotonic() + SEARCH_STEP_S)
        if found is None:
            with pointing_to_help():
                raise self._search.nothing_found(time.monotonic() - self._searched_from)
        return found

    def _is_quiet(self, search: "Search") -> bool:
        """Whether nothing arrived in the last round: a broadcast under way must not be cut in two."""
        heard, self._heard = self._heard, search.listener.bytes_heard
        return heard == self._heard

    def meet(self, wait_s: float) -> None:
        """Get a first answer from the analyser, and identify it if that is wanted.

        Args:
            wait_s: How long a reply to the first question may take to begin.

        Raises:
            ServomexError: It does not answer, or another device does.
        """
        contact = self._contact
        if contact is None:
            raise self._removed()
        look_s = LOOK_S if self.is_tried else PROBE_S
        with pointing_to_help():
            contact.mode.get_first_answer(wait_s)
        if self.options.identify or self.analyzer is None:
            meet(contact, look_s, self.options.channels)
        elif contact.mode.broadcasts:
            contact.poll(timeout=look_s)
        if self.analyzer is None:
            self._select(contact)

    def _select(self, contact: Analyzer) -> None:
        """Make the analyser that reads only the channels with the requested names."""
        frame, broadcast = contact.snapshot(), contact.mode.latest
        ids = frozenset(ChannelId(needed(frame.readings, item).channel) for item in self.options.channels or ())
        contact.close()
        with self._taking:
            if self._given_up:
                raise self._removed()
            self.analyzer = self._contact = self.options.build(
                self._name, self._link, contact.protocol, ids, broadcast
            )
        if self.options.identify:
            meet(self.analyzer, LOOK_S, self.options.channels)

    def _removed(self) -> ServomexError:
        return ServomexConnectionError("the analyser was removed from the manager", self.context)

    def note(self, error: ServomexError) -> None:
        """Keep why it was not reached, report it the first time, and set when to try again."""
        first, self.reason = self.reason is None, error
        now = time.monotonic()
        if not self._link.is_open:
            self.due = now + max(LISTEN_AGAIN_S, self._link.retry_in_s)
        elif isinstance(error, _UNFIT) and not isinstance(error, ServomexGatewayError):
            shortest, longest = UNFIT_S
            self.due = now + min(longest, shortest * 2 ** min(self._unfit, 16))
            self._unfit += 1
        elif self._contact is None:
            self.due = now
        else:
            self._unfit = 0
            self.due = now + (LISTEN_AGAIN_S if self._contact.mode.broadcasts else AGAIN_S)
        if first:
            _log.warning("%s: %s", self._name, self.error())

    def note_reached(self) -> None:
        """Report that it was reached, if it was reported as not reached before."""
        if self.is_tried:
            _log.warning("%s: reached after %.1f s", self._name, time.monotonic() - self._since)

    def error(self) -> ServomexError:
        """Return the error of its readings: that it was not reached yet, and why."""
        reason = self.reason or ServomexTimeoutError("it was not tried yet")
        message = f"it was not reached yet: {reason.message}"
        return type(reason)(message, self.context, cure=reason.cure, argument=reason.argument)


def refused(awaited: Awaited, others: str) -> ServomexConfigurationError:
    """Return the error of an analyser that broadcasts on a port that has others."""
    return ServomexConfigurationError(
        f"a broadcast was heard, and an analyser in continuous mode must be alone on its port: {others} is there "
        "too",
        awaited.context,
        cure="Set it to Modbus on its panel, or remove the others",
    )
