"""Whether a device is there: any answer of its own shows it, and nothing else does."""

import time

import pytest

from servomex.enums import ProtocolKind
from servomex.errors import ServomexFrameError, ServomexGatewayError, ServomexTimeoutError
from servomex.modbus.exchange import Exchange
from servomex.modbus.presence import await_answer
from servomex.port.link import SerialLink
from servomex.testing import FakeTransport
from tests.helpers.modbus_bytes import rtu

pytestmark = pytest.mark.virtual_time

ANSWER, REFUSAL = rtu("01 02 01 00"), rtu("01 82 02")


def ask(reply: bytes) -> list[bytes]:
    """Ask a device that replies so; return what was sent."""
    port = FakeTransport(lambda _request: reply)
    with SerialLink(port, gap=0.002) as link, link.conversation(time.monotonic() + 1.0):
        exchange = Exchange(link, 1, ProtocolKind.MODBUS_RTU, retries=0)
        await_answer(exchange, time.monotonic() + 0.2, prove=False)
    return [*port.writes]


@pytest.mark.parametrize("reply", [ANSWER, REFUSAL], ids=["answer", "refusal"])
def test_an_answer_shows_it_and_so_does_a_refusal(reply: bytes) -> None:
    assert ask(reply) == [rtu("01 02 03E8 0002")]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", ServomexTimeoutError),
        (ANSWER[:-1] + b"\0", ServomexFrameError),
        (rtu("01 82 0A"), ServomexGatewayError),
        (rtu("01 82 0B"), ServomexGatewayError),
    ],
    ids=["silence", "damage", "gateway without a path", "gateway without an answer"],
)
def test_silence_damage_and_a_gateway_do_not_show_it(reply: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(reply)
