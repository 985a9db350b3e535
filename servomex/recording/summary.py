"""AcquisitionSummary: the outcome of an acquisition, in numbers that add up."""

from collections import deque
from datetime import UTC, datetime
from typing import Any

import attrs

from servomex.durations import MS, counted
from servomex.models.markup import table
from servomex.models.plain import json_fields
from servomex.models.texts import clock_text

TICKS_KEPT = 4096
"""Number of recent moments from which the quantiles of lateness and duration are taken."""
POLLS_KEPT = 32
"""Number of recent readings from which the possible rate is taken."""
FEWEST_POLLS = 3
"""Fewer readings do not show how long one takes."""


def _latest() -> deque[float]:
    return deque(maxlen=TICKS_KEPT)


@attrs.define
class AcquisitionSummary:
    """The outcome of an acquisition so far. It is live: the numbers grow while it runs.

    Each moment at which a reading was due, and each broadcast, is counted once: as ``samples_emitted``,
    ``samples_late``, ``repeated`` or ``dropped``. Where each broadcast is taken as it arrives, an error that
    reports a lost port or silence is a batch of its own among the ``samples_emitted``.

    Attributes:
        samples_emitted: Batches that were passed on, each the samples of one reading, including those of failed
            readings, which hold the error.
        samples_late: Moments that passed while the reading before them was still under way; they have no reading.
        max_drift_ms: The longest delay of a reading's start after its moment, in milliseconds.
        disconnects: How often the port of an analyser was lost; losses of a manager's ports show as errors only.
        started_at: When it began, UTC.
        finished_at: When it ended, UTC; ``None`` while it runs.
        errors: How many of ``samples_emitted`` report a failure, of at least one analyser if there are several.
        damaged: Broadcasts that arrived damaged, or were refused as not credible, including those whose error was
            not taken in time. Where each broadcast is taken as it arrives, one of the ``errors`` stands for
            one of them, or for several and says how many; in a recording at a rate they are only counted here.
        delayed: Broadcasts among the readings that arrived late: their times are moved back by the delay.
        repeated: Moments at which there was nothing newer than at the one before.
        dropped: Readings and broadcasts that were discarded: they were not taken in time, or had waited for an
            unknown time while the program stood still.
        missed: How many of these were broadcasts that had not been taken by the acquisition.
        unwritten: Samples that were passed on but are not in a sink, counted for each sink: it could not write
            them, or another program removed them.
        outages: How often an analyser gave no readings for a time, for whatever reason; damage is not one.
        outage_s: Seconds that these took in total, each from its first failed reading to the next good one. Those
            of several analysers are added up.
        changes: How often a channel got another name or unit; each is a row of its own, see :class:`Recording`.
    """

    samples_emitted: int = 0
    samples_late: int = 0
    max_drift_ms: float = 0.0
    disconnects: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    errors: int = 0
    damaged: int = 0
    delayed: int = 0
    repeated: int = 0
    dropped: int = 0
    missed: int = 0
    unwritten: int = 0
    outages: int = 0
    outage_s: float = 0.0
    changes: int = 0
    _lateness_ms: deque[float] = attrs.field(factory=_latest, init=False, repr=False, eq=False)
    _durations_ms: deque[float] = attrs.field(factory=_latest, init=False, repr=False, eq=False)
    _polls_s: deque[float] = attrs.field(
        factory=lambda: deque(maxlen=POLLS_KEPT), init=False, repr=False, eq=False
    )

    def __str__(self) -> str:
        """Return it as one line of text, as ``servomex record`` prints it at its end."""
        times = ""
        if self._lateness_ms:
            times += f"; start jitter {self.lateness_ms_p50:.1f} ms (median), "
            times += f"{self.lateness_ms_p99:.1f} ms (p99), {self.max_drift_ms:.1f} ms (max)"
        if self._durations_ms:
            times += f"; poll duration {self.tick_duration_ms_p50:.1f} ms (median), "
            times += f"{self.tick_duration_ms_p99:.1f} ms (p99)"
        return f"{self.counts}{times}"

    def _repr_html_(self) -> str:
        figures = [field.name for field in attrs.fields(AcquisitionSummary) if not field.name.startswith("_")]
        figures += ["lateness_ms_p50", "lateness_ms_p99", "tick_duration_ms_p50", "tick_duration_ms_p99"]
        until = f"as of {clock_text(datetime.now(UTC))}" if self.finished_at is None else "to its end"
        return table(
            (), [(name, _shown(getattr(self, name))) for name in figures], caption=[f"{self.counts} {until}"]
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object: its counts and times, the quantiles included."""
        return json_fields(self) | {
            "tick_duration_ms_p50": self.tick_duration_ms_p50,
            "tick_duration_ms_p99": self.tick_duration_ms_p99,
            "lateness_ms_p50": self.lateness_ms_p50,
            "lateness_ms_p99": self.lateness_ms_p99,
        }

    @property
    def counts(self) -> str:
        """The counts in words, good and failed readings apart: the beginning of the text form."""
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
        good = counted(self.samples_emitted - self.errors, "reading")
        return (
            f"{good}, {self.errors} failed{damaged}, {self.samples_late} late, {self.dropped} dropped, "
            f"{counted(self.disconnects, 'disconnect')}{''.join(further)}"
        )

    @property
    def slots(self) -> int:
        """How many moments and broadcasts were accounted for."""
        return self.samples_emitted + self.samples_late + self.repeated + self.dropped

    @property
    def attempts(self) -> int:
        """How many readings were tried, and broadcasts taken, failed ones included. A ``count`` limits these."""
        return self.samples_emitted + self.repeated + self.dropped - self.missed

    @property
    def possible_hz(self) -> float | None:
        """How many readings per second the source allows, by how long they take; ``None`` before the third."""
        polls = sorted(self._polls_s)
        median_s = polls[len(polls) // 2] if len(polls) >= FEWEST_POLLS else 0.0
        return 1 / median_s if median_s else None

    @property
    def tick_duration_ms_p50(self) -> float:
        """Milliseconds within which half of the latest polls ended, failed ones included; 0.0 before the first.

        A broadcast that is taken as it arrives is not polled for, and does not count here.
        """
        return _quantile(self._durations_ms, 50)

    @property
    def tick_duration_ms_p99(self) -> float:
        """The same for 99 % of polls."""
        return _quantile(self._durations_ms, 99)

    @property
    def lateness_ms_p50(self) -> float:
        """Milliseconds after their moment by which half of the latest readings had begun; 0.0 before the first."""
        return _quantile(self._lateness_ms, 50)

    @property
    def lateness_ms_p99(self) -> float:
        """The same for 99 % of readings."""
        return _quantile(self._lateness_ms, 99)

    def note_start(self, lateness_s: float) -> None:
        """Count how long after its moment a reading begins."""
        self.max_drift_ms = max(self.max_drift_ms, MS * lateness_s)
        self._lateness_ms.append(MS * lateness_s)

    def note_poll(self, took_s: float, *, good: bool) -> None:
        """Count how long a poll took; only one that gave a reading shows which rate is possible."""
        self._durations_ms.append(MS * took_s)
        if good:
            self._polls_s.append(took_s)


def _quantile(values: deque[float], percent: int) -> float:
    """Return the smallest value that ``percent`` of 100 do not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else 0.0


def _shown(figure: object) -> object:
    """Return a figure for people: times to the second, others to three decimals."""
    if isinstance(figure, datetime):
        return clock_text(figure)
    return round(figure, 3) if isinstance(figure, float) else figure
