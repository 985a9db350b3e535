"""A file that another program cuts or changes while it is written: no row is lost without a word."""

import contextlib
import errno
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from servomex import ServomexSinkError, load
from servomex.errors import ServomexSinkWriteError
from servomex.sinks import open_sink
from tests.helpers.recordings import TEXT_FILES, batch, batches, joined
from tests.helpers.recordings import write as write_recording
from tests.helpers.removing import ONE_TEXT_EACH, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps what is open where it is")


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
    def test_a_database_is_started_over(self, left: int, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
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
