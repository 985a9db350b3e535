"""Autocalibration over Modbus: started by a pulse of a coil, watched, and ended.

Source: installation manual, Appendix B. The analyser treats a start like a request from its keypad and may refuse
it by the same rules, without an error in the reply: only the state of the group shows it. How soon it follows the
coil, and what a group shows between its gases, is undocumented.
"""

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from servomex import registers
from servomex.calibration import stop as calibration_stop
from servomex.calibration.cycles import Cycle, underway
from servomex.calibration.pulse import Pulse, start_coils
from servomex.calibration.report import (
    CalibrationPhase,
    CalibrationProgress,
    CalibrationReport,
    OnProgress,
    progress_of,
)
from servomex.calibration.stop import (
    calibration_error,
    running_groups,
    soon,
    stop_surely,
    watch,
)
from servomex.enums import CalPhase, ChannelId
from servomex.errors import ServomexCalibrationError, ServomexError
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus
from servomex.runtime.at_exit import at_exit
from servomex.runtime.clock import time
from servomex.runtime.locks import Signal, Turn
from servomex.runtime.logs import package_log

if TYPE_CHECKING:
    from servomex.modbus.client import ModbusClient

_log = package_log("servomex")

FOLLOW_S = 1.0
"""Time from one reading to the next while a calibration runs."""
SETTLE_S = 10.0
"""How long a group must be on sample before its calibration counts as ended: it may be so between its gases."""
_CLEARED = (
    "the start coil of group {group} read back 0, and the calibration runs: another master on this line writes to "
    "the coils, or the analyser clears them itself"
)
_REASONS = (
    "likely the group is not set up for autocalibration on the panel, the panel is in a menu, or the analyser is "
    "warming up or has a fault"
)


def look(client: "ModbusClient", group: int, deadline: float) -> CalibrationProgress:
    """Read the state of a group, and its start coil."""
    cycles = underway(client).cycles
    cycle = cycles.get(group)
    status, received_at = client.read_analyser(deadline), datetime.now(UTC)
    if cycle is not None and not cycle.watched:
        cycle.note(status.cal_groups[group - 1].phase)
        if cycle.over and cycles.get(group) is cycle:
            del cycles[group]
    coil = start_coils(client, deadline).get(group)
    return progress_of(status, group, received_at, cycle=cycle, start_coil=coil)


def start(client: "ModbusClient", group: int, deadline: float, *, verify: bool = True) -> CalibrationProgress:
    """Start the autocalibration of a group, and with ``verify`` watch until its state shows that it runs.

    An interrupt after the start may have been sent stops it.

    Raises:
        ServomexCalibrationError: Another one is running or starting, it did not start, or the outcome is unknown.
    """
    pulse = _start_pulse(client, group)
    try:
        with _admission(client, deadline):
            return _launch(client, group, pulse, Cycle(SETTLE_S), deadline, verify=verify)
    except ServomexError:
        raise
    except BaseException as interrupt:
        if pulse.may_act:
            outcome, _ = stop_surely(client, pulse)
            interrupt.add_note(f"autocalibration of group {group}: {outcome}")
        raise


class Calibration:
    """One autocalibration from its start to its end.

    Args:
        client: The analyser.
        group: 1 to 4.
        timeout_s: Seconds that it may take; then it is stopped.
        settle_s: Seconds on sample after which it counts as ended.
        on_progress: Called in this thread after each reading.
    """

    def __init__(
        self,
        client: "ModbusClient",
        group: int,
        timeout_s: float,
        settle_s: float,
        on_progress: OnProgress | None,
    ) -> None:
        self._client = client
        self._group = group
        self._timeout_s = timeout_s
        self._settle_s = settle_s
        self._cycle = Cycle(settle_s, longest_gap_s=2 * (FOLLOW_S + client.patience_s))
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._seen: list[tuple[CalPhase, datetime, float]] = []
        self._states: dict[ChannelId, list[ChannelStatus]] = {}
        self._failed_looks = 0
        self._outcome = ""
        self._ending = Signal()
        self._over = Signal()

    def run(self) -> CalibrationReport:
        """Start, watch to the end, and report. If anything ends this early, stop the calibration.

        Raises:
            ServomexCalibrationError: It did not start, or did not end in time; the error says what state it
                left the analyser in.
        """
        at_exit(self._end_with_program)
        try:
            return self._run()
        finally:
            self._cycle.watched = False
            self._over.set()

    def _end_with_program(self) -> None:
        """Stop it when the program ends, and wait for that: a daemon thread would be gone by then."""
        if self._over.is_set():
            return
        self._ending.set()
        ended = self._over.wait(2 * (calibration_stop.WATCH_S + self._client.patience_s))
        outcome = self._outcome if ended else "look at the analyser's panel"
        text = "%s: the program ended during the autocalibration of group %d: %s"
        _log.warning(text, self._client.link.port, self._group, outcome)

    def _run(self) -> CalibrationReport:
        deadline = self._began + self._timeout_s
        before = self._client.read_frame(min(deadline, self._began + self._client.patience_s))
        with _admission(self._client, deadline):
            started_at = datetime.now(UTC)
            stops = underway(self._client).stops
            pulse = _start_pulse(self._client, self._group)
            shown_by = min(deadline, time.monotonic() + self._client.patience_s + calibration_stop.WATCH_S)
            try:
                first = _launch(self._client, self._group, pulse, self._cycle, shown_by, verify=True)
                self._note_phase(first)
                after = self._follow(deadline)
            except BaseException as error:
                self._abandon(error, pulse)
                raise
            if underway(self._client).stops != stops:
                raise calibration_error(self._client, "another caller stopped the autocalibration", running=False)
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
            self._cycle.seconds,
            first.notes,
        )

    def _follow(self, deadline: float) -> Frame:
        """Read repeatedly until the group has settled on sample; a failed reading does not end this."""
        while True:
            turn = time.monotonic()
            frame = self._read(min(deadline, turn + self._client.patience_s))
            if frame is not None:
                self._note(frame)
                if self._cycle.over:
                    underway(self._client).cycles.pop(self._group, None)
                    return frame
            if self._ending.is_set():
                raise calibration_error(self._client, "the program ended", running=None)
            if time.monotonic() >= deadline:
                raise self._unfinished()
            self._client.link.pause(max(0.0, min(turn + FOLLOW_S, deadline) - time.monotonic()))

    def _unfinished(self) -> ServomexCalibrationError:
        text = f"the autocalibration of group {self._group} did not end within {self._timeout_s:g} s"
        if self._cycle.looks:
            text += (
                f" (it was on sample for the last {self._cycle.seconds:.0f} s, and counts as ended after "
                f"{self._settle_s:g} s)"
            )
        return calibration_error(self._client, text, running=None)

    def _read(self, deadline: float) -> Frame | None:
        try:
            return self._client.read_frame(deadline)
        except ServomexError as error:
            if self._client.link.is_closed:
                raise
            self._failed_looks += 1
            _log.info("%s: %s", self._client.link.port, error)
            return None

    def _note(self, frame: Frame) -> None:
        elapsed_s = time.monotonic() - self._began
        self._cycle.note(frame.analyser.cal_groups[self._group - 1].phase)
        progress = progress_of(frame.analyser, self._group, frame.received_at, elapsed_s, frame, cycle=self._cycle)
        self._note_phase(progress)
        for reading in frame:
            states = self._states.setdefault(ChannelId(reading.channel), [])
            if reading.status not in states:
                states.append(reading.status)
        if self._on_progress is not None:
            self._on_progress(progress)

    def _note_phase(self, progress: CalibrationProgress) -> None:
        settled = progress.phase is CalPhase.IDLE  # its time on sample began when it was first seen there
        if not self._seen or (self._seen[-1][0] is not progress.phase and not settled):
            self._seen.append((progress.phase, progress.received_at, time.monotonic()))

    def _abandon(self, error: BaseException, pulse: Pulse) -> None:
        """Stop a calibration that may be running or may still begin, and add the outcome to ``error``."""
        if not pulse.may_act:
            return
        self._outcome, running = stop_surely(self._client, pulse, shown=bool(self._seen))
        if isinstance(error, ServomexCalibrationError):
            text = f"{error.message}: {self._outcome}"
            raise calibration_error(self._client, text, running=running) from error
        error.add_note(f"autocalibration of group {self._group}: {self._outcome}")


def _admission(client: "ModbusClient", deadline: float) -> Turn:
    """Admit one caller at a time to starts at this address, and only while no group is on calibration gas."""

    def busy() -> ServomexCalibrationError:
        return calibration_error(
            client,
            "another caller is starting or watching a calibration",
            running=False,
            cure="Wait for its outcome",
        )

    def check() -> None:
        if groups := running_groups(client.read_analyser(soon(client, deadline))):
            raise calibration_error(
                client, f"{groups} already", running=False, cure="Wait until that has ended, or stop it"
            )

    lock = underway(client).start_lock
    if lock.is_mine:  # as from a callback of the watching call
        raise busy()
    return lock.turn(0, busy, check)


def _start_pulse(client: "ModbusClient", group: int) -> Pulse:
    return Pulse(client, registers.START_COILS[group], f"the start of group {group}")


def _launch(
    client: "ModbusClient", group: int, pulse: Pulse, cycle: Cycle, deadline: float, *, verify: bool
) -> CalibrationProgress:
    try:
        pulse.give(deadline)
    finally:
        if pulse.may_act:
            underway(client).cycles[group] = cycle
    if pulse.refused:
        refused = f"the start of group {group} was refused: {pulse.seen}"
        raise calibration_error(client, refused, running=False) from pulse.refusal
    status = watch(client, lambda state: not verify or state.cal_groups[group - 1].calibrating, deadline)
    if status is None:
        raise calibration_error(
            client,
            f"the start of group {group} was sent, but its state could not be read: it is unknown whether it runs",
            running=None,
            cure="Ask for the calibration status, or look at the panel",
        )
    if not status.cal_groups[group - 1].calibrating and (verify or not pulse.taken):
        raise _not_shown(client, group, pulse, status, time.monotonic() - pulse.given_at)
    notes: tuple[str, ...] = ()
    if pulse.taken is False:
        notes = (_CLEARED.format(group=group),)
        _log.warning("%s: %s", client.link.port, notes[0])
    cycle.note(status.cal_groups[group - 1].phase)
    return progress_of(status, group, datetime.now(UTC), cycle=cycle, notes=notes)


def _not_shown(
    client: "ModbusClient", group: int, pulse: Pulse, status: AnalyserStatus, watched_s: float
) -> ServomexCalibrationError:
    """Return the error of a start after which the group stayed on sample."""
    fault = " (it reports a fault)" if status.fault else ""
    if not pulse.taken:
        return calibration_error(
            client,
            f"group {group} is on sample {watched_s:.1f} s after its start was sent{fault}: {pulse.seen}; it is "
            "unknown whether it will begin",
            running=None,
            cure="Ask for the calibration status, or stop it",
        )
    if watched_s < calibration_stop.WATCH_S:
        return calibration_error(
            client,
            f"group {group} is still on sample {watched_s:.1f} s after its start{fault}: it may still begin",
            running=None,
            cure="Ask for the calibration status, stop it, or allow more time",
        )
    return calibration_error(
        client, f"the analyser ignored the start of group {group}{fault}: {_REASONS}", running=False
    )
