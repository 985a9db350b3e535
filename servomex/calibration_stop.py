"""The end of autocalibrations: a pulse of one coil stops all, and the state of the groups shows that it did."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from servomex import registers
from servomex.clock import time
from servomex.coils import Pulse, clear_start_coils
from servomex.errors import ErrorContext, ServomexCalibrationError, ServomexError
from servomex.logs import package_log
from servomex.models import AnalyserStatus

if TYPE_CHECKING:
    from servomex.modbus import ModbusClient

_log = package_log("servomex")

WATCH_S = 10.0
"""How long an analyser may take to show that a calibration has started or stopped."""
LOOK_S = 0.2
"""Pause between two looks at the groups meanwhile."""
STATUS_S = 2.0
"""A state that was read longer ago than this tells nothing."""
SAMPLE_LOOKS = 2
"""One look may be wrong: a group counts as on sample after as many in a row."""
STOP_TRIES = 3
"""A stop that the analyser may not have heard is repeated as often, also when every group is on sample."""
LATE_START_S = 3.0
"""How long after a stop the groups are watched when the start before it had not shown yet: it may still begin."""


def stop(client: "ModbusClient", deadline: float) -> tuple[int, ...]:
    """Stop all autocalibrations, watch until every group is on sample, and bring start coils that are at 1 to 0.

    The state of the groups decides, whatever the stop coil reads back. A pulse that did not reach the analyser is
    given again: to stop twice does no harm.

    Returns:
        The groups whose start coil had been left at 1.

    Raises:
        ServomexCalibrationError: A group is still on calibration gas, that is unknown, or a coil stays at 1.
    """
    _reach_sample(client, deadline)
    try:
        return clear_start_coils(client, deadline)
    except ServomexError as failure:
        raise calibration_error(
            client,
            f"every group is on sample, but the start coils could not be looked after: {failure.message}",
            running=False,
        ) from failure


def _reach_sample(client: "ModbusClient", deadline: float) -> bool:
    """Pulse the stop coil until every group is on sample; return whether the analyser surely heard it."""
    client.link.stops[client.address] += 1
    last, tries = _attempt(client, deadline), 1
    while not (last.surely_heard or (last.on_sample and tries >= STOP_TRIES)):
        if time.monotonic() + LOOK_S >= deadline or client.link.is_closed:
            break
        client.link.pause(LOOK_S)
        attempt, tries = _attempt(client, deadline), tries + 1
        if attempt.pulse.sent or time.monotonic() - last.ended_at > STATUS_S:
            last = attempt
    if not last.on_sample:
        raise _not_stopped(client, last) from last.failure
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
    def surely_heard(self) -> bool:
        """Whether there is no use in another one."""
        stuck = isinstance(self.failure, ServomexCalibrationError)
        return self.pulse.reached or self.pulse.refused or stuck

    @property
    def on_sample(self) -> bool:
        """Whether every group was on sample after it."""
        return self.pulse.sent and self.status is not None and not running_groups(self.status)


def _attempt(client: "ModbusClient", deadline: float) -> _Attempt:
    """Pulse the stop coil and look at the groups; a quarter of the time is kept for that."""
    pulse, now = Pulse(client, registers.STOP_COIL, "the stop"), time.monotonic()
    failure: ServomexError | None = None
    try:
        pulse.give(now + 0.75 * max(0.0, deadline - now))
    except ServomexError as error:
        failure = error
    heard = _Attempt(pulse, failure, None).surely_heard
    until = deadline if heard else soon(client, deadline)
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
        text = "the analyser ignored the stop" if groups else "the stop was sent"
    else:
        text = f"the stop may not have been heard ({pulse.seen})"
    if groups:
        return calibration_error(client, f"{text}: {groups}. Stop it on the analyser's panel", running=True)
    return calibration_error(
        client,
        f"{text}, but the state could not be read: it is unknown whether a calibration runs. Look at the panel",
        running=None,
    )


def stop_surely(client: "ModbusClient", start_pulse: Pulse, *, shown: bool = False) -> tuple[str, bool | None]:
    """Stop what was started, whatever interrupts that; return what came of it, and whether a calibration runs.

    Args:
        client: The analyser.
        start_pulse: What started it.
        shown: Whether the group was seen on calibration gas. If not, it may still begin after the stop.
    """
    deadline = time.monotonic() + client.patience_s + WATCH_S
    interrupted = False
    while time.monotonic() < deadline:
        try:
            heard = _reach_sample(client, deadline)
            if not shown and _begins_late(client, deadline):
                shown = True
                continue
            with contextlib.suppress(ServomexError):  # the next start clears it, and says so if it cannot
                start_pulse.clear(deadline)
        except ServomexError as failure:
            running = failure.running if isinstance(failure, ServomexCalibrationError) else None
            return f"it could not be stopped ({failure.message}): stop it on the analyser's panel", running
        except BaseException:  # noqa: BLE001 (whoever interrupts again waits for the stop as well)
            if not interrupted:
                _log.warning("%s: the stop goes on until it is known to have worked", client.link.port)
            interrupted = True
            continue
        if not heard and not shown:
            return "every group is on sample, but the stop may not have been heard: look at the panel", None
        return "it was stopped, and the analyser is on sample again", False
    return "stopping it was interrupted: look at the analyser's panel", None


def _begins_late(client: "ModbusClient", deadline: float) -> bool:
    """Watch whether a group goes on calibration gas after a stop.

    Raises:
        ServomexCalibrationError: The state could not be read.
    """
    status = watch(client, running_groups, min(deadline, time.monotonic() + LATE_START_S))
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
    """Look at the groups until they are as wanted, as many ``looks`` in a row, or the time is up.

    Returns:
        What was seen last; ``None`` when the groups could not be read.
    """
    status, seen_at, fitting = None, 0.0, 0
    while True:
        begun = time.monotonic()
        with contextlib.suppress(ServomexError):  # another look may succeed; if none does, that is the answer
            status, seen_at = client.read_analyser(soon(client, deadline)), time.monotonic()
            fitting = fitting + 1 if wanted(status) else 0
            if fitting >= looks:
                return status
        now = time.monotonic()
        if now + LOOK_S + 2 * (now - begun) >= deadline or client.link.is_closed:
            return status if now - seen_at <= STATUS_S else None
        client.link.pause(LOOK_S)


def soon(client: "ModbusClient", deadline: float) -> float:
    """Return the deadline of one look: a dead line must leave time for another, and for other callers."""
    return min(deadline, time.monotonic() + client.patience_s)


def calibration_error(client: "ModbusClient", message: str, *, running: bool | None) -> ServomexCalibrationError:
    """Return the error of a calibration at this analyser."""
    context = ErrorContext(client.link.port, client.protocol, client.address)
    return ServomexCalibrationError(message, context, running=running)
