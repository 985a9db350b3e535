"""An output that is deleted, renamed or cut while it is recorded: noticed, reported, begun anew, and counted."""

import logging
import shutil
import sys
import time
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from servomex import Recorder, ServomexSinkError, load
from servomex.errors import ServomexSinkWriteError
from servomex.recording.fan_out import FanOut
from servomex.recording.load import load_metadata
from servomex.sinks import open_sink
from tests.helpers.recorded import OwnSource
from tests.helpers.recordings import ONE_EACH, batch, batches, joined
from tests.helpers.removing import ONE_TEXT_EACH, remove, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps what is open where it is")


class TestDeleted:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_it_is_started_over_and_the_rows_that_are_gone_are_counted(
        self, name: str, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = folder / name
        sink = open_sink(path, flush_s=0)
        lost = write(sink, 0, 3)
        sink.sync()
        remove(path)
        write(sink, 3, 2)
        assert sink.removed == lost
        with pytest.raises(ServomexSinkWriteError, match=f"another program removed {lost} rows"):
            sink.close()
        assert list(load(path)) == joined(batches(2, 3))
        (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert line == f"{path} was deleted while it was written, with {lost} rows: the rest goes to a new file"

    @pytest.mark.parametrize("name", ONE_EACH)
    def test_its_folder_may_be_gone_as_well(self, name: str, folder: Path) -> None:
        path = folder / name
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 3)
        sink.sync()
        shutil.rmtree(folder)
        write(sink, 3, 2)
        with pytest.raises(ServomexSinkWriteError, match="removed 15 rows"):
            sink.close()
        assert list(load(path)) == joined(batches(2, 3))

    @pytest.mark.parametrize("name", ["run.sqlite", "run.parquet"])
    def test_the_new_one_has_the_metadata_too(self, name: str, folder: Path) -> None:
        sink = open_sink(folder / name, flush_s=0, metadata={"port": "COM3"})
        write(sink, 0, 1)
        sink.sync()
        remove(folder / name)
        write(sink, 1, 1)
        with pytest.raises(ServomexSinkWriteError):
            sink.close()
        assert load_metadata(folder / name)["port"] == "COM3"

    @pytest.mark.parametrize("name", ONE_EACH)
    def test_it_is_noticed_also_when_nothing_more_comes(self, name: str, folder: Path) -> None:
        sink = open_sink(folder / name, flush_s=0)
        write(sink, 0, 2)
        sink.sync()
        remove(folder / name)
        with pytest.raises(ServomexSinkWriteError, match="removed 10 rows"):
            sink.close()
        assert list(load(folder / name)) == []

    def test_it_is_noticed_while_the_source_is_silent(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("servomex.sinks.base.LOOK_S", 0.0)
        with open_sink(folder / "run.csv", flush_s=0) as sink:
            remove(folder / "run.csv")
            sink.flush_if_due()
            assert (folder / "run.csv").exists()

    def test_rows_that_came_before_this_run_are_not_counted(self, folder: Path) -> None:
        path = folder / "run.csv"
        with open_sink(path) as sink:
            write(sink, 0, 4)
        sink = open_sink(path, append=True, flush_s=0)
        write(sink, 4, 1)
        remove(path)
        with pytest.raises(ServomexSinkWriteError, match="removed 5 rows"):
            sink.close()

    def test_one_part_of_many_is_missed(self, folder: Path) -> None:
        sink = open_sink(folder / "run.parquet", flush_s=0)
        for number in range(3):
            write(sink, number, 1)
            sink.sync()
        parts = sorted((folder / "run.parquet.parts").glob("*.parquet"))
        parts[1].unlink()
        with pytest.raises(ServomexSinkWriteError, match="removed 5 rows"):
            sink.close()
        assert list(load(folder / "run.parquet")) == batch(0) + batch(2)

    def test_as_long_as_no_new_one_can_be_made_the_rows_wait(self, folder: Path) -> None:
        path = folder / "run.csv"
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 1)
        shutil.rmtree(folder)
        folder.write_text("a file in the place of the folder")
        for _ in range(2):
            with pytest.raises(ServomexSinkWriteError):
                sink.write(batch(1))
        folder.unlink()
        sink.write(batch(2))
        with pytest.raises(ServomexSinkWriteError, match="removed 5 rows"):
            sink.close()
        assert list(load(path)) == batch(2)

    def test_a_rotated_file_as_well(self, folder: Path) -> None:
        sink = open_sink(folder / "run.csv", rotate="1h", flush_s=0)
        write(sink, 0, 1)
        (path,) = folder.iterdir()
        path.unlink()
        write(sink, 1, 1)
        assert sink.removed == 5
        with pytest.raises(ServomexSinkWriteError, match="removed 5 rows"):
            sink.close()
        assert sink.removed == 5
        assert list(load(path)) == batch(1)


class TestMoved:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_a_new_one_has_the_rest_and_no_row_is_lost(
        self, name: str, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = folder / name
        with open_sink(path, flush_s=0) as sink:
            write(sink, 0, 3)
            if name == "run.parquet":
                (folder / "run.parquet.parts").rename(folder / "old.parquet.parts")
            else:
                path.rename(folder / f"old{''.join(path.suffixes)}")
            write(sink, 3, 2)
            assert sink.removed == 0
        (old,) = folder.glob("old*")
        assert list(load(old)) == joined(batches(3))
        assert list(load(path)) == joined(batches(2, 3))
        (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "was renamed, moved or replaced while it was written: the rest goes to a new file" in line
        assert "the 15 rows so far are in the old file" in line

    @pytest.mark.parametrize("name", ONE_TEXT_EACH)
    def test_an_empty_file_that_was_put_in_its_place_is_used(self, name: str, folder: Path) -> None:
        path = folder / name
        with open_sink(path, flush_s=0) as sink:
            write(sink, 0, 1)
            path.rename(folder / "old")
            path.touch()  # as logrotate does
            write(sink, 1, 1)
        assert list(load(path)) == batch(1)

    @pytest.mark.parametrize("name", ["run.csv", "run.jsonl", "run.sqlite"])
    def test_a_file_of_another_kind_in_its_place_is_not_touched(self, name: str, folder: Path) -> None:
        path = folder / name
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 1)
        path.rename(folder / "old")
        path.write_text("something else\n" * 100)
        for _ in range(2):
            with pytest.raises(ServomexSinkWriteError, match=r"replaced by another file .* Move that one away"):
                sink.write(batch(1))
        assert path.read_text() == "something else\n" * 100
        path.unlink()
        sink.write(batch(1))
        sink.close()
        assert list(load(path)) == batch(1)


class TestWhenItIsNoticed:
    @pytest.mark.parametrize("name", [name for name in ONE_EACH if name != "run.parquet"])
    def test_it_does_not_wait_for_the_flush(
        self, name: str, folder: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
    ) -> None:
        sink = open_sink(folder / name, flush_s=1000)
        write(sink, 0, 1)
        sink.flush()
        remove(folder / name)
        mocker.patch("servomex.sinks.base.time.monotonic", side_effect=lambda: time.monotonic() + 1.5)
        sink.write(batch(1))
        assert "was deleted" in caplog.text
        with pytest.raises(ServomexSinkWriteError, match="removed 5 rows"):
            sink.close()
        assert list(load(folder / name)) == batch(1)

    def test_a_deleted_log_of_a_database_costs_nothing(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = folder / "run.sqlite"
        with open_sink(path, flush_s=0) as sink:
            write(sink, 0, 2)
            (folder / "run.sqlite-wal").unlink()
            write(sink, 2, 1)
            copy = folder / "copy.sqlite"
            copy.write_bytes(path.read_bytes())
            assert list(load(copy)) == joined(batches(2))
        assert "run.sqlite-wal was deleted by another program" in caplog.text
        assert list(load(path)) == joined(batches(3))

    def test_the_newest_part_is_written_again(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        with open_sink(folder / "run.parquet", flush_s=0) as sink:
            write(sink, 0, 2)
            (folder / "run.parquet.parts" / "000001.parquet").unlink()
            sink.flush()
            assert list(load(folder / "run.parquet")) == joined(batches(2))
        assert "it is written again" in caplog.text


class TestRecorders:
    @pytest.fixture
    def deleting(self, folder: Path) -> OwnSource:
        def act(number: int) -> None:
            if number == 5:
                remove(folder / "run.csv")

        return OwnSource(act=act)

    def test_the_summary_counts_them_and_the_end_raises(self, deleting: OwnSource, folder: Path) -> None:
        files = [folder / "run.csv", folder / "run.jsonl"]
        recorder = Recorder(deleting, files, rate_hz=20, count=10, sink_options={"flush_s": 0})
        with pytest.raises(ServomexSinkError, match="another program removed"), recorder:
            recorder.join()
        left = len(list(load(files[0])))
        assert 0 < recorder.summary.unwritten == 10 - left < 10
        assert f"{recorder.summary.unwritten} rows not written" in str(recorder.summary)
        assert len(list(load(files[1]))) == 10

    def test_a_writer_counts_them_once(self, folder: Path) -> None:
        writer = FanOut([open_sink(folder / "run.csv", flush_s=0)])
        writer.write(batch(0))
        remove(folder / "run.csv")
        writer.write(batch(1))
        assert writer.lost == 5
        with pytest.raises(ServomexSinkWriteError):
            writer.close()
        assert writer.lost == 5
