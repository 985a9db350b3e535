"""The pulse of a coil, with which an autocalibration is started or stopped.

Source: installation manual, Appendix B. Coils 00001 to 00004 start the autocalibration of group 1 to 4, coil 00009
stops all of them. The change from 0 to 1 acts; the 1 stays until the master writes the 0.
A write is never repeated by itself: when its reply is lost, the coil is read back.
"""

import contextlib
import time
from typing import TYPE_CHECKING

from servomex import registers
from servomex.errors import (
    ErrorContext,
    ServomexCalibrationError,
    ServomexError,
    ServomexProtocolError,
    ServomexTransportError,
)

if TYPE_CHECKING:
    from servomex.modbus import ModbusClient

RETRY_S = 0.1
"""Pause before a coil that could not be set back is tried again."""

LINE_ERRORS = (ServomexTransportError, ServomexProtocolError)
"""What a request may end with."""


def pulse(client: "ModbusClient", coil: registers.Span, what: str, deadline: float) -> None:
    """Bring a coil from 0 to 1 and back. Half of the time is kept for the way back.

    Raises:
        ServomexCalibrationError: The analyser did not take it, nobody knows, or the coil could not be set back.
    """
    middle = (time.monotonic() + deadline) / 2
    with client.link.conversation(deadline):
        clear(client, coil, what, middle)  # as long as it is 1, there is no change from 0 to 1
        try:
            _raise(client, coil, what, middle)
        finally:
            _release(client, coil, what, deadline)


def clear(client: "ModbusClient", coil: registers.Span, what: str, deadline: float) -> None:
    """Bring a coil to 0 that was left at 1, by a master that died or by a line that failed.

    Raises:
        ServomexCalibrationError: It could not be done.
    """
    if client.read_coil(coil, _soon(client, deadline)):
        _release(client, coil, what, deadline)


def _raise(client: "ModbusClient", coil: registers.Span, what: str, deadline: float) -> None:
    """Write the 1, once, and read it back."""
    lost: ServomexError | None = None
    try:
        client.write_coil(coil, True, _soon(client, deadline))
    except LINE_ERRORS as error:
        lost = error
    try:
        taken = client.read_coil(coil, _soon(client, deadline))
    except LINE_ERRORS as error:
        raise calibration_error(
            client,
            f"the line failed just after {what} was sent ({error.message}): nobody knows whether it was heard",
            running=None,
        ) from error
    if not taken:
        why = lost.message if lost else "its coil did not take the 1"
        raise calibration_error(
            client, f"{what} did not reach the analyser, and does nothing: {why}", running=False
        )


def _release(client: "ModbusClient", coil: registers.Span, what: str, deadline: float) -> None:
    """Bring a coil to 0, until the deadline as often as it takes. An interrupt waits until that is done.

    Raises:
        ServomexCalibrationError: It could not be done.
    """
    interrupt: KeyboardInterrupt | None = None
    failure: ServomexError | None = None
    while True:
        try:
            with contextlib.suppress(*LINE_ERRORS):  # whether it was heard is read back
                client.write_coil(coil, False, _soon(client, deadline))
            if not client.read_coil(coil, _soon(client, deadline)):
                break
        except KeyboardInterrupt as error:
            interrupt = error
        except LINE_ERRORS as error:
            failure = error
        if time.monotonic() >= deadline or client.link.is_closed:
            reason = f" ({failure.message})" if failure else ""
            raise calibration_error(
                client,
                f"the coil could not be set back to 0 after {what}{reason}. While it is 1 the analyser ignores "
                "the next one, and nobody knows whether this one was heard: look at the panel",
                running=None,
            ) from failure
        client.link.pause(RETRY_S)
    if interrupt is not None:
        raise interrupt


def _soon(client: "ModbusClient", deadline: float) -> float:
    """Give the deadline of one request: a dead line must leave time for another."""
    return min(deadline, time.monotonic() + client.patience_s)


def calibration_error(client: "ModbusClient", message: str, *, running: bool | None) -> ServomexCalibrationError:
    """Build the error of an autocalibration, with its place."""
    context = ErrorContext(client.link.port, client.protocol, client.address)
    return ServomexCalibrationError(message, context, running=running)
