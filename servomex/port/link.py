"""SerialLink: a serial port with its lock, its silence between messages, and its wire trace."""

import contextlib
import os
import warnings
from typing import Any, Self, TypeVar

from servomex.errors import (
    ServomexConnectionError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.errors.validation import flag, path_text, seconds
from servomex.port.connect import (
    IO_ERRORS,
    WRITE_TIMEOUT_S,
    abandon_port,
    has_hung_up,
    takes_bytes,
    write_timeout_s,
)
from servomex.port.connection import Connection
from servomex.port.pyserial import serial
from servomex.port.state import PortState
from servomex.port.transport import Transport, port_and_settings
from servomex.port.wiretap import Tap, WireTap
from servomex.runtime.clock import time
from servomex.runtime.forks import let_go_after_fork
from servomex.runtime.locks import PortLock, Signal, Turn
from servomex.runtime.signals import pass_on_interruption
from servomex.settings import SerialSettings

S = TypeVar("S", bound=PortState)

GAP_S = 0.05
"""The silence before each request, by default."""
MAX_CHUNK = 4096
"""At most this many bytes are read at once."""


class SerialLink(Connection):
    """A serial port that several analysers, and any thread, may share, but no other process.

    A thread that uses the port holds :attr:`lock` for the whole conversation, see :meth:`conversation`. A port
    that fails while in use is closed and reopened by the next conversation, with a growing pause between
    attempts; a network connection that its server closed between two conversations is reopened at once. All waits
    are bounded by deadlines on ``time.monotonic()``.

    Args:
        port: Device path, ``COM11``, ``usb:SERIAL``, a pyserial URL, ``sim://``, :class:`SerialSettings` that name
            one of these, or an open port, see :class:`Transport`. An open port is never closed or reopened here,
            and gets a read timeout of 50 ms.
        settings: Serial settings; those of the bench unit when omitted. A ``serial.Serial`` that is passed in has
            its own, from which they may not differ.
        gap: Seconds of silence kept before each request, 0 to 10. The bench unit on a USB adapter lost 26 % of
            requests without any, 8 % with 10 to 20 ms and none with 50 ms.
        auto_reconnect: Reopen the port after it was lost.
        trace: A file to which every byte of both directions is appended, see :mod:`servomex.trace`.
        shared_line: Whether another master, or another program on the same serial server, uses this line, so
            that replies must be proven to be one's own. When ``None``, that is assumed of ports on a network, of
            ports that were not opened exclusively, and of a line on which others were noticed.

    Attributes:
        gap_s: Seconds of silence kept before each request.
        trace: The file of the wire trace; ``None`` for none.
        lock: The lock of the port.
        shared_line: Whether the line was declared to be shared with other programs or masters; ``None`` if
            nothing was declared.
        has_reader: Whether the thread of a ContinuousReader reads from it.
        talking_since: When the last conversation began, on ``time.monotonic()``.
    """

    def __init__(
        self,
        port: str | os.PathLike[str] | SerialSettings | Transport,
        settings: SerialSettings | None = None,
        *,
        gap: float = GAP_S,
        auto_reconnect: bool = True,
        trace: str | os.PathLike[str] | None = None,
        shared_line: bool | None = None,
    ) -> None:
        name, transport, used = port_and_settings(port, settings)
        traced = None if trace is None else path_text(trace, "trace")
        super().__init__(name, transport, used, flag(auto_reconnect, "auto_reconnect"), WireTap(name, traced))
        self.trace: str | None = traced
        self.gap_s: float = seconds(gap, "gap", zero=True)
        if self.gap_s > 10:
            raise ServomexValidationError(f"gap must be at most 10 seconds, not {gap!r}")
        self.lock: PortLock = PortLock()
        if shared_line is not None:
            flag(shared_line, "shared_line")
        elif not self.settings.exclusive:
            shared_line = True
        self.shared_line: bool | None = shared_line
        self.has_reader = False
        self.talking_since: float = 0.0
        let_go_after_fork(self)

    def open(self) -> Self:
        """Open the port and drop the bytes waiting in its input, whose age is unknown.

        Raises:
            ServomexConnectionError: It is missing, busy or forbidden; the error says which, and what to do.
            ServomexConfigurationError: Its name or the settings can never work.
            ServomexError: The trace cannot be written.
        """
        with self.lock_held(), contextlib.ExitStack() as undo:
            if not self._wiretap.is_traced:
                self._wiretap.begin(self.settings, self.gap_s)
                undo.callback(self._wiretap.end)
            if self._serial is None:
                self._connect()
            self._closed.clear()
            undo.pop_all()
        return self

    def open_later(self) -> Self:
        """Use the port without opening it yet: the next conversation opens it, as it reopens a lost one.

        An open port that was passed in is used at once, as by :meth:`open`.

        Raises:
            ServomexError: The trace cannot be written.
        """
        if self.transport is not None:
            return self.open()
        with self.lock_held():
            if not self._wiretap.is_traced:
                self._wiretap.begin(self.settings, self.gap_s)
            self._closed.clear()
        return self

    def close(self) -> None:
        """Close the port. Calls that wait on it end with an error. May be called twice."""
        if not self.made_here:
            return
        self._closed.set()
        with self.lock_held():
            self._closed.set()  # again: open() may have been under way in another thread
            self._reopening.abandon()
            self._drop_port()
            self._wiretap.end()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_serial", None) is not None and self.transport is None:
            warnings.warn(
                f"the port {self.port} was never closed: use 'with', or call close()",
                ResourceWarning,
                stacklevel=1,
            )
            self._drop_port()
        if hasattr(self, "_wiretap"):
            self._wiretap.end()

    def _let_go(self) -> None:
        """Forget the port in a forked child. Locks may be held there by threads that do not exist."""
        port, self._serial = self._serial, None
        self._reopening.forget()
        self._wiretap.forget()
        self.lock, self._closed = PortLock(), Signal()
        self._closed.set()
        for state in self._states.values():
            state.note_forked()
        if port is not None and self.transport is None:
            abandon_port(port)

    def __repr__(self) -> str:
        return f"<SerialLink {self.port} {self.settings} {'open' if self.is_open else 'closed'}>"

    def lock_held(self, deadline: float | None = None) -> Turn:
        """Hold the port's lock in a ``with`` statement, waiting for it no longer than until ``deadline``.

        Raises:
            ServomexTimeoutError: Other callers kept the port busy until the deadline.
            ServomexConfigurationError: The link was made in another process.
        """
        self.check_process()
        return self.lock.turn(self._remaining(deadline), self._kept_busy)

    def conversation(self, deadline: float) -> Turn:
        """Hold the lock of an open port in a ``with`` statement. A lost one is reopened if its pause is over.

        Raises:
            ServomexTimeoutError: Other callers kept the port busy until the deadline.
            ServomexConnectionError: The port is closed or lost.
        """
        return self.lock.turn(self._remaining(deadline), self._kept_busy, lambda: self._begin_talking(deadline))

    @staticmethod
    def _remaining(deadline: float | None) -> float | None:
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def _kept_busy(self) -> ServomexTimeoutError:
        return ServomexTimeoutError(
            "other callers kept the port busy until the deadline",
            self._context(),
            cure="Poll less often, or allow more time",
        )

    def _begin_talking(self, deadline: float) -> None:
        self.talking_since = time.monotonic()
        self._resumed = False
        if self._serial is not None and has_hung_up(self._serial):
            self.resume(deadline)
        self.ensure_open(deadline)

    def write(self, data: bytes, deadline: float | None = None) -> None:
        """Send bytes.

        Args:
            data: The bytes.
            deadline: When the port must have accepted them, on ``time.monotonic()``; in 2 s when omitted.

        Raises:
            ServomexConnectionError: The port is closed, lost, or takes no bytes.
        """
        if (port := self._serial) is None or self._closed.is_set():  # nothing is sent after close() has begun
            raise self._not_open()
        wait_s = WRITE_TIMEOUT_S if deadline is None else max(0.0, deadline - time.monotonic())
        if not takes_bytes(port, wait_s):
            raise self._blocked(port, wait_s)
        self._wiretap.sent(data)
        try:
            port.write(data)
        except serial.SerialTimeoutException as error:
            raise self._blocked(port, write_timeout_s(self.settings)) from error
        except IO_ERRORS as error:
            pass_on_interruption(error)
            raise self._lose(error) from error
        self._last_traffic = time.monotonic()

    def read(self, deadline: float) -> bytes:
        """Return the bytes that are there, waiting for the first one until ``deadline``; empty if none arrived.

        Raises:
            ServomexConnectionError: The port is closed or was unplugged.
        """
        if (port := self._serial) is None:
            raise self._not_open()
        try:
            while not (data := _taken_from(port, 1)):
                if self._closed.is_set() or time.monotonic() >= deadline:
                    break
            if data:
                data += _waiting_in(port)
        except IO_ERRORS as error:
            pass_on_interruption(error)
            raise self._lose(error) from error
        if data:
            self._note_arrival(data)
        elif self._closed.is_set():
            raise ServomexConnectionError("the port was closed", self._context())
        return bytes(data)

    def read_waiting(self) -> bytes:
        """Return the bytes that are there, without waiting for any; a socket gives them one by one.

        Raises:
            ServomexConnectionError: The port is closed or was unplugged.
        """
        if (port := self._serial) is None:
            raise self._not_open()
        return self._take_waiting(port)

    def _take_waiting(self, port: Any) -> bytes:
        try:
            data = _waiting_in(port)
        except IO_ERRORS as error:
            pass_on_interruption(error)
            raise self._lose(error) from error
        if data:
            self._note_arrival(data)
        return data

    def settle(self, silence_s: float, deadline: float) -> tuple[bytes, bool]:
        """Read and drop bytes until the line has been silent for a while, counted from the last byte either way.

        Args:
            silence_s: The silence, in seconds.
            deadline: When to give up, on ``time.monotonic()``.

        Returns:
            What was dropped, and whether the line fell silent before ``deadline``.

        Raises:
            ServomexConnectionError: The port is closed or was unplugged.
        """
        dropped = b""
        if (port := self._serial) is None:
            raise self._not_open()
        while True:
            dropped = (dropped + self._take_waiting(port))[-MAX_CHUNK:]
            now = time.monotonic()
            remaining = self._last_traffic + silence_s - now
            if remaining <= 0:
                return dropped, True
            if now >= deadline:
                return dropped, False
            if self._closed.wait(min(remaining, max(0.0, deadline - now))):
                raise ServomexConnectionError("the port was closed", self._context())

    def state(self, kind: type[S]) -> S:
        """Return the state that a protocol keeps for this port: one object of each kind, made on first use."""
        found: S | None = self._states.get(kind)
        return self._states.setdefault(kind, kind(self)) if found is None else found

    def pause(self, seconds_s: float) -> None:
        """Wait, but no longer than until the port is closed."""
        self._closed.wait(seconds_s)

    def tap(self, listener: Tap) -> contextlib.AbstractContextManager[None]:
        """Pass every received byte to ``listener(data, monotonic_ns)`` as well, in the reading thread."""
        return self._wiretap.listening(listener)

    def _note_arrival(self, data: bytes) -> None:
        self._last_traffic = time.monotonic()
        self._reopening.failures = 0
        self._wiretap.came(data)


def _waiting_in(port: Any) -> bytes:
    """Read the bytes waiting in a port without waiting for more, even if it returns fewer than it reports."""
    data = b""
    while len(data) < MAX_CHUNK and (waiting := port.in_waiting):
        piece = _taken_from(port, min(waiting, MAX_CHUNK))
        data += piece
        if not piece or len(piece) == waiting > 1:  # a socket says 1, however much waits
            break
    return data


def _taken_from(port: Any, size: int) -> bytes:
    """Read up to ``size`` bytes.

    Raises:
        ServomexValidationError: The port is a user's own object, and did not return bytes.
    """
    data: bytes = port.read(size)
    if not isinstance(data, bytes | bytearray):
        raise ServomexValidationError(
            f"read() of the port object {port!r} returned {data!r}, which is not bytes",
            cure="Make it follow servomex.Transport",
        )
    return data
