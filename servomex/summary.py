"""AcquisitionSummary: what became of an acquisition, in numbers that add up."""

from collections import deque
from datetime import datetime

import attrs

from servomex.durations import MS, counted

TICKS_KEPT = 4096
"""From how many of the latest moments the quantiles of lateness are taken."""
POLLS_KEPT = 32
"""From how many of the latest readings it is taken how many a second are possible."""
FEWEST_POLLS = 3
"""Fewer readings do not show how long one takes."""


@attrs.define
class AcquisitionSummary:
    """What became of an acquisition so far. It is live: the numbers grow while it runs.

    Each moment at which a reading was due, and each broadcast, is counted once: as ``emitted``, ``errors``,
    ``late``, ``repeated`` or ``dropped``.

    Attributes:
        started_at: When it began, UTC.
        finished_at: When it ended, UTC; ``None`` while it runs.
        emitted: Readings that were handed on.
        errors: Readings that failed, of several analysers at least one; each was handed on with its error.
        damaged: How many of these report broadcasts that came damaged, or were refused as not to be believed. One
            may stand for several, and says how many. Those whose error nobody took in time are counted as well.
        late: Moments that passed while the reading before them still went on; there is no reading of them.
        delayed: Broadcasts among the readings that came late: their times are moved back by the delay.
        repeated: Moments at which there was nothing newer than at the one before.
        dropped: Readings and broadcasts that were given up: nobody took them in time, or they had waited for an
            unknown time while the program stood still.
        missed: How many of these were broadcasts that had not been taken by the acquisition.
        unwritten: Samples that were handed on and are not in a sink, counted for each sink: it could not write
            them, or another program removed them.
        disconnects: How often the port of an analyser was lost; those of a manager's show as errors only.
        outages: How often an analyser gave no readings for a time, for whatever reason; damage is not one.
        outage_s: Seconds that these took together, each from its first failed reading to the next good one. Those
            of several analysers are added up.
        changes: How often a channel got another name or unit; each is a row of its own, see :class:`Recording`.
        max_drift_s: The longest that a reading began after its moment, in seconds.
    """

    started_at: datetime | None = None
    finished_at: datetime | None = None
    emitted: int = 0
    errors: int = 0
    damaged: int = 0
    late: int = 0
    delayed: int = 0
    repeated: int = 0
    dropped: int = 0
    missed: int = 0
    unwritten: int = 0
    disconnects: int = 0
    outages: int = 0
    outage_s: float = 0.0
    changes: int = 0
    max_drift_s: float = 0.0
    _ticks: deque[float] = attrs.field(factory=lambda: deque(maxlen=TICKS_KEPT), repr=False, eq=False)
    _polls: deque[float] = attrs.field(factory=lambda: deque(maxlen=POLLS_KEPT), repr=False, eq=False)

    def __str__(self) -> str:
        """Say it on one line for people, as ``servomex record`` does at its end."""
        p50_s, p99_s = self.tick_p50_s, self.tick_p99_s
        late = ""
        if p50_s is not None and p99_s is not None:
            late = f"; began late by {MS * p50_s:.1f} ms (median), {MS * p99_s:.1f} ms (p99), "
            late += f"{MS * self.max_drift_s:.1f} ms (most)"
        return f"{self.counts}{late}"

    @property
    def counts(self) -> str:
        """The counts in words: the beginning of the text form."""
        damaged = f" ({counted(self.damaged, 'damaged broadcast')})" if self.damaged else ""
        further = [
            f", {text}"
            for number, text in (
                (self.delayed, f"{self.delayed} delayed on the way"),
                (self.outages, f"{counted(self.outages, 'outage')} of {self.outage_s:.1f} s"),
                (self.changes, counted(self.changes, "changed channel")),
                (self.unwritten, f"{counted(self.unwritten, 'row')} not written"),
            )
            if number
        ]
        return (
            f"{counted(self.emitted, 'reading')}, {self.errors} failed{damaged}, {self.late} late, "
            f"{self.dropped} dropped, {counted(self.disconnects, 'disconnect')}{''.join(further)}"
        )

    @property
    def slots(self) -> int:
        """How many moments and broadcasts were accounted for."""
        return self.attempts + self.late + self.missed

    @property
    def attempts(self) -> int:
        """How many readings were tried, and broadcasts taken, failed ones included. A ``count`` limits these."""
        return self.emitted + self.errors + self.repeated + self.dropped - self.missed

    @property
    def possible_hz(self) -> float | None:
        """How many readings a second the source allows, by how long they take; ``None`` before the third."""
        polls = sorted(self._polls)
        median_s = polls[len(polls) // 2] if len(polls) >= FEWEST_POLLS else 0.0
        return 1 / median_s if median_s else None

    @property
    def tick_p50_s(self) -> float | None:
        """Seconds after their moment by which half of the readings had begun; ``None`` before the first."""
        return self._quantile(50)

    @property
    def tick_p99_s(self) -> float | None:
        """Seconds after their moment by which 99 of 100 had begun; ``None`` before the first."""
        return self._quantile(99)

    def note_tick(self, drift_s: float) -> None:
        """Count how long after its moment a reading begins."""
        self.max_drift_s = max(self.max_drift_s, drift_s)
        self._ticks.append(drift_s)

    def note_poll(self, took_s: float) -> None:
        """Note how long a reading took that did not fail."""
        self._polls.append(took_s)

    def _quantile(self, percent: int) -> float | None:
        ticks = sorted(self._ticks)
        return ticks[-(-len(ticks) * percent // 100) - 1] if ticks else None
