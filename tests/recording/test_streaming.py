"""Streams and subscriptions of one analyser: in order, bounded, closable, and harmless to everybody else."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from servomex import (
    Analyzer,
    Frame,
    Sample,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexTimeoutError,
    ServomexValidationError,
    StreamMode,
    open_device,
)
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.virtual_time

MODES = ["modbus_rtu", "continuous"]
RATES = {"modbus_rtu": 40.0, "continuous": None}


@pytest.fixture(params=MODES)
def analyzer(request: pytest.FixtureRequest) -> Iterator[Analyzer]:
    line = VirtualLine(VirtualAnalyzer(mode=request.param, period=0.05))
    with open_device(line.url, protocol=request.param, gap=0.001) as opened:
        opened.line = line  # type: ignore[attr-defined]
        yield opened


def rate(analyzer: Analyzer) -> float | None:
    return RATES[analyzer.protocol]


class TestStream:
    def test_samples_come_one_by_one_and_in_order(self, analyzer: Analyzer) -> None:
        with analyzer.stream(rate_hz=rate(analyzer)) as session:
            samples = [session.get(2) for _ in range(15)]
        assert [item.channel for item in samples] == ["I1", "I2", "I3", "E1", "E2"] * 3
        times = [item.monotonic_ns for item in samples]
        assert times == sorted(times)
        assert len(set(times)) == 3
        assert session.dropped == 0

    def test_leaving_a_loop_loses_nothing(self, analyzer: Analyzer) -> None:
        with analyzer.stream(rate_hz=rate(analyzer)) as session:
            for sample in session:
                first = sample
                break
            rest = [session.get(2) for _ in range(4)]
        assert [first.channel, *(item.channel for item in rest)] == ["I1", "I2", "I3", "E1", "E2"]
        assert len({first.monotonic_ns, *(item.monotonic_ns for item in rest)}) == 1

    def test_it_is_closed_by_another_thread(self, analyzer: Analyzer) -> None:
        with analyzer.stream(rate_hz=rate(analyzer)) as session:
            timer = threading.Timer(0.3, session.close)
            timer.start()
            begun = time.monotonic()
            samples: list[Sample] = list(session)
            timer.join()
        assert time.monotonic() - begun < 3
        assert samples
        with pytest.raises(ServomexConnectionError, match="closed"):
            session.get(1)

    def test_getting_honours_its_timeout(self, line: VirtualLine) -> None:
        with (
            open_device(line.url, protocol="modbus_rtu", gap=0.001) as analyzer,
            analyzer.stream(rate_hz=0.1) as session,
        ):
            while session.get(1).channel != "E2":
                pass
            begun = time.monotonic()
            with pytest.raises(ServomexTimeoutError):
                session.get(0.05)
        assert time.monotonic() - begun < 1

    def test_what_is_not_taken_is_dropped_and_counted(self, analyzer: Analyzer) -> None:
        with analyzer.stream(rate_hz=rate(analyzer), buffer_size=2) as session:
            time.sleep(0.6)
            assert session.dropped > 3
            newest = analyzer.snapshot().monotonic_ns
            assert newest - session.get(1).monotonic_ns < 0.4e9

    def test_with_another_policy_the_oldest_are_kept(self, analyzer: Analyzer) -> None:
        begun = time.monotonic_ns()
        with analyzer.stream(rate_hz=rate(analyzer), buffer_size=2, overflow="drop_newest") as session:
            time.sleep(0.6)
            assert session.dropped > 3
            assert session.get(1).monotonic_ns - begun < 0.3e9

    def test_the_wrong_mode_or_rate_is_refused(self, analyzer: Analyzer) -> None:
        wrong = "poll" if rate(analyzer) is None else "autoprint"
        with pytest.raises(ServomexValidationError, match=r"is streamed with .*Omit mode"):
            analyzer.stream(mode=wrong, rate_hz=rate(analyzer))
        with pytest.raises(ServomexValidationError):
            analyzer.stream(mode="loud", rate_hz=rate(analyzer))
        too_much = 1.0 if rate(analyzer) is None else 1001.0
        expected = "sets the rate itself, on its panel.*Omit rate_hz" if rate(analyzer) is None else "at most 1000"
        for begin in (analyzer.stream, lambda rate_hz: analyzer.subscribe(print, rate_hz=rate_hz)):
            with pytest.raises(ServomexConfigurationError, match=expected):
                begin(rate_hz=too_much)

    def test_without_a_with_block_the_error_shows_the_one_to_write(self, analyzer: Analyzer) -> None:
        session = analyzer.stream(rate_hz=rate(analyzer))
        takes: list[Callable[[], object]] = [lambda: next(session), lambda: session.get(1)]
        for take in takes:
            with pytest.raises(ServomexConfigurationError, match="as session: for sample in session") as raised:
                take()
            assert "start()" not in str(raised.value)

    def test_its_mode_is_that_of_the_analyser(self, analyzer: Analyzer) -> None:
        usual = "autoprint" if rate(analyzer) is None else "poll"
        with analyzer.stream(rate_hz=rate(analyzer)) as session:
            assert session.mode is StreamMode(usual)
        with analyzer.stream(mode=usual, rate_hz=rate(analyzer)) as session:
            assert session.mode == usual

    def test_over_modbus_it_is_read_once_a_second_unless_a_rate_is_given(self, line: VirtualLine) -> None:
        with open_device(line.url, protocol="modbus_rtu", gap=0.001) as analyzer, analyzer.stream() as session:
            begun = time.monotonic()
            moments = [session.get(2).monotonic_ns for _ in range(15)]
        assert len(set(moments)) == 3
        assert 1.9 < time.monotonic() - begun < 2.5

    def test_next_takes_one_sample_until_the_end(self, analyzer: Analyzer) -> None:
        with analyzer.stream(rate_hz=rate(analyzer)) as session:
            assert [next(session).channel for _ in range(5)] == ["I1", "I2", "I3", "E1", "E2"]
            session.close()
            rest = list(session)
        assert len(rest) % 5 == 0
        for _ in range(2):
            assert next(session, None) is None

    def test_a_lost_port_is_a_sample_with_an_error(
        self, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))
        with analyzer.stream(rate_hz=rate(analyzer)) as session:
            session.get(2)
            analyzer.line.unplug()  # type: ignore[attr-defined]
            while session.get(2).error is None:
                pass
            analyzer.line.plug()  # type: ignore[attr-defined]
            while session.get(2).error is not None:
                pass


class TestSubscription:
    def test_frames_come_in_order_on_one_thread_of_its_own(self, analyzer: Analyzer) -> None:
        got: list[tuple[str, Frame | ServomexError]] = []
        with analyzer.subscribe(
            lambda item: got.append((threading.current_thread().name, item)), rate_hz=rate(analyzer)
        ) as subscription:
            wait_until(lambda: len(got) >= 4)
        assert {name for name, _ in got} == {f"servomex-subscription {analyzer.name}"}
        times = [item.monotonic_ns for _, item in got if isinstance(item, Frame)]
        assert times == sorted(set(times))
        assert subscription.delivered == len(got)

    def test_nothing_comes_after_it_was_closed(self, analyzer: Analyzer) -> None:
        got: list[object] = []
        subscription = analyzer.subscribe(got.append, rate_hz=rate(analyzer))
        wait_until(lambda: bool(got))
        subscription.close()
        subscription.close()
        count = len(got)
        time.sleep(0.2)
        assert len(got) == count

    def test_a_callback_that_raises_is_reported_and_goes_on(
        self, analyzer: Analyzer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.ERROR, "servomex")
        calls: list[object] = []

        def fail(item: object) -> None:
            calls.append(item)
            raise ZeroDivisionError("a bug of the user's")

        others: list[object] = []
        with (
            analyzer.subscribe(fail, rate_hz=rate(analyzer)) as subscription,
            analyzer.subscribe(others.append, rate_hz=rate(analyzer)),
        ):
            wait_until(lambda: len(calls) >= 3 and len(others) >= 3)
        assert subscription.failures == len(calls)
        assert isinstance(subscription.last_failure, ZeroDivisionError)
        assert f"{analyzer.name}: a callback raised" in caplog.text

    def test_a_slow_callback_delays_no_other(self, analyzer: Analyzer) -> None:
        slow: list[object] = []
        quick: list[object] = []

        def take_time(item: object) -> None:
            slow.append(item)
            time.sleep(0.3)

        with (
            analyzer.subscribe(take_time, rate_hz=rate(analyzer), buffer_size=1) as subscription,
            analyzer.subscribe(quick.append, rate_hz=rate(analyzer)),
        ):
            wait_until(lambda: len(quick) >= 10)
            assert subscription.dropped > 0
        assert len(slow) < len(quick)

    def test_errors_are_delivered_as_well(self, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))
        got: list[Frame | ServomexError] = []
        with analyzer.subscribe(got.append, rate_hz=rate(analyzer)):
            wait_until(lambda: bool(got))
            analyzer.line.unplug()  # type: ignore[attr-defined]
            wait_until(lambda: isinstance(got[-1], ServomexConnectionError))
            analyzer.line.plug()  # type: ignore[attr-defined]
            wait_until(lambda: isinstance(got[-1], Frame))

    def test_that_the_analyser_was_closed_is_delivered(self, analyzer: Analyzer) -> None:
        got: list[Frame | ServomexError] = []
        with analyzer.subscribe(got.append, rate_hz=rate(analyzer)) as subscription:
            wait_until(lambda: bool(got))
            assert subscription.error is None
            analyzer.close()
            wait_until(lambda: isinstance(got[-1], ServomexConnectionError))
            count = len(got)
            time.sleep(0.3)
        assert "closed" in str(got[-1])
        assert len(got) == count
        assert isinstance(subscription.error, ServomexConnectionError)

    def test_a_callback_may_end_it(self, analyzer: Analyzer) -> None:
        got: list[object] = []
        begun = threading.Event()

        def once(item: object) -> None:
            begun.wait(5)
            got.append(item)
            subscription.close()

        subscription = analyzer.subscribe(once, rate_hz=rate(analyzer))
        begun.set()
        wait_until(lambda: bool(got))
        time.sleep(0.2)
        assert len(got) == 1
