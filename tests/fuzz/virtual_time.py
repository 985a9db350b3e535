"""A port and a clock that cost no time: waiting only moves the clock on."""

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

from servomex import SerialLink, SerialSettings
from tests.helpers.line_clock import line_clock

MOST_STEPS = 30_000
"""A call that looks at the port more often than this does not end."""


class Clock:
    """Stands in for the ``time`` module of the modules that talk."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a signal that never comes."""
        self.now += timeout or 0.0
        return False


def take(coming: list[tuple[float, bytes]], now: float, size: int) -> bytes:
    """Take what has come by now out of pieces in order of time, at most so many bytes; the rest stays."""
    taken = b""
    while coming and len(taken) < size and coming[0][0] <= now:
        due, piece = coming.pop(0)
        count = size - len(taken)
        taken += piece[:count]
        if piece[count:]:
            coming.insert(0, (due, piece[count:]))
    return taken


class TimelessPort:
    """A port whose far end is a function: what was written leads to pieces of bytes, each with its delay."""

    def __init__(self, clock: Clock, far_end: Callable[[bytes], list[tuple[float, bytes]]]) -> None:
        self.port = "timeless"
        self.timeout: float | None = 0.05
        self.came = b""
        self.clock = clock
        self._far_end = far_end
        self._coming: list[tuple[float, bytes]] = []
        self._latest = 0.0
        self._steps = 0

    def write(self, data: bytes) -> int:
        self.clock.now += 0.001
        for delay, piece in self._far_end(data):
            self._latest = max(self._latest, self.clock.now + delay)  # an analyser answers in order
            self._coming.append((self._latest, piece))
        return len(data)

    @property
    def in_waiting(self) -> int:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise AssertionError("the call does not end")
        return sum(len(piece) for due, piece in self._coming if due <= self.clock.now)

    def read(self, size: int = 1) -> bytes:
        if not self.in_waiting:
            latest = self.clock.now + (self.timeout or 0.0)
            first = min((due for due, piece in self._coming if piece), default=latest)
            self.clock.now = max(self.clock.now, min(latest, first))
        taken = take(self._coming, self.clock.now, size)
        self.came += taken
        return taken

    def reset_input_buffer(self) -> None:
        self._coming.clear()


@contextlib.contextmanager
def timeless_link(
    far_end: Callable[[bytes], list[tuple[float, bytes]]],
) -> Iterator[tuple[SerialLink, TimelessPort]]:
    """Give an open link to a far end, on which waiting takes no time."""
    clock = Clock()
    port = TimelessPort(clock, far_end)
    with contextlib.ExitStack() as undo:
        undo.enter_context(line_clock(clock))
        made = SerialLink(port, SerialSettings(), gap=0.005)
        made.open()
        undo.callback(made.close)
        undo.enter_context(mock.patch.object(made._closed, "wait", clock.wait))
        yield made, port
