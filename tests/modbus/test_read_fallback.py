"""What a device refuses is read around and remembered; what it leaves unanswered changes nothing."""

import time

import pytest

from servomex import ChannelId, SerialSettings, ServomexForeignDeviceError, ServomexTimeoutError, open_device
from servomex.modbus import plan
from servomex.registers import ANALYSER_FLAGS
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from tests.helpers.bench import bench

pytestmark = pytest.mark.virtual_time


def test_a_device_that_refuses_gaps_is_read_without_them() -> None:
    analyser = bench("modbus_rtu")
    analyser.refuses_gaps = True
    line = VirtualLine(analyser)
    with open_device(line.url, protocol="modbus_rtu", gap=0.0, timeout=10) as analyzer:
        expected = ("I1", "I2", "I4", "D1", "D4", "E1", "E2")
        assert analyzer.poll().channels == expected
        del line.heard[:]
        assert analyzer.poll().channels == expected
        assert len(line.heard) <= 8, "what was learned is remembered"
        registers_read = [sent for _, sent in line.heard if sent[1] == 4]
        assert [(sent[3], sent[5]) for sent in registers_read] == [(0, 14), (21, 14), (49, 21)]


class Refusing(VirtualAnalyzer):
    """Refuses gaps either between its channels or in its own state."""

    def __init__(self, *, between_channels: bool) -> None:
        super().__init__()
        self.refuses_gaps = self.between_channels = between_channels

    def discrete_inputs(self, address: int, count: int) -> list[bool]:
        self.refuses_gaps = self.between_channels is (address < ANALYSER_FLAGS.address)
        try:
            return super().discrete_inputs(address, count)
        finally:
            self.refuses_gaps = self.between_channels


@pytest.mark.parametrize(
    ("between_channels", "states"),
    [(True, [(0, 24), (64, 16), (1000, 16)]), (False, [(0, 80), (1000, 2), (1008, 8)])],
)
def test_a_refused_gap_costs_requests_only_where_it_lies(
    between_channels: bool, states: list[tuple[int, int]]
) -> None:
    line = VirtualLine(Refusing(between_channels=between_channels))
    with open_device(line.url, protocol="modbus_rtu", gap=0.0, timeout=10) as analyzer:
        analyzer.poll()
        del line.heard[:]
        analyzer.poll()
    asked = [(int.from_bytes(sent[2:4]), int.from_bytes(sent[4:6])) for _, sent in line.heard if sent[1] == 2]
    assert asked == states
    assert len(line.heard) == (5 if between_channels else 4)


def test_a_device_that_answers_one_block_at_a_time_is_read_so() -> None:
    analyser = bench("modbus_rtu")
    analyser.largest_read = 1
    line = VirtualLine(analyser)
    with open_device(line.url, protocol="modbus_rtu", gap=0.0, timeout=10) as analyzer:
        assert analyzer.poll().channels == ("I1", "I2", "I4", "D1", "D4", "E1", "E2")


def test_lost_replies_do_not_change_the_read_plan() -> None:
    analyser = VirtualAnalyzer()
    line = VirtualLine(analyser)
    with open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer:
        analyzer.poll()
        analyser.faults.silent = True
        for _ in range(4):
            with pytest.raises(ServomexTimeoutError):
                analyzer.poll(timeout=0.1)
        analyser.faults.silent = False
        analyzer.poll(timeout=3)
        del line.heard[:]
        analyzer.poll()
        assert len(line.heard) == 3


def test_blocks_that_a_slow_line_leaves_out_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    analyser = VirtualAnalyzer()
    line = VirtualLine(analyser, baudrate=2400)
    settings = SerialSettings(baudrate=2400)
    with open_device(line.url, protocol="modbus_rtu", serial_settings=settings) as analyzer:
        del line.heard[:]
        analyzer.poll()
        assert [(sent[3], sent[5]) for _, sent in line.heard if sent[1] == 4] == [(0, 21), (56, 14)]
        analyser.channels[ChannelId.D1] = VirtualChannel(ChannelId.D1, "NOx", "vpm", constant(7.0))
        assert "D1" not in analyzer.poll()
        soon = time.monotonic() + plan.REDISCOVER_S + 1
        monkeypatch.setattr("servomex.modbus.client.time.monotonic", lambda: soon)
        client = analyzer.client
        assert client is not None
        assert client._plan.channels() == list(ChannelId)
        monkeypatch.undo()
        analyzer.identify()
        assert analyzer.poll()["D1"].value == 7.0


def test_a_refusal_that_cannot_be_read_around_is_an_error() -> None:
    analyser = VirtualAnalyzer()
    analyser.largest_read = 0
    line = VirtualLine(analyser)
    with pytest.raises(ServomexForeignDeviceError, match="with exception 02"):
        open_device(line.url, protocol="modbus_rtu", channels=["I1"], gap=0.0)
