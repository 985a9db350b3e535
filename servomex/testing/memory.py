"""``MemoryPort``: a port of pyserial without a device, whose far end is a test."""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from servomex.errors import ServomexValidationError
from servomex.errors.validation import seconds
from servomex.port.pyserial import serial
from servomex.runtime.clock import time


class MemoryPort:
    """A port without a device: the base of ``FakeTransport`` and ``ScriptedPort``.

    Opening an analyser drops bytes that have arrived, as with a real port: feed it afterwards, or schedule what
    should arrive. Any thread may call any method.

    Args:
        port: Its name in errors.

    Attributes:
        port: Its name in errors.
        timeout: Seconds that a read waits, as in pyserial: ``None`` for ever, 0 for not at all.
        is_open: Whether it has not been closed.
    """

    def __init__(self, port: str) -> None:
        self.port = port
        self.timeout: float | None = 0.05
        self.is_open: bool = True
        self._writes: list[bytes] = []
        self._input = bytearray()
        self._coming: list[tuple[float, bytes]] = []
        self._cancelled = False
        self._changed = threading.Condition()

    @property
    def writes(self) -> tuple[bytes, ...]:
        """Everything that was written, in order."""
        with self._changed:
            return tuple(self._writes)

    def feed(self, data: bytes) -> None:
        """Deliver unrequested bytes, all at once.

        Bytes fed before the port is passed to :func:`open_device` or :func:`open_continuous` are lost: a port is
        emptied when it is opened, like a real one. Feed it afterwards (:func:`open_continuous` with
        ``identify=False``, which does not wait for a broadcast), or use :meth:`schedule`.

        Raises:
            ServomexValidationError: They are something else.
        """
        _check_bytes(data)
        with self._changed:
            self._take_arrived()
            self._input += data
            self._changed.notify_all()

    def schedule(self, pieces: Iterable[bytes], *, interval: float) -> None:
        """Deliver pieces in the background, one after the other. Returns at once.

        One piece simulates a late message, single bytes a slow line, the frames of a capture broadcasts.

        Args:
            pieces: What arrives, each piece at once.
            interval: Seconds until the first piece, and from each piece to the next.

        Raises:
            ServomexValidationError: The pieces are not a list of bytes, or the interval is out of range.
        """
        step_s = seconds(interval, "interval", zero=True)
        listed = list(_several(pieces))
        for piece in listed:
            _check_bytes(piece)
        with self._changed:
            self._arrive([(step_s * number, piece) for number, piece in enumerate(listed, 1)])

    def emit(self, frames: Iterable[bytes], *, interval: float = 0.0) -> None:
        """Feed frames one by one, and return when the last was fed or the port was closed.

        It blocks for as long as it takes. To broadcast while the program reads, call it in a thread of the test,
        with ``itertools.cycle(frames)`` until the port is closed, or use :meth:`schedule`.

        Args:
            frames: The frames, the first to be fed at once.
            interval: Seconds from each frame to the next.

        Raises:
            ServomexValidationError: The frames are not a list of bytes, or the interval is out of range.
            serial.PortNotOpenError: The port was closed before.
        """
        step_s = seconds(interval, "interval", zero=True)
        with self._changed:
            self._check_open()
        due = time.monotonic()
        for frame in _several(frames):
            if not self._stays_open_until(due):
                return
            self.feed(frame)
            due += step_s

    def _stays_open_until(self, due: float) -> bool:
        with self._changed:
            while self.is_open and (remaining := due - time.monotonic()) > 0:
                self._changed.wait(remaining)
            return self.is_open

    def write(self, data: bytes, /) -> int:
        """Accept a request, and deliver the reply to it.

        Returns:
            The number of bytes written: all of them.

        Raises:
            serial.PortNotOpenError: The port was closed.
        """
        request = bytes(data)
        with self._changed:
            self._check_open()
            self._writes.append(request)
        self._answer(request)
        return len(request)

    def _answer(self, request: bytes) -> None:
        """Deliver the reply to a request, if there is one."""

    @property
    def in_waiting(self) -> int:
        """The number of bytes that have arrived.

        Raises:
            serial.PortNotOpenError: The port was closed.
        """
        with self._changed:
            self._check_open()
            self._take_arrived()
            return len(self._input)

    def read(self, size: int = 1, /) -> bytes:
        """Read up to ``size`` bytes, waiting for them up to ``timeout`` seconds.

        Raises:
            serial.PortNotOpenError: The port was closed, before or meanwhile.
        """
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        with self._changed:
            while not self._has(size) and (deadline is None or time.monotonic() < deadline):
                times = [when for when in (deadline, *(due for due, _ in self._coming[:1])) if when is not None]
                self._changed.wait(max(0.0, min(times) - time.monotonic()) if times else None)
            self._cancelled = False
            data = bytes(self._input[:size])
            del self._input[:size]
        return data

    def cancel_read(self) -> None:
        """End the read that waits in another thread, or else the next one: it returns the bytes that are there."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def reset_input_buffer(self) -> None:
        """Drop what has arrived. Bytes on their way will still arrive.

        Raises:
            serial.PortNotOpenError: The port was closed.
        """
        with self._changed:
            self._check_open()
            self._take_arrived()
            self._input.clear()

    def close(self) -> None:
        """Close it: reads and writes fail from now on, and :meth:`emit` returns. May be called twice."""
        with self._changed:
            self.is_open = False
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _arrive(self, pieces: Iterable[tuple[float, bytes]]) -> None:
        """Deliver each piece after its delay in seconds. The caller holds the lock."""
        now = time.monotonic()
        self._coming += [(now + delay_s, piece) for delay_s, piece in pieces]
        self._coming.sort(key=lambda item: item[0])
        self._changed.notify_all()

    def _has(self, size: int) -> bool:
        """Return whether a read need not wait any longer."""
        self._check_open()
        self._take_arrived()
        return self._cancelled or len(self._input) >= size

    def _take_arrived(self) -> None:
        now = time.monotonic()
        while self._coming and self._coming[0][0] <= now:
            self._input += self._coming.pop(0)[1]

    def _check_open(self) -> None:
        if not self.is_open:
            raise serial.PortNotOpenError


def _several(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Refuse a single piece where several are expected: its bytes would be taken one by one, as numbers."""
    if isinstance(pieces, bytes | bytearray | memoryview):
        raise ServomexValidationError(
            "pieces must be a list, even for a single one, not bytes", cure="Write [data]"
        )
    if isinstance(pieces, str) or not isinstance(pieces, Iterable):
        raise ServomexValidationError(f"pieces must be a list of bytes, not {pieces!r}")
    return pieces


def _check_bytes(data: bytes) -> None:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ServomexValidationError(f"what arrives must be bytes, not {data!r}", cure="Write it as in b'...'")


def is_loopback(request: bytes) -> bool:
    """Return whether a request is a loopback, in either framing of Modbus."""
    return request[1:4] == b"\x08\0\0" or (request[:1] == b":" and request[3:9] == b"080000")
