"""A sink of one's own that has a ``write`` and no more: with Recorder and pipe, failing, interrupted."""

import gc
import re
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from servomex import Recorder, pipe, record
from servomex.errors import (
    ServomexSinkError,
    ServomexSinkSyncError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.models.sample import Sample
from servomex.recording.load import load
from servomex.sinks import InMemorySink, Sink
from tests.helpers.recorded import OwnSource
from tests.helpers.recordings import batch, batches, joined


class Kept(Sink):
    """Needs no ``__init__``."""

    taken: list[Sample]

    def write(self, samples: Sequence[Sample]) -> None:
        self.__dict__.setdefault("taken", []).extend(samples)


class TestTheBase:
    def test_a_write_is_enough(self) -> None:
        with Kept() as sink:
            assert (sink.name, sink.rows, sink.closed, sink.unstored, sink.removed) == ("Kept", 0, False, 0, 0)
            sink.write(batch(0))
            sink.write([])
            sink.flush()
            sink.sync()
            sink.flush_if_due()
            sink.write(batch(1))
            assert repr(sink) == "<Kept Kept open, 10 rows>"
        assert (sink.taken, sink.rows, sink.closed) == (joined(batches(2)), 10, True)
        sink.close()

    def test_a_name_of_its_own_stays(self) -> None:
        class Named(Kept):
            name = "the shift book"

        class Further(Named):
            pass

        class Made(Kept):
            def __init__(self, name: str) -> None:
                self.name = name

        assert (Named().name, Further().name, Made("x").name) == ("the shift book", "the shift book", "x")
        assert type("Other", (Kept,), {})().name == "Other"

    def test_after_the_end_nothing_is_written(self) -> None:
        sink = Kept()
        sink.close()
        with pytest.raises(ServomexSinkError, match="Kept is closed: nothing more can be written to it"):
            sink.write(batch(0))
        assert sink.rows == 0

    @pytest.mark.parametrize("wrong", ["text", [1], 7, None])
    def test_it_is_given_samples_only(self, wrong: Any) -> None:
        with Kept() as sink, pytest.raises(ServomexValidationError, match="a sink takes a list of samples"):
            sink.write(wrong)

    def test_one_that_counts_by_itself_is_not_counted_twice(self) -> None:
        class Counting(Kept):
            def write(self, samples: Sequence[Sample]) -> None:
                super().write(samples)

        class Selecting(Sink):
            def write(self, samples: Sequence[Sample]) -> None:
                self.rows += len([item for item in samples if item.channel == "I1"])

        for kind, rows in ((Counting, 10), (Selecting, 2)):
            with kind() as sink:
                sink.write(batch(0))
                sink.write(batch(1))
            assert sink.rows == rows

    def test_what_a_write_refuses_is_not_counted(self) -> None:
        class Failing(Sink):
            def write(self, samples: Sequence[Sample]) -> None:
                raise (ServomexSinkSyncError if len(samples) == 1 else ServomexSinkWriteError)("full")

        with Failing() as sink:
            with pytest.raises(ServomexSinkWriteError):
                sink.write(batch(0))
            assert sink.rows == 0
            with pytest.raises(ServomexSinkSyncError):
                sink.write(batch(0)[:1])
            assert sink.rows == 1

    def test_close_is_called_once_and_flushes_unless_it_is_ones_own(self) -> None:
        calls: list[str] = []

        class Flushed(Kept):
            def flush(self) -> None:
                calls.append("flush")

        class Closed(Flushed):
            def close(self) -> None:
                calls.append("close")
                super().close()

        for kind in (Flushed, Closed):
            with kind() as sink:
                sink.write(batch(0))
            sink.close()
        assert calls == ["flush", "close"]

    def test_one_that_fails_to_close_is_closed(self) -> None:
        class Failing(Kept):
            def close(self) -> None:
                raise ServomexSinkWriteError("the last rows are lost")

        sink = Failing()
        with pytest.raises(ServomexSinkWriteError, match="the last rows are lost"):
            sink.close()
        sink.close()
        with pytest.raises(ZeroDivisionError) as caught, Failing():
            _ = 1 / 0
        assert caught.value.__notes__ == ["on closing Failing: the last rows are lost"]

    def test_one_that_was_written_and_not_closed_is_reported(self) -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            sink = Kept()
            sink.write(batch(0))
            del sink
            gc.collect()
            Kept()
            gc.collect()
        assert [str(item.message) for item in told] == ["Kept was never closed: use 'with', or call close()"]

    def test_a_failing_init_leaves_nothing_to_be_reported(self) -> None:
        class Failing(Kept):
            def __init__(self) -> None:
                raise OSError("no server")

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(OSError, match="no server"):
                Failing()
            gc.collect()

    def test_it_cannot_do_without_a_write(self) -> None:
        class Nothing(Sink):
            pass

        with pytest.raises(TypeError, match="abstract"):
            Nothing()  # type: ignore[abstract]


class TestInARecording:
    @pytest.mark.parametrize("how", ["recorder", "pipe"])
    def test_it_gets_everything_and_the_totals_are_right(self, how: str, tmp_path: Path) -> None:
        with Kept() as sink:
            if how == "recorder":
                with Recorder(OwnSource(), [sink, tmp_path / "run.csv"], rate_hz=100, count=20) as recorder:
                    recorder.join(20)
                summary = recorder.summary
            else:
                with record(OwnSource(), rate_hz=100, count=20) as rec:
                    summary = pipe(rec, sink, tmp_path / "run.csv")
            assert not sink.closed
            assert (sink.rows, summary.samples_emitted, summary.unwritten) == (20, 20, 0)
        assert sink.taken == list(load(tmp_path / "run.csv"))

    def test_a_write_that_fails_for_a_moment_loses_nothing(self, tmp_path: Path) -> None:
        class Shaky(Kept):
            fails = 3

            def write(self, samples: Sequence[Sample]) -> None:
                if self.fails:
                    self.fails -= 1
                    raise ServomexSinkWriteError("the server is away")
                super().write(samples)

        with Shaky() as sink:
            with Recorder(OwnSource(), [sink, tmp_path / "run.csv"], rate_hz=20, count=60) as recorder:
                recorder.join(30)
            assert (sink.rows, recorder.summary.unwritten) == (60, 0)
        assert sink.taken == list(load(tmp_path / "run.csv"))

    def test_one_that_raises_anything_is_left_out_and_the_others_get_everything(self) -> None:
        class Broken(Kept):
            def write(self, samples: Sequence[Sample]) -> None:
                raise ZeroDivisionError("a bug")

        memory = InMemorySink()
        with Broken() as sink, memory:
            with pytest.raises(ServomexSinkError, match="Broken failed: ZeroDivisionError: a bug"):
                pipe(batches(4), sink, memory)
            assert (sink.rows, memory.rows) == (0, 20)

    def test_an_error_of_its_close_is_raised_and_the_others_are_complete(self, tmp_path: Path) -> None:
        class Failing(Kept):
            def close(self) -> None:
                raise ServomexSinkWriteError("the last rows are lost")

        sink = Failing()
        with pytest.raises(ServomexSinkWriteError, match="the last rows are lost"), sink:
            pipe(batches(3), sink, tmp_path / "run.csv")
        assert list(load(tmp_path / "run.csv")) == joined(batches(3)) == sink.taken

    @pytest.mark.skipif(sys.platform == "win32", reason="the signals are those of POSIX")
    def test_ctrl_c_ends_it_with_all_that_was_read(self, tmp_path: Path) -> None:
        class Interrupting(Kept):
            def write(self, samples: Sequence[Sample]) -> None:
                super().write(samples)
                if self.rows == 10:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        with Interrupting() as sink:
            with (
                pytest.raises(KeyboardInterrupt),
                Recorder(OwnSource(), [sink, tmp_path / "run.csv"], rate_hz=100) as recorder,
            ):
                recorder.join(30)
            assert sink.taken == list(load(tmp_path / "run.csv"))
            assert len(sink.taken) == sink.rows == recorder.summary.samples_emitted >= 10
            assert recorder.summary.unwritten == 0


def test_a_class_that_keeps_count_is_left_alone() -> None:
    class Enough(InMemorySink):
        def write(self, samples: Sequence[Sample]) -> None:
            super().write(samples)

    with Enough() as sink:
        sink.write(batch(0))
        assert (sink.rows, len(sink.samples)) == (5, 5)
    assert re.fullmatch(r"<Enough memory:// closed, 5 rows>", repr(sink))
