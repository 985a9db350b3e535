"""The usual interval between readings, and which pauses are longer."""

import math
import statistics
from collections import deque

PAUSE = 2.5
"""How many usual intervals without a reading are a gap."""
INTERVALS = 9
"""From how many intervals the usual one is taken."""


class Pace:
    """Learns the usual interval from the latest ones; a new rate is the usual one after a few readings."""

    def __init__(self) -> None:
        self.longest_s: float = math.inf
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        self._usual_s = math.nan
        self._regular = 0

    def take(self, step: float) -> None:
        """Take an interval."""
        if 0.5 < step / self._usual_s < 1.5:
            self._regular += 1
            if self._regular > INTERVALS:
                return
        else:
            self._regular = 0
        if step > 0:
            self._intervals.append(step)
            self._usual_s = statistics.median_low(self._intervals)
            self.longest_s = PAUSE * self._usual_s
