"""Lateness: how long broadcasts were held up between the analyser and this program. No I/O, no clock of its own.

A network or a serial server that stalls hands on in one burst what it collected. Two things show the age of those
broadcasts: the analyser's own clock in each of them, and that the analyser sends no more than one per period.
"""

from collections.abc import Sequence
from datetime import datetime

import attrs

from servomex.continuous.cadence import ALIKE, REGULAR, Cadence, alike
from servomex.models.frame import Frame

BURST_S = 0.02
"""Broadcasts closer together than this waited in a buffer; a shorter delay is not one."""
RESOLUTION_S = 1.25
"""The analyser's clock shows whole seconds: a difference up to this, jitter included, is not a delay."""
DRIFT = 0.0002
"""The analyser's clock may gain or lose this part of the time; 17 s a day."""
UNSURE_S = 2.5
"""Until the analyser's clock is trusted, no jump of up to this is doubted: the first broadcasts may be late."""
TRUSTED_S = 3.0
TRUSTED_FRAMES = 3
"""The analyser's clock is trusted when it ran like this computer's for this long, over this many broadcasts."""
WINDOW_FRAMES = 64
WINDOW_S = 600.0
"""How long the smallest difference of the two clocks is remembered, and again as long."""
SET_FRAMES = 10
SET_S = 10.0
"""After this many broadcasts, over this many seconds, that look late by the same, the analyser's clock was set."""
PERIODS_GAP = 1.5
GAP_S = 0.1
"""There was a gap when a broadcast comes this many periods and seconds after the one before."""
LONGEST_S = 86400.0
_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 (the analyser's clock has no zone)


@attrs.frozen
class Arrived:
    """A frame, and when it came.

    Attributes:
        frame: The frame.
        at_s: When its last byte was read, on a clock that sleep does not stop.
    """

    frame: Frame
    at_s: float

    @property
    def clock_s(self) -> float | None:
        """The analyser's clock in the frame, as seconds; ``None`` when it shows no time."""
        shown = self.frame.analyser.clock
        return None if shown is None else (shown - _EPOCH).total_seconds()

    @property
    def ahead_s(self) -> float | None:
        """How far this computer's clock is ahead of the analyser's in it; the origins are arbitrary."""
        clock_s = self.clock_s
        return None if clock_s is None else self.at_s - clock_s


class _ClockLine:
    """The analyser's clock against this computer's, as long as it is not set."""

    def __init__(self, first: Arrived, ahead_s: float) -> None:
        self._first = first
        self._first_ahead_s = ahead_s
        self._frames = 0
        self._least_s = [ahead_s, ahead_s]  # of this window and of the one before
        self._window = (0, first.at_s)
        self.trusted = False

    def base_s(self) -> float:
        return min(self._least_s)

    def add(self, item: Arrived, ahead_s: float) -> bool:
        """Note a broadcast that came in time; ``False`` when the clock does not keep pace with this computer's."""
        self._frames += 1
        lasted_s = item.at_s - self._first.at_s
        if not self.trusted:
            if abs(ahead_s - self._first_ahead_s) > RESOLUTION_S + DRIFT * lasted_s:
                return False
            self.trusted = self._frames >= TRUSTED_FRAMES and lasted_s >= TRUSTED_S
        begun, since_s = self._window
        if self._frames - begun >= WINDOW_FRAMES or item.at_s - since_s >= WINDOW_S:
            self._window, self._least_s = (self._frames, item.at_s), [ahead_s, self._least_s[0]]
        self._least_s[0] = min(self._least_s[0], ahead_s)
        return True


class _Backlog:
    """What a gap owes: the broadcasts of its time, when those after it come faster than the analyser sends."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._came = self._in_step = 0
        self._fast = False

    def late_s(self, item: Arrived, last: Arrived, last_delay_s: float, period_s: float) -> float:
        """Note the next broadcast; return how late it may be by the number of those that came since the gap."""
        gap_s = item.at_s - last.at_s
        if is_gap(gap_s, period_s) and not self._fast:
            self._since_s, self._came, self._in_step = last.at_s - last_delay_s, 1, 0
            return 0.0
        if self._since_s is None:
            return 0.0
        self._came += 1
        faster = gap_s < period_s and not alike(gap_s, period_s)
        self._in_step = 0 if faster else self._in_step + 1
        self._fast = self._fast or faster
        late_s = item.at_s - self._since_s - self._came * period_s
        owes_s = (1 + ALIKE if self._in_step else ALIKE) * period_s  # one may have been lost
        if late_s <= owes_s or self._in_step >= REGULAR:
            self._since_s, self._fast = None, False
        return late_s if self._fast else 0.0


class _Steady:
    """How long broadcasts have been late by the same: a backlog shrinks, a clock that was set never catches up."""

    def __init__(self) -> None:
        self._since: Arrived | None = None
        self._frames = 0

    def clear(self) -> None:
        self._since = None

    def add(self, item: Arrived, *, regular: bool) -> bool:
        """Note a late broadcast; ``True`` when its clock has kept pace with this computer's for long enough."""
        since = self._since
        shrunk_s = 0.0
        if since is not None and since.ahead_s is not None and item.ahead_s is not None:
            shrunk_s = since.ahead_s - item.ahead_s
        elif not regular:
            since = None
        if since is None or shrunk_s > RESOLUTION_S or (shrunk_s < -RESOLUTION_S and not regular):
            self._since, self._frames = item, 1
            return False
        self._frames += 1
        return self._frames >= SET_FRAMES and item.at_s - since.at_s >= SET_S


class Lateness:
    """Judges how late the broadcasts of one analyser come, and learns their cadence.

    Attributes:
        cadence: The interval between broadcasts.
        repeated_s: For how long the same bytes, the analyser's clock included, have been coming; 0.0 when the last
            broadcast differed from the one before.
        stands_s: For how long the analyser's clock has shown the same time while its values changed.
    """

    def __init__(self) -> None:
        self.cadence: Cadence = Cadence()
        self.repeated_s: float = 0.0
        self.stands_s: float = 0.0
        self._line: _ClockLine | None = None
        self._erratic = False
        self._last: Arrived | None = None
        self._last_delay_s = 0.0
        self._backlog = _Backlog()
        self._steady = _Steady()
        self._doubted: Arrived | None = None
        self._same_since_s = self._stands_since_s = 0.0
        self._varied = False

    def gap_s(self, at_s: float) -> float | None:
        """Return the seconds since the last broadcast; ``None`` when there was none."""
        return None if self._last is None else at_s - self._last.at_s

    def is_ahead(self, item: Arrived) -> bool:
        """Whether the analyser's clock is further ahead than it could be had it run as before."""
        ahead_s, gap_s = item.ahead_s, self.gap_s(item.at_s)
        if ahead_s is None or gap_s is None or self._line is None:
            return False
        if self._erratic and not self._line.trusted:
            return False
        slack_s = RESOLUTION_S if self._line.trusted else UNSURE_S
        return ahead_s < self._line.base_s() - slack_s - DRIFT * gap_s

    def restart_clock(self, *, erratic: bool = False) -> None:
        """Forget how the analyser's clock ran: it was set, or is not reliable.

        Args:
            erratic: It runs at no known speed: until it is trusted again, no jump ahead is doubted.
        """
        self._line, self._erratic, self._doubted = None, erratic, None

    def judge(self, batch: Sequence[Arrived]) -> list[float]:
        """Return how late each of the broadcasts that came together may be, in seconds; 0.0 for one in time."""
        held_s = self._held_up(batch)
        delays: list[float] = []
        for place, (item, backlog_s) in enumerate(zip(batch, held_s, strict=True)):
            by_clock_s = self._by_clock(item, backlog_s, self._owed_s(item))
            delay_s = max(by_clock_s, self._behind(item, batch, place), self._unchanged_s(item))
            delay_s = 0.0 if delay_s < BURST_S else min(delay_s, LONGEST_S)
            self._learn(item, delay_s, alone=len(batch) == 1, newest=place == len(batch) - 1)
            delays.append(self._last_delay_s)
        return delays

    def _held_up(self, batch: Sequence[Arrived]) -> list[float]:
        """By the number of broadcasts: those of a burst follow the last one at intervals of a period at least."""
        last, period_s = self._last, self.cadence.shortest_s
        if last is None or not period_s or not batch:
            return [0.0] * len(batch)
        since_s = last.at_s - self._last_delay_s
        still = self._last_delay_s > 0 and batch[0].at_s - last.at_s < period_s / 2
        if len(batch) == 1 and not still:
            return [0.0]
        return [max(0.0, item.at_s - since_s - number * period_s) for number, item in enumerate(batch, 1)]

    def _behind(self, item: Arrived, batch: Sequence[Arrived], place: int) -> float:
        """By the newest of a burst: how much older than that one a broadcast must be."""
        newest = batch[-1]
        by_count_s = (len(batch) - 1 - place) * self.cadence.shortest_s
        by_clock_s = 0.0
        if item.clock_s is not None and newest.clock_s is not None:
            by_clock_s = newest.clock_s - item.clock_s
        return max(0.0, max(by_count_s, by_clock_s) - (newest.at_s - item.at_s))

    def _owed_s(self, item: Arrived) -> float:
        """By the number of those that came since a gap, though not at once."""
        period_s = self.cadence.shortest_s
        if self._last is None or not period_s:
            return 0.0
        return self._backlog.late_s(item, self._last, self._last_delay_s, period_s)

    def _by_clock(self, item: Arrived, backlog_s: float, owed_s: float) -> float:
        """By the analyser's clock, where it can be relied on, else by the backlog."""
        ahead_s, last = item.ahead_s, self._last
        if ahead_s is None or last is None or self._line is None:
            return max(backlog_s, owed_s)
        gap_s, excess_s = item.at_s - last.at_s, ahead_s - self._line.base_s()
        behind = excess_s > RESOLUTION_S + DRIFT * gap_s
        if not self._line.trusted and not (behind and self._is_doubted(item, gap_s)):
            self._doubted = None
            return max(backlog_s, owed_s)
        if not behind:
            return min(backlog_s, RESOLUTION_S)
        # It was sent a period after the one before at the earliest, else the clock was set back.
        return min(excess_s, self._last_delay_s + max(0.0, gap_s - self.cadence.shortest_s))

    def _is_doubted(self, item: Arrived, gap_s: float) -> bool:
        """Whether a clock that is not trusted yet, and lags since a gap, may show what was held up in the gap."""
        if self._doubted is None:
            stood = self.stands_s > RESOLUTION_S
            self._doubted = item if is_gap(gap_s, self.cadence.period_s) and not stood else None
        elif item.clock_s == self._doubted.clock_s and item.at_s - self._doubted.at_s > RESOLUTION_S:
            self.restart_clock()  # it stands still
        return self._doubted is not None

    def _unchanged_s(self, item: Arrived) -> float:
        """By the bytes: a broadcast that is repeated, its clock included, is as old as the first of them."""
        last = self._last
        if last is None or item.clock_s is None or item.clock_s != last.clock_s:
            self._same_since_s = self._stands_since_s = item.at_s
            self._varied = False
        elif item.frame.raw != last.frame.raw:
            self._same_since_s, self._varied = item.at_s, True
        self.repeated_s = item.at_s - self._same_since_s
        self.stands_s = item.at_s - self._stands_since_s if self._varied else 0.0
        return self.repeated_s if self.repeated_s > RESOLUTION_S else 0.0

    def _learn(self, item: Arrived, delay_s: float, *, alone: bool, newest: bool) -> None:
        gap_s = self.gap_s(item.at_s)
        if gap_s is not None and alone and delay_s == self._last_delay_s == 0.0 and gap_s > BURST_S:
            self.cadence.note(gap_s)
        period_s = self.cadence.period_s
        regular = gap_s is not None and (period_s is None or alike(gap_s, period_s))
        if not delay_s or not alone or self.repeated_s:
            self._steady.clear()
        elif self._steady.add(item, regular=regular):
            self._steady.clear()
            delay_s, self._backlog = 0.0, _Backlog()
            self.restart_clock()
        self._last, self._last_delay_s = item, delay_s
        ahead_s = item.ahead_s
        if ahead_s is None or not newest or delay_s > RESOLUTION_S or self.repeated_s:
            return
        if self._line is None or not self._line.add(item, ahead_s):
            self._line = _ClockLine(item, ahead_s)


def is_gap(interval_s: float, period_s: float | None) -> bool:
    """Whether more than a period passed between two broadcasts, or may have as long as the period is not known."""
    return period_s is None or interval_s > PERIODS_GAP * period_s + GAP_S
