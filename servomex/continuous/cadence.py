"""Cadence: the usual interval between broadcasts, as they show it. No I/O, no clock of its own."""

from collections import deque

REGULAR = 3
"""Number of similar intervals in a row that show a period; one alone may be an outage."""
KEPT = 5
PERIODS_FRESH = 2.5
"""A frame is current for this many broadcast periods."""
ALIKE = 0.25
"""Intervals are alike when they differ by less than this part of the shorter one, or by less than ALIKE_S."""
ALIKE_S = 0.05


class Cadence:
    """Learns the period of broadcasts from the intervals between them. An outage is not a period.

    Attributes:
        period_s: Seconds between broadcasts: the shortest of the latest intervals until three in a row were alike,
            then the median of those that are. Three other ones that are alike show that the period was changed.
            ``None`` before the first.
    """

    def __init__(self) -> None:
        self.period_s: float | None = None
        self._latest: deque[float] = deque(maxlen=REGULAR)
        self._usual: deque[float] = deque(maxlen=KEPT)

    def note(self, interval_s: float) -> None:
        """Note an interval between two broadcasts, neither of them delayed on its way."""
        self._latest.append(interval_s)
        if self._usual and self.period_s is not None and alike(interval_s, self.period_s):
            self._usual.append(interval_s)
        elif len(self._latest) == REGULAR and alike(min(self._latest), max(self._latest)):
            self._usual = deque(self._latest, maxlen=KEPT)
        if self._usual:
            self.period_s = sorted(self._usual)[(len(self._usual) - 1) // 2]
        else:
            self.period_s = min(self._latest)

    @property
    def shortest_s(self) -> float:
        """Seconds between two broadcasts at least, as far as is known; 0.0 before the first interval."""
        return min((self.period_s or 0.0, *self._latest))


def alike(one_s: float, other_s: float) -> bool:
    """Return whether two intervals may be of the same period."""
    return abs(one_s - other_s) <= max(ALIKE * min(one_s, other_s), ALIKE_S)
