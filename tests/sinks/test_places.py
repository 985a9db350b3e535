"""Files under other names, copied, linked, and started twice: no row is lost, and no second writer gets in."""

import gzip
import os
import shutil
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from servomex import ServomexSinkWriteError, load
from servomex.sinks import Sink, check_targets, open_sink
from servomex.sinks.base import BufferedSink
from tests.helpers.recordings import ONE_EACH, batch, batches, joined, write


def killed(sink: Sink) -> None:
    """Let go of the file as the end of a process does: nothing is flushed, no lock is given back by hand."""
    assert isinstance(sink, BufferedSink)
    sink._let_go()


def start(path: Path, begin: threading.Barrier) -> Sink | ServomexSinkWriteError:
    """Try to go on with a recording."""
    begin.wait()
    try:
        return open_sink(path, append=True, flush_s=0)
    except ServomexSinkWriteError as error:
        return error


class TestCopies:
    def test_a_database_alone_has_its_tables_at_once_and_its_rows_after_each_sync(self, tmp_path: Path) -> None:
        path, copy = tmp_path / "run.sqlite", tmp_path / "copy" / "run.sqlite"
        copy.parent.mkdir()
        with open_sink(path, flush_s=0) as sink:
            shutil.copy(path, copy)
            assert list(load(copy)) == []
            for number in range(3):
                sink.write(batch(number))
                sink.sync()
                shutil.copy(path, copy)
                assert list(load(copy)) == joined(batches(number + 1))
            sink.write(batch(3))
            shutil.copy(path, copy)
            assert list(load(copy)) == joined(batches(3))

    def test_a_reader_holds_up_no_row_longer_than_it_reads(self, tmp_path: Path) -> None:
        path, copy = tmp_path / "run.sqlite", tmp_path / "copy.sqlite"
        with open_sink(path, flush_s=0) as sink, closing(sqlite3.connect(path, isolation_level=None)) as other:
            sink.write(batch(0))
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM samples").fetchone()
            sink.write(batch(1))
            sink.sync()
            other.execute("COMMIT")
            sink.write(batch(2))
            sink.sync()
            shutil.copy(path, copy)
            assert list(load(copy)) == joined(batches(3))


class TestRenamed:
    def test_the_log_of_a_database_that_was_renamed_after_a_kill_is_kept(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path, moved = tmp_path / "run.sqlite", tmp_path / "monday.sqlite"
        sink = open_sink(path, flush_s=0)
        sink.write(batch(0))
        sink.sync()
        sink.write(batch(1))
        saved = {end: path.with_name(path.name + end).read_bytes() for end in ("", "-wal")}
        sink.close()
        for end, data in saved.items():  # as a kill leaves them
            path.with_name(path.name + end).write_bytes(data)
        path.rename(moved)
        assert write(path, batches(1, 5)) == list(load(path))
        assert "is kept as run.sqlite-wal.1" in caplog.text
        assert list(load(moved)) == batch(0)
        path.with_name("run.sqlite-wal.1").rename(tmp_path / "monday.sqlite-wal")
        assert list(load(moved)) == joined(batches(2))


class TestSecondWriters:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_a_second_start_is_refused_and_leaves_no_trace(self, name: str, tmp_path: Path) -> None:
        if sys.platform == "win32":
            pytest.importorskip("msvcrt", reason="a simulated Windows has no locks")
            if name not in ("run.sqlite", "run.parquet"):
                pytest.skip("Windows has no lock that lets others read")
        path = tmp_path / name
        with open_sink(path) as sink:
            sink.write(batch(0))
            sink.flush()
            before = sorted(tmp_path.rglob("*"))
            for option in ("append", "overwrite"):
                with pytest.raises(ServomexSinkWriteError, match="is being written by another program"):
                    open_sink(path, **{option: True})  # type: ignore[arg-type]
            assert sorted(tmp_path.rglob("*")) == before
            sink.write(batch(1))
        assert list(load(path)) == joined(batches(2))
        assert sorted(tmp_path.rglob("*")) == [path]

    @pytest.mark.parametrize("name", ["run.csv.gz", "run.jsonl.gz"])
    def test_one_of_many_that_start_while_a_killed_file_is_packed_again_gets_it(
        self, name: str, tmp_path: Path
    ) -> None:
        path = tmp_path / name
        whole = write(path, batches(400))
        text = gzip.decompress(path.read_bytes())
        for round_ in range(6):
            packed = gzip.compress(text + b"half a line")
            path.write_bytes(packed[:-9])  # as a kill leaves it
            with ThreadPoolExecutor(4) as starts:
                begin = threading.Barrier(4)
                found = list(starts.map(start, [path] * 4, [begin] * 4))
            won = [item for item in found if isinstance(item, Sink)]
            assert len(won) == 1, (round_, found)
            with won[0] as sink:
                sink.write(batch(round_))
            assert list(load(path)) == whole + batch(round_)
            assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("name", ["run.sqlite", "run.parquet"])
    def test_a_second_name_of_the_file_is_refused(self, name: str, tmp_path: Path) -> None:
        path, link = tmp_path / name, tmp_path / f"link-{name}"
        write(path, batches(1))
        with open_sink(path, append=True, flush_s=0) as sink:
            link.hardlink_to(path)
            with pytest.raises(ServomexSinkWriteError, match=r"has a second name \(a hard link\)"):
                open_sink(link, append=True)
            sink.write(batch(1))
        assert list(load(path)) == joined(batches(2))

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows removes nothing that is open")
    @pytest.mark.parametrize("name", ["run.sqlite", "run.parquet"])
    def test_a_lock_that_was_removed_is_made_again(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        lock = tmp_path / ("run.sqlite-lock" if name == "run.sqlite" else "run.parquet.parts/.lock")
        with open_sink(path, flush_s=0) as sink:
            sink.write(batch(0))
            lock.unlink()
            sink.write(batch(1))
            assert lock.exists()
            with pytest.raises(ServomexSinkWriteError, match="is being written by another program"):
                open_sink(path, append=True)
        assert list(load(path)) == joined(batches(2))
        assert list(tmp_path.iterdir()) == [path]

    def test_the_lock_of_a_program_that_was_killed_is_taken_over(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        write(path, batches(1))
        path.with_name("run.sqlite-lock").touch()
        write(path, batches(1, 1), append=True)
        assert list(load(path)) == joined(batches(2))
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own on Windows")
class TestLinks:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_a_link_that_leads_nowhere_gets_its_file(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        link, target = tmp_path / name, tmp_path / "disk" / f"real-{name}"
        link.symlink_to(target)
        every: list[Any] = [{}, {"append": True}, {"overwrite": True}]
        for number, option in enumerate(every):
            target.unlink(missing_ok=True)
            check_targets([link], **option)
            assert write(link, batches(number + 1), **option) == list(load(link)) == list(load(target))
            assert link.is_symlink()
            assert sorted(tmp_path.rglob("*")) == sorted([link, target, target.parent])

    @pytest.mark.parametrize("name", ONE_EACH)
    def test_it_stays_a_link_when_the_recording_goes_on(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        link, target = tmp_path / name, tmp_path / "disk" / f"real-{name}"
        write(target, batches(2))
        link.symlink_to(target)
        if name.endswith(".gz"):
            target.write_bytes(target.read_bytes()[:-8])  # without its end it is packed anew
        write(link, batches(1, 2), append=True)
        assert link.is_symlink()
        assert list(load(target)) == list(load(link)) == joined(batches(3))
        write(link, batches(1), overwrite=True)
        assert link.is_symlink()
        assert list(load(target)) == batch(0)

    @pytest.mark.parametrize("name", ["run.csv.gz"])
    def test_a_temporary_name_is_not_followed_to_another_file(self, name: str, tmp_path: Path) -> None:
        path, other = tmp_path / name, tmp_path / "precious"
        write(path, batches(2))
        path.write_bytes(path.read_bytes()[:-8])
        other.write_text("precious")
        path.with_name(f"{name}.tmp").symlink_to(other)
        write(path, batches(1, 2), append=True)
        assert other.read_text() == "precious"
        assert list(load(path)) == joined(batches(3))


class TestParts:
    def test_those_of_another_recording_are_kept_and_read(self, tmp_path: Path) -> None:
        path, other = tmp_path / "run.parquet", tmp_path / "other.parquet"
        with open_sink(path, flush_s=0) as sink:
            for number in range(3):
                sink.write(batch(number))
                sink.sync()
        sink = open_sink(other, flush_s=0)
        sink.write(batch(5))
        killed(sink)
        (tmp_path / "other.parquet.parts").rename(tmp_path / "run.parquet.parts")
        assert list(load(path)) == joined(batches(3)) + batch(5)
        write(path, batches(1, 6), append=True)
        assert list(load(path)) == joined(batches(3)) + batch(5) + batch(6)
        assert list(tmp_path.iterdir()) == [path]

    def test_those_that_are_in_the_file_already_are_not_read_twice(self, tmp_path: Path) -> None:
        path, parts, saved = tmp_path / "run.parquet", tmp_path / "run.parquet.parts", tmp_path / "saved"
        sink = open_sink(path, flush_s=0)
        sink.write(batch(0))
        sink.sync()
        sink.write(batch(1))
        sink.flush()
        shutil.copytree(parts, saved)
        sink.close()
        saved.rename(parts)  # as a kill in front of their removal leaves them
        assert list(load(path)) == joined(batches(2))
        write(path, batches(1, 2), append=True)
        assert list(load(path)) == joined(batches(3))
        assert list(tmp_path.iterdir()) == [path]

    def test_a_start_that_is_interrupted_leaves_nothing_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "run.parquet.parts").mkdir()
        assert write(tmp_path / "run.parquet", batches(2)) == list(load(tmp_path / "run.parquet"))

    def test_one_that_is_held_open_delays_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        held: set[str] = set()
        replace = os.replace

        def refuse(source: str, target: str | Path, **options: int | None) -> None:
            """Behave as Windows does while another program reads the target."""
            if Path(target).name in held:
                raise PermissionError(13, "Access is denied")
            replace(source, target, **options)

        monkeypatch.setattr("os.replace", refuse)
        path = tmp_path / "run.parquet"
        with open_sink(path, flush_s=0) as sink:
            sink.write(batch(0))
            held.add("000001.parquet")
            for number in range(1, 4):
                sink.write(batch(number))
            assert list(load(path)) == joined(batches(4))
        assert list(load(path)) == joined(batches(4))
        held.add(path.name)
        write(path, batches(1, 4), append=True)
        assert "where load() finds them" in caplog.text
        assert list(load(path)) == joined(batches(5))
        held.clear()
        write(path, batches(1, 5), append=True)
        assert list(load(path)) == joined(batches(6))
        assert list(tmp_path.iterdir()) == [path]
