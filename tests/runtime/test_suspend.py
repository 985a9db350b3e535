"""Sleep counts: what was read before this computer slept is old, although its monotonic clock stood still."""

import pickle
import sys
import threading
import time

import pytest

from servomex import ServomexTimeoutError, open_device
from servomex.analyzer.analyzer import Analyzer
from servomex.runtime import suspend as awake
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.telegram import parse_frame
from tests.helpers.frames import GOOD_3
from tests.helpers.waiting import wait_until

SECOND = 10**9


class Host:
    """A computer whose clocks a test moves."""

    def __init__(self) -> None:
        self.monotonic_ns = 100 * SECOND
        self.slept_ns = 7 * SECOND
        self.log = awake.SleepLog(lambda: (self.monotonic_ns, self.slept_ns))

    def run(self, seconds: float) -> None:
        self.monotonic_ns += int(seconds * SECOND)

    def sleep(self, seconds: float) -> None:
        self.slept_ns += int(seconds * SECOND)


def test_without_sleep_the_age_is_that_of_the_monotonic_clock() -> None:
    host = Host()
    stamp = host.monotonic_ns
    host.run(2.5)
    assert host.log.age_s(stamp) == 2.5
    assert host.log.slept_s() == 0.0


def test_sleep_before_the_stamp_does_not_count_and_sleep_after_it_does() -> None:
    host = Host()
    before = host.monotonic_ns
    host.run(1)
    host.sleep(3600)
    host.log.now()
    host.run(1)
    after = host.monotonic_ns
    host.run(1)
    assert host.log.age_s(before) == 3603.0
    assert host.log.age_s(after) == 1.0
    assert host.log.slept_s() == 3600.0


def test_a_stamp_between_the_sleep_and_the_look_at_it_counts_as_older() -> None:
    host = Host()
    host.sleep(60)
    host.run(1)
    stamp = host.monotonic_ns  # made after the sleep, which was not yet noticed
    host.run(1)
    assert host.log.age_s(stamp) == 61.0


def test_each_of_several_sleeps_counts_for_what_is_older() -> None:
    host = Host()
    stamps = []
    for _ in range(5):
        stamps.append(host.monotonic_ns)
        host.run(1)
        host.sleep(10)
        host.log.now()
    assert [host.log.age_s(stamp) for stamp in stamps] == [55.0, 44.0, 33.0, 22.0, 11.0]


def test_memory_is_bounded_and_what_is_forgotten_counts_as_older() -> None:
    host = Host()
    first = host.monotonic_ns
    for _ in range(1000):
        host.run(1)
        host.sleep(10)
        host.log.now()
    assert host.log.age_s(first) == 11_000.0
    assert host.log.age_s(host.monotonic_ns - SECOND // 2) == 10.5
    assert host.log.age_s(host.monotonic_ns - 500 * SECOND) >= 5500.0
    assert len(pickle.dumps(host.log._sleeps)) < 5000


def test_a_pause_between_the_two_clocks_is_no_sleep() -> None:
    host = Host()
    for jitter in (-SECOND, 0, 1000, -5 * SECOND):
        host.slept_ns = 7 * SECOND + jitter
        host.run(1)
        assert host.log.slept_s() == 0.0


def test_where_no_clock_counts_sleep_a_jump_ahead_of_the_wall_clock_does() -> None:
    offset_ns = 0
    source = awake.wall_clock(lambda: time.time_ns() + offset_ns)
    log = awake.SleepLog(source)
    stamp = time.monotonic_ns()
    wait_until(lambda: time.monotonic_ns() > stamp)
    for step_ns in (SECOND // 2, -3600 * SECOND, SECOND // 2):  # slewed, set back, slewed
        offset_ns += step_ns
        assert log.slept_s() == 0.0
    offset_ns += 30 * SECOND
    assert 30.0 <= log.age_s(stamp) < 35.0


@pytest.mark.skipif(sys.platform != "linux", reason="this clock is Linux's")
def test_this_computer_has_not_slept_while_its_tests_ran() -> None:
    log = awake.SleepLog(awake.system_source())
    results: list[float] = []

    def look() -> None:
        results.extend(log.slept_s() for _ in range(2000))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == {0.0}


def test_frames_and_readings_count_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    monkeypatch.setattr(awake, "sleeps", host.log)
    frame = parse_frame(GOOD_3, monotonic_ns=host.monotonic_ns)
    host.run(1)
    host.sleep(100)
    assert frame.age_s == frame["I1"].age_s == 101.0


class Sleeper:
    """Lets the computer sleep when the analyser is asked for the nth time."""

    def __init__(self, line: VirtualLine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._slept_ns = 0
        self._line = line
        self.at: set[int] = set()
        log = awake.SleepLog(self._read)
        monkeypatch.setattr(awake, "sleeps", log)

    def _read(self) -> tuple[int, int]:
        done = {number for number in self.at if len(self._line.heard) >= number}
        self.at -= done
        self._slept_ns += len(done) * 3600 * SECOND
        return time.monotonic_ns(), self._slept_ns


def requests_of(line: VirtualLine, analyzer: Analyzer, what: str) -> int:
    before = len(line.heard)
    read(analyzer, what)
    return len(line.heard) - before


def read(analyzer: Analyzer, what: str, timeout: float = 3.0) -> object:
    if what == "poll":
        return analyzer.poll(timeout=timeout)
    if what == "analyser_status":
        return analyzer.analyser_status(timeout=timeout)
    return getattr(analyzer, what)("I1", timeout=timeout)


@pytest.mark.parametrize("what", ["poll", "read_channel", "status", "analyser_status"])
@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_a_modbus_reading_with_a_sleep_in_it_is_read_again(
    what: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode))
    sleeper = Sleeper(line, monkeypatch)
    with open_device(line.url, protocol=mode, gap=0.0) as analyzer:
        once = requests_of(line, analyzer, what)
        sleeper.at = {len(line.heard) + 1}
        assert requests_of(line, analyzer, what) == 2 * once
        assert analyzer.poll().age_s < 60


@pytest.mark.parametrize("what", ["poll", "read_channel", "status", "analyser_status"])
def test_a_modbus_reading_with_a_sleep_and_no_time_left_is_an_error(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = VirtualLine(VirtualAnalyzer())
    sleeper = Sleeper(line, monkeypatch)
    with open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer:
        sleeper.at = set(range(len(line.heard) + 1, len(line.heard) + 100_000))
        with pytest.raises(ServomexTimeoutError):
            read(analyzer, what, 0.2)
        sleeper.at = set()
        assert analyzer.poll()["I1"].value == 20.376
