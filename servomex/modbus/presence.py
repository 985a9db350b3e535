"""Whether a device answers at an address: the one question that every search asks, which changes nothing."""

from servomex.errors import ServomexGatewayError, ServomexModbusError
from servomex.modbus.exchange import Exchange
from servomex.modbus.query import PROBE
from servomex.runtime.signals import pass_on_interruption


def await_answer(exchange: Exchange, deadline: float, wait_s: float | None = None, *, prove: bool = True) -> None:
    """Ask whether a device is there, and return when it answers. A refusal is an answer as well.

    It is not asked with a loopback, which an echoing adapter would answer in its place.

    Args:
        exchange: How its address is asked; without retries, or the question is repeated.
        deadline: When to give up, on ``time.monotonic()``.
        wait_s: How long the answer may take to begin; as for any request when ``None``.
        prove: As in :meth:`Exchange.probe`.

    Raises:
        ServomexGatewayError: A gateway reports that it does not answer.
        ServomexTimeoutError: There was no answer.
        ServomexFrameError: The reply was damaged, or answers something else.
        ServomexConnectionError: The port is closed or lost.
    """
    try:
        exchange.probe(PROBE, deadline, wait_s, prove=prove)
    except ServomexGatewayError:
        raise
    except ServomexModbusError as error:
        pass_on_interruption(error)
