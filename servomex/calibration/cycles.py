"""Cycle: whether an autocalibration that was started here goes on while its group is on sample. No I/O."""

from servomex.enums import CalPhase
from servomex.runtime.clock import time

SAMPLE_LOOKS = 2
"""One look may be wrong: a group counts as on sample after as many in a row."""


class Cycle:
    """One autocalibration of a group, from its start until the group has settled on sample.

    A group may be on sample for a while between its gases, so that only time shows that it has ended.

    Args:
        settle_s: Seconds on sample after which it counts as ended.
        longest_gap_s: For one that is watched: after a longer time without a look it is not known that there was
            no gas in between, and these seconds begin anew.

    Attributes:
        looks: How many times in a row the group was seen on sample.
        seconds: From the first to the last of them.
        watched: Whether :meth:`Analyzer.calibrate` follows it, so that no other look is to be noted.
    """

    def __init__(self, settle_s: float, longest_gap_s: float | None = None) -> None:
        self.looks: int = 0
        self.seconds: float = 0.0
        self.watched: bool = longest_gap_s is not None
        self._settle_s = settle_s
        self._longest_gap_s = longest_gap_s
        self._begun = False
        self._since = self._last = 0.0

    @property
    def over(self) -> bool:
        """Whether the group has settled on sample."""
        return self.looks >= SAMPLE_LOOKS and self.seconds >= self._settle_s

    def phase(self, shown: CalPhase) -> CalPhase:
        """Return what the group is on, by what its state shows: sample is ``SAMPLING`` until it has settled."""
        goes_on = self._begun and not self.over
        return CalPhase.SAMPLING if shown is CalPhase.IDLE and goes_on else shown

    def note(self, shown: CalPhase) -> None:
        """Take one more look into account."""
        now = time.monotonic()
        if shown is not CalPhase.IDLE:
            self.looks, self.seconds, self._begun = 0, 0.0, True
            return
        broken = self.watched and self._longest_gap_s is not None and now - self._last > self._longest_gap_s
        if not self.looks or broken:
            self.looks, self._since = 0, now
        self.looks, self.seconds, self._last = self.looks + 1, now - self._since, now
