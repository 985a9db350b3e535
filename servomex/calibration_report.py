"""What is told of an autocalibration: how far it is, and in the end what happened."""

from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from servomex.cycles import Cycle
from servomex.enums import CalPhase, ChannelId
from servomex.models import AnalyserStatus, ChannelStatus, Frame, Reading


@attrs.frozen
class CalibrationProgress:
    """What a calibration group is on.

    Attributes:
        group: 1 to 4.
        phase: Sample (``IDLE``), sample while the calibration goes on (``SAMPLING``), or calibration gas 1 or 2.
        received_at: When the analyser said so, UTC.
        elapsed_s: Seconds since :meth:`Analyzer.calibrate` began; ``None`` when it did not start the calibration.
        frame: All channels at that moment, as far as :meth:`Analyzer.calibrate` has read them.
        start_coil: Whether the coil that starts this group is at 1. While it is, the analyser ignores the next
            start; :meth:`Analyzer.start_calibration` and :meth:`Analyzer.stop_calibration` set it back. ``None``
            where :meth:`Analyzer.calibration_status` did not or could not read it, as in continuous mode.
        notes: What was odd about the start, in words.
    """

    group: int
    phase: CalPhase
    received_at: datetime
    elapsed_s: float | None = None
    frame: Frame | None = None
    start_coil: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether the group is on calibration gas."""
        return self.phase in (CalPhase.CAL_GAS_1, CalPhase.CAL_GAS_2)


@attrs.frozen
class CalibrationPhase:
    """A part of a calibration, as precisely as it was looked at: about once a second.

    Attributes:
        phase: What the group was on.
        started_at: When that was first seen, UTC.
        duration_s: Seconds until something else was seen.
    """

    phase: CalPhase
    started_at: datetime
    duration_s: float


@attrs.frozen
class CalibrationReport:
    """What happened in an autocalibration, from its start until its group was on sample again.

    It may have been ended early at the panel: look at the phases, and at how long they took.

    Attributes:
        group: 1 to 4.
        started_at: When the start was asked for, UTC.
        ended_at: When the group was first seen back on sample for good, UTC.
        phases: What the group was on in between, in order.
        before: All channels before the start.
        after: All channels once the group was back on sample. Its gas may not have filled the cell again.
        channels: The channels that were seen calibrating.
        states: Every state that each channel was seen in, in order.
        failed_looks: How often the analyser could not be read meanwhile.
        settled_s: Seconds for which the group was seen on sample before it counted as ended: from ``ended_at``, or
            from the first reading after the last long time in which none succeeded.
        notes: What was odd about the start, in words.
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

    @property
    def returns(self) -> tuple[CalibrationPhase, ...]:
        """The times on sample from which the group returned to calibration gas."""
        return tuple(phase for phase in self.phases if phase.phase is CalPhase.SAMPLING)

    @property
    def readings_before(self) -> tuple[Reading, ...]:
        """What the calibrated channels read before."""
        return tuple(item for item in self.before if item.channel in self.channels)

    @property
    def readings_after(self) -> tuple[Reading, ...]:
        """What the calibrated channels read after."""
        return tuple(item for item in self.after if item.channel in self.channels)


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
