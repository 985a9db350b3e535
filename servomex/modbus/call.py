"""Call: one answer that is asked for by a deadline, and how long each of its replies may take. No I/O."""

from servomex.modbus.faults import ReplyFault
from servomex.modbus.others import Others
from servomex.modbus.timing import Pace, Timing
from servomex.runtime.clock import time


class Call:
    """The limits that apply to all attempts to get one answer.

    Args:
        deadline: When to give up, on ``time.monotonic()``.
        retries: How often a request, or a fence without any answer, is repeated.
        pace: How fast the analyser answers.
        timing: The times that hold for the line.
        others: What was heard of other users of the line.
        wait_s: How long a reply may take to begin; what :attr:`pace` allows when ``None``.
        proves: Whether the address must be proven before anything is asked.

    Attributes:
        deadline: When to give up, on ``time.monotonic()``.
        proves: Whether the address must be proven before anything is asked.
        last_try: Whether nothing is tried after the current attempt.
        unanswered_fences: How many fences had no answer.
        cause: What ended the last attempt that had enough time; ``None`` before one has failed.
    """

    __slots__ = (
        "_others",
        "_pace",
        "_retries",
        "_timing",
        "_wait_s",
        "cause",
        "deadline",
        "last_try",
        "proves",
        "unanswered_fences",
    )

    def __init__(
        self,
        deadline: float,
        retries: int,
        pace: Pace,
        timing: Timing,
        others: Others,
        wait_s: float | None = None,
        *,
        proves: bool = True,
    ) -> None:
        self.deadline: float = deadline
        self.proves: bool = proves
        self.last_try: bool = False
        self.unanswered_fences: int = 0
        self.cause: ReplyFault | None = None
        self._retries = retries
        self._pace = pace
        self._timing = timing
        self._others = others
        self._wait_s = wait_s

    @property
    def is_over(self) -> bool:
        """Whether to give up: the time is up, or too many fences had no answer."""
        return self.unanswered_fences > self._retries or time.monotonic() >= self.deadline

    def first_wait(self, left: int) -> float:
        """Return how long a reply may take to begin, so that ``left`` more attempts fit before the deadline."""
        remaining = self.deadline - time.monotonic()
        if self._wait_s is not None:
            return min(remaining, self._wait_s)
        return min(remaining, self._pace.wait_s(remaining / (left + 1))) if left else remaining

    def fence_wait(self) -> float:
        """Return how long a fence may take. The last one gets half of what is left: the analyser may be slow."""
        last = self.last_try or self.unanswered_fences >= self._retries
        wait_s = self.first_wait(1)
        if not last or self._wait_s is not None:
            return wait_s
        return max(wait_s, min(self._timing.longest_s, (self.deadline - time.monotonic()) / 2))

    def longest_pause(self, *, once: bool) -> float:
        """Return how long a reply that has begun may pause: longer when no attempt follows it.

        A network may hold back the rest of a reply: there the pause is a share of the time that is left.

        Args:
            once: Whether the request is not repeated in any case.
        """
        if self._wait_s is not None:
            return self._pace.pause_s
        if self.last_try or once:
            return self._timing.longest_pause_s
        left_s = self.deadline - time.monotonic() if self._others.network else 0.0
        return max(self._pace.pause_s, min(left_s / (2 * (self._retries + 2)), self._timing.longest_pause_s))
