"""The recorder: reading and writing apart, several sinks, failures that are told and cost little."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import servomex
from servomex import (
    Recorder,
    Sample,
    ServomexConfigurationError,
    ServomexError,
    ServomexManager,
    ServomexSinkError,
    ServomexSinkWriteError,
    ServomexTimeoutError,
    ServomexValidationError,
    load,
    load_metadata,
    open_device,
    pipe,
    record,
)
from servomex.recording import retry
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.sinks import InMemorySink, open_sink
from tests.helpers.background import no_thread_for
from tests.helpers.recorded import OwnSource
from tests.helpers.recorders import SlowSink, numbers
from tests.helpers.recordings import FRAME

pytestmark = pytest.mark.virtual_time


def interrupted(recorder: Recorder, error: BaseException) -> None:
    with recorder:
        time.sleep(0.2)
        raise error


def test_it_records_in_the_background_until_its_duration_is_over() -> None:
    sink = InMemorySink()
    recorder = Recorder(OwnSource(), sinks=[sink], rate_hz=50, duration=0.3).start()
    assert recorder.running
    assert recorder.join(5)
    recorder.close()
    assert numbers(sink) == list(range(1, recorder.summary.samples_emitted + 1))
    assert recorder.summary.slots == 15
    assert not sink.closed


def test_stopping_writes_what_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    with Recorder(OwnSource(), sinks=[path], rate_hz=100) as recorder:
        time.sleep(0.3)
    recorder.close()
    assert [item.monotonic_ns for item in load(path)] == list(range(1, recorder.summary.samples_emitted + 1))
    assert recorder.summary.samples_emitted > 15


def test_all_sinks_get_the_same(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("run.csv", "run.jsonl", "run.sqlite", "run.csv.gz")]
    line = VirtualLine(VirtualAnalyzer())
    memory = InMemorySink()
    with (
        open_device(line.url, protocol="modbus_rtu", gap=0.002) as analyzer,
        Recorder(analyzer, sinks=[memory, *paths], rate_hz=20, count=6) as recorder,
    ):
        assert recorder.join(10)
    for path in paths:
        assert list(load(path)) == memory.samples, path.name
    assert len(memory.samples) == 30


def test_a_slow_sink_moves_no_reading() -> None:
    source, sink = OwnSource(), SlowSink(takes_s=0.3)
    with Recorder(source, sinks=[sink], rate_hz=50, duration=0.6) as recorder:
        recorder.join(10)
    assert recorder.summary.samples_late == 0
    spans = [moment - source.began[0] for moment in source.began]
    assert all(abs(span - slot / 50) < 0.04 for slot, span in enumerate(spans))
    assert numbers(sink) == list(range(1, 31))
    assert sink.writes < 10, "what has piled up is written in one go"


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_sink_that_is_too_slow_costs_readings_that_are_counted(overflow: str) -> None:
    sink = SlowSink(takes_s=0.2)
    with Recorder(OwnSource(), sinks=[sink], rate_hz=100, count=60, buffer_size=3, overflow=overflow) as recorder:
        recorder.join(20)
    summary = recorder.summary
    assert summary.slots == 60
    assert summary.dropped > 10
    assert summary.samples_emitted == len(sink.samples)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a sink out when it fails for the second time."""
    monkeypatch.setattr(retry, "RETRY_S", 0.0)
    monkeypatch.setattr(retry, "PATIENCE_S", -1.0)


def test_a_sink_that_fails_is_dropped_and_reported_at_the_end(impatient: None) -> None:
    bad, good = SlowSink(fails_from=2), InMemorySink()
    recorder = Recorder(OwnSource(), sinks=[bad, good], rate_hz=50, count=10).start()
    recorder.join(10)
    with pytest.raises(ServomexSinkWriteError, match="disk is full"):
        recorder.close()
    assert len(good.samples) == 10
    assert recorder.summary.unwritten == 10 - len(bad.samples)
    assert not bad.closed
    assert not good.closed


def test_what_is_not_written_is_counted_while_it_runs(impatient: None) -> None:
    recorder = Recorder(OwnSource(), sinks=[SlowSink(fails_from=2), InMemorySink()], rate_hz=50).start()
    deadline = time.monotonic() + 5
    while recorder.summary.unwritten < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert recorder.running
    assert recorder.summary.unwritten >= 5
    with pytest.raises(ServomexSinkWriteError):
        recorder.close()


def test_when_no_sink_is_left_the_recording_ends(impatient: None) -> None:
    source = OwnSource()
    recorder = Recorder(source, sinks=[SlowSink(fails_from=1)], rate_hz=50).start()
    assert recorder.join(5)
    readings = source.readings
    time.sleep(0.1)
    assert source.readings == readings
    with pytest.raises(ServomexSinkWriteError, match="disk is full"):
        recorder.close()
    summary = recorder.summary
    assert summary.samples_emitted == summary.unwritten >= 2
    assert summary.attempts == source.readings, "what was not taken any more is counted as well"


def test_a_source_that_breaks_is_reported_at_the_end_and_loses_nothing() -> None:
    def fail(number: int) -> None:
        if number == 4:
            raise ZeroDivisionError("a bug of the user's")

    sink = InMemorySink()
    recorder = Recorder(OwnSource(act=fail), sinks=[sink], rate_hz=50).start()
    assert recorder.join(5)
    with pytest.raises(ZeroDivisionError):
        recorder.close()
    assert numbers(sink) == [1, 2, 3]
    assert not sink.closed


def test_an_error_in_the_body_is_not_hidden_by_one_of_a_sink() -> None:
    with pytest.raises(KeyError) as caught:
        interrupted(Recorder(OwnSource(), sinks=[SlowSink(fails_from=1)], rate_hz=50), KeyError("mine"))
    assert "disk is full" in caught.value.__notes__[0]


def test_an_interrupt_ends_it_with_everything_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorder = Recorder(OwnSource(), sinks=[path], rate_hz=100)
    with pytest.raises(KeyboardInterrupt):
        interrupted(recorder, KeyboardInterrupt())
    assert len(list(load(path))) == recorder.summary.samples_emitted > 5


class TestOpening:
    def test_a_recording_without_a_sink_is_refused(self) -> None:
        with pytest.raises(ServomexValidationError, match="no sink"):
            Recorder(OwnSource(), sinks=[], rate_hz=1)

    def test_one_sink_that_cannot_be_opened_leaves_none_open(self, tmp_path: Path) -> None:
        first = tmp_path / "run.csv"
        threads = threading.active_count()
        with pytest.raises(ServomexSinkError):
            Recorder(OwnSource(), sinks=[first, tmp_path / "missing" / "run.csv"], rate_hz=1)
        assert threading.active_count() == threads
        assert not first.exists()

    def test_a_file_that_is_named_twice_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("run.sqlite", "run.csv"):
            with pytest.raises(ServomexValidationError, match="is named twice"):
                Recorder(OwnSource(), sinks=[name, f"./{name}"], rate_hz=1)
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_source_is_refused_before_a_file_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(ServomexConfigurationError, match="'sim://4100' cannot be recorded"):
            Recorder("sim://4100", tmp_path / "run.csv", rate_hz=1)  # type: ignore[arg-type]
        with pytest.raises(ServomexValidationError, match="the stream must be batches of samples, not str"):
            pipe("run.csv", OwnSource())  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []

    def test_a_frame_is_not_a_list_of_samples(self, tmp_path: Path) -> None:
        with Recorder(OwnSource(), InMemorySink(), rate_hz=1):
            pass
        with open_sink(tmp_path / "run.csv") as sink:
            for wrong in ([FRAME], FRAME, None, [(1, 2)]):
                with pytest.raises(ServomexValidationError, match=r"a list of samples, .* frame\.as_samples\(\)"):
                    sink.write(wrong)  # type: ignore[arg-type]

    def test_joining_needs_a_start(self) -> None:
        recorder = Recorder(OwnSource(), sinks=[InMemorySink()], rate_hz=1)
        with pytest.raises(ServomexConfigurationError, match="not started"):
            recorder.join()
        recorder.close()

    def test_nothing_is_overwritten_when_another_sink_cannot_be(self, tmp_path: Path) -> None:
        first = tmp_path / "run.csv"
        with Recorder(OwnSource(), sinks=[first], rate_hz=50, count=3) as recorder:
            recorder.join(5)
        before = first.read_bytes()
        for other in ("missing/run.csv", "run.xyz"):
            with pytest.raises((ServomexSinkError, ServomexValidationError)):
                Recorder(OwnSource(), sinks=[first, tmp_path / other], sink_options={"overwrite": True}, rate_hz=1)
        assert first.read_bytes() == before

    def test_a_sink_that_cannot_be_opened_leaves_nothing_with_the_reader(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.02))
        with open_device(line.url, protocol="continuous") as analyzer:
            assert analyzer.reader
            made: list[object] = []
            monkeypatch.setattr(analyzer.reader, "subscribe", made.append)
            with pytest.raises(ServomexSinkError):
                Recorder(analyzer, sinks=[tmp_path / "missing" / "run.csv"])
            assert made == []
            Recorder(analyzer, sinks=[tmp_path / "run.csv"]).close()
            assert made == []

    @pytest.mark.parametrize("thread", ["servomex-acquisition", "servomex-recorder"])
    def test_a_start_that_fails_leaves_nothing_behind(self, thread: str, monkeypatch: pytest.MonkeyPatch) -> None:
        no_thread_for(thread, monkeypatch)
        sink = InMemorySink()
        with pytest.raises(ServomexError, match=f"'{thread} own' cannot be started .can't start new thread.: "):
            Recorder(OwnSource(), sinks=[sink], rate_hz=50).start()
        assert not sink.closed

    def test_it_can_be_started_once_only(self) -> None:
        with Recorder(OwnSource(), sinks=[InMemorySink()], rate_hz=50) as recorder:
            with pytest.raises(ServomexConfigurationError, match="only once"):
                recorder.start()
            time.sleep(0.1)
            assert recorder.running
        assert recorder.summary.samples_emitted > 1

    def test_options_of_sinks_go_to_those_that_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        for _ in range(2):
            with Recorder(
                OwnSource(), sinks=[path], sink_options={"append": True}, rate_hz=50, count=2
            ) as recorder:
                recorder.join(5)
        assert len(list(load(path))) == 4


class TestPipe:
    def test_it_writes_until_the_recording_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        with record(OwnSource(), rate_hz=5, count=5) as rec:
            summary = pipe(rec, path)
        assert (summary.samples_emitted, len(list(load(path)))) == (5, 5)

    def test_a_recording_that_was_not_started_is_reported(self) -> None:
        with pytest.raises(
            ServomexConfigurationError, match=r"with record.* as recording: for batch in recording.*or call start"
        ):
            pipe(record(OwnSource(), rate_hz=1), InMemorySink())

    def test_files_tell_where_their_rows_are_from(self, tmp_path: Path) -> None:
        lines = [VirtualLine(VirtualAnalyzer()), VirtualLine(VirtualAnalyzer(address=3))]
        path = tmp_path / "run.sqlite"
        with (
            ServomexManager(error_policy="return") as manager,
            open_device(lines[0].url, protocol="modbus_rtu", gap=0.0) as analyzer,
        ):
            manager.add("flue", lines[1].url, protocol="modbus_rtu", address=3, gap=0.0)
            for source in (analyzer, manager):
                with record(source, rate_hz=50, count=1) as rec:
                    pipe(rec, path)
                found = load_metadata(path)
                assert found["software"] == f"servomex {servomex.__version__}"
                prefix = "flue." if source is manager else ""
                assert found[f"{prefix}address"] == ("3" if source is manager else "1")
                assert found[f"{prefix}channels"].startswith("I1 Oxygen %, I2")
                path.unlink()

    def test_an_error_row_is_a_row(self, tmp_path: Path) -> None:
        def fail(number: int) -> None:
            if number == 2:
                raise ServomexTimeoutError("nobody answers")

        path = tmp_path / "run.sqlite"
        with record(OwnSource(act=fail), rate_hz=50, count=3) as rec:
            pipe(rec, path)
        good, failed, back = (item.error for item in load(path))
        assert (type(failed), str(failed), good, back) == (ServomexTimeoutError, "nobody answers", None, None)


def test_broadcasts_that_wait_behind_a_slow_sink_are_accounted_for() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.02))
    with open_device(line.url, protocol="continuous") as analyzer:
        seen = analyzer.reader.subscribe(1000) if analyzer.reader else None
        with Recorder(analyzer, sinks=[SlowSink(takes_s=0.2)], buffer_size=2) as recorder:
            time.sleep(0.8)
            assert seen is not None
            came = len(seen)
    assert came > 20
    assert came - 2 <= recorder.summary.slots <= came + 5


class BrokenSink(InMemorySink):
    """A sink of the user's own that raises what is no error of this package."""

    def write(self, samples: Sequence[Sample]) -> None:
        raise OSError("not one of ours")

    def close(self) -> None:
        self.closed = True
        raise OSError("neither")


def test_a_sink_that_raises_something_else_costs_the_others_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    recorder = Recorder(OwnSource(), sinks=[BrokenSink(), path], rate_hz=50, count=5).start()
    recorder.join(10)
    with pytest.raises(ServomexSinkWriteError, match="not one of ours"):
        recorder.close()
    assert len(list(load(path))) == recorder.summary.samples_emitted > 0


def test_a_recorder_that_was_never_started_closes_what_it_opened(tmp_path: Path) -> None:
    path, sink = tmp_path / "run.csv", InMemorySink()
    recorder = Recorder(OwnSource(), sinks=[sink, path], rate_hz=1)
    recorder.close()
    assert not sink.closed
    open_sink(path, append=True).close()  # which nothing else has open
