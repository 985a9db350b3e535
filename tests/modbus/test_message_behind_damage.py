"""A damaged reply with a good message behind it: what is checked and what is decoded must be the same bytes."""

import pytest

from servomex import ServomexError, open_device
from servomex.simulator import VirtualAnalyzer
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import Framing, ascii_, rtu

pytestmark = pytest.mark.virtual_time

I2 = {"modbus_rtu": bytes.fromhex("010400070007"), "modbus_ascii": b":010400070007"}


@pytest.mark.parametrize(
    ("mode", "framed", "damage"), [("modbus_rtu", rtu, b"\x77"), ("modbus_ascii", ascii_, b"7")]
)
@pytest.mark.parametrize("pause", [0.0, 0.03])
def test_a_longer_reply_behind_a_damaged_one_is_not_taken_for_it(
    mode: str, framed: Framing, damage: bytes, pause: float
) -> None:
    """The reply to a second master's sweep begins with I1: decoded as I2 it would be the wrong gas."""
    answer = answering(VirtualAnalyzer(mode=mode))

    def far_end(port: HookPort, data: bytes) -> None:
        reply = answer(data)
        if data.startswith(I2[mode]):
            port.at(0.01, reply[:9] + damage + reply[10:])
            port.at(0.01 + pause, answer(framed("01 04 00 00 00 46")))
        else:
            port.at(0.01, reply)

    with open_device(HookPort(far_end), protocol=mode, gap=0.005, identify=False, retries=0) as analyzer:
        assert analyzer.read_channel("I1").value == 20.376
        with pytest.raises(ServomexError):
            analyzer.read_channel("I2", timeout=0.5)
