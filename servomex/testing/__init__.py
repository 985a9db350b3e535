"""Help for testing programs that use this package: a scripted port, and the loader of captures.

A virtual analyser for tests is in :mod:`servomex.simulator`; fixtures of pytest are in
:mod:`servomex.testing.plugin`.
"""

import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import serial

from servomex.clock import time
from servomex.telegram import FrameSplitter


class ScriptedPort:
    """A port of pyserial that follows a script: it expects requests and gives the replies.

    Pass it wherever a port is asked for. One call of :meth:`write` is one request. One that the script does not
    expect next fails at once, and :meth:`check` fails when anything of the script is left over. As a context
    manager it is closed and checked at the end of the block::

        with ScriptedPort([(request, reply)]) as port:
            ...

    Opening an analyser drops what waits in the port, as with a real one: feed it afterwards.

    Args:
        dialogue: Pairs of the request that is expected and the reply that follows; an empty reply is silence.
        loopbacks: Answer Modbus loopbacks (function 08) that the script does not name, as an analyser does. The
            driver sends one with a fresh number before it believes a line, so that no script can have its bytes.

    Attributes:
        port: The name it shows in errors.
        timeout: Seconds that a read waits, as in pyserial: ``None`` for ever, 0 not at all.
        is_open: Whether it has not been closed.
        written: Everything that was written, in order.
    """

    def __init__(self, dialogue: Iterable[tuple[bytes, bytes]] = (), *, loopbacks: bool = False) -> None:
        self.port = "scripted"
        self.timeout: float | None = 0.05
        self.is_open: bool = True
        self.written: list[bytes] = []
        self._dialogue = deque(dialogue)
        self._loopbacks = loopbacks
        self._failure: str | None = None
        self._input = bytearray()
        self._coming: list[tuple[float, bytes]] = []
        self._cancelled = False
        self._changed = threading.Condition()

    def feed(self, data: bytes) -> None:
        """Let bytes arrive that nobody asked for, all at once. Any thread may call it."""
        with self._changed:
            self._take_arrived()
            self._input += data
            self._changed.notify_all()

    def emit(self, *pieces: bytes, every: float) -> None:
        """Let pieces arrive by themselves, one after the other, while the program goes on.

        One piece is a late message, single bytes are a slow line, the frames of a capture are broadcasts.

        Args:
            pieces: What arrives, each piece at once.
            every: Seconds until the first piece, and from each piece to the next.
        """
        with self._changed:
            now = time.monotonic()
            self._coming += [(now + every * number, piece) for number, piece in enumerate(pieces, 1)]
            self._coming.sort(key=lambda item: item[0])
            self._changed.notify_all()

    def check(self) -> None:
        """Fail when the script was broken, when part of it did not happen, or when bytes were not read.

        A request that the script did not expect fails here again: it may have been written in a thread, or by a
        program that hides errors.

        Raises:
            AssertionError: It says what is left over.
        """
        with self._changed:
            self._take_arrived()
            if self._failure:
                raise AssertionError(self._failure)
            if self._dialogue:
                raise AssertionError(f"{len(self._dialogue)} requests of the script were never sent")
            if self._input:
                raise AssertionError(f"{bytes(self._input)!r} was never read")
            if self._coming:
                raise AssertionError(f"{b''.join(data for _, data in self._coming)!r} is still on its way")

    def write(self, data: bytes) -> int:
        """Take a request and let its reply arrive.

        Returns:
            How many bytes were written: all.

        Raises:
            AssertionError: It is not the request that the script expects next.
            serial.PortNotOpenError: The port was closed.
        """
        request = bytes(data)
        with self._changed:
            self._check_open()
            self.written.append(request)
            expected = self._dialogue[0][0] if self._dialogue else None
            if request == expected:
                self.feed(self._dialogue.popleft()[1])
            elif self._loopbacks and _is_loopback(request):
                self.feed(request)
            else:
                raise AssertionError(self._fail(request, expected))
        return len(request)

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

    def read(self, size: int = 1) -> bytes:
        """Read up to ``size`` bytes, waiting for them for :attr:`timeout` seconds at most.

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
        """End the read that waits in another thread, or else the next one: it gives what is there."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def reset_input_buffer(self) -> None:
        """Drop what has arrived. What is still on its way will come.

        Raises:
            serial.PortNotOpenError: The port was closed.
        """
        with self._changed:
            self._check_open()
            self._take_arrived()
            self._input.clear()

    def close(self) -> None:
        """Close it: every use but :meth:`check` fails from now on. May be called twice."""
        with self._changed:
            self.is_open = False
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.check()
        elif self._failure and self._failure not in str(error):
            error.add_note(self._failure)

    def _fail(self, request: bytes, expected: bytes | None) -> str:
        """Note the first request that broke the script, and say what is wrong with this one."""
        wanted = "nothing" if expected is None else expected.hex(" ")
        text = f"{request.hex(' ')} was written where the script expects {wanted}"
        self._failure = self._failure or text
        return text

    def _has(self, size: int) -> bool:
        """Whether a read need not wait any longer."""
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


def _is_loopback(request: bytes) -> bool:
    """Whether a request is a loopback, in either framing of Modbus."""
    return request[1:4] == b"\x08\0\0" or (request[:1] == b":" and request[3:9] == b"080000")


def load_capture(path: str | Path) -> list[bytes]:
    """Cut a file of captured broadcasts into frames and the damage between them.

    Traces and other captures become a port by ``sim://replay?file=FILE``.

    Args:
        path: A file with the bytes as they came, and nothing else.

    Returns:
        Every byte of the file, in order: whole frames with their line ends, and pieces that are none.

    Raises:
        OSError: The file cannot be read.
    """
    splitter = FrameSplitter()
    return [*splitter.feed(Path(path).read_bytes()), *splitter.flush()]
