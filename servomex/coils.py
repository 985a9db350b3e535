"""The pulse of a coil, with which an autocalibration is started or stopped.

Source: installation manual, Appendix B. Coils 00001 to 00004 start the autocalibration of group 1 to 4, coil 00009
stops all of them. The change from 0 to 1 acts; the 1 stays until the master writes the 0. A 1 is never repeated by
itself: whether it was heard, the coil tells when it is read back.
"""

import contextlib
from typing import TYPE_CHECKING

from servomex import registers
from servomex.clock import time
from servomex.errors import (
    ErrorContext,
    ServomexCalibrationError,
    ServomexError,
    ServomexTimeoutError,
)

if TYPE_CHECKING:
    from servomex.modbus import ModbusClient

RETRY_S = 0.1
"""Pause before a coil is asked or written again after the line failed."""


class Pulse:
    """One pulse of a coil: to 0 if it was left at 1, to 1 once, read back, and to 0 whatever happens.

    Other callers may read between the requests; another pulse at this address waits for the end of this one.

    Args:
        client: The analyser.
        coil: The coil.
        what: What it means, for messages.

    Attributes:
        sent: Whether the 1 may have been sent.
        taken: Whether the coil was seen at 1; ``None`` when it could not be read in time.
    """

    def __init__(self, client: "ModbusClient", coil: registers.Span, what: str) -> None:
        self.sent = False
        self.taken: bool | None = None
        self._lost: ServomexError | None = None
        self._client = client
        self._coil = coil
        self._what = what

    def give(self, deadline: float) -> None:
        """Give the pulse. Half of the time is kept for the way back.

        Raises:
            ServomexTimeoutError: Before the 1 was sent: no answer came, or other callers kept the port busy.
            ServomexError: Another error before the 1 was sent.
            ServomexCalibrationError: The coil could not be set back to 0.
        """
        middle = (time.monotonic() + deadline) / 2
        lock = self._client.link.pulse_lock(self._client.address)
        if not lock.acquire(max(0.0, middle - time.monotonic())):
            raise ServomexTimeoutError("another start or stop is under way at this address", self._context)
        try:
            if self._read(middle):  # as long as it is 1, there is no change from 0 to 1
                self._release(middle)
            if time.monotonic() >= middle:
                raise ServomexTimeoutError("the time was up before anything was started", self._context)
            try:
                self._write_one(middle)
            finally:
                self._release(deadline)
        finally:
            lock.release()

    @property
    def why_not(self) -> str:
        """Why the 1 was not taken."""
        return self._lost.message if self._lost else "its coil did not take the 1"

    def clear(self, deadline: float) -> None:
        """Bring the coil to 0 if it is at 1.

        Raises:
            ServomexError: It could not be read, or not be set back.
        """
        if self._read(deadline):
            self._release(deadline)

    def _read(self, deadline: float) -> bool:
        return self._client.read_coil(self._coil, self._soon(deadline))

    def _write_one(self, deadline: float) -> None:
        """Write the 1, once, and read back until the coil tells."""
        self.sent = True
        try:
            self._client.write_coil(self._coil, True, self._soon(deadline))
        except ServomexError as error:  # whether it was heard, the coil tells
            self._lost = error
        while True:
            with contextlib.suppress(ServomexError):  # the next try may succeed; if none does, nobody knows
                self.taken = self._read(deadline)
                return
            if time.monotonic() >= deadline or self._client.link.is_closed:
                return
            self._client.link.pause(RETRY_S)

    def _release(self, deadline: float) -> None:
        """Bring the coil to 0, as often as it takes. An interrupt waits until that is done, or the time is up."""
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
            except Exception:
                raise
            except BaseException as error:  # noqa: BLE001 (it is raised below)
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
        """Write the 0 once; tell whether the coil shows it."""
        try:
            self._client.write_coil(self._coil, False, self._soon(deadline))
        except ServomexError:
            if not self._client.link.is_open:
                self._client.link.pause(RETRY_S)
        value = self._read(deadline)
        if value and self.sent:
            self.taken = True  # the 1 has come through, whatever became of its reply
        return not value

    def _soon(self, deadline: float) -> float:
        """Give the deadline of one request: a dead line must leave time for another, and for other callers."""
        return min(deadline, time.monotonic() + self._client.patience_s)

    def _stuck(self, failure: ServomexError | None) -> ServomexCalibrationError:
        reason = f" ({failure.message})" if failure else ""
        if not self.sent:
            text = f"{self._what} was not sent: its coil was left at 1, and could not be set back to 0{reason}"
            return ServomexCalibrationError(text, self._context, running=False)
        text = (
            f"the coil could not be set back to 0 after {self._what}{reason}. While it is 1 the analyser ignores "
            "the next one, and nobody knows whether this one was heard: look at the panel"
        )
        return ServomexCalibrationError(text, self._context, running=None)

    @property
    def _context(self) -> ErrorContext:
        return ErrorContext(self._client.link.port, self._client.protocol, self._client.address)
