"""Backlog: what waited in the port while this program stood still. No I/O, no clock of its own."""

from servomex.durations import counted
from servomex.errors import ErrorContext, ServomexTransportError
from servomex.telegram import HEADER_SIZE, FrameSplitter

FAST_S = 0.2
"""Faster broadcasts leave no silence of this length: a third of the period must do, or of this if unknown."""
PACE_S = 2.0
PACE = 1.05
"""Without silence, a backlog has ended when no more arrived in this time than the line can carry."""


class Backlog:
    """Input of unknown age, which is dropped.

    It ends when the line is silent, however long that takes: a socket delivers it byte by byte, a network in
    parts.

    Attributes:
        lasts: Whether it has not ended.
        size: How many bytes were in it.

    Args:
        char_s: Seconds that a character takes on the line.
    """

    def __init__(self, char_s: float) -> None:
        self.lasts: bool = False
        self.size: int = 0
        self._char_s = char_s
        self._frames = 0
        self._splitter = FrameSplitter()
        self._window = (0.0, 0)

    def begin(self, now_s: float) -> None:
        """Start or continue dropping."""
        if not self.lasts:
            self.lasts, self.size, self._frames, self._splitter = True, 0, 0, FrameSplitter()
        self._window = (now_s, self.size)

    def is_over(self, data: bytes, now_s: float, silence_s: float, period_s: float | None) -> bool:
        """Return whether the line was silent for a moment, or no faster than its rate if it is never silent."""
        if not self.lasts:
            return False
        fast = period_s is None or period_s < FAST_S
        if not data or (fast and silence_s >= (period_s or FAST_S) / 3):
            return True
        since_s, size = self._window
        if now_s - since_s < PACE_S:
            return False
        self._window = (now_s, self.size)
        return (self.size - size) * self._char_s <= PACE * (now_s - since_s)

    def drop(self, data: bytes) -> None:
        """Drop bytes, and count the broadcasts in them."""
        self.size += len(data)
        self._frames += sum(len(piece) >= HEADER_SIZE for piece in self._splitter.feed(data))

    def end(self) -> int:
        """End the backlog; return how many broadcasts were in it."""
        self.lasts = False
        self._frames += sum(len(piece) >= HEADER_SIZE for piece in self._splitter.flush())
        return self._frames


def stalled_error(frames: int, longest_s: float, context: ErrorContext) -> ServomexTransportError:
    """Return the error of broadcasts that were dropped since the program stood still.

    Args:
        frames: How many.
        longest_s: How long it may stand still.
        context: Where.
    """
    return ServomexTransportError(
        f"this program did not run for more than {longest_s:g} s: {counted(frames, 'broadcast')} that waited "
        f"meanwhile {'was' if frames == 1 else 'were'} dropped, since their age is unknown",
        context,
    )
