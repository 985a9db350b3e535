"""The wire trace: every byte that passed a port, both ways, with its time, as lines of text.

::

    # servomex trace 1 version=0.1.0 started=2026-03-01T12:30:45.500000+00:00 settings=19200,8N1 gap=0.05 port=COM3
    5012.000000000 2026-03-01T12:30:45.500000+00:00 ! opened
    5012.050000000 2026-03-01T12:30:45.550000+00:00 > 01 02 03 e8 00 02 79 bb
    5012.070000000 2026-03-01T12:30:45.570000+00:00 < 01 02 01 00 a1 88
    5013.000000000 2026-03-01T12:30:46.500000+00:00 ! lost device disconnected
    5013.500000000 2026-03-01T12:30:47.000000+00:00 ! reopened
    5014.000000000 2026-03-01T12:30:47.500000+00:00 ! closed

A header begins a session, which lasts from the opening of a port to its closing. Sessions may follow each other in
one file. The name of the port is the rest of the header. Each line after it has the seconds of the monotonic
clock with nine digits, the time in UTC, and ``>`` with bytes that were sent, ``<`` with bytes that were received,
or ``!`` with an event of the port. Empty lines and other lines that begin with ``#`` are comments. The last line
of a session may be cut short: the program was killed.

A file that has reached :data:`LARGEST` is renamed to ``NAME.1``, the one before to ``NAME.2`` and so on, and the
session continues in a new file with a header of its own. Only :data:`KEPT` old files are kept.
"""

import contextlib
import io
import os
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import attrs

from servomex.errors import ErrorContext, ServomexConfigurationError, ServomexError
from servomex.errors.excerpts import shown
from servomex.errors.validation import seconds
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound, let_go_after_fork
from servomex.runtime.logs import package_log
from servomex.settings import SerialSettings
from servomex.version import __version__

_log = package_log("servomex.trace")

MAGIC = "# servomex trace "
"""The beginning of every trace."""
VERSION = 1
LARGEST = 20_000_000
"""Bytes of a file; a day of readings every second makes four files."""
KEPT = 9
LONGEST_LINE = 4_000_000
"""Bytes."""

Event = Literal["opened", "lost", "reopened", "closed"]
Kind = Literal["sent", "came", Event]

_WAYS: dict[str, Kind] = {">": "sent", "<": "came"}
_EVENTS: dict[str, Event] = {name: name for name in get_args(Event)}
_HEADER = re.compile(
    MAGIC + r"(\d+)(?: version=(\S+) started=(\S+) settings=(\d+),([78])([NEO])([12])(,rtscts)?(,xonxoff)?"
    r" gap=([0-9.e-]+) port=(.*))?"
)
_LINE = re.compile(
    r"(\d+)\.(\d{9}) (\S+) (?:([<>]) ([0-9A-Fa-f]{2}(?: [0-9A-Fa-f]{2})*)|! ([a-z]+)(?: (.*))?)", re.ASCII
)
_CUT = "..."
"""Ends a line that was cut short, so that the rest is not taken for a whole line."""
_LATEST_NS = 2**63 - 1
_LONGEST_GAP_S = 10.0
"""The gap of a :class:`SerialLink`."""


@attrs.frozen
class Session:
    """The settings of a port while it was traced.

    Attributes:
        port: Its name.
        settings: Its serial settings.
        gap_s: Seconds of silence that were kept before each request.
        version: Version of the package that wrote the trace.
        started_at: When the trace was begun, UTC.
    """

    port: str
    settings: SerialSettings
    gap_s: float
    version: str
    started_at: datetime

    def header(self) -> str:
        """Write the line that begins the session."""
        line = self.settings
        flow = ",rtscts" * line.rtscts + ",xonxoff" * line.xonxoff
        return (
            f"{MAGIC}{VERSION} version={self.version} started={_utc(self.started_at)} "
            f"settings={line.baudrate},{line.bytesize}{line.parity}{line.stopbits}{flow} gap={self.gap_s:g} "
            f"port={_plain(self.port)}"
        )


@attrs.frozen
class TraceLine:
    """One line of a trace.

    Attributes:
        session: The session that it belongs to.
        number: Its number in the file, from 1.
        monotonic_ns: When it happened, on the monotonic clock of the computer that wrote it.
        at: The same in UTC.
        kind: ``sent``, ``came``, ``opened``, ``lost``, ``reopened`` or ``closed``.
        data: The bytes that were sent or received.
        text: Why the port was lost.
    """

    session: Session
    number: int
    monotonic_ns: int
    at: datetime
    kind: Kind
    data: bytes = b""
    text: str = ""


class TraceWriter(ProcessBound):
    """Appends a session to a trace. Any thread may call any method.

    Every line is in the file when the call returns. A file that cannot be written any more, as on a full disk, is
    reported once by the logger ``servomex.trace``, and the trace ends there.

    One program at a time writes to a file, if the system can lock files. A file that has reached :data:`LARGEST`
    is renamed, and a new one is begun.

    Args:
        path: The file.
        port: Name of the port.
        settings: Its serial settings.
        gap_s: Seconds of silence before each request.

    Raises:
        ServomexError: The file cannot be opened, or another program or port writes to it.
    """

    def __init__(self, path: str | os.PathLike[str], port: str, settings: SerialSettings, gap_s: float) -> None:
        self._path = os.fspath(path)
        self._mutex = threading.Lock()
        self._opened = False
        self._session = Session(port, settings, gap_s, __version__, datetime.now(UTC))
        self._file: io.BufferedWriter | None = None
        try:
            _check_own(self._path)
            self._file = _opened_alone(self._path)
            before = f" {_CUT}\n" if _is_cut(self._path) else ""
        except OSError as error:
            raise ServomexError(
                f"cannot write the trace {self._path}: {error.strerror or error}", ErrorContext(port=port)
            ) from error
        let_go_after_fork(self)
        self._put(before + self._session.header())

    def sent(self, data: bytes) -> None:
        """Note bytes that are being sent."""
        self._note(f"> {data.hex(' ')}")

    def came(self, data: bytes) -> None:
        """Note received bytes."""
        self._note(f"< {data.hex(' ')}")

    def opened(self) -> None:
        """Note that the port is open, for the first time or again."""
        self._note("! reopened" if self._opened else "! opened")
        self._opened = True

    def lost(self, reason: str) -> None:
        """Note that the port was lost."""
        self._note(f"! lost {_plain(reason)}".rstrip())

    def close(self) -> None:
        """End the session. May be called twice."""
        if self._opened:
            self._note("! closed")
        with self._mutex:
            self._end()

    def _let_go(self) -> None:
        file, self._file, self._mutex, self._opened = self._file, None, threading.Lock(), False
        if file is not None:
            file.raw.close()  # without a flush of what another thread was writing

    def _note(self, what: str) -> None:
        with self._mutex:  # the times of a file are in order
            moment = time.monotonic_ns()
            self._put(f"{moment // 10**9}.{moment % 10**9:09d} {_utc(datetime.now(UTC))} {what}")

    def _put(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(f"{line}\n".encode("utf-8", "replace"))
            self._file.flush()
            if self._file.tell() >= LARGEST:
                self._begin_file()
        except OSError as error:
            self._end()
            _log.warning("the trace %s is not complete: %s", self._path, error)

    def _begin_file(self) -> None:
        """Rename the file, and continue in a new one."""
        self._end()
        for number in reversed(range(KEPT)):
            older = Path(f"{self._path}.{number}" if number else self._path)
            if older.exists():
                older.replace(f"{self._path}.{number + 1}")
        self._file = _opened_alone(self._path)
        header = attrs.evolve(self._session, started_at=datetime.now(UTC)).header()
        self._file.write(f"{header}\n".encode("utf-8", "replace"))
        self._file.flush()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a failed write was reported already
                file.close()


def _opened_alone(path: str) -> io.BufferedWriter:
    """Open a file for appending, and lock it where the system has locks that end with the program.

    Raises:
        OSError: It cannot be opened, or another program or port has it open.
    """
    file = Path(path).open("ab")  # noqa: SIM115 (whoever asks for it closes it)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # Windows
    except BlockingIOError as error:
        file.close()
        raise OSError(
            error.errno, "another program or port writes to it: end that one first, or choose another name"
        ) from error
    except OSError:
        pass  # a network folder without locks
    return file


def _check_own(path: str) -> None:
    """Refuse to append a trace to a file that holds something else.

    Raises:
        ServomexConfigurationError: It holds something else.
    """
    if Path(path).is_file() and Path(path).stat().st_size and not is_trace(path):
        raise ServomexConfigurationError(
            f"{path} holds something other than a trace", cure="Choose another name for it"
        )


def is_trace(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a trace does.

    Raises:
        ServomexConfigurationError: It cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC.encode()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_trace(path: str | os.PathLike[str]) -> Iterator[TraceLine]:
    """Yield the lines of a trace, its sessions one after the other.

    Raises:
        ServomexConfigurationError: It cannot be read, or is not a trace; the error names the file and the line.
    """
    if not is_trace(path):
        raise _no_trace(path, 1, f"a trace begins with {MAGIC.strip()!r}")
    session: Session | None = None
    broken: ServomexConfigurationError | None = None
    try:
        with Path(path).open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                if len(raw) == LONGEST_LINE:
                    raise _no_trace(path, number, f"longer than {LONGEST_LINE} bytes")
                if not raw.endswith(b"\n"):
                    break  # it is cut short, even if the rest makes sense
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if broken is not None and not line.startswith(MAGIC):
                    raise broken
                broken = None
                try:
                    if line.startswith(MAGIC):
                        session = _parsed_header(line)
                    elif session is not None and line.strip() and not line.startswith("#"):
                        yield _parsed_line(session, number, line)
                except ValueError as error:
                    broken = _no_trace(path, number, str(error))
    except OSError as error:
        raise _unreadable(path, error) from error
    if broken is not None:
        raise broken


def _parsed_header(line: str) -> Session:
    found = _HEADER.fullmatch(line)
    if found is None or (found[1] == str(VERSION) and found[2] is None):
        raise ValueError(f"it begins a trace, but does not say how the port was set: {shown(line)}")
    if found[1] != str(VERSION):
        raise ValueError(f"a trace of version {found[1][:10]}; this program reads version {VERSION}")
    _, version, started, baudrate, bytesize, parity, stopbits, rtscts, xonxoff, gap, port = found.groups()
    settings = SerialSettings(
        baudrate=int(baudrate),
        bytesize=int(bytesize),
        parity=parity,  # type: ignore[arg-type]  # the pattern lets no other through
        stopbits=int(stopbits),
        rtscts=bool(rtscts),
        xonxoff=bool(xonxoff),
    )
    gap_s = seconds(float(gap), "gap", zero=True, longest=_LONGEST_GAP_S)
    return Session(port, settings, gap_s, version, _parsed_time(started))


def _parsed_line(session: Session, number: int, line: str) -> TraceLine:
    found = _LINE.fullmatch(line)
    if found is None or (found[6] and found[6] not in _EVENTS):
        raise ValueError(f"neither bytes nor an event: {shown(line)}")
    whole, fraction, at, way, data, event, text = found.groups()
    monotonic_ns = int(whole) * 10**9 + int(fraction)
    if monotonic_ns > _LATEST_NS:
        raise ValueError(f"impossible number of seconds: {shown(whole)}")
    return TraceLine(
        session,
        number,
        monotonic_ns,
        _parsed_time(at),
        _WAYS[way] if way else _EVENTS[event],
        bytes.fromhex(data or ""),
        text or "",
    )


def _parsed_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{shown(text)} is not a time: {shown(str(error))}") from None
    raise ValueError(f"{shown(text)} has no zone")


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _plain(text: str) -> str:
    """Return a text on one line, without characters that could break out of it."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _is_cut(path: str) -> bool:
    """Return whether a file ends in the middle of a line: its writer was killed, or the disk was full."""
    place = Path(path)
    if not place.is_file() or not place.stat().st_size:
        return False
    with place.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _unreadable(path: str | os.PathLike[str], error: OSError) -> ServomexConfigurationError:
    return ServomexConfigurationError(f"cannot read {os.fspath(path)}: {error.strerror or error}")


def _no_trace(path: str | os.PathLike[str], number: int, why: str) -> ServomexConfigurationError:
    return ServomexConfigurationError(f"{os.fspath(path)}, line {number}: {why}")
