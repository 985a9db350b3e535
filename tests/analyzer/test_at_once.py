"""Several threads on one analyser, and several analysers on one link."""

import threading
import time

import pytest

from servomex import (
    SerialLink,
    ServomexTimeoutError,
    open_device,
)
from servomex.modbus.line import ModbusLine
from servomex.simulator import VirtualAnalyzer, VirtualLine, constant

pytestmark = pytest.mark.virtual_time
MODES = ["modbus_rtu", "modbus_ascii", "continuous"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.real_time
def test_ten_threads_on_one_analyser(mode: str) -> None:
    """For two seconds here; values differ by channel, so that a reply to another thread's request would show."""
    analyser = VirtualAnalyzer(mode=mode, period=0.1)
    analyser.faults.gap = 0.0
    line = VirtualLine(analyser)
    wrong: list[object] = []
    counts = [0] * 10
    stop = threading.Event()
    values = {"I1": 20.376, "I2": 0.084, "I3": 0.25, "E1": 0.0, "E2": 0.0}

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                if number % 3 == 0:
                    found = {str(item.channel): item.value for item in analyzer.poll(timeout=5)}
                    good = found == values
                elif number % 3 == 1:
                    channel = ("I1", "I2", "I3")[counts[number] % 3]
                    good = analyzer.read_channel(channel, timeout=5).value == values[channel]
                else:
                    good = len(analyzer.identify(timeout=5).channels) == 5
                if not good:
                    wrong.append(number)
                counts[number] += 1
            except BaseException as error:  # whatever it is, it must be seen in the test's thread
                wrong.append(error)

    with open_device(line.url, protocol=mode, gap=0.01) as analyzer:
        del line.heard[:]
        threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        stop.wait(2.0)
        stop.set()
        for thread in threads:
            thread.join(10)
    assert wrong == []
    assert min(counts) > 0
    if mode != "continuous":
        gaps = [later[0] - earlier[0] for earlier, later in zip(line.heard, line.heard[1:], strict=False)]
        assert min(gaps) >= 0.01


def test_every_request_keeps_the_gap_that_the_adapter_needs() -> None:
    """The virtual analyser does not hear requests that come less than 50 ms after the last byte."""
    analyser = VirtualAnalyzer()
    analyser.faults.gap = 0.05
    line = VirtualLine(analyser, pace=True)
    with open_device(line.url, protocol="modbus_rtu") as analyzer:
        for _ in range(5):
            analyzer.poll()
        assert analyzer.dropped_frames == 0
        assert analyzer.link.state(ModbusLine).proven == {1}


def test_two_analysers_on_one_link_share_its_gap() -> None:
    first, second = VirtualAnalyzer(address=1), VirtualAnalyzer(address=2)
    second["I1"].signal = constant(5.0)
    for analyser in (first, second):
        analyser.faults.gap = 0.05
    line = VirtualLine(first, second, pace=True)
    with SerialLink(line.url) as link:
        one = open_device(link, protocol="modbus_rtu", address=1)
        two = open_device(link, protocol="modbus_rtu", address=2)
        for _ in range(3):
            assert one.read_channel("I1").value == 20.376
            assert two.read_channel("I1").value == 5.0
        assert one.dropped_frames == two.dropped_frames == 0
        one.close()
        assert two.read_channel("I1").value == 5.0
        two.close()
        assert link.is_open


def test_a_busy_lock_ends_with_the_timeout() -> None:
    line = VirtualLine(VirtualAnalyzer())
    with open_device(line.url, protocol="modbus_rtu") as analyzer:
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with analyzer.link.lock_held():
                held.set()
                release.wait(5)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(5)
        started = time.monotonic()
        with pytest.raises(ServomexTimeoutError, match="other callers kept the port busy"):
            analyzer.poll(timeout=0.2)
        assert time.monotonic() - started < 0.35
        release.set()
        holder.join()
