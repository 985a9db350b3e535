"""The report of an autocalibration: its progress, and finally what happened."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from servomex.calibration.cycles import Cycle
from servomex.durations import counted
from servomex.enums import CalPhase, ChannelId
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.markup import table
from servomex.models.plain import json_fields, json_value
from servomex.models.reading import ChannelStatus, Reading, readings_table, value_text
from servomex.models.texts import clock_text, duration_text

PHASE_WORDS = {
    CalPhase.IDLE: "sample",
    CalPhase.SAMPLING: "sample",
    CalPhase.CAL_GAS_1: "calibration gas 1",
    CalPhase.CAL_GAS_2: "calibration gas 2",
}


@attrs.frozen
class CalibrationProgress:
    """The state of a calibration group.

    Attributes:
        group: 1 to 4.
        phase: Sample (``IDLE``), sample while the calibration runs (``SAMPLING``), or calibration gas 1 or 2.
        received_at: When the analyser reported it, UTC.
        elapsed_s: Seconds since :meth:`Analyzer.calibrate` began; ``None`` when it did not start the calibration.
        frame: All channels at that moment, as far as :meth:`Analyzer.calibrate` has read them.
        start_coil: Whether the coil that starts this group is at 1. While it is, the analyser ignores the next
            start; :meth:`Analyzer.start_calibration` and :meth:`Analyzer.stop_calibration` set it back. ``None``
            where :meth:`Analyzer.calibration_status` did not or could not read it, as in continuous mode.
        notes: Anything odd about the start, in words.
    """

    group: int
    phase: CalPhase
    received_at: datetime
    elapsed_s: float | None = None
    frame: Frame | None = None
    start_coil: bool | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object, without the frame, which has an ``as_json`` of its own."""
        fields = json_fields(attrs.evolve(self, frame=None))
        del fields["frame"]
        return fields | {"active": self.active}

    @property
    def active(self) -> bool:
        """Whether the group is on calibration gas."""
        return self.phase in (CalPhase.CAL_GAS_1, CalPhase.CAL_GAS_2)

    def __str__(self) -> str:
        """Return it on one line, such as ``group 1: calibration gas 1, 12 s``."""
        elapsed = "" if self.elapsed_s is None else f", {duration_text(self.elapsed_s)}"
        coil = "; its start coil is at 1" if self.start_coil else ""
        return f"group {self.group}: {PHASE_WORDS[self.phase]}{elapsed}{coil}"


@attrs.frozen
class CalibrationPhase:
    """A part of a calibration, to the precision of its readings: about one per second.

    Attributes:
        phase: What the group was on.
        started_at: When that was first seen, UTC.
        duration_s: Seconds until another phase was seen.
    """

    phase: CalPhase
    started_at: datetime
    duration_s: float


@attrs.frozen
class CalibrationReport:
    """What happened in an autocalibration, from its start until its group was on sample again.

    It may have been ended early at the panel: check the phases and their durations.

    Attributes:
        group: 1 to 4.
        started_at: When the start was requested, UTC.
        ended_at: When the group was first seen permanently on sample, UTC.
        phases: What the group was on in between, in order.
        before: All channels before the start.
        after: All channels once the group was back on sample. Its gas may not have filled the cell again.
        channels: The channels that were seen calibrating.
        states: Every state that each channel was seen in, in order.
        failed_looks: How many readings of the analyser failed meanwhile.
        settled_s: Seconds for which the group was seen on sample before it counted as ended: from ``ended_at``, or
            from the first reading after the last long gap in them.
        notes: Anything odd about the start, in words.
    """

    group: int
    started_at: datetime
    ended_at: datetime
    phases: tuple[CalibrationPhase, ...]
    before: Frame
    after: Frame
    channels: tuple[ChannelId, ...]
    states: Mapping[ChannelId, tuple[ChannelStatus, ...]]
    failed_looks: int
    settled_s: float
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object: before and after are the calibrated channels, states are words."""
        states = {channel: [state.words for state in states] for channel, states in self.states.items()}
        own = {"before": self.readings_before, "after": self.readings_after, "states": states}
        fields = {item.name: getattr(self, item.name) for item in attrs.fields(type(self))}
        return {name: json_value(value) for name, value in (fields | own).items()}

    @property
    def returns(self) -> tuple[CalibrationPhase, ...]:
        """The times on sample from which the group returned to calibration gas."""
        return tuple(phase for phase in self.phases if phase.phase is CalPhase.SAMPLING)

    @property
    def readings_before(self) -> tuple[Reading, ...]:
        """The readings of the calibrated channels before."""
        return tuple(item for item in self.before if item.channel in self.channels)

    @property
    def readings_after(self) -> tuple[Reading, ...]:
        """The readings of the calibrated channels after."""
        return tuple(item for item in self.after if item.channel in self.channels)

    def __str__(self) -> str:
        """Return the lines that ``servomex calibrate start --wait`` prints."""
        return "\n".join((self._heading, *self._course(), *self._outcome()))

    def _repr_html_(self) -> str:
        phases = [
            (clock_text(item.started_at), PHASE_WORDS[item.phase], duration_text(item.duration_s))
            for item in self.phases
        ]
        phases.append((clock_text(self.ended_at), "sample", f"seen for {duration_text(self.settled_s)}"))
        return "".join((
            table(("from", "on", "for"), phases, caption=[self._heading, *self.notes]),
            *(
                readings_table(readings, caption=[f"{when}, received {clock_text(frame.received_at)}"])
                for when, frame, readings in (
                    ("before", self.before, self.readings_before),
                    ("after", self.after, self.readings_after),
                )
            ),
        ))  # fmt: skip

    @property
    def _heading(self) -> str:
        took = duration_text((self.ended_at - self.started_at).total_seconds())
        times = f"{clock_text(self.started_at)} to {clock_text(self.ended_at)}"
        return f"autocalibration of group {self.group}: {times}, {took}"

    def _course(self) -> Iterator[str]:
        for phase in self.phases:
            back = ", then calibration gas again" if phase.phase is CalPhase.SAMPLING else ""
            lasted = duration_text(phase.duration_s)
            yield f"{clock_text(phase.started_at)} {PHASE_WORDS[phase.phase]}, {lasted}{back}"
        yield f"{clock_text(self.ended_at)} sample, seen for {duration_text(self.settled_s)}"

    def _outcome(self) -> Iterator[str]:
        for before, after in zip(self.readings_before, self.readings_after, strict=False):
            label = f"{before.channel} {before.name or ''}".rstrip()
            yield f"{label}: {value_text(before)} before, {value_text(after)} after"
            yield f"{before.channel} states seen: {'; '.join(map(str, self.states[ChannelId(before.channel)]))}"
        if not self.channels:
            yield "no channel reported that it was calibrating"
        if self.failed_looks:
            yield f"{counted(self.failed_looks, 'reading')} failed meanwhile"


OnProgress = Callable[[CalibrationProgress], object]


def progress_of(
    status: AnalyserStatus,
    group: int,
    received_at: datetime,
    elapsed_s: float | None = None,
    frame: Frame | None = None,
    *,
    cycle: Cycle | None = None,
    start_coil: bool | None = None,
    notes: tuple[str, ...] = (),
) -> CalibrationProgress:
    """Return a group's part of the analyser's state, in the light of the cycle that was started here, if any."""
    shown = status.cal_groups[group - 1].phase
    phase = shown if cycle is None else cycle.phase(shown)
    return CalibrationProgress(group, phase, received_at, elapsed_s, frame, start_coil, notes)
