"""Timing: how long the replies of an analyser may take, and the silences between them. No I/O."""

import math
from collections import deque

import attrs

from servomex.enums import ProtocolKind
from servomex.modbus.faults import ReplyFault
from servomex.modbus.others import Others
from servomex.registers import LineTiming
from servomex.runtime.clock import time
from servomex.settings import SerialSettings

LATENCIES_KEPT = 32
EARLY = 0.9
"""A reply that takes less than this share of the fastest of the last 32 replies may be another master's."""
JITTER_S = 0.005
"""Shorter latencies mean nothing: a virtual line has them."""


@attrs.frozen
class Timing:
    """The times that hold for a line, in seconds.

    Attributes:
        quiet_s: Silence that is waited for after a failure, before the fence.
        restless_s: How long to wait for such a silence: another master may leave none.
        linger_s: How long to wait for a second answer to a fence, to find out where second replies come from.
        usual_wait_s: Bounds of how long a reply may take to begin before it counts as lost: four times the
            latency observed.
        patience: Where replies are slower than those bounds, they may take this many times what the slowest took.
        first_guess_s: What the slowest reply is taken to need before one was seen.
        silence_s: Silence that ends a reply once it has begun, unless replies were seen to pause for longer.
        longest_pause_s: The longest pause within a reply that is waited for, where replies were cut short before.
        longest_s: What arrives later than this after a request is noise, not a late reply to it.
        busy_s: Pause before repeating a request that was answered with 05, 06, 0A or 0B: by a gateway, or a busy
            device.
    """

    quiet_s: float = 0.25
    restless_s: float = 1.0
    linger_s: float = 0.5
    usual_wait_s: tuple[float, float] = (0.15, 0.5)
    patience: float = 1.5
    first_guess_s: float = 0.12
    silence_s: float = 0.1
    longest_pause_s: float = 2.0
    longest_s: float = 10.0
    busy_s: float = 0.1


class Pace:
    """How fast one analyser answers, and so how long its next reply may take.

    Args:
        timing: The times that hold for its line.

    Attributes:
        slowest_s: How long replies have taken to begin, the slowest of the recent ones. Late replies raise it at
            once, prompt ones lower it step by step.
        pause_s: How long a reply may pause once it has begun.
    """

    def __init__(self, timing: Timing) -> None:
        self.slowest_s: float = timing.first_guess_s
        self.pause_s: float = timing.silence_s
        self._timing = timing
        self._latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)

    def patient_s(self, wait_s: float) -> float:
        """Return a time that a reply may take to begin, or a longer one where replies were slower."""
        return max(wait_s, self._timing.patience * self.slowest_s)

    def wait_s(self, share_s: float = math.inf) -> float:
        """Return how long a reply may take to begin before it counts as lost.

        Args:
            share_s: The time that one attempt may take where several must fit before a deadline.
        """
        shortest_s, longest_s = self._timing.usual_wait_s
        return self.patient_s(max(shortest_s, min(longest_s, 4 * self.slowest_s, share_s)))

    def note_reply(self, latency_s: float, paused_s: float) -> bool:
        """Learn from a reply how long the next may take; return whether this one arrived suspiciously early.

        Args:
            latency_s: How long it took to begin.
            paused_s: The longest pause within it.
        """
        fastest_s = min(self._latencies, default=0.0) if len(self._latencies) == LATENCIES_KEPT else 0.0
        self._latencies.append(latency_s)
        self.slowest_s = max(latency_s, 0.9 * self.slowest_s)
        self.pause_s = max(self._timing.silence_s, self._timing.patience * paused_s, 0.9 * self.pause_s)
        return fastest_s > JITTER_S and latency_s < EARLY * fastest_s

    def note_late(self, latency_s: float) -> None:
        """Wait longer for the next reply: one arrived after it had been given up."""
        self.slowest_s = max(self.slowest_s, latency_s)

    def note_cut(self) -> None:
        """Allow for longer pauses: a reply began and stopped."""
        self.pause_s = min(self._timing.longest_pause_s, 4 * self.pause_s)


def line_timing(
    settings: SerialSettings, framing: ProtocolKind, gap_s: float, wait_s: float | None = None
) -> LineTiming:
    """Return how long requests and their replies take on a line: the one answer for all clients on it.

    Args:
        settings: The settings of its port.
        framing: ``MODBUS_RTU`` or ``MODBUS_ASCII``.
        gap_s: Silence kept before a request.
        wait_s: How long a reply may take to begin; as long as a prompt one does when ``None``.
    """
    line = LineTiming(settings.char_time_s, gap_s, framing is ProtocolKind.MODBUS_ASCII)
    return line if wait_s is None else attrs.evolve(line, turnaround_s=wait_s)


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
