"""Two devices at one address: of two replies it is unknown whose the first one is."""

import time

import pytest

from servomex import ServomexError, ServomexFrameError, open_device
from servomex.simulator import VirtualAnalyzer, VirtualLine, constant
from tests.helpers.hook_port import HookPort, answering

pytestmark = pytest.mark.virtual_time

MODES = ["modbus_rtu", "modbus_ascii"]


def another(mode: str) -> VirtualAnalyzer:
    analyser = VirtualAnalyzer(mode=mode)
    analyser["I1"].signal = constant(1.234)
    return analyser


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pace", [False, True])
def test_different_replies_to_one_request_are_refused(mode: str, pace: bool) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode), another(mode), pace=pace)
    with pytest.raises(ServomexFrameError, match="another device has the address 1 too"):
        open_device(line.url, protocol=mode, gap=0.01)


def slower(mode: str, delay: float) -> HookPort:
    """Two devices at one address, one of them slower: its reply comes after the other, or the next request."""
    first, second = answering(VirtualAnalyzer(mode=mode)), answering(another(mode))

    def far_end(port: HookPort, data: bytes) -> None:
        port.at(0.02, first(data))
        port.at(0.0205 + delay, second(data))

    return HookPort(far_end)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_no_value_is_given_whose_sender_is_not_known(mode: str, delay: float) -> None:
    with open_device(slower(mode, delay), protocol=mode, gap=0.005, identify=False) as analyzer:
        for _ in range(3):
            with pytest.raises(ServomexError):
                analyzer.read_channel("I1", timeout=1)


@pytest.mark.parametrize("mode", MODES)
def test_a_reply_that_comes_after_the_end_of_a_call_is_an_error_of_the_next(mode: str) -> None:
    first, second = answering(VirtualAnalyzer(mode=mode)), answering(another(mode))

    def far_end(port: HookPort, data: bytes) -> None:
        port.at(0.005, first(data))
        port.at(0.4, second(data))

    with open_device(HookPort(far_end), protocol=mode, gap=0.005, identify=False) as analyzer:
        assert analyzer.read_channel("I1").value == 20.376
        time.sleep(0.5)
        with pytest.raises(ServomexFrameError, match="another device"):
            analyzer.read_channel("I1")


@pytest.mark.parametrize("mode", MODES)
def test_a_second_device_that_joins_later_is_noticed(mode: str) -> None:
    joining = another(mode)
    joining.faults.silent = True
    line = VirtualLine(VirtualAnalyzer(mode=mode), joining)
    with open_device(line.url, protocol=mode, gap=0.01) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376
        joining.faults.silent = False
        with pytest.raises(ServomexFrameError, match="another device has the address 1 too"):
            analyzer.poll()


@pytest.mark.parametrize("mode", MODES)
def test_the_same_reply_twice_is_no_reason_to_refuse_it(mode: str) -> None:
    """Some serial servers repeat a packet."""
    answer = answering(VirtualAnalyzer(mode=mode))

    def far_end(port: HookPort, data: bytes) -> None:
        loopback = data[1:2] == b"\x08" or data[3:5] == b"08"
        for _ in range(1 if loopback else 2):
            port.at(0.005, answer(data))

    with open_device(HookPort(far_end), protocol=mode, gap=0.01, identify=False) as analyzer:
        assert analyzer.read_channel("I1", timeout=5).value == 20.376


@pytest.mark.parametrize("mode", MODES)
def test_a_damaged_repetition_is_no_sign_of_another_device(mode: str) -> None:
    answer = answering(VirtualAnalyzer(mode=mode))

    def far_end(port: HookPort, data: bytes) -> None:
        reply = answer(data)
        port.at(0.005, reply)
        if data[1:2] == b"\x04" or data[3:5] == b"04":
            port.at(0.006, reply[:20] + b"7" + reply[21:])

    with open_device(HookPort(far_end), protocol=mode, gap=0.01, identify=False) as analyzer:
        assert analyzer.read_channel("I1", timeout=5).value == 20.376


@pytest.mark.parametrize("mode", MODES)
def test_a_second_reply_that_only_another_program_can_have_asked_for_is_reported_as_such(mode: str) -> None:
    """One device answers the loopback once, so that no other device has its address."""
    mine, theirs = answering(VirtualAnalyzer(mode=mode)), answering(another(mode))

    def far_end(port: HookPort, data: bytes) -> None:
        loopback = data[1:2] == b"\x08" or data[3:5] == b"08"
        port.at(0.005, mine(data) if loopback else mine(data) + theirs(data))

    with (
        open_device(HookPort(far_end), protocol=mode, gap=0.005, identify=False, retries=0) as analyzer,
        pytest.raises(ServomexFrameError, match="the reply to another program's request arrived as well"),
    ):
        analyzer.read_channel("I1")
