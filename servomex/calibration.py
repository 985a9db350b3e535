"""Autocalibration over Modbus: started by a pulse of a coil, watched, and ended.

Source: installation manual, Appendix B. The analyser treats a start like a request from its keypad and may refuse
it by the same rules, without an error in the reply: only the state of the group tells. How soon that state follows
the coil is not documented.
"""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from servomex import registers
from servomex.calibration_report import (
    CalibrationPhase,
    CalibrationProgress,
    CalibrationReport,
    OnProgress,
    progress_of,
)
from servomex.clock import time
from servomex.coils import Pulse
from servomex.enums import CalPhase, ChannelId
from servomex.errors import ErrorContext, ServomexCalibrationError, ServomexError
from servomex.logs import package_log
from servomex.models import AnalyserStatus, ChannelStatus, Frame

if TYPE_CHECKING:
    from servomex.modbus import ModbusClient

_log = package_log("servomex")

WATCH_S = 10.0
"""How long an analyser may take to show that a calibration has started or stopped."""
LOOK_S = 0.2
"""Pause between two looks at the groups meanwhile."""
FOLLOW_S = 1.0
"""Time from one reading to the next while a calibration runs."""
STATUS_S = 2.0
"""A state that was read longer ago than this tells nothing."""
ENDED_LOOKS = 2
"""A calibration has ended when so many readings in a row show its group on sample."""
_REASONS = (
    "likely the group is not set up for autocalibration on the panel, the panel is in a menu, or the analyser is "
    "warming up or has a fault"
)


def look(client: "ModbusClient", group: int, deadline: float) -> CalibrationProgress:
    """Read what a group is on."""
    return progress_of(client.read_analyser(deadline), group, datetime.now(UTC))


def start(client: "ModbusClient", group: int, deadline: float, *, verify: bool = True) -> CalibrationProgress:
    """Start the autocalibration of a group, and with ``verify`` watch until its state shows that it runs.

    An interrupt once the start may have been sent stops it.

    Raises:
        ServomexCalibrationError: One runs already or is being started, it did not start, or nobody knows.
    """
    with _admitted(client, deadline):
        pulse = _start_pulse(client, group)
        try:
            return _launch(client, group, pulse, deadline, verify=verify)
        except Exception:
            raise
        except BaseException as interrupt:
            if pulse.sent and pulse.taken is not False:
                outcome, _ = _stop_surely(client, pulse)
                interrupt.add_note(f"autocalibration of group {group}: {outcome}")
            raise


def stop(client: "ModbusClient", deadline: float) -> None:
    """Stop all autocalibrations, and watch until every group is on sample.

    A pulse that did not reach the analyser is given again: to stop twice does no harm.

    Raises:
        ServomexCalibrationError: A group is still on calibration gas, or nobody knows.
    """
    client.link.stops[client.address] += 1
    _pulse_until_taken(client, deadline)
    status = _watch(client, lambda state: not _running(state), deadline)
    if status is None:
        raise _error(
            client,
            "the stop was sent, but the state could not be read: nobody knows whether a calibration runs. Look at "
            "the panel",
            running=None,
        )
    if groups := _running(status):
        raise _error(
            client, f"the analyser ignored the stop: {groups}. Stop it on the analyser's panel", running=True
        )


def _pulse_until_taken(client: "ModbusClient", deadline: float) -> None:
    while True:
        pulse = Pulse(client, registers.STOP_COIL, "the stop")
        try:
            pulse.give(deadline)
        except ServomexCalibrationError:
            raise
        except ServomexError as error:  # it was not sent
            failure = error
        else:
            if pulse.taken is not False:
                return
            failure = _error(client, f"the stop did not reach the analyser: {pulse.why_not}", running=None)
        if time.monotonic() + LOOK_S >= deadline or client.link.is_closed:
            raise failure
        client.link.pause(LOOK_S)


def _stop_surely(client: "ModbusClient", start_pulse: Pulse) -> tuple[str, bool | None]:
    """Stop what was started, whatever interrupts that; say what came of it, and whether a calibration runs."""
    deadline = time.monotonic() + client.patience_s + WATCH_S
    while time.monotonic() < deadline:
        try:
            stop(client, deadline)
            with contextlib.suppress(ServomexError):  # the next start clears it, and says so if it cannot
                start_pulse.clear(deadline)
        except ServomexError as failure:
            running = failure.running if isinstance(failure, ServomexCalibrationError) else None
            return f"it could not be stopped ({failure.message}): stop it on the analyser's panel", running
        except Exception:
            raise
        except BaseException:  # noqa: BLE001 (whoever interrupts again waits for the stop as well)
            _log.warning("%s: the stop goes on until it is known to have worked", client.link.port)
            continue
        return "it was stopped, and the analyser is on sample again", False
    return "stopping it was interrupted: look at the analyser's panel", None


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
            stops = self._client.link.stops[self._client.address]
            pulse = _start_pulse(self._client, self._group)
            shown_by = min(deadline, time.monotonic() + self._client.patience_s + WATCH_S)
            try:
                self._note_phase(_launch(self._client, self._group, pulse, shown_by, verify=True))
                after = self._follow(deadline)
            except BaseException as error:
                self._abandon(error, pulse)
                raise
            if self._client.link.stops[self._client.address] != stops:
                raise _error(self._client, "another caller stopped the autocalibration", running=False)
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
                raise _error(
                    self._client,
                    f"the autocalibration of group {self._group} did not end within {self._timeout_s:g} s",
                    running=None,
                )
            self._client.link.pause(max(0.0, min(turn + FOLLOW_S, deadline) - time.monotonic()))

    def _read(self, deadline: float) -> Frame | None:
        try:
            return self._client.read_frame(deadline)
        except ServomexError as error:
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

    def _abandon(self, error: BaseException, pulse: Pulse) -> None:
        """Stop what may be running, also what may still begin, and say in ``error`` what became of it."""
        if not pulse.sent or pulse.taken is False:
            return
        outcome, running = _stop_surely(self._client, pulse)
        if isinstance(error, ServomexCalibrationError):
            raise _error(self._client, f"{error.message}: {outcome}", running=running) from error
        error.add_note(f"autocalibration of group {self._group}: {outcome}")


@contextlib.contextmanager
def _admitted(client: "ModbusClient", deadline: float) -> Iterator[None]:
    """Let one caller at a time start something at this address, and only while no group is on calibration gas."""
    mine = object()
    starting = client.link.starting
    if starting.setdefault(client.address, mine) is not mine:
        raise _error(
            client, "another caller is starting or watching a calibration: wait for its outcome", running=False
        )
    try:
        if groups := _running(client.read_analyser(_soon(client, deadline))):
            raise _error(client, f"{groups} already: wait until that has ended, or stop it", running=False)
        yield
    finally:
        del starting[client.address]


def _start_pulse(client: "ModbusClient", group: int) -> Pulse:
    return Pulse(client, registers.START_COILS[group], f"the start of group {group}")


def _launch(
    client: "ModbusClient", group: int, pulse: Pulse, deadline: float, *, verify: bool
) -> CalibrationProgress:
    pulse.give(deadline)
    if pulse.taken is False:
        raise _error(
            client,
            f"the start of group {group} did not reach the analyser: {pulse.why_not}. Start it again",
            running=False,
        )
    status = _watch(client, lambda state: not verify or state.cal_groups[group - 1].calibrating, deadline)
    if status is None:
        raise _error(
            client,
            f"the start of group {group} was sent, but its state could not be read: nobody knows whether it runs. "
            "Ask for calibration_status(), or look at the panel",
            running=None,
        )
    if verify and not status.cal_groups[group - 1].calibrating:
        fault = " (it reports a fault)" if status.fault else ""
        raise _error(client, f"the analyser ignored the start of group {group}{fault}: {_REASONS}", running=False)
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
    status, seen_at = None, 0.0
    while True:
        begun = time.monotonic()
        with contextlib.suppress(ServomexError):  # another look may succeed; if none does, that is the answer
            status, seen_at = client.read_analyser(_soon(client, deadline)), time.monotonic()
            if wanted(status):
                return status
        now = time.monotonic()
        if now + LOOK_S + 2 * (now - begun) >= deadline or client.link.is_closed:
            return status if now - seen_at <= STATUS_S else None
        client.link.pause(LOOK_S)


def _soon(client: "ModbusClient", deadline: float) -> float:
    """Give the deadline of one look: a dead line must leave time for another, and for other callers."""
    return min(deadline, time.monotonic() + client.patience_s)


def _error(client: "ModbusClient", message: str, *, running: bool | None) -> ServomexCalibrationError:
    context = ErrorContext(client.link.port, client.protocol, client.address)
    return ServomexCalibrationError(message, context, running=running)
