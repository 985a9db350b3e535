"""The pulse of a coil, with which an autocalibration is started or stopped, and coils that were left at 1.

Source: installation manual, Appendix B. Coils 00001 to 00004 start the autocalibration of group 1 to 4, coil 00009
stops all of them. The change from 0 to 1 acts; the 1 stays until the master writes the 0. A 1 is never repeated
automatically. A coil that reads back 1 shows that it was heard. One that reads back 0 shows nothing: another
master that writes its own image of the coils may have cleared it, or the analyser itself. The state of the groups
decides.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from servomex import registers
from servomex.calibration.cycles import underway
from servomex.errors import (
    ErrorContext,
    ServomexCalibrationError,
    ServomexError,
    ServomexIllegalDataAddressError,
    ServomexIllegalDataValueError,
    ServomexIllegalFunctionError,
    ServomexTimeoutError,
)
from servomex.runtime.clock import time

if TYPE_CHECKING:
    from servomex.modbus.client import ModbusClient

RETRY_S = 0.1
"""Pause before a coil is read or written again after the line failed."""

_REFUSALS = (ServomexIllegalFunctionError, ServomexIllegalDataAddressError, ServomexIllegalDataValueError)
"""Exceptions 01 to 03 are the analyser's own; the other codes may come from a gateway, and prove nothing."""


class Pulse:
    """One pulse of a coil: to 0 if it was left at 1, to 1 once, read back, and to 0 in any case.

    Other callers may read between the requests; another pulse at this address waits for the end of this one.

    Args:
        client: The analyser.
        coil: The coil.
        what: The meaning of the coil, for messages.

    Attributes:
        sent: Whether the 1 may have been sent.
        acknowledged: Whether the analyser answered the 1.
        taken: Whether the coil was seen at 1; ``None`` when it could not be read in time.
        given_at: When the 1 was sent or, once the coil is back at 0, when that was; monotonic seconds. An
            analyser that reads its coils only occasionally may notice the 1 that late.
    """

    def __init__(self, client: "ModbusClient", coil: registers.Span, what: str) -> None:
        self.sent: bool = False
        self.acknowledged: bool = False
        self.taken: bool | None = None
        self.given_at: float = 0.0
        self._lost: ServomexError | None = None
        self._client = client
        self._coil = coil
        self._what = what

    def give(self, deadline: float) -> None:
        """Pulse the coil. Half of the time is reserved for setting it back.

        Raises:
            ServomexTimeoutError: Before the 1 was sent: there was no answer, or other callers kept the port busy.
            ServomexError: Another error before the 1 was sent.
            ServomexCalibrationError: The coil could not be set back to 0.
        """
        middle = (time.monotonic() + deadline) / 2
        lock = underway(self._client).pulse_lock
        with lock.turn(max(0.0, middle - time.monotonic()), self._under_way):
            if self._read(middle):  # as long as it is 1, there is no change from 0 to 1
                self._release(middle)
            if time.monotonic() >= middle:
                raise ServomexTimeoutError("the timeout ended before anything was started", self._context)
            try:
                self._write_one(middle)
            finally:
                try:
                    self._release(deadline)
                finally:
                    self.given_at = time.monotonic()

    def _under_way(self) -> ServomexTimeoutError:
        return ServomexTimeoutError("another start or stop is under way at this address", self._context)

    @property
    def refusal(self) -> ServomexError | None:
        """The exception with which the analyser refused the 1; ``None`` when it did not."""
        return self._lost if isinstance(self._lost, _REFUSALS) and self.taken is False else None

    @property
    def refused(self) -> bool:
        """Whether the analyser refused the 1."""
        return self.refusal is not None

    @property
    def may_act(self) -> bool:
        """Whether the analyser may act on the pulse."""
        return self.sent and not self.refused

    @property
    def reached(self) -> bool:
        """Whether the analyser is known to have heard the 1."""
        return self.acknowledged or self.taken is True

    @property
    def seen(self) -> str:
        """What was seen of the 1."""
        answer = self._lost.message if self._lost else "the analyser acknowledged it"
        coil = {None: "its coil could not be read back", True: "its coil was set to 1", False: "its coil reads 0"}
        return f"{answer}; {coil[self.taken]}"

    def clear(self, deadline: float) -> None:
        """Set the coil to 0 if it is at 1. No other pulse is sent at this address meanwhile.

        Raises:
            ServomexTimeoutError: Another pulse is under way.
            ServomexError: It could not be read, or could not be set back.
        """
        lock = underway(self._client).pulse_lock
        with lock.turn(max(0.0, deadline - time.monotonic()), self._under_way):
            if self._read(deadline):
                self._release(deadline)

    def _read(self, deadline: float) -> bool:
        return self._client.read_coil(self._coil, self._soon(deadline))

    def _write_one(self, deadline: float) -> None:
        """Write the 1, once, and read back until the coil shows it."""
        self.sent, self.given_at = True, time.monotonic()
        try:
            self._client.write_coil(self._coil, True, self._soon(deadline), confirm=True)
            self.acknowledged = True
        except ServomexError as error:  # it may have been heard nevertheless
            self._lost = error
        while True:
            with contextlib.suppress(ServomexError):  # the next may succeed; if none does, it stays unknown
                self.taken = self._read(deadline)
                return
            if time.monotonic() >= deadline or self._client.link.is_closed:
                return
            self._client.link.pause(RETRY_S)

    def _release(self, deadline: float) -> None:
        """Set the coil to 0, as often as it takes. An interrupt waits for that, until the deadline at most."""
        interrupt: BaseException | None = None
        failure: ServomexError | None = None
        while True:
            try:
                if self._set_back(deadline):
                    break
                failure = None
                self._client.link.pause(RETRY_S)
            except ServomexError as error:
                failure = error
            except BaseException as error:  # noqa: BLE001 (it is raised below; a signal's handler may raise any)
                interrupt = error
            if time.monotonic() >= deadline or self._client.link.is_closed:
                stuck = self._stuck(failure)
                if interrupt is None:
                    raise stuck from failure
                interrupt.add_note(str(stuck))
                break
        if interrupt is not None:
            raise interrupt

    def _set_back(self, deadline: float) -> bool:
        """Write the 0 once; return whether the coil shows it."""
        try:
            self._client.write_coil(self._coil, False, self._soon(deadline), confirm=True)
        except ServomexError:
            if not self._client.link.is_open:
                self._client.link.pause(RETRY_S)
        value = self._read(deadline)
        if value and self.sent:
            self.taken = True  # the 1 has arrived, even if its reply was lost
        return not value

    def _soon(self, deadline: float) -> float:
        """Return the deadline of one request: a dead line must leave time for a retry, and for other callers."""
        return min(deadline, time.monotonic() + self._client.patience_s)

    def _stuck(self, failure: ServomexError | None) -> ServomexCalibrationError:
        reason = f" ({failure.message})" if failure else ""
        if not self.sent:
            text = f"{self._what} was not sent: its coil was left at 1, and could not be set back to 0{reason}"
            return ServomexCalibrationError(text, self._context, running=False)
        text = (
            f"the coil could not be set back to 0 after {self._what}{reason}: while it is 1 the analyser ignores "
            "the next one, and it is unknown whether this one was heard"
        )
        return ServomexCalibrationError(text, self._context, running=None, cure="Look at the panel")

    @property
    def _context(self) -> ErrorContext:
        return ErrorContext(self._client.link.port, self._client.protocol, self._client.address)


def start_coils(client: "ModbusClient", deadline: float) -> Mapping[int, bool]:
    """Read the start coil of each group; empty while a pulse is under way here, and where it is refused.

    Raises:
        ServomexError: There was no answer, a gateway answered instead, or the port is lost.
    """
    busy = _BusyError()
    try:
        with underway(client).pulse_lock.turn(0, lambda: busy):
            return dict(enumerate(client.read_coils(registers.ALL_START_COILS, deadline), 1))
    except (_BusyError, *_REFUSALS):
        return {}


class _BusyError(Exception):
    """A pulse is under way."""


def clear_start_coils(client: "ModbusClient", deadline: float) -> tuple[int, ...]:
    """Set the start coils that were left at 1 back to 0, and return their groups.

    Raises:
        ServomexError: They could not be read, or could not be set back.
    """
    left = [group for group, value in start_coils(client, deadline).items() if value]
    for group in left:
        Pulse(client, registers.START_COILS[group], f"the start of group {group}").clear(deadline)
    return tuple(left)


def start_coils_of(groups: Sequence[int]) -> str:
    """Name the start coils of these groups."""
    if len(groups) == 1:
        return f"the start coil of group {groups[0]}"
    return f"the start coils of groups {', '.join(map(str, groups[:-1]))} and {groups[-1]}"


def left_at_one(groups: Sequence[int]) -> str:
    """Describe what it means that the start coils of these groups are at 1."""
    verb, coil = ("is", "it is") if len(groups) == 1 else ("are", "they are")
    return f"{start_coils_of(groups)} {verb} at 1: the analyser ignores the next start until {coil} 0"
