"""An output that is deleted, renamed or cut while it is recorded: noticed, reported, begun anew, and counted."""

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from servomex import Recorder, ServomexSinkError, load
from servomex.errors import ServomexSinkWriteError
from servomex.recording.fan_out import FanOut
from servomex.recording.load import load_metadata
from servomex.sinks import Sink, open_sink
from tests.helpers.recorded import OwnSource
from tests.helpers.recordings import ONE_EACH, TEXT_FILES, batch, batches, joined
from tests.helpers.recordings import write as write_recording

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps what is open where it is")

ONE_TEXT_EACH = ("run.csv", "run.csv.gz", "run.jsonl", "run.jsonl.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


def write(sink: Sink, first: int, count: int) -> int:
    """Write batches, each flushed by itself; the number of rows."""
    parts = batches(count, first)
    for part in parts:
        sink.write(part)
    return len(joined(parts))


def remove(path: Path) -> None:
    """Delete a file with all that belongs to it."""
    for item in path.parent.glob(f"{path.name}*"):
        shutil.rmtree(item) if item.is_dir() else item.unlink()


class TestDeleted:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_it_is_begun_anew_and_the_rows_that_are_gone_are_counted(
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


class TestCut:
    @pytest.mark.parametrize("name", TEXT_FILES)
    def test_it_begins_at_the_start_and_leaves_no_hole(
        self, name: str, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = folder / name
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 3)
        copied = path.read_bytes()
        os.truncate(path, 0)  # as logrotate does with copytruncate
        write(sink, 3, 2)
        with pytest.raises(ServomexSinkWriteError, match="removed 15 rows"):
            sink.close()
        assert list(load(path)) == joined(batches(2, 3))
        copy = folder / f"copy{''.join(path.suffixes)}"
        copy.write_bytes(copied)
        assert list(load(copy)) == joined(batches(3))
        assert "was cut by another program while it was written: 15 rows are lost" in caplog.text

    @pytest.mark.parametrize("name", ONE_TEXT_EACH)
    @pytest.mark.parametrize("append", [False, True])
    def test_what_is_left_of_it_stays(self, name: str, append: bool, folder: Path) -> None:
        path = folder / name
        if append:
            with open_sink(path) as sink:
                write(sink, 0, 2)
        sink = open_sink(path, flush_s=0, append=append)
        write(sink, 2, 3)
        os.truncate(path, path.stat().st_size - (25 if path.suffix == ".gz" else 5))
        write(sink, 5, 1)
        assert 0 < sink.removed <= 5
        with pytest.raises(ServomexSinkWriteError, match=f"removed {sink.removed} rows?"):
            sink.close()
        whole = (joined(batches(2)) if append else []) + joined(batches(3, 2))
        assert list(load(path)) == whole[: -sink.removed] + batch(5)

    @pytest.mark.parametrize("left", [0, 8192])
    def test_a_database_is_begun_anew(self, left: int, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = folder / "run.sqlite"
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 3)
        sink.sync()
        assert path.stat().st_size > left
        os.truncate(path, left)
        write(sink, 3, 2)
        with pytest.raises(ServomexSinkWriteError, match="removed 15 rows"):
            sink.close()
        assert list(load(path)) == joined(batches(2, 3))
        assert "was emptied by another program while it was written, with 15 rows" in caplog.text

    def test_a_database_that_another_program_makes_smaller_goes_on(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = folder / "run.sqlite"
        with open_sink(path, flush_s=0) as sink:
            rows = write(sink, 0, 40)
            sink.sync()
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("DELETE FROM samples WHERE rowid > 5")
                other.execute("VACUUM")
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            write(sink, 40, 1)
            assert (sink.removed, rows > 100) == (0, True)
        assert list(load(path)) == batch(0) + batch(40)
        assert not caplog.records

    @pytest.mark.parametrize("share", [0.0, 0.5])
    def test_a_cut_log_of_a_database_costs_what_came_after_the_last_sync(
        self, share: float, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path, log = folder / "run.sqlite", folder / "run.sqlite-wal"
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 30)
        sink.sync()
        lost = write(sink, 30, 20)
        os.truncate(log, int(log.stat().st_size * share))
        write(sink, 50, 2)
        with pytest.raises(ServomexSinkWriteError, match=f"removed {lost} rows"):
            sink.close()
        assert list(load(path)) == joined(batches(2, 50))
        assert list(load(folder / "run-cut.sqlite")) == joined(batches(30))
        assert f"{lost} rows are lost; the rows up to the last sync are in run-cut.sqlite" in caplog.text

    def test_a_log_that_another_program_empties_lawfully_costs_nothing(self, folder: Path) -> None:
        path = folder / "run.sqlite"
        with open_sink(path, flush_s=0) as sink:
            write(sink, 0, 30)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert (folder / "run.sqlite-wal").stat().st_size == 0
            write(sink, 30, 2)
        assert list(load(path)) == joined(batches(32))

    @pytest.mark.parametrize("name", ONE_TEXT_EACH)
    def test_a_cut_just_before_a_write_leaves_no_file_without_a_beginning(
        self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = folder / name
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 3)
        encode = type(sink)._encoded  # type: ignore[attr-defined]

        def cutting(self: object, rows: list[object]) -> bytes:
            os.truncate(path, 0)
            monkeypatch.undo()
            found: bytes = encode(self, rows)
            return found

        monkeypatch.setattr(type(sink), "_encoded", cutting)
        write(sink, 3, 2)
        with pytest.raises(ServomexSinkWriteError, match="removed 15 rows"):
            sink.close()
        assert list(load(path)) == joined(batches(2, 3))

    @pytest.mark.parametrize("how", ["cut", "deleted"])
    def test_an_older_part_is_missed_at_the_next_look(
        self, how: str, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path, part = folder / "run.parquet", folder / "run.parquet.parts" / "000001.parquet"
        sink = open_sink(path, flush_s=0)
        for number in range(3):
            write(sink, number, 1)
            sink.sync()
        if how == "cut":
            os.truncate(part, 100)
        else:
            part.unlink()
        write(sink, 3, 1)
        assert sink.removed == 5
        assert f"000001.parquet was {'changed' if how == 'cut' else how} by another program: 5 rows" in caplog.text
        with pytest.raises(ServomexSinkWriteError, match="removed 5 rows"):
            sink.close()
        assert list(load(path)) == joined(batches(3, 1))


class TestChanged:
    """By another program that adds to it."""

    @pytest.mark.parametrize("note", [b"door opened\n", b"door opened"])
    def test_the_lines_of_a_recording_stay_whole(
        self, note: bytes, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = folder / "run.csv"
        with open_sink(path, flush_s=0) as sink:
            write(sink, 0, 1)
            with path.open("ab") as other:
                other.write(note)
            write(sink, 1, 1)
        lines = path.read_bytes().splitlines()
        assert lines.count(b"door opened") == 1
        path.write_bytes(b"\n".join(line for line in lines if line != b"door opened") + b"\n")
        assert list(load(path)) == batch(0) + batch(1)
        assert f"another program has added {len(note)} bytes" in caplog.text

    @pytest.mark.parametrize("name", ONE_TEXT_EACH)
    @pytest.mark.parametrize("length", [45, 99_990])
    def test_it_is_overwritten_in_place(self, name: str, length: int, folder: Path) -> None:
        path, other = folder / name, b"something else\n" * (length // 15)
        sink = open_sink(path, flush_s=0)
        lost = write(sink, 0, 2)
        with path.open("r+b") as file:  # as cp does
            file.truncate(0)
            file.write(other)
        for _ in range(2):
            with pytest.raises(ServomexSinkError):
                write(sink, 2, 1)
        assert sink.removed == lost
        assert path.read_bytes() == other
        path.unlink()
        write(sink, 3, 1)
        with pytest.raises(ServomexSinkWriteError, match=f"removed {lost} rows"):
            sink.close()
        assert list(load(path)) == batch(3)

    @pytest.mark.parametrize("name", ["run.csv.gz", "run.jsonl.gz"])
    def test_nothing_more_is_written_to_a_packed_file(self, name: str, folder: Path) -> None:
        path = folder / name
        sink = open_sink(path, flush_s=0)
        write(sink, 0, 1)
        with path.open("ab") as other:
            other.write(b"?")
        size = path.stat().st_size
        with pytest.raises(ServomexSinkError, match="was written by another program meanwhile"):
            write(sink, 1, 1)
        with contextlib.suppress(ServomexSinkError):
            sink.close()
        assert path.stat().st_size == size

    @pytest.mark.parametrize("name", ONE_TEXT_EACH)
    def test_without_locks_the_second_writer_is_refused(
        self, name: str, folder: Path, mocker: MockerFixture
    ) -> None:
        mocker.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "no locks available"))
        path = folder / name
        write_recording(path, batches(1))
        one, other = open_sink(path, append=True, flush_s=0), open_sink(path, append=True, flush_s=0)
        one.write(batch(1))
        with pytest.raises(ServomexSinkError, match="was written by another program meanwhile"):
            other.write(batch(7))
        with contextlib.suppress(ServomexSinkError):
            other.close()
        one.write(batch(2))
        one.close()
        assert list(load(path)) == joined(batches(3))

    def test_without_locks_no_part_of_another_recording_is_replaced(
        self, folder: Path, mocker: MockerFixture
    ) -> None:
        mocker.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "no locks available"))
        path = folder / "run.parquet"
        one, other = open_sink(path, append=True, flush_s=0), open_sink(path, append=True, flush_s=0)
        one.write(batch(1))
        with pytest.raises(ServomexSinkError, match="was written by another program meanwhile"):
            other.write(batch(7))
        assert list(load(path)) == batch(1)
        with contextlib.suppress(ServomexSinkError):
            other.close()
        with contextlib.suppress(ServomexSinkError):
            one.close()
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
