"""Channels that have one name: a reply is not believed to be of one of them because its name fits."""

import pytest

from servomex import ChannelId, open_device
from servomex.simulator import VirtualAnalyzer, VirtualChannel
from servomex.simulator.channels import constant
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import ascii_, rtu

pytestmark = pytest.mark.virtual_time

FRAMES = {"modbus_rtu": rtu, "modbus_ascii": ascii_}
VALUES = {"I1": 20.9, "I2": 5.5}


@pytest.mark.parametrize("mode", FRAMES)
def test_another_master_reads_the_one_while_we_read_the_other(mode: str) -> None:
    """Only I1 was ever read when the other master, unheard until then, gets the block of I2 before our reply."""
    channels = [VirtualChannel(ChannelId(name), "Oxygen", "%", constant(value)) for name, value in VALUES.items()]
    answer, framed = answering(VirtualAnalyzer(channels, mode=mode)), FRAMES[mode]
    asks, other_asks = framed("01 04 0000 0007"), framed("01 04 0007 0007")
    heard = False

    def end(port: HookPort, data: bytes) -> None:
        if heard and data == asks:
            port.at(0.005, answer(other_asks))
        port.at(0.03, answer(data))

    port = HookPort(end)
    with open_device(port, protocol=mode, channels=["I1"]) as analyzer:
        assert analyzer.read_channel("I1").value == VALUES["I1"]
        heard = True
        port.feed(other_asks)
        for _ in range(5):
            assert analyzer.read_channel("I1").value == VALUES["I1"]
