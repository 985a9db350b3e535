"""A frame is current only as long as it may be; an older one is an error."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from servomex import SerialLink, ServomexStaleError, open_continuous
from servomex.analyzer.analyzer import Analyzer
from servomex.continuous import reader as continuous
from servomex.runtime import suspend as awake
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.telegram import parse_frame
from servomex.testing import load_capture
from tests.helpers.paths import CAPTURE
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.virtual_time
PERIOD = 0.1


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    return VirtualAnalyzer(mode="continuous", period=PERIOD)


@pytest.fixture
def analyzer(line: VirtualLine) -> Iterator[Analyzer]:
    with open_continuous(line.url) as opened:
        yield opened


def test_the_cached_frame_is_never_stamped_again(analyzer: Analyzer, analyser: VirtualAnalyzer) -> None:
    analyser.faults.silent = True
    threading.Event().wait(2 * PERIOD)
    first = analyzer.poll(max_age=60)
    threading.Event().wait(0.1)
    assert analyzer.poll(max_age=60) is first
    assert first.age_s > 0.1


def test_waiting_for_fresh_gives_a_frame_that_came_after_the_call(analyzer: Analyzer) -> None:
    for _ in range(3):
        called = time.monotonic_ns()
        assert analyzer.poll(wait_fresh=True).monotonic_ns > called


def test_a_muted_analyser_is_stale_within_the_timeout(analyzer: Analyzer, analyser: VirtualAnalyzer) -> None:
    wait_until(lambda: analyzer.period_s)
    analyser.faults.silent = True
    threading.Event().wait(4 * PERIOD)
    started = time.monotonic()
    with pytest.raises(ServomexStaleError, match="no new broadcast: the last frame is") as caught:
        analyzer.poll(timeout=0.2)
    assert time.monotonic() - started < 0.35
    assert caught.value.frame is analyzer.snapshot()
    assert caught.value.age_s is not None
    assert caught.value.age_s >= 4 * PERIOD
    analyser.faults.silent = False
    assert analyzer.poll(timeout=2.0).age_s < 1.0


def test_a_frame_of_zero_age_is_never_old_enough(analyzer: Analyzer) -> None:
    called = time.monotonic_ns()
    assert analyzer.poll(max_age=0).monotonic_ns > called


def test_before_a_period_is_known_a_frame_is_current_for_ten_seconds(analyser: VirtualAnalyzer) -> None:
    analyser.faults.silent = True
    line = VirtualLine(analyser)
    with SerialLink(line.url) as opened:
        for age_s in (9, 11):
            sent_ns = time.monotonic_ns() - age_s * 10**9
            first = parse_frame(load_capture(CAPTURE)[0], received_at=datetime.now(UTC), monotonic_ns=sent_ns)
            reader = continuous.ContinuousReader(opened, first=first)
            reader.start()
            with Analyzer(opened, reader, owns_link=False) as analyzer:
                assert (analyzer.period_s, reader.fresh_s) == (None, 10.0)
                if age_s < 10:
                    assert analyzer.poll(timeout=0.05).monotonic_ns == sent_ns
                else:
                    with pytest.raises(ServomexStaleError):
                        analyzer.poll(timeout=0.05)


def test_the_limit_of_a_screen_is_that_of_poll(analyzer: Analyzer) -> None:
    wait_until(lambda: analyzer.period_s)
    analyzer.link.close()
    assert analyzer.period_s is not None
    assert analyzer.fresh_for_s() == analyzer.fresh_for_s(5) == 2.5 * analyzer.period_s


def test_a_stalled_program_does_not_take_old_input_for_new(
    analyzer: Analyzer, analyser: VirtualAnalyzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous, "STALL_S", -1.0)
    analyzer_was = analyzer.snapshot()
    threading.Event().wait(3 * PERIOD)
    assert analyzer.snapshot().monotonic_ns - analyzer_was.monotonic_ns < 2 * PERIOD * 1e9
    monkeypatch.undo()
    assert analyzer.poll(wait_fresh=True)["I1"].value == 20.376


def test_a_frame_from_before_the_computer_slept_is_not_current(
    analyzer: Analyzer, analyser: VirtualAnalyzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock may stand still meanwhile, so that the frame looks young."""
    slept_ns = 0
    monkeypatch.setattr(awake, "sleeps", awake.SleepLog(lambda: (time.monotonic_ns(), slept_ns)))
    analyzer.poll(wait_fresh=True)
    analyser.faults.silent = True
    threading.Event().wait(2 * PERIOD)
    before = analyzer.poll(max_age=60)
    assert before.age_s < 60
    slept_ns = 3600 * 10**9
    assert before.age_s > 3600
    with pytest.raises(ServomexStaleError) as caught:
        analyzer.poll(timeout=0.1, max_age=60)
    assert caught.value.age_s is not None
    assert caught.value.age_s > 3600
    status = analyser.analyser_status()
    assert status.clock is not None
    woken = attrs.evolve(status, clock=status.clock + timedelta(hours=1))  # the analyser did not sleep
    monkeypatch.setattr(analyser, "analyser_status", lambda: woken)
    analyser.faults.silent = False
    frame = analyzer.poll(timeout=3)
    assert frame["I1"].value == 20.376
    assert frame.age_s < 60
