"""Stopping autocalibrations: a pulse of one coil stops all, and the state of the groups confirms it."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from servomex import registers
from servomex.calibration.cycles import SAMPLE_LOOKS, underway
from servomex.calibration.pulse import Pulse, clear_start_coils
from servomex.errors import ErrorContext, ServomexCalibrationError, ServomexError
from servomex.models.analyser import AnalyserStatus
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log

if TYPE_CHECKING:
    from servomex.modbus.client import ModbusClient

_log = package_log("servomex")

WATCH_S = 10.0
"""How long an analyser may take to show that a calibration has started or stopped."""
LOOK_S = 0.2
"""Pause between two reads of the groups during a stop."""
STATUS_S = 2.0
"""A state that was read longer ago than this is no proof."""
STOP_TRIES = 3
"""A stop that the analyser may not have heard is repeated this often, even when every group is on sample."""
STOP_AGAIN_S = 1.0
"""A stop that was acknowledged is repeated when a group is still on calibration gas this long after it."""
LATE_START_S = 3.0
"""How long the groups are watched, at least, after a stop whose start has not shown yet, and how long beyond
``WATCH_S`` after that start: a stop does not cancel a start that is yet to be carried out."""


def stop(client: "ModbusClient", deadline: float) -> tuple[int, ...]:
    """Stop all autocalibrations, watch until every group is on sample, and set start coils that are at 1 to 0.

    The state of the groups decides, whatever the stop coil reads back. The pulse is repeated if it did not
    reach the analyser, and while a group stays on calibration gas: an analyser that reads its coils only
    occasionally misses a 1 that it has acknowledged if another master clears it. Stopping twice does no harm.

    Returns:
        The groups whose start coil had been left at 1.

    Raises:
        ServomexCalibrationError: A group is still on calibration gas, its state is unknown, or a coil stays at 1.
    """
    _reach_sample(client, deadline)
    try:
        return clear_start_coils(client, deadline)
    except ServomexError as failure:
        raise calibration_error(
            client,
            f"every group is on sample, but the start coils could not be checked: {failure.message}",
            running=False,
        ) from failure


def _reach_sample(client: "ModbusClient", deadline: float) -> bool:
    """Pulse the stop coil until every group is on sample; return whether the analyser acknowledged that."""
    underway(client).stops += 1
    last, tries = _attempt(client, deadline), 1
    while not (last.is_final or (last.on_sample and (last.pulse.reached or tries >= STOP_TRIES))):
        least_s = STOP_AGAIN_S if last.pulse.reached else LOOK_S
        if time.monotonic() + least_s >= deadline or client.link.is_closed:
            break
        client.link.pause(LOOK_S)
        last, tries = last.followed_by(_attempt(client, deadline)), tries + 1
    if not last.on_sample:
        raise _not_stopped(client, last) from last.failure or last.pulse.refusal
    underway(client).cycles.clear()
    if isinstance(last.failure, ServomexCalibrationError):
        text = "every group is on sample, but the stop coil stays at 1: the analyser ignores the next stop"
        raise calibration_error(client, f"{text} ({last.failure.message})", running=False) from last.failure
    return last.pulse.reached


@attrs.frozen
class _Attempt:
    """A pulse of the stop coil, what went wrong with it, and the state of the groups after it."""

    pulse: Pulse
    failure: ServomexError | None
    status: AnalyserStatus | None
    ended_at: float = attrs.field(factory=lambda: time.monotonic())

    @property
    def is_final(self) -> bool:
        """Whether another attempt would be useless."""
        return self.pulse.refused or isinstance(self.failure, ServomexCalibrationError)

    @property
    def on_sample(self) -> bool:
        """Whether every group was on sample after it."""
        return self.pulse.sent and self.status is not None and not running_groups(self.status)

    def followed_by(self, later: "_Attempt") -> "_Attempt":
        """Return what is known after another attempt: one that sent nothing only shows the state."""
        if later.pulse.sent or not self.pulse.sent:
            return later
        if later.status is None and later.ended_at - self.ended_at <= STATUS_S:
            return self
        return attrs.evolve(self, status=later.status, ended_at=later.ended_at)


def _attempt(client: "ModbusClient", deadline: float) -> _Attempt:
    """Pulse the stop coil and read the groups; a quarter of the time is reserved for that."""
    pulse, now = Pulse(client, registers.STOP_COIL, "the stop"), time.monotonic()
    failure: ServomexError | None = None
    try:
        pulse.give(now + 0.75 * max(0.0, deadline - now))
    except ServomexError as error:
        failure = error
    until = soon(client, deadline)
    if _Attempt(pulse, failure, None).is_final:
        until = deadline
    elif pulse.reached:
        again = time.monotonic() + STOP_AGAIN_S
        until = again if again + STOP_AGAIN_S < deadline else deadline  # another attempt needs its time too
    status = watch(client, lambda state: not running_groups(state), until, looks=SAMPLE_LOOKS)
    return _Attempt(pulse, failure, status)


def _not_stopped(client: "ModbusClient", attempt: _Attempt) -> ServomexError:
    """Return the error of a stop after which the groups are not known to be on sample."""
    pulse, failure = attempt.pulse, attempt.failure
    groups = "" if attempt.status is None else running_groups(attempt.status)
    if failure is not None and not pulse.sent and not groups:
        return failure
    if not pulse.sent:
        text = f"the stop was not sent ({failure.message if failure else pulse.seen})"
    elif pulse.refused:
        text = f"the analyser refused the stop ({pulse.seen})"
    elif pulse.reached:
        cleared = f" ({pulse.seen})" if pulse.taken is False else ""
        text = f"the analyser ignored the stop{cleared}" if groups else "the stop was sent"
    else:
        text = f"the stop may not have been heard ({pulse.seen})"
    if groups:
        return calibration_error(client, f"{text}: {groups}", running=True, cure="Stop it on the analyser's panel")
    return calibration_error(
        client,
        f"{text}, but the state could not be read: it is unknown whether a calibration runs",
        running=None,
        cure="Look at the panel",
    )


def stop_surely(client: "ModbusClient", start_pulse: Pulse, *, shown: bool = False) -> tuple[str, bool | None]:
    """Stop what was started, despite interrupts; return the outcome, and whether a calibration is running.

    Args:
        client: The analyser.
        start_pulse: The pulse that started it.
        shown: Whether the group was seen on calibration gas. If not, it may still begin after the stop.
    """
    deadline, interrupted = _stop_by(client), False
    if not shown:
        deadline = max(deadline, _acts_until(start_pulse) + client.patience_s)
    while time.monotonic() < deadline:
        try:
            heard = _reach_sample(client, deadline)
            if not shown and _begins_late(client, start_pulse, deadline):
                shown, deadline = True, _stop_by(client)
                continue
            with contextlib.suppress(ServomexError):  # the next start clears it, and reports if it cannot
                start_pulse.clear(deadline)
        except ServomexError as failure:
            running = failure.running if isinstance(failure, ServomexCalibrationError) else None
            return f"it could not be stopped ({failure.message}): stop it on the analyser's panel", running
        except BaseException:  # noqa: BLE001 (whoever interrupts again waits for the stop as well)
            if not interrupted:
                _log.warning("%s: the stop continues until it is known to have worked", client.link.port)
            interrupted = True
            continue
        if not shown and time.monotonic() < start_pulse.given_at + WATCH_S:
            return "every group is on sample after the stop, but it may still begin: look at the panel", None
        if not heard and not shown:
            return "every group is on sample, but the stop may not have been heard: look at the panel", None
        return "it was stopped, and the analyser is on sample again", False
    return "stopping it was interrupted: look at the analyser's panel", None


def _stop_by(client: "ModbusClient") -> float:
    return time.monotonic() + client.patience_s + WATCH_S


def _acts_until(start_pulse: Pulse) -> float:
    """Return the time until which a start that has not shown yet may still be carried out."""
    return max(time.monotonic(), start_pulse.given_at + WATCH_S) + LATE_START_S


def _begins_late(client: "ModbusClient", start_pulse: Pulse, deadline: float) -> bool:
    """Watch whether a group goes on calibration gas after a stop, until the earlier start can no longer act.

    Raises:
        ServomexCalibrationError: The state could not be read.
    """
    status = watch(client, running_groups, min(deadline, _acts_until(start_pulse)))
    if status is None:
        raise calibration_error(
            client, "every group was on sample after the stop, then the line was lost", running=None
        )
    return bool(running_groups(status))


def running_groups(status: AnalyserStatus) -> str:
    """Return the groups that are on calibration gas, in words; empty when none is."""
    return ", ".join(
        f"group {group.group} is on calibration gas {group.cal_gas}"
        for group in status.cal_groups
        if group.calibrating
    )


def watch(
    client: "ModbusClient", wanted: Callable[[AnalyserStatus], object], deadline: float, *, looks: int = 1
) -> AnalyserStatus | None:
    """Read the groups until they are as wanted for ``looks`` reads in a row, or the time is up.

    Returns:
        The last state; ``None`` when the groups could not be read.
    """
    status, seen_at, fitting = None, 0.0, 0
    while True:
        begun = time.monotonic()
        with contextlib.suppress(ServomexError):  # another read may succeed; if none does, that is the answer
            status, seen_at = client.read_analyser(soon(client, deadline)), time.monotonic()
            fitting = fitting + 1 if wanted(status) else 0
            if fitting >= looks:
                return status
        now = time.monotonic()
        if now + LOOK_S + 2 * (now - begun) >= deadline or client.link.is_closed:
            return status if now - seen_at <= STATUS_S else None
        client.link.pause(LOOK_S)


def soon(client: "ModbusClient", deadline: float) -> float:
    """Return the deadline of one reading: a dead line must leave time for a retry, and for other callers."""
    return min(deadline, time.monotonic() + client.patience_s)


def calibration_error(
    client: "ModbusClient", message: str, *, running: bool | None, cure: str = ""
) -> ServomexCalibrationError:
    """Return the error of a calibration at this analyser."""
    context = ErrorContext(client.link.port, client.protocol, client.address)
    return ServomexCalibrationError(message, context, running=running, cure=cure)
