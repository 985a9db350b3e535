"""pipe: batches of samples from anywhere; sinks that are named, and sinks that are passed open."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from servomex import (
    Recorder,
    Sample,
    ServomexSinkError,
    ServomexSinkWriteError,
    ServomexTimeoutError,
    ServomexValidationError,
    load,
    load_metadata,
    open_device,
    open_sink,
    pipe,
    record,
)
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.sinks import InMemorySink, SinkOptions
from tests.helpers.background import ended
from tests.helpers.paths import ROOT
from tests.helpers.recorded import OwnSource, sample
from tests.helpers.recordings import FRAME

pytestmark = pytest.mark.virtual_time


def batch(*moments: int) -> list[Sample]:
    return [sample(moment) for moment in moments]


def moments(path: Path) -> list[int]:
    return [item.monotonic_ns for item in load(path)]


def failed(moment: int) -> Sample:
    return attrs.evolve(sample(moment), reading=None, analyser=None, error=ServomexTimeoutError("no reply"))


def generated(*batches: list[Sample]) -> Iterator[list[Sample]]:
    yield from batches


class TestAnyIterable:
    @pytest.mark.parametrize("made", [list, tuple, lambda batches: generated(*batches), iter])
    def test_its_batches_are_written_in_order(self, made: Callable[[Any], Any], tmp_path: Path) -> None:
        path, memory = tmp_path / "run.csv", InMemorySink()
        summary = pipe(made([batch(1, 2), [], batch(3), [failed(4), *batch(5)]]), path, memory)
        assert moments(path) == [item.monotonic_ns for item in memory.samples] == [1, 2, 3, 4, 5]
        assert (summary.samples_emitted, summary.errors, summary.dropped, summary.unwritten) == (4, 1, 0, 0)
        assert summary.started_at
        assert summary.finished_at
        assert summary.started_at <= summary.finished_at

    def test_none_at_all_makes_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        assert pipe([], path).samples_emitted == 0
        assert moments(path) == []

    def test_more_than_is_held_waits_for_a_slow_sink(self) -> None:
        class Slow(InMemorySink):
            def write(self, samples: Sequence[Sample]) -> None:
                time.sleep(0.01)
                super().write(samples)

        ahead, taken = 0, 0

        def counted() -> Iterator[list[Sample]]:
            nonlocal ahead, taken
            for taken in range(1, 1001):
                ahead = max(ahead, taken - len(sink.samples))
                yield batch(taken)

        sink = Slow()
        assert pipe(counted(), sink).samples_emitted == 1000
        assert [item.monotonic_ns for item in sink.samples] == list(range(1, 1001))
        assert 100 <= ahead <= 302

    def test_rows_are_flushed_while_the_next_batch_takes_its_time(self, tmp_path: Path) -> None:
        path, seen = tmp_path / "run.csv", []

        def slow() -> Iterator[list[Sample]]:
            yield batch(1)
            time.sleep(3.0)
            seen.extend(moments(path))
            yield batch(2)

        pipe(slow(), path)
        assert seen == [1]

    def test_a_session_is_piped_sample_by_sample(self) -> None:
        line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
        memory = InMemorySink()
        with open_device(line.url, protocol="continuous") as analyzer, analyzer.stream() as session:
            timer = threading.Timer(0.5, session.close)
            timer.start()
            summary = pipe(session, memory)
            timer.join()
        assert summary.samples_emitted == len(memory.samples) > 10

    @pytest.mark.parametrize("stream", [None, 3, "run.csv", b"", {"a": 1}, OwnSource()])
    def test_what_has_no_batches_is_refused_before_a_file_is_made(self, stream: Any, tmp_path: Path) -> None:
        with pytest.raises(ServomexValidationError, match="the stream must be batches of samples"):
            pipe(stream, tmp_path / "run.csv")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("wrong", [FRAME, "abc", None, [FRAME], [1], 3])
    def test_what_is_no_batch_ends_it_with_the_rows_before_it_written(self, wrong: Any, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        with pytest.raises(
            ServomexValidationError, match=r"a batch must be a list of samples.*frame\.as_samples\(\)"
        ):
            pipe([batch(1), wrong, batch(2)], path)
        assert moments(path) == [1]

    def test_its_exception_is_raised_when_all_before_it_is_written(self, tmp_path: Path) -> None:
        def breaking() -> Iterator[list[Sample]]:
            yield from (batch(number) for number in range(1, 50))
            raise ZeroDivisionError("a bug of the user's")

        path, memory = tmp_path / "run.csv", InMemorySink()
        with pytest.raises(ZeroDivisionError):
            pipe(breaking(), path, memory)
        assert moments(path) == [item.monotonic_ns for item in memory.samples] == list(range(1, 50))

    def test_what_failed_in_a_sink_after_that_is_a_note(self) -> None:
        class Full(InMemorySink):
            def write(self, samples: Sequence[Sample]) -> None:
                raise ServomexSinkWriteError("the disk is full")

        def breaking() -> Iterator[list[Sample]]:
            yield batch(1)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            pipe(breaking(), Full())
        assert caught.value.__notes__ == ["on writing: the disk is full"]

    def test_it_ends_when_no_sink_is_left(self) -> None:
        class Broken(InMemorySink):
            def write(self, samples: Sequence[Sample]) -> None:
                raise OSError("not one of ours")

        taken = 0

        def endless() -> Iterator[list[Sample]]:
            nonlocal taken
            while True:
                taken += 1
                yield batch(taken)

        with pytest.raises(ServomexSinkWriteError, match="not one of ours"):
            pipe(endless(), Broken())
        assert taken < 1000

    PROGRAM = """
import sys, time
import servomex
from tests.helpers.recorded import sample

def endless():
    number = 0
    while True:
        number += 1
        print(number, flush=True)
        yield [sample(number)]
        time.sleep(0.02)

try:
    servomex.pipe(endless(), sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send to a program on Windows")
    @pytest.mark.real_time
    def test_after_ctrl_c_all_that_was_read_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        command = [sys.executable, "-c", self.PROGRAM, str(path)]
        with ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)) as program:
            assert program.stdout
            begun = [int(program.stdout.readline()) for _ in range(10)]
            program.send_signal(signal.SIGINT)
            *further, last = program.stdout.read().splitlines()
        assert last == "interrupted"
        newest = [*begun, *map(int, further)][-1]
        written = moments(path)
        assert written == list(range(1, len(written) + 1))
        assert newest - 1 <= len(written) <= newest


def by_pipe(*sinks: Any, **options: Any) -> None:
    with record(OwnSource(), rate_hz=50, count=3) as rec:
        pipe(rec, *sinks, **options)


def by_pipe_of_a_list(*sinks: Any, **options: Any) -> None:
    pipe([batch(1), batch(2), batch(3)], *sinks, **options)


def by_recorder(*sinks: Any, **options: Any) -> None:
    with Recorder(OwnSource(), sinks, rate_hz=50, count=3, **options) as recorder:
        recorder.join(5)


@pytest.mark.parametrize("write", [by_pipe, by_pipe_of_a_list, by_recorder])
class TestSinks:
    """One rule: what is named is opened and closed; what is passed open stays open, with all rows in it."""

    def test_one_that_is_passed_open_stays_open_with_all_rows_stored(
        self, write: Callable[..., None], tmp_path: Path
    ) -> None:
        path = tmp_path / "run.csv"
        with open_sink(path, flush_s=1000.0) as sink:
            for times in (1, 2):
                write(sink)
                assert not sink.closed
                assert moments(path) == [1, 2, 3] * times
            sink.write(batch(9))
        assert moments(path)[-1] == 9

    def test_one_that_is_named_is_closed(self, write: Callable[..., None], tmp_path: Path) -> None:
        path, memory = tmp_path / "run.parquet", InMemorySink()
        write(memory, path)
        write(memory, path, sink_options={"overwrite": True})
        assert (moments(path), len(memory.samples)) == ([1, 2, 3], 6)

    def test_one_that_stays_open_and_fails_is_reported_and_left_to_its_user(
        self, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Full(InMemorySink):
            full = True

            def write(self, samples: Sequence[Sample]) -> None:
                if self.full:
                    raise ServomexSinkWriteError("the disk is full")
                super().write(samples)

        sink, other = Full(), InMemorySink()
        with pytest.raises(ServomexSinkWriteError, match="the disk is full"):
            write(sink, other)
        assert [item.monotonic_ns for item in other.samples] == [1, 2, 3]
        assert not sink.closed
        sink.full = False
        sink.write(batch(4))
        assert [item.monotonic_ns for item in sink.samples] == [4]

    def test_rows_that_wait_in_one_that_stays_open_are_reported_when_they_cannot_be_stored(
        self, write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_sink(tmp_path / "run.csv", flush_s=1000.0) as sink:
            sink.write(batch(7, 8))
            with monkeypatch.context() as patch:
                patch.setattr(sink, "sync", lambda: fail("the disk is full"))
                with pytest.raises(ServomexSinkWriteError, match="the disk is full"):
                    write(sink)
            assert not sink.closed
        assert moments(tmp_path / "run.csv") == [7, 8, 1, 2, 3], "its user has closed it later"

    def test_rows_of_one_that_stays_open_that_were_removed_are_reported(self, write: Callable[..., None]) -> None:
        class Raided(InMemorySink):
            """Another program has removed five rows before, and each third one since."""

            @property
            def removed(self) -> int:
                return 5 + self.rows // 3

        with pytest.raises(
            ServomexSinkWriteError, match=r"memory://: 1 row of this recording was refused or removed"
        ):
            write(Raided())

    def test_options_are_for_those_that_are_named(self, write: Callable[..., None]) -> None:
        with pytest.raises(ServomexValidationError, match=r"already open.*Omit sink_options"):
            write(InMemorySink(), sink_options={"append": True})

    def test_one_that_is_passed_twice_is_refused(self, write: Callable[..., None]) -> None:
        memory = InMemorySink()
        with pytest.raises(ServomexValidationError, match="passed twice"):
            write(memory, memory)
        assert memory.samples == []

    def test_none_at_all_is_refused(self, write: Callable[..., None]) -> None:
        with pytest.raises(ServomexValidationError, match="no sink"):
            write()

    def test_one_that_cannot_be_opened_leaves_those_that_are_open_as_they_are(
        self, write: Callable[..., None], tmp_path: Path
    ) -> None:
        memory = InMemorySink()
        with pytest.raises(ServomexSinkError):
            write(memory, tmp_path / "run.csv", tmp_path / "missing" / "run.csv")
        assert (memory.closed, memory.samples) == (False, [])


def fail(why: str) -> None:
    raise ServomexSinkWriteError(why)


def test_only_rows_of_this_recording_that_wait_in_an_open_sink_are_counted_as_unwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_sink(tmp_path / "run.csv", flush_s=1000.0) as sink:
        sink.write(batch(7, 8))
        recorder = Recorder(OwnSource(), sink, rate_hz=50, count=3).start()
        with monkeypatch.context() as patch:
            patch.setattr(sink, "sync", lambda: fail("the disk is full"))
            while recorder.summary.attempts < 3:
                time.sleep(0.1)
            with pytest.raises(ServomexSinkWriteError):
                recorder.close()
        assert recorder.summary.unwritten == 3


def test_a_recorder_takes_one_sink_or_several(tmp_path: Path) -> None:
    memory = InMemorySink()
    sinks: list[Any] = [tmp_path / "a.csv", str(tmp_path / "b.csv"), memory, [tmp_path / "c.csv", memory]]
    for target in sinks:
        with Recorder(OwnSource(), target, rate_hz=50, count=2) as recorder:
            assert recorder.join(5)
    assert [len(moments(tmp_path / f"{name}.csv")) for name in "abc"] == [2, 2, 2]
    assert len(memory.samples) == 4


def test_a_recorder_passes_on_how_its_source_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    asked: list[tuple[Any, Any]] = []

    class Listening(OwnSource):
        def poll_samples(
            self, *, names: Sequence[str] | None = None, timeout: float | None = None
        ) -> list[Sample]:
            asked.append((names, timeout))
            return super().poll_samples()

    options: SinkOptions = {"metadata": {"operator": "me"}, "table": "mine"}
    with Recorder(
        Listening(), path, rate_hz=50, count=2, names=["x"], timeout=0.5, tags={"run": "7"}, sink_options=options
    ) as recorder:
        assert recorder.join(5)
    assert asked == [(("x",), 0.5)] * 2
    assert {item.metadata["run"] for item in load(path)} == {"7"}
    assert load_metadata(path)["operator"] == "me"
