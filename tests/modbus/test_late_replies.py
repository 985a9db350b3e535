"""A late reply looks like the reply to the next request: none may ever be believed."""

import collections
import itertools
import threading
import time

import pytest

from servomex import ChannelId, ServomexError, ServomexTimeoutError, open_device
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing
from servomex.port import connect as ports
from servomex.simulator import Faults, VirtualAnalyzer, VirtualChannel, VirtualLine
from servomex.simulator.channels import Signal

pytestmark = pytest.mark.virtual_time

MODES = ["modbus_rtu", "modbus_ascii"]
CHANNELS = ["I1", "I2", "I3"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits, so that many faults fit into a test; what is believed does not depend on them."""
    monkeypatch.setattr(ports, "READ_TICK_S", 0.01)
    quick = Timing(silence_s=0.02, quiet_s=0.02, usual_wait_s=(0.02, 0.04))
    monkeypatch.setattr(ModbusLine, "timing", quick)


def counting_analyser(mode: str, faults: Faults | None = None) -> tuple[VirtualAnalyzer, list[int]]:
    """An analyser whose values tell the channel and the moment: channel n reads n * 1000 + the step."""
    step = [0]

    def signal(place: int) -> Signal:
        return lambda _seconds: float(place * 1000 + step[0])

    channels = [
        VirtualChannel(ChannelId(name), f"gas {place}", "%", signal(place))
        for place, name in enumerate(CHANNELS, 1)
    ]
    return VirtualAnalyzer(channels, mode=mode, faults=faults), step


def expected(channel: str, step: list[int]) -> float:
    return (CHANNELS.index(channel) + 1) * 1000.0 + step[0]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pattern", ["always", "every other", "once", "just over", "far over"])
def test_a_reply_slower_than_the_timeout_is_never_taken_for_another(mode: str, pattern: str) -> None:
    analyser, step = counting_analyser(mode)
    line = VirtualLine(analyser)
    delays = {"just over": 0.11, "far over": 0.6}
    results = collections.Counter[str]()
    with open_device(line.url, protocol=mode, gap=0.005) as analyzer:
        for turn, channel in enumerate(itertools.islice(itertools.cycle(CHANNELS), 18)):
            step[0] += 1
            late = pattern in ("always", *delays) or (pattern == "every other" and turn % 2) or turn == 3
            analyser.faults.late = delays.get(pattern, 0.25) if late else 0.0
            try:
                reading = analyzer.read_channel(channel, timeout=0.1)
            except ServomexError:
                results["error"] += 1
            else:
                assert reading.value == expected(channel, step)
                results["right"] += 1
        analyser.faults.late = 0.0
        assert results["error"]
        step[0] += 1
        assert analyzer.read_channel("I2", timeout=3.0).value == expected("I2", step)
        for channel in CHANNELS:
            step[0] += 1
            assert analyzer.read_channel(channel, timeout=0.1).value == expected(channel, step)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", MODES)
def test_a_device_that_is_a_little_slower_than_usual_is_waited_for(mode: str) -> None:
    """The first late reply is refused, and the time it took is allowed from then on."""
    analyser, step = counting_analyser(mode)
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=mode, gap=0.005, timeout=1.0) as analyzer:
        analyser.faults.late = 0.15
        for _ in range(3):
            frame = analyzer.poll(timeout=3.0)
            assert [frame[channel].value for channel in CHANNELS] == [expected(name, step) for name in CHANNELS]
        assert analyzer.dropped_frames > 0
        before = analyzer.dropped_frames
        analyzer.poll(timeout=3.0)
        assert analyzer.dropped_frames == before


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", MODES)
def test_many_lost_and_damaged_replies_give_right_values_or_errors(mode: str) -> None:
    analyser, step = counting_analyser(mode, Faults(drop=0.25, corrupt=0.1, seed=7))
    line = VirtualLine(analyser)
    right = 0
    with open_device(line.url, protocol=mode, gap=0.001, identify=False, timeout=0.45) as analyzer:
        for _ in range(100):  # in each of the two framings
            step[0] += 1
            try:
                frame = analyzer.poll()
            except ServomexError:
                continue
            right += 1
            assert [frame[channel].value for channel in CHANNELS] == [expected(name, step) for name in CHANNELS]
            assert frame.channels == ("I1", "I2", "I3", "E1", "E2")
            assert all(reading.status.words == () for reading in frame)
        assert right > 50
        analyser.faults.drop = analyser.faults.corrupt = 0.0
        analyzer.poll(timeout=2.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["garbage", "foreign", "duplicate", "chunked"])
def test_other_damage_gives_right_values_or_errors(mode: str, fault: str) -> None:
    analyser, step = counting_analyser(mode)
    line = VirtualLine(analyser)
    right = 0
    with open_device(line.url, protocol=mode, gap=0.002, timeout=2.0) as analyzer:
        setattr(analyser.faults, fault, True if fault == "chunked" else 0.4)
        for _ in range(15 if fault != "chunked" else 3):
            step[0] += 1
            try:
                frame = analyzer.poll()
            except ServomexError:
                continue
            right += 1
            assert [frame[channel].value for channel in CHANNELS] == [expected(name, step) for name in CHANNELS]
    assert right >= 3


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_was_interrupted_leaves_nothing_to_be_believed(mode: str) -> None:
    """Ctrl-C after the request was sent: its reply is still under way when the next one is asked."""
    analyser, step = counting_analyser(mode)
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=mode) as analyzer:
        analyser.faults.late = 0.1
        wrote = analyzer.link.write

        def interrupted(data: bytes, deadline: float | None = None) -> None:
            wrote(data, deadline)
            raise KeyboardInterrupt

        analyzer.link.write = interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            analyzer.read_channel("I1")
        analyzer.link.write = wrote  # type: ignore[method-assign]
        step[0] += 1
        assert analyzer.read_channel("I2", timeout=2.0).value == expected("I2", step)


def test_late_replies_are_counted_and_named_in_the_error() -> None:
    analyser, _ = counting_analyser("modbus_rtu")
    line = VirtualLine(analyser)
    with open_device(line.url, protocol="modbus_rtu") as analyzer:
        analyser.faults.late = 0.3
        with pytest.raises(ServomexError):
            analyzer.read_channel("I1", timeout=0.2)
        threading.Event().wait(0.4)
        with pytest.raises(ServomexTimeoutError, match=r"1 late reply was refused\. Allow a longer timeout"):
            analyzer.read_channel("I1", timeout=0.2)


@pytest.mark.parametrize("mode", MODES)
def test_the_fence_is_sent_before_the_first_request_after_a_failure(mode: str) -> None:
    analyser, _ = counting_analyser(mode)
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=mode) as analyzer:
        analyser.faults.silent = True
        with pytest.raises(ServomexTimeoutError):
            analyzer.read_channel("I1", timeout=0.2)
        analyser.faults.silent = False
        del line.heard[:]
        analyzer.read_channel("I1")
        functions = [int(sent[3:5], 16) if mode == "modbus_ascii" else sent[1] for _, sent in line.heard]
        assert functions == [8, 4, 2]


@pytest.mark.parametrize("mode", MODES)
def test_a_silent_device_costs_no_more_than_the_timeout(mode: str) -> None:
    analyser, _ = counting_analyser(mode)
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=mode) as analyzer:
        analyser.faults.silent = True
        for call in (analyzer.poll, analyzer.identify, analyzer.analyser_status):
            started = time.monotonic()
            with pytest.raises(ServomexTimeoutError):
                call(timeout=0.2)
            assert time.monotonic() - started < 0.35
