"""What is told of an autocalibration: how far it is, and in the end what happened."""

from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from servomex.enums import CalPhase, ChannelId
from servomex.models import AnalyserStatus, ChannelStatus, Frame, Reading


@attrs.frozen
class CalibrationProgress:
    """What a calibration group is on.

    Attributes:
        group: 1 to 4.
        phase: Sample (``IDLE``), or calibration gas 1 or 2.
        received_at: When the analyser said so, UTC.
        elapsed_s: Seconds since :meth:`Analyzer.calibrate` began; ``None`` when it did not start the calibration.
        frame: All channels at that moment, as far as :meth:`Analyzer.calibrate` has read them.
    """

    group: int
    phase: CalPhase
    received_at: datetime
    elapsed_s: float | None = None
    frame: Frame | None = None

    @property
    def active(self) -> bool:
        """Whether the group is on calibration gas."""
        return self.phase is not CalPhase.IDLE


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

    Somebody at the panel may have ended it early: look at the phases, and at how long they took.

    Attributes:
        group: 1 to 4.
        started_at: When the start was asked for, UTC.
        ended_at: When the group was first seen back on sample, UTC.
        phases: What the group was on in between, in order.
        before: All channels before the start.
        after: All channels once the group was back on sample. Its gas may not have filled the cell again.
        channels: The channels that were seen calibrating.
        states: Every state that each channel was seen in, in order.
        failed_looks: How often the analyser could not be read meanwhile.
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
) -> CalibrationProgress:
    """Give a group's part of the analyser's state."""
    return CalibrationProgress(group, status.cal_groups[group - 1].phase, received_at, elapsed_s, frame)
