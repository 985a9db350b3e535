"""Autocalibration over Modbus: started by a pulse of a coil, watched, and ended.

Source: installation manual, Appendix B. The analyser treats a start like a request from its keypad and may refuse
it by the same rules, without an error in the reply: only the state of the group tells. How soon that state follows
the coil is not documented.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

from servomex import registers
from servomex.coils import LINE_ERRORS, calibration_error, clear, pulse
from servomex.enums import CalPhase, ChannelId
from servomex.errors import ServomexCalibrationError, ServomexError
from servomex.models import AnalyserStatus, ChannelStatus, Frame, Reading

if TYPE_CHECKING:
    from servomex.modbus import ModbusClient

_log = logging.getLogger("servomex")

WATCH_S = 10.0
"""How long an analyser may take to show that a calibration has started or stopped."""
LOOK_S = 0.2
"""Pause between two looks at the groups meanwhile."""
FOLLOW_S = 1.0
"""Time from one reading to the next while a calibration runs."""
ENDED_LOOKS = 2
"""A calibration has ended when so many readings in a row show its group on sample."""
_REASONS = (
    "likely the group is not set up for autocalibration on the panel, the panel is in a menu, or the analyser is "
    "warming up or has a fault"
)


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
    """What happened in an autocalibration that ran to its end.

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
        return self.before.only(frozenset(self.channels)).readings

    @property
    def readings_after(self) -> tuple[Reading, ...]:
        """What the calibrated channels read after."""
        return self.after.only(frozenset(self.channels)).readings


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


def look(client: "ModbusClient", group: int, deadline: float) -> CalibrationProgress:
    """Read what a group is on."""
    return progress_of(client.read_analyser(deadline), group, datetime.now(UTC))


def start(client: "ModbusClient", group: int, deadline: float, *, verify: bool = True) -> CalibrationProgress:
    """Start the autocalibration of a group, and with ``verify`` watch until its state shows that it runs.

    Raises:
        ServomexCalibrationError: One runs already or is being started, it did not start, or nobody knows.
    """
    with _admitted(client, deadline):
        return _launch(client, group, deadline, verify=verify)


def stop(client: "ModbusClient", deadline: float) -> None:
    """Stop all autocalibrations, and watch until every group is on sample.

    Raises:
        ServomexCalibrationError: A group is still on calibration gas, or nobody knows.
    """
    pulse(client, registers.STOP_COIL, "the stop", deadline)
    status = _watch(client, lambda state: not _running(state), deadline)
    if status is None:
        raise calibration_error(
            client,
            "the stop was sent, but the state could not be read: nobody knows whether a calibration runs. Look at "
            "the panel",
            running=None,
        )
    if groups := _running(status):
        raise calibration_error(
            client, f"the analyser ignored the stop: {groups}. Stop it on the analyser's panel", running=True
        )


class Calibration:
    """One autocalibration from its start to its end.

    Args:
        client: The analyser.
        group: 1 to 4.
        timeout_s: Seconds that it may take; then it is stopped.
        on_progress: Called in this thread after each reading.
    """

    def __init__(
        self, client: "ModbusClient", group: int, timeout_s: float, on_progress: OnProgress | None
    ) -> None:
        self._client = client
        self._group = group
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._seen: list[tuple[CalPhase, datetime, float]] = []
        self._states: dict[ChannelId, list[ChannelStatus]] = {}
        self._failed_looks = 0

    def run(self) -> CalibrationReport:
        """Start, watch to the end, and report. Whatever ends it before, the calibration is stopped.

        Raises:
            ServomexCalibrationError: It did not start, or did not end in time; the error says what state it
                left the analyser in.
        """
        deadline = self._began + self._timeout_s
        before = self._client.read_frame(min(deadline, self._began + self._client.patience_s))
        with _admitted(self._client, deadline):
            started_at = datetime.now(UTC)
            shown_by = min(deadline, time.monotonic() + self._client.patience_s + WATCH_S)
            try:
                self._note_phase(_launch(self._client, self._group, shown_by, verify=True))
                after = self._follow(deadline)
            except BaseException as error:
                self._abandon(error)
                raise
        return CalibrationReport(
            self._group,
            started_at,
            self._seen[-1][1],
            tuple(
                CalibrationPhase(phase, since, following - began)
                for (phase, since, began), (_, _, following) in pairwise(self._seen)
            ),
            before,
            after,
            tuple(channel for channel, states in self._states.items() if any(item.calibrating for item in states)),
            {channel: tuple(states) for channel, states in self._states.items()},
            self._failed_looks,
        )

    def _follow(self, deadline: float) -> Frame:
        """Read again and again until the group is on sample; a reading that fails is not the end."""
        idle = 0
        while True:
            turn = time.monotonic()
            frame = self._read(min(deadline, turn + self._client.patience_s))
            if frame is not None:
                idle = 0 if self._note(frame).active else idle + 1
                if idle == ENDED_LOOKS:
                    return frame
            if time.monotonic() >= deadline:
                raise calibration_error(
                    self._client,
                    f"the autocalibration of group {self._group} did not end within {self._timeout_s:g} s",
                    running=None,
                )
            self._client.link.pause(max(0.0, min(turn + FOLLOW_S, deadline) - time.monotonic()))

    def _read(self, deadline: float) -> Frame | None:
        try:
            return self._client.read_frame(deadline)
        except LINE_ERRORS as error:
            if self._client.link.is_closed:
                raise
            self._failed_looks += 1
            _log.info("%s: %s", self._client.link.port, error)
            return None

    def _note(self, frame: Frame) -> CalibrationProgress:
        elapsed_s = time.monotonic() - self._began
        progress = progress_of(frame.analyser, self._group, frame.received_at, elapsed_s, frame)
        self._note_phase(progress)
        for reading in frame:
            states = self._states.setdefault(reading.channel, [])
            if reading.status not in states:
                states.append(reading.status)
        if self._on_progress is not None:
            self._on_progress(progress)
        return progress

    def _note_phase(self, progress: CalibrationProgress) -> None:
        if not self._seen or self._seen[-1][0] is not progress.phase:
            self._seen.append((progress.phase, progress.received_at, time.monotonic()))

    def _abandon(self, error: BaseException) -> None:
        """Stop what may be running, and say in ``error`` what became of it."""
        if isinstance(error, ServomexCalibrationError):
            nothing_to_stop = error.running is False
        else:
            nothing_to_stop = (
                isinstance(error, ServomexError) and not self._seen
            )  # the line failed before the start
        if nothing_to_stop:
            return
        running: bool | None = False
        deadline = time.monotonic() + self._client.patience_s + WATCH_S
        try:
            stop(self._client, deadline)
            clear(self._client, registers.START_COILS[self._group], "the start", deadline)
        except ServomexError as failure:
            running = failure.running if isinstance(failure, ServomexCalibrationError) else None
            outcome = f"it could not be stopped ({failure.message}): stop it on the analyser's panel"
        else:
            outcome = "it was stopped, and the analyser is on sample again"
        if isinstance(error, ServomexCalibrationError):
            raise calibration_error(self._client, f"{error.message}: {outcome}", running=running) from error
        error.add_note(f"autocalibration of group {self._group}: {outcome}")


@contextlib.contextmanager
def _admitted(client: "ModbusClient", deadline: float) -> Iterator[None]:
    """Let one caller at a time start something at this address, and only while no group is on calibration gas."""
    starting = client.link.starting
    with client.link.lock_held(deadline):
        if client.address in starting:
            raise calibration_error(
                client, "another caller is starting or watching a calibration: wait for its outcome", running=False
            )
        starting.add(client.address)
    try:
        if groups := _running(client.read_analyser(deadline)):
            raise calibration_error(
                client, f"{groups} already: wait until that has ended, or stop it", running=False
            )
        yield
    finally:
        starting.discard(client.address)


def _launch(client: "ModbusClient", group: int, deadline: float, *, verify: bool) -> CalibrationProgress:
    pulse(client, registers.START_COILS[group], f"the start of group {group}", deadline)
    status = _watch(client, lambda state: not verify or state.cal_groups[group - 1].calibrating, deadline)
    if status is None:
        raise calibration_error(
            client,
            f"the start of group {group} was sent, but its state could not be read: nobody knows whether it runs. "
            "Ask for calibration_status(), or look at the panel",
            running=None,
        )
    if verify and not status.cal_groups[group - 1].calibrating:
        fault = " (it reports a fault)" if status.fault else ""
        raise calibration_error(
            client, f"the analyser ignored the start of group {group}{fault}: {_REASONS}", running=False
        )
    return progress_of(status, group, datetime.now(UTC))


def _running(status: AnalyserStatus) -> str:
    """Say which groups are on calibration gas; empty when none is."""
    return ", ".join(
        f"group {group.group} is on calibration gas {group.cal_gas}"
        for group in status.cal_groups
        if group.calibrating
    )


def _watch(
    client: "ModbusClient", wanted: Callable[[AnalyserStatus], object], deadline: float
) -> AnalyserStatus | None:
    """Look at the groups until they are as wanted or the time is up; ``None`` when they could not be read."""
    while True:
        status, begun = None, time.monotonic()
        with contextlib.suppress(*LINE_ERRORS):  # the next look may succeed; if none does, that is the answer
            status = client.read_analyser(min(deadline, time.monotonic() + client.patience_s))
            if wanted(status):
                return status
        now = time.monotonic()
        if now + LOOK_S + 2 * (now - begun) >= deadline or client.link.is_closed:
            return status  # another look would not be complete in time, and tell nothing
        client.link.pause(LOOK_S)
