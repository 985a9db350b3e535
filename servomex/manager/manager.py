"""ServomexManager: several analysers on one or more ports, each port with a thread of its own."""

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from servomex.analyzer.analyzer import Analyzer
from servomex.enums import ChannelId, ErrorPolicy, ProtocolKind
from servomex.errors import (
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexValidationError,
)
from servomex.errors.validation import choice, flag, seconds, whole
from servomex.manager.joining import Entry, Source, joined, leave
from servomex.manager.member import Member
from servomex.manager.port import SharedPort
from servomex.manager.reaching import OpenOptions, Options
from servomex.manager.rounds import DeviceResult, Round, failed_row, raise_failures
from servomex.models.frame import Frame
from servomex.models.naming import asked_channels
from servomex.models.sample import Sample
from servomex.models.tags import name_of, tags_of
from servomex.port.link import SerialLink
from servomex.runtime.at_exit import at_exit
from servomex.runtime.forks import ProcessBound
from servomex.settings import Parity, SerialSettings, settings_given

T = TypeVar("T")


class ServomexManager(ProcessBound):
    """Several analysers, on one line or on many ports, read with one call. A context manager.

    The analysers on one port are read one after the other, by a thread that belongs to the port; the ports are
    read at the same time. Each analyser has its own ``timeout``, which begins when its turn comes.

    An analyser that does not answer costs the others on its line its timeout once. Then it is skipped, for 1 s
    at first and up to 60 s; after each such pause it is asked for its state, which takes half a second, and is
    read again as soon as it answers anything. Meanwhile its result is a fresh error that says so. A port that is
    lost delays no call: its analysers fail at once until it is back.

    Any thread may call any method, but an operation of :meth:`execute_each` may not: it runs in the thread that
    the call would wait for.

    Args:
        error_policy: ``raise``: when analysers fail, a call reads all the others first, and then raises an
            ``ExceptionGroup`` of all failures. ``return``: each result carries its error. Either way the error's
            ``context.extra["device"]`` is the name of its analyser; one that is not a :class:`ServomexError` gets
            a note that names it, when it is raised.

    Raises:
        ServomexValidationError: The policy is unknown.
    """

    def __init__(self, *, error_policy: ErrorPolicy | str = ErrorPolicy.RAISE) -> None:
        self._closed = True
        self._error_policy = choice(ErrorPolicy, error_policy, "error policy")
        self._changing = threading.Lock()
        self._entries: dict[str, Entry] = {}  # replaced and never changed, so that calls need no lock
        self._opening: SerialLink | None = None
        self._closed = False
        at_exit(self._close_forgotten)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the analysers, in the order in which they were added."""
        return tuple(self._entries)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    @property
    def error_policy(self) -> ErrorPolicy:
        """What happens with errors."""
        return self._error_policy

    @overload
    def add(
        self, name: str, source: Source, *, wait: Literal[True] = ..., **options: Unpack[OpenOptions]
    ) -> Analyzer: ...

    @overload
    def add(self, name: str, source: Source, *, wait: bool, **options: Unpack[OpenOptions]) -> Analyzer | None: ...

    def add(
        self,
        name: str,
        source: Source,
        *,
        protocol: ProtocolKind | str = ProtocolKind.AUTO,
        address: int = 1,
        serial_settings: SerialSettings | None = None,
        baudrate: int | None = None,
        bytesize: int | None = None,
        parity: Parity | None = None,
        stopbits: int | None = None,
        rtscts: bool | None = None,
        xonxoff: bool | None = None,
        exclusive: bool | None = None,
        timeout: float | None = None,
        identify: bool = True,
        channels: Iterable[ChannelId | str] | None = None,
        retries: int = 2,
        gap: float | None = None,
        listen: float = 10.0,
        auto_reconnect: bool | None = None,
        tags: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Analyzer | None:
        """Open an analyser and add it under a name.

        A port is opened once and shared by all analysers that are added on it, by whichever of its names. It is
        closed with the last of them. A :class:`SerialLink` or an :class:`Analyzer` that is passed in remains the
        caller's, who closes it after the manager. Analysers that are here already are read meanwhile; on the
        same port they wait for each other.

        Args:
            name: Its name in results, errors and samples, 1 to 128 characters on one line.
            source: A port, as for :func:`open_device`; a link that was opened; or an analyser that was opened, for
                which no other option may be given.
            protocol: The communication mode. On a port that has analysers already, ``auto`` means theirs. An
                analyser in continuous mode must be alone on its port.
            address: Modbus slave address, 1 to 247; each occurs once on a port.
            serial_settings: 19200 8N1 when omitted, or those of the port in use, from which they may not differ.
            baudrate: This and the next six are single fields of :class:`SerialSettings`, as for
                :func:`open_device`.
            bytesize: Data bits, 7 or 8.
            parity: ``N``, ``E`` or ``O``.
            stopbits: 1 or 2.
            rtscts: Hardware flow control.
            xonxoff: Software flow control.
            exclusive: Take the port for this program alone.
            timeout: Seconds that each call may take; see :attr:`Analyzer.timeout_s` for the default.
            identify: Read the channels, which proves that the analyser is there.
            channels: Read only these; all that are populated when omitted.
            retries: How often a Modbus read is repeated within its deadline, 0 to 10.
            gap: Seconds of silence before each Modbus request, 0 to 10; 0.05 when omitted, or that of the port in
                use, from which it may not differ.
            listen: Seconds to wait for the first broadcast, and for ``auto`` to find the mode.
            auto_reconnect: Reopen a port that was unplugged; ``True`` when omitted, or as the port in use does.
            tags: Added to every row of the analyser, as for :func:`open_device`.
            wait: Wait for the analyser, and raise an error if it or its port is not there. With ``False`` it is
                added at once. Until it is reached, which the thread of its port tries repeatedly, its result is
                an error that says why it was not; only an error that cannot resolve itself is raised here.

        Returns:
            The analyser. The manager closes it, unless it was passed in. ``None`` with ``wait=False`` when
            ``auto`` has not found its mode yet; :meth:`get` returns it once it was reached.

        Raises:
            ServomexValidationError: An argument is out of range, the name or the address is taken, or a channel
                of ``channels`` is not populated.
            ServomexConfigurationError: The port is used in another mode or with other settings.
            ServomexConnectionError: The port is missing, busy or forbidden, or the manager is closed.
            ServomexNotFoundError: No analyser was found, with ``auto``.
            ServomexTimeoutError: The analyser did not answer in the given mode.
            ServomexFrameError: The replies are damaged.
        """
        serial = settings_given(serial_settings, baudrate, bytesize, parity, stopbits, rtscts, xonxoff, exclusive)
        options = Options(
            protocol=choice(ProtocolKind, protocol, "protocol"),
            address=whole(address, "address", 1, 247),
            serial_settings=serial,
            timeout=None if timeout is None else seconds(timeout, "timeout"),
            identify=flag(identify, "identify"),
            channels=None if channels is None else asked_channels(channels),
            retries=whole(retries, "retries", 0, 10),
            gap=None if gap is None else seconds(gap, "gap", zero=True),
            listen=seconds(listen, "listen"),
            auto_reconnect=None if auto_reconnect is None else flag(auto_reconnect, "auto_reconnect"),
            tags=tags_of(tags),
        )
        return self._join(name, source, options, wait=flag(wait, "wait"))

    def get(self, name: str) -> Analyzer:
        """Return an analyser by its name.

        Raises:
            ServomexValidationError: There is none of this name; the error lists the existing ones.
            ServomexError: It was added with ``wait=False``, and its mode has not been found yet; the error is that
                of its readings.
        """
        return self._entry(name).member.known

    def remove(self, name: str) -> None:
        """Remove an analyser, and close what the manager opened for it: with the last one, the port.

        A call that is reading it ends with its result or a :class:`ServomexConnectionError`.

        Raises:
            ServomexValidationError: There is none of this name.
            ServomexError: The thread of its port did not end within 5 s: an operation does not return, or a
                reading on a link that was passed in, which only its owner can end.
        """
        self._check_usable()
        with self._changing:
            self._leave(self._entry(name))

    def poll(
        self, names: Iterable[str] | None = None, *, timeout: float | None = None
    ) -> dict[str, DeviceResult[Frame]]:
        """Read all channels of analysers.

        Args:
            names: Those to read; all when ``None``.
            timeout: Seconds that each analyser's own reading may take, as for :meth:`Analyzer.poll`. Waiting for
                its turn on its port is extra.

        Returns:
            The results by name, in the order of ``names``.

        Raises:
            ExceptionGroup: Some failed, and the policy is ``raise``.
            ServomexValidationError: A name is unknown, or the timeout is out of range.
            ServomexConnectionError: The manager is closed.
        """
        limit_s = None if timeout is None else seconds(timeout, "timeout")
        return self._results(self._chosen(names), Round(lambda member: member.poll(limit_s), reads=True))

    def poll_samples(
        self,
        *,
        names: Iterable[str] | None = None,
        timeout: float | None = None,
        error_policy: ErrorPolicy | str | None = None,
    ) -> list[Sample]:
        """Read analysers and return one :class:`Sample` per channel, as rows for a recording.

        With the policy ``return``, an analyser that failed has one sample with its error instead.

        Args:
            names: The analysers to read; all when ``None``.
            timeout: As for :meth:`poll`.
            error_policy: The policy for this call; that of the manager when ``None``. A recording reads with
                ``return``.

        Raises:
            ExceptionGroup: Some failed, and the policy is ``raise``.
            ServomexValidationError: A name or the policy is unknown, or the timeout is out of range.
            ServomexConnectionError: The manager is closed.
        """
        entries = self._chosen(names)
        limit_s = None if timeout is None else seconds(timeout, "timeout")
        policy = None if error_policy is None else choice(ErrorPolicy, error_policy, "error policy")
        results = self._results(entries, Round(lambda member: member.poll(limit_s), reads=True), policy)
        rows: list[Sample] = []
        for member in (entry.member for entry in entries):
            frame, error = results[member.name].value, results[member.name].error
            if frame is None:
                rows.append(failed_row(member, error))
            else:
                rows += frame.as_samples(device=member.name, metadata=member.tags)
        return rows

    def execute_each(
        self, op: Callable[[Analyzer], T], names: Iterable[str] | None = None
    ) -> dict[str, DeviceResult[T]]:
        """Call an operation with each analyser, in the thread of its port.

        It is also called when an analyser does not answer or its port is lost: what it does, such as stopping
        a calibration, must not be skipped because of what happened before. Its errors and what the line showed
        count like those of a reading. As long as it lasts, the port does nothing else for the manager.

        Args:
            op: Called with the analyser. It must not call the manager.
            names: The analysers; all when ``None``.

        Returns:
            The results by name, in the order of ``names``.

        Raises:
            ExceptionGroup: It failed for some, and the policy is ``raise``.
            BaseException: It raised something that is not an ``Exception``, such as ``SystemExit``; no further
                analyser is called then.
            ServomexValidationError: A name is unknown, or ``op`` is not callable.
            ServomexConnectionError: The manager is closed.
        """
        if not callable(op):
            raise ServomexValidationError(f"op must be callable with an analyser, not {op!r}")
        return self._results(self._chosen(names), Round(lambda member: member.operate(op), reads=False))

    def close(self) -> None:
        """Close what the manager has opened, and end its threads. Calls that wait end with an error.

        May be called twice, and by any thread except that of an operation.

        Raises:
            ServomexError: The thread of a port did not end within 5 s, as for :meth:`remove`. The rest is closed.
        """
        if not self.made_here:
            return
        self._check_caller()
        self._closed = True
        if (link := self._opening) is not None:
            link.close()  # ends an add() that waits for its analyser
        with self._changing, contextlib.ExitStack() as rest:
            entries = list(self._entries.values())
            for entry in entries:
                entry.port.end()
                rest.callback(self._leave, entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._close_forgotten()

    def _close_forgotten(self) -> None:
        if self._closed or not self.made_here or not self._entries:
            return
        warnings.warn(
            f"the manager of {', '.join(self._entries)} was never closed: use 'with', or call close()",
            ResourceWarning,
            stacklevel=1,
        )
        if not sys.is_finalizing():  # its threads are stopped by then, and waiting for them would hang
            self.close()

    def __repr__(self) -> str:
        return f"<ServomexManager {'closed' if self._closed else ', '.join(self._entries) or 'empty'}>"

    def _check_usable(self) -> None:
        self.check_process()
        self._check_caller()
        if self._closed:
            raise ServomexConnectionError("the manager was closed")

    def _check_caller(self) -> None:
        if any(entry.port.is_calling for entry in self._entries.values()):
            raise ServomexConfigurationError(
                "an operation must not call the manager in whose thread it runs: use the analyser passed to it"
            )

    def _join(self, name: str, source: Source, options: Options, *, wait: bool) -> Analyzer | None:
        self._check_usable()
        with self._changing:
            self._check_usable()
            if name_of(name) in self._entries:
                raise ServomexValidationError(f"there is an analyser {name!r} already", cure="Remove it first")
            here = self._entries
            try:
                with joined(name, source, options, here.values(), wait=wait, watch=self._watch) as entry:
                    self._entries = {**here, name: entry}
            except ServomexError as error:
                error.context = error.context.merged(device=name)
                raise
            else:
                return entry.member.analyzer
            finally:
                self._opening = None

    def _entry(self, name: str) -> Entry:
        self.check_process()
        if self._closed:
            raise ServomexConnectionError("the manager was closed")
        entry = self._entries.get(name) if isinstance(name, str) else None
        if entry is None:
            here = ", ".join(self._entries) or "none"
            raise ServomexValidationError(
                f"there is no analyser {name!r}; there are {here}", cure="Use one of these, or add it with add()"
            )
        return entry

    def _chosen(self, names: Iterable[str] | None) -> list[Entry]:
        self._check_usable()
        if names is None:
            return list(self._entries.values())
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ServomexValidationError(f"names must be a list such as ['a', 'b'], not {names!r}")
        return [self._entry(name) for name in dict.fromkeys(names)]

    def _watch(self, link: SerialLink) -> None:
        """Note the port being opened, so that :meth:`close` can interrupt that; raise if it was called already."""
        self._opening = link
        self._check_usable()

    def _leave(self, entry: Entry) -> None:
        self._entries = {name: other for name, other in self._entries.items() if other is not entry}
        leave(entry)

    def _results(
        self, entries: list[Entry], asked: Round[T], policy: ErrorPolicy | None = None
    ) -> dict[str, DeviceResult[T]]:
        """Have each port's thread read its analysers, and wait for all of them."""
        try:
            by_port: dict[SharedPort, list[Member]] = {}
            for entry in entries:
                if not asked.is_answered_by(entry.member):
                    by_port.setdefault(entry.port, []).append(entry.member)
            parts = [port.submit(asked, members) for port, members in by_port.items()]
            for part in parts:
                part.wait()
        except BaseException:
            asked.stopped = True
            raise
        if asked.fatal is not None:
            raise asked.fatal
        members = [entry.member for entry in entries]
        results = {member.name: asked.results.get(member.name) or self._gone(member) for member in members}
        if (policy or self._error_policy) is ErrorPolicy.RAISE:
            raise_failures(results)
        return results

    def _gone(self, member: Member) -> DeviceResult[Any]:
        what = "the manager was closed" if self._closed else "the analyser was removed from the manager"
        return DeviceResult(error=ServomexConnectionError(what, member.context), name=member.name)
