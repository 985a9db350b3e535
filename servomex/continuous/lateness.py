"""Lateness: how long broadcasts were held up between the analyser and this program. No I/O, no clock of its own.

A network or a serial server that stalled delivers everything it held in one burst. Two things show the age of
those broadcasts: the analyser's own clock in each of them, and that the analyser sends no more than one per
period.
"""

from collections.abc import Sequence
from datetime import datetime

import attrs

from servomex.continuous.cadence import ALIKE, REGULAR, Cadence, alike
from servomex.models.frame import Frame

BURST_S = 0.02
"""Broadcasts closer together than this waited in a buffer; a shorter delay does not count."""
RESOLUTION_S = 1.25
"""The analyser's clock shows whole seconds: a difference up to this, jitter included, is not a delay."""
DRIFT = 0.0002
"""The analyser's clock may gain or lose this fraction of the time: 17 s a day."""
UNSURE_S = 2.5
"""Until the analyser's clock is trusted, a jump of up to this is accepted: the first broadcasts may be late."""
TRUSTED_S = 3.0
TRUSTED_FRAMES = 3
"""The analyser's clock is trusted when it ran like this computer's for this long, over this many broadcasts."""
WINDOW_FRAMES = 64
WINDOW_S = 600.0
"""The smallest difference of the two clocks is remembered for one to two of these windows."""
SET_FRAMES = 10
SET_S = 10.0
"""The analyser's clock was set if this many broadcasts, over this many seconds, look late by the same amount."""
PERIODS_GAP = 1.5
GAP_S = 0.1
"""A broadcast more than this many periods plus this many seconds after the one before follows a gap."""
LONGEST_S = 86400.0
_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 (the analyser's clock has no zone)


@attrs.frozen
class Arrived:
    """A frame, and when it arrived.

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
    """The analyser's clock compared with this computer's, until it is set."""

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
        """Note a punctual broadcast; return ``False`` if its clock does not keep pace with this computer's."""
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
    """The broadcasts held up by a gap, which arrive faster than the analyser sends."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._came = self._in_step = 0
        self._fast = False

    def late_s(self, item: Arrived, last: Arrived, last_delay_s: float, period_s: float) -> float:
        """Note the next broadcast; return how late it may be by the number received since the gap."""
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
    """For how long the delay has been the same: a backlog shrinks, a clock that was set stays off."""

    def __init__(self) -> None:
        self._since: Arrived | None = None
        self._frames = 0

    def clear(self) -> None:
        self._since = None

    def add(self, item: Arrived, *, regular: bool) -> bool:
        """Note a late broadcast; return ``True`` if its clock has kept pace with this computer's long enough."""
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
    """Judges how late the broadcasts of one analyser arrive, and learns their cadence.

    Attributes:
        cadence: The interval between broadcasts.
        repeated_s: For how long the same bytes, the analyser's clock included, have been arriving; 0.0 when the
            last broadcast differed from the one before.
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
        """Return whether the analyser's clock is further ahead than if it had kept running."""
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
        """Return how late each of the broadcasts that arrived together may be, in seconds; 0.0 for one in time."""
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
        """Return the delays by count: those of a burst were sent at least a period apart."""
        last, period_s = self._last, self.cadence.shortest_s
        if last is None or not period_s or not batch:
            return [0.0] * len(batch)
        since_s = last.at_s - self._last_delay_s
        still = self._last_delay_s > 0 and batch[0].at_s - last.at_s < period_s / 2
        if len(batch) == 1 and not still:
            return [0.0]
        return [max(0.0, item.at_s - since_s - number * period_s) for number, item in enumerate(batch, 1)]

    def _behind(self, item: Arrived, batch: Sequence[Arrived], place: int) -> float:
        """Return the delay by the newest of a burst: a broadcast must be this much older than that one."""
        newest = batch[-1]
        by_count_s = (len(batch) - 1 - place) * self.cadence.shortest_s
        by_clock_s = 0.0
        if item.clock_s is not None and newest.clock_s is not None:
            by_clock_s = newest.clock_s - item.clock_s
        return max(0.0, max(by_count_s, by_clock_s) - (newest.at_s - item.at_s))

    def _owed_s(self, item: Arrived) -> float:
        """Return the delay by the number of broadcasts since a gap that did not arrive in one burst."""
        period_s = self.cadence.shortest_s
        if self._last is None or not period_s:
            return 0.0
        return self._backlog.late_s(item, self._last, self._last_delay_s, period_s)

    def _by_clock(self, item: Arrived, backlog_s: float, owed_s: float) -> float:
        """Return the delay by the analyser's clock where it is reliable, else by the backlog."""
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
        """Return whether a clock that is not trusted yet, and lags since a gap, may show a delay."""
        if self._doubted is None:
            stood = self.stands_s > RESOLUTION_S
            self._doubted = item if is_gap(gap_s, self.cadence.period_s) and not stood else None
        elif item.clock_s == self._doubted.clock_s and item.at_s - self._doubted.at_s > RESOLUTION_S:
            self.restart_clock()  # it stands still
        return self._doubted is not None

    def _unchanged_s(self, item: Arrived) -> float:
        """Return the delay by the bytes: a repeated broadcast, clock included, is as old as the first of them."""
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
    """Return whether a broadcast may be missing between two; always while the period is not known."""
    return period_s is None or interval_s > PERIODS_GAP * period_s + GAP_S
