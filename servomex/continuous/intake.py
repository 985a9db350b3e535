"""Intake: which of the received broadcasts may be believed, and how old they are. No I/O, no thread."""

from datetime import timedelta

import attrs

from servomex.continuous.cadence import PERIODS_FRESH
from servomex.continuous.lateness import Arrived, Lateness, is_gap
from servomex.continuous.sources import TWO_SOURCES_CURE, SourceGuard
from servomex.errors import ServomexError, ServomexParseError, ServomexProtocolError
from servomex.models.frame import Frame
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log

_log = package_log("servomex")

HOLD_S = 1.0
HOLD_FRAMES = 4096
"""After a gap, broadcasts are held at most this long, until a burst ends: only its end shows that it was one."""
HOLD_SILENCE_S = (0.01, 0.25)
FRESH_S = 10.0
"""How long a frame is current as long as the period is not known."""
STANDING_S = 3.0
"""The analyser's clock shows whole seconds; when it shows the same for longer than this, it stands still."""
REPEATED = (
    "the same broadcast is repeated byte for byte, including the analyser's clock: these are not new measurements"
)
REPEATED_CURE = "Check the analyser, and the serial server or anything else in between"


class Intake:
    """Takes broadcasts as they arrive, refuses those that must not be believed, and dates back late ones.

    Args:
        port: Names the port in the log.
        live: Whether the analyser sends now. A recording that is played again keeps no time.

    Attributes:
        dropped: Broadcasts that were damaged or refused.
        last_reason: Why the last of them was; empty when there was none.
        refused_since: How many there were since the last good one.
        damaged_since: How many of those were damaged.
    """

    def __init__(self, port: str, *, live: bool = True) -> None:
        self.dropped: int = 0
        self.last_reason: str = ""
        self.refused_since: int = 0
        self.damaged_since: int = 0
        self._port = port
        self._live = live
        self._lateness = Lateness()
        self._guard = SourceGuard(self._lateness)
        self._batch: list[Arrived | ServomexParseError] = []
        self._held_since_s = 0.0
        self._newest_ns = -1
        self._warned_repeated = self._warned_standing = False

    @property
    def is_mixed(self) -> bool:
        """Whether two analysers broadcast in turn."""
        return self._guard.mixed

    @property
    def period_s(self) -> float | None:
        """Seconds between broadcasts, as observed; ``None`` before the second."""
        return self._lateness.cadence.period_s

    @property
    def fresh_s(self) -> float:
        """How long a frame is current."""
        return FRESH_S if self.period_s is None else PERIODS_FRESH * self.period_s

    @property
    def is_repeated(self) -> bool:
        """Whether the same bytes have been arriving for longer than a frame is current."""
        return self._live and self._lateness.repeated_s > max(STANDING_S, self.fresh_s)

    def add(self, item: Frame | ServomexParseError, at_s: float) -> None:
        """Take a broadcast that arrived at ``at_s`` on a clock that runs during sleep, or damage in its place."""
        self._held_since_s = self._held_since_s if self._batch else at_s
        self._batch.append(Arrived(item, at_s) if isinstance(item, Frame) else item)

    @property
    def waiting(self) -> int:
        """How many broadcasts were taken and not yet released."""
        return len(self._batch)

    @property
    def hold_silence_s(self) -> float:
        """The silence after which no more of a burst is expected."""
        least_s, most_s = HOLD_SILENCE_S
        return least_s if self.period_s is None else min(most_s, max(least_s, self.period_s / 4))

    def holds(self, at_s: float) -> bool:
        """Return whether broadcasts are held for the rest of a burst, which may follow a gap or the opening."""
        first = next((item for item in self._batch if isinstance(item, Arrived)), None)
        if first is None or not self._live or len(self._batch) >= HOLD_FRAMES:
            return False
        gap_s = self._lateness.gap_s(first.at_s)
        opened = gap_s is None or is_gap(gap_s, self.period_s)
        return opened and at_s - self._held_since_s < HOLD_S

    def release(self) -> list[Frame | ServomexError]:
        """Return what arrived since the last call, in order: frames, and errors in place of refused ones."""
        batch, self._batch = self._batch, []
        checked = [self._checked(item) for item in batch]
        good = [item for item in checked if isinstance(item, Arrived)]
        delays = iter(self._lateness.judge(good) if self._live else [0.0] * len(good))
        return [
            self._accepted(item, next(delays)) if isinstance(item, Arrived) else self._refused(item)
            for item in checked
        ]

    def _checked(self, item: Arrived | ServomexError) -> Arrived | ServomexError:
        if not isinstance(item, Arrived):
            self.damaged_since += 1
            return item
        why = self._guard.refusal(item)
        if not why:
            return item
        if self._guard.mixed:
            return ServomexProtocolError(why, cure=TWO_SOURCES_CURE)
        at, at_ns = item.frame.received_at, item.frame.monotonic_ns
        return ServomexParseError(why, received_at=at, monotonic_ns=at_ns)

    def _refused(self, error: ServomexError) -> ServomexError:
        self.dropped += 1
        self.refused_since += 1
        self.last_reason = error.message
        return error

    def _accepted(self, item: Arrived, delay_s: float) -> Frame | ServomexError:
        self._warn()
        if self.is_repeated:
            return self._refused(ServomexProtocolError(REPEATED, cure=REPEATED_CURE))
        self.refused_since = self.damaged_since = 0
        delay_ns = round(1e9 * delay_s)
        if self._newest_ns >= item.frame.monotonic_ns - delay_ns:  # it was sent after the one before
            delay_ns = item.frame.monotonic_ns - self._newest_ns - 1
        frame = _dated_back(item.frame, delay_s, delay_ns) if delay_ns else item.frame
        self._newest_ns = frame.monotonic_ns
        return frame

    def _warn(self) -> None:
        """Log once that the analyser's clock stands still, or that nothing changes at all."""
        repeated = self._live and self._lateness.repeated_s > STANDING_S
        if repeated and not self._warned_repeated:
            _log.warning("%s: %s. %s", self._port, REPEATED, REPEATED_CURE)
        standing = self._lateness.stands_s > STANDING_S
        if standing and not self._warned_standing:
            _log.warning(
                "%s: the analyser's clock stands still while its values change: whether broadcasts are held up on "
                "their way can only be detected by counting them",
                self._port,
            )
        self._warned_repeated, self._warned_standing = repeated, standing or self._warned_standing


def _dated_back(frame: Frame, delay_s: float, delay_ns: int) -> Frame:
    """Move the times of a frame back by its delay: it may have been sent that long ago."""
    at, at_ns = frame.received_at - timedelta(microseconds=delay_ns / 1000), frame.monotonic_ns - delay_ns
    readings = tuple(attrs.evolve(item, received_at=at, monotonic_ns=at_ns) for item in frame.readings)
    return attrs.evolve(frame, readings=readings, received_at=at, monotonic_ns=at_ns, delayed_s=delay_s)


def came_since(called_ns: int, frame: Frame, *, is_new: bool) -> bool:
    """Return whether a frame was sent after a call began, and the computer has not slept since.

    The clock of Windows advances every 15.6 ms: an earlier frame may have the same time as the call.

    Args:
        called_ns: When the call began.
        frame: The frame.
        is_new: Whether it was taken after that.
    """
    age_s = frame.age_s
    return (
        frame.monotonic_ns >= called_ns + (not is_new)
        and age_s <= (time.monotonic_ns() - frame.monotonic_ns) / 1e9
    )
