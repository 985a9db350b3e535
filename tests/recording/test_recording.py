"""Recordings: fixed moments, each broadcast once, gaps that show, and every moment accounted for."""

import threading
import time
from collections.abc import Iterator

import pytest

from servomex import (
    AcquisitionSummary,
    Analyzer,
    Closed,
    OverflowPolicy,
    Sample,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexManager,
    ServomexTimeoutError,
    ServomexValidationError,
    open_device,
    record,
)
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.recorded import OwnSource

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def broadcasting() -> Iterator[tuple[VirtualLine, Analyzer]]:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with open_device(line.url, protocol="continuous") as analyzer:
        yield line, analyzer


def numbers(batches: list[list[Sample]]) -> list[int]:
    return [batch[0].monotonic_ns for batch in batches]


class TestMoments:
    def test_a_duration_gives_as_many_readings_as_its_rate_says(self) -> None:
        source = OwnSource()
        with record(source, rate_hz=50, duration=0.4) as rec:
            batches = list(rec.stream)
        assert rec.expected == rec.summary.slots == len(batches) + rec.summary.samples_late == 20
        assert numbers(batches) == list(range(1, len(batches) + 1))
        assert rec.summary.started_at
        assert rec.summary.finished_at

    def test_moments_do_not_drift(self) -> None:
        source = OwnSource(takes_s=0.012)
        with record(source, rate_hz=20, count=12) as rec:
            list(rec)
        assert rec.summary.samples_late == 0
        spans = [moment - source.began[0] for moment in source.began]
        assert all(abs(span - slot / 20) < 0.03 for slot, span in enumerate(spans)), spans
        assert 0.0 <= rec.summary.lateness_ms_p50 <= rec.summary.lateness_ms_p99 <= rec.summary.max_drift_ms < 30.0
        assert 12.0 <= rec.summary.tick_duration_ms_p50 <= rec.summary.tick_duration_ms_p99 < 50.0

    def test_a_reading_that_takes_too_long_costs_the_moments_that_it_covers(self) -> None:
        source = OwnSource(act=lambda number: time.sleep(0.23) if number == 3 else None)
        with record(source, rate_hz=20, duration=0.75) as rec:
            batches = list(rec)
        assert rec.summary.slots == 15
        assert rec.summary.samples_late == 15 - len(batches)
        assert 3 <= rec.summary.samples_late <= 5
        assert rec.summary.max_drift_ms < 60.0, "a moment that has passed is not made up"

    @pytest.mark.parametrize(
        ("rate_hz", "duration", "slots"), [(5, 60, 300), (0.1, 60, 6), (3, 1, 3), (10, 0.05, 1), (0.3, 10, 3)]
    )
    def test_how_many_moments_a_duration_has(self, rate_hz: float, duration: float, slots: int) -> None:
        assert record(OwnSource(), rate_hz=rate_hz, duration=duration).expected == slots

    def test_the_smaller_of_count_and_duration_ends_it(self) -> None:
        assert record(OwnSource(), rate_hz=5, duration=60, count=7).expected == 7
        assert record(OwnSource(), rate_hz=5, duration=1, count=7).expected == 5


class TestGaps:
    def test_a_failed_reading_is_a_row_with_its_error(self) -> None:
        def fail(number: int) -> None:
            if number == 2:
                raise ServomexTimeoutError("nobody answers")

        with record(OwnSource(act=fail), rate_hz=50, count=3) as rec:
            first, gap, last = rec.stream
        assert (first[0].error, last[0].error) == (None, None)
        assert (str(gap[0].error), gap[0].reading, gap[0].device) == ("nobody answers", None, "own")
        assert (rec.summary.samples_emitted, rec.summary.errors, rec.summary.disconnects) == (3, 1, 0)

    def test_a_port_that_is_lost_and_comes_back_is_one_disconnect(
        self, monkeypatch: pytest.MonkeyPatch, line: VirtualLine
    ) -> None:
        monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))
        with open_device(line.url, protocol="modbus_rtu", gap=0.002) as analyzer:
            timers = [threading.Timer(0.5, line.unplug), threading.Timer(2.0, line.plug)]
            for timer in timers:
                timer.start()
            with record(analyzer, rate_hz=10, duration=3.0) as rec:
                batches = list(rec)
            for timer in timers:
                timer.join()
        errors = [batch[0].error is not None for batch in batches]
        assert (errors[0], errors[-1]) == (False, False)
        assert rec.summary.disconnects == 1
        assert sum(errors) == rec.summary.errors > 5
        assert rec.summary.slots == 30

    def test_without_reconnection_the_loss_ends_it(self, line: VirtualLine) -> None:
        with (
            open_device(line.url, protocol="modbus_rtu", gap=0.002) as analyzer,
            record(analyzer, rate_hz=20, auto_reconnect=False) as rec,
        ):
            assert rec.get(2)[0].error is None
            line.unplug()
            with pytest.raises(ServomexConnectionError):
                list(rec)
        line.plug()

    def test_a_source_that_breaks_ends_it_with_what_it_raised(self) -> None:
        def fail(number: int) -> None:
            if number == 2:
                raise ZeroDivisionError("a bug of the user's")

        with record(OwnSource(act=fail), rate_hz=50) as rec, pytest.raises(ZeroDivisionError):
            list(rec)


class TestBroadcasts:
    def test_each_is_there_once_and_in_order(self, broadcasting: tuple[VirtualLine, Analyzer]) -> None:
        _, analyzer = broadcasting
        with record(analyzer, duration=0.6) as rec:
            batches = list(rec)
        times = numbers(batches)
        assert times == sorted(set(times))
        assert 9 <= len(times) <= 14
        assert all(len(batch) == 5 for batch in batches)
        assert rec.summary.samples_emitted == len(times)

    def test_with_a_rate_no_frame_comes_twice(self, broadcasting: tuple[VirtualLine, Analyzer]) -> None:
        _, analyzer = broadcasting
        with record(analyzer, rate_hz=100, duration=0.5) as rec:
            batches = list(rec)
        times = numbers(batches)
        assert times == sorted(set(times))
        assert rec.summary.repeated > 20
        assert rec.summary.slots == 50

    def test_a_loss_that_had_to_make_way_is_counted(
        self, broadcasting: tuple[VirtualLine, Analyzer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, analyzer = broadcasting
        assert analyzer.reader
        queue = analyzer.reader.subscribe(1)
        monkeypatch.setattr(analyzer.reader, "subscribe", lambda _size: queue)
        deadline = time.monotonic() + 5
        with record(analyzer, overflow="block", buffer_size=1) as rec:
            while rec.summary.samples_emitted < 2 and time.monotonic() < deadline:  # one waits for room
                time.sleep(0.01)
            queue.put(ServomexConnectionError("the port was lost"))
            while not queue.dropped_errors and time.monotonic() < deadline:
                time.sleep(0.01)
            for _ in range(4):
                rec.get(2)
        assert rec.summary.disconnects == 1

    def test_a_count_ends_it(self, broadcasting: tuple[VirtualLine, Analyzer]) -> None:
        with record(broadcasting[1], count=3) as rec:
            assert len(list(rec)) == 3

    def test_silence_is_an_error_row_and_not_an_endless_wait(
        self, broadcasting: tuple[VirtualLine, Analyzer]
    ) -> None:
        line, analyzer = broadcasting
        analyzer.poll(wait_fresh=True)
        with record(analyzer) as rec:
            line.analysers[0].faults.silent = True
            while rec.get(2)[0].error is None:
                pass
            again = rec.get(2)[0].error
            line.analysers[0].faults.silent = False
            while rec.get(2)[0].error is not None:
                pass
        assert again is not None
        assert "no new broadcast" in str(again)

    def test_a_closed_analyser_ends_it(self, broadcasting: tuple[VirtualLine, Analyzer]) -> None:
        _, analyzer = broadcasting
        with record(analyzer) as rec:
            rec.get(2)
            analyzer.close()
            with pytest.raises(ServomexConnectionError, match="closed"):
                list(rec)


class TestOverflow:
    @pytest.mark.parametrize("policy", list(OverflowPolicy))
    def test_nothing_is_lost_without_being_counted(self, policy: OverflowPolicy) -> None:
        source = OwnSource()
        rec = record(source, rate_hz=20, duration=2.0, overflow=policy, buffer_size=5)
        with rec:
            time.sleep(1.5)
            batches = list(rec)
        summary = rec.summary
        assert summary.slots == 40
        assert summary.samples_emitted == len(batches)
        if policy is OverflowPolicy.BLOCK:
            assert summary.dropped == 0
            assert summary.samples_late > 10
            assert numbers(batches) == list(range(1, len(batches) + 1))
        else:
            assert summary.dropped > 10
            assert summary.samples_late == 0
        if policy is OverflowPolicy.DROP_OLDEST:
            assert numbers(batches)[-1] == source.readings
            assert numbers(batches)[0] > 10
        if policy is OverflowPolicy.DROP_NEWEST:
            assert numbers(batches)[:5] == [1, 2, 3, 4, 5]

    def test_a_waiting_acquisition_can_be_closed(self) -> None:
        with record(OwnSource(), rate_hz=100, buffer_size=1, overflow="block") as rec:
            time.sleep(0.1)
        assert len(list(rec)) == 2, "the one that waits, and the one that was read and waited for its place"
        with pytest.raises(Closed):
            rec.get(0)


class TestRequests:
    def test_a_rate_is_needed_where_nothing_sets_one(self, line: VirtualLine) -> None:
        with (
            open_device(line.url, protocol="modbus_rtu", gap=0) as analyzer,
            pytest.raises(ServomexConfigurationError, match="a rate is needed"),
        ):
            record(analyzer)

    def test_a_manager_is_recorded_with_the_errors_of_single_analysers(self) -> None:
        line = VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2))
        with ServomexManager(error_policy="return") as manager:
            for address in (1, 2):
                manager.add(f"a{address}", line.url, protocol="modbus_rtu", address=address, gap=0.002)
            line.analysers[1].faults.silent = True
            with record(manager, rate_hz=2, count=1) as rec:
                (batch,) = rec
        assert {item.device: item.error is None for item in batch} == {"a1": True, "a2": False}

    @pytest.mark.parametrize(
        "options",
        [
            {"rate_hz": 0},
            {"rate_hz": -1},
            {"rate_hz": float("nan")},
            {"rate_hz": 1001},
            {"rate_hz": True},
            {"rate_hz": 1, "duration": 0},
            {"rate_hz": 1, "count": 0},
            {"rate_hz": 1, "buffer_size": 0},
            {"rate_hz": 1, "overflow": "explode"},
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_starts(self, options: dict[str, float]) -> None:
        with pytest.raises(ServomexValidationError):
            record(OwnSource(), **options)  # type: ignore[arg-type]


def test_lateness_is_reported_as_percentiles() -> None:
    summary = AcquisitionSummary()
    assert (summary.lateness_ms_p50, summary.lateness_ms_p99, summary.max_drift_ms) == (0.0, 0.0, 0.0)
    summary.note_start(0.5)
    assert (summary.lateness_ms_p50, summary.lateness_ms_p99) == (500.0, 500.0)
    summary = AcquisitionSummary()
    for drift_s in reversed(range(1, 201)):
        summary.note_start(float(drift_s))
    assert (summary.lateness_ms_p50, summary.lateness_ms_p99) == (100_000.0, 198_000.0)
    assert summary.max_drift_ms == 200_000.0
    assert (summary.tick_duration_ms_p50, summary.tick_duration_ms_p99) == (0.0, 0.0)


def test_the_duration_of_a_tick_is_that_of_its_poll_also_when_it_fails() -> None:
    def act(number: int) -> None:
        time.sleep(0.04 if number <= 2 else 0.01)
        if number <= 2:
            raise ServomexTimeoutError("no reply")

    with record(OwnSource(act=act), rate_hz=10, count=3) as rec:
        list(rec)
    assert 40.0 <= rec.summary.tick_duration_ms_p50 <= rec.summary.tick_duration_ms_p99 < 70.0
    with record(OwnSource(takes_s=0.01), rate_hz=10, count=3) as rec:
        list(rec)
    assert 10.0 <= rec.summary.tick_duration_ms_p50 < 40.0


def test_broadcasts_that_are_taken_as_they_come_have_neither_lateness_nor_duration(
    broadcasting: tuple[VirtualLine, Analyzer],
) -> None:
    with record(broadcasting[1], count=3) as rec:
        list(rec)
    summary = rec.summary
    assert (summary.max_drift_ms, summary.lateness_ms_p99, summary.tick_duration_ms_p99) == (0.0, 0.0, 0.0)
    assert str(summary) == "3 readings, 0 failed, 0 late, 0 dropped, 0 disconnects"


def test_a_run_may_take_weeks() -> None:
    assert record(OwnSource(), rate_hz=2, duration=28 * 86_400).expected == 2 * 28 * 86_400


class TestEnds:
    def test_next_takes_one_batch_until_the_end(self) -> None:
        with record(OwnSource(), rate_hz=50, count=3) as rec:
            assert [next(rec)[0].monotonic_ns for _ in range(3)] == [1, 2, 3]
            for _ in range(2):
                with pytest.raises(StopIteration):
                    next(rec)
        shown = "with record.* as recording: for batch in recording.*or call start"
        with pytest.raises(ServomexConfigurationError, match=shown):
            next(record(OwnSource(), rate_hz=50))

    def test_next_raises_what_ended_it(self) -> None:
        def fail(number: int) -> None:
            raise ZeroDivisionError

        with record(OwnSource(act=fail), rate_hz=50) as rec:
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    next(rec)

    def test_a_closed_analyser_ends_it_over_modbus_as_well(self) -> None:
        line = VirtualLine(VirtualAnalyzer())
        with open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer:
            with record(analyzer, rate_hz=50) as rec:
                rec.get(2)
                analyzer.close()
                with pytest.raises(ServomexConnectionError, match="closed"):
                    list(rec)
            assert rec.summary.disconnects == 0

    def test_the_loss_that_ends_it_is_its_last_row(self) -> None:
        line = VirtualLine(VirtualAnalyzer())
        with open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer:
            with record(analyzer, rate_hz=50, auto_reconnect=False) as rec:
                batches = [rec.get(2)]
                line.unplug()
                with pytest.raises(ServomexConnectionError):
                    batches.extend(rec)
            assert [bool(batch[0].error) for batch in batches][-2:] == [False, True]
            assert (rec.summary.errors, rec.summary.disconnects) == (1, 1)

    def test_a_count_is_of_what_was_taken_and_not_of_broadcasts_that_made_way(
        self, broadcasting: tuple[VirtualLine, Analyzer]
    ) -> None:
        with record(broadcasting[1], count=12, buffer_size=3) as rec:
            time.sleep(1.5)  # nobody takes them: about 30 come, of which 3 and 3 wait
            found = list(rec)
        summary = rec.summary
        assert summary.samples_emitted == summary.attempts == len(found) == 12
        assert summary.dropped == summary.missed > 10
        assert summary.slots == 12 + summary.missed

    @pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
    def test_a_count_is_also_of_readings_that_were_not_taken(self, policy: str) -> None:
        source = OwnSource()
        with record(source, rate_hz=20, count=12, buffer_size=3, overflow=policy) as rec:
            time.sleep(1.5)
            found = list(rec)
        summary = rec.summary
        assert (len(found), source.readings) == (3, 12)
        assert (summary.attempts, summary.dropped, summary.missed) == (12, 9, 0)

    def test_after_a_loss_it_is_the_loss_that_is_reported(
        self, broadcasting: tuple[VirtualLine, Analyzer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line, analyzer = broadcasting
        with record(analyzer) as rec:
            rec.get(2)
            line.unplug()
            errors = [error for error in (rec.get(5)[0].error for _ in range(12)) if error]
        assert len(errors) > 2
        assert not [error for error in errors if "broadcast" in str(error)]


def test_a_summary_says_in_words_what_became_of_a_recording() -> None:
    summary = AcquisitionSummary(samples_emitted=3, errors=2, samples_late=3, dropped=4, disconnects=1)
    assert str(summary) == "1 reading, 2 failed, 3 late, 4 dropped, 1 disconnect"
    summary = AcquisitionSummary(unwritten=1, max_drift_ms=4.9)
    summary.note_start(0.0021)
    summary.note_poll(0.0412, good=True)
    assert str(summary) == (
        "0 readings, 0 failed, 0 late, 0 dropped, 0 disconnects, 1 row not written; "
        "start jitter 2.1 ms (median), 2.1 ms (p99), 4.9 ms (max); poll duration 41.2 ms (median), 41.2 ms (p99)"
    )
