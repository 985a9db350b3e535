"""Help for testing programs that use this package: a scripted port, and the loader of captures.

A virtual analyser for tests is in :mod:`servomex.simulator`.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from servomex.telegram import FrameSplitter


class ScriptedPort:
    """A pyserial-like port that follows a script: it expects requests and gives the replies.

    Pass it wherever a port is asked for. A request that the script does not expect next fails at once, and
    :meth:`check` fails when anything of the script is left over.

    Args:
        dialogue: Pairs of the request that is expected and the reply that follows; an empty reply is silence.

    Attributes:
        port: The name it shows in errors.
        timeout: Seconds that a read waits, as in pyserial.
        written: Everything that was written, in order.
    """

    def __init__(self, dialogue: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.port = "scripted"
        self.timeout: float | None = 0.05
        self.written: list[bytes] = []
        self._dialogue = deque(dialogue)
        self._input = bytearray()
        self._arrived = threading.Condition()

    def feed(self, data: bytes) -> None:
        """Let bytes arrive that nobody asked for."""
        with self._arrived:
            self._input += data
            self._arrived.notify_all()

    def check(self) -> None:
        """Fail when part of the script did not happen, or bytes were not read.

        Raises:
            AssertionError: Something is left over.
        """
        if self._dialogue:
            raise AssertionError(f"{len(self._dialogue)} requests of the script were never sent")
        if self._input:
            raise AssertionError(f"{bytes(self._input)!r} was never read")

    def write(self, data: bytes) -> int:
        """Take a request and let its reply arrive.

        Raises:
            AssertionError: It is not the one that the script expects next.
        """
        self.written.append(bytes(data))
        expected, reply = self._dialogue.popleft() if self._dialogue else (None, b"")
        if data != expected:
            wanted = "nothing" if expected is None else expected.hex(" ")
            raise AssertionError(f"{data.hex(' ')} was written where the script expects {wanted}")
        self.feed(reply)
        return len(data)

    @property
    def in_waiting(self) -> int:
        """The number of bytes that have arrived."""
        return len(self._input)

    def read(self, size: int = 1) -> bytes:
        """Read up to ``size`` bytes, waiting for them for :attr:`timeout` seconds at most."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        with self._arrived:
            while len(self._input) < size:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    break
                self._arrived.wait(remaining)
            data = bytes(self._input[:size])
            del self._input[:size]
        return data

    def reset_input_buffer(self) -> None:
        """Drop what has arrived."""
        with self._arrived:
            self._input.clear()


def load_capture(path: str | Path) -> list[bytes]:
    """Cut a file of captured broadcasts into frames and the damage between them."""
    splitter = FrameSplitter()
    return [*splitter.feed(Path(path).read_bytes()), *splitter.flush()]
