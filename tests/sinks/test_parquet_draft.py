"""The merged file is begun while a recording runs, and is never trusted more than its parts."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from servomex.errors import ServomexSinkWriteError
from servomex.models.sample import Sample
from servomex.recording.load import load, load_metadata
from servomex.sinks import open_sink, parquet, parquet_parts
from servomex.sinks.parquet import ParquetSink
from servomex.sinks.parquet_draft import Draft
from tests.helpers.recordings import batch, batches, joined

DRAFT = "run.parquet.tmp"
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows moves no folder that is open, and has no fork")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "PART_ROWS", 5)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.parquet"


@pytest.fixture
def parts(path: Path) -> Path:
    return path.with_name("run.parquet.parts")


@pytest.fixture
def sink(path: Path) -> Iterator[ParquetSink]:
    """Give a sink that was written, and has a draft."""
    with ParquetSink(path, flush_s=0, metadata={"site": "mill"}) as opened:
        for part in batches(6):
            opened.write(part)
        assert (path.with_name("run.parquet.parts") / DRAFT).exists()
        yield opened


def everything(path: Path) -> list[Sample]:
    return [*load(path)]


def refuse(*_args: Any, **_options: Any) -> None:
    raise OSError(28, "No space left on device")


class TestTheEnd:
    def test_the_file_is_the_draft_with_the_rest(self, sink: ParquetSink, path: Path, parts: Path) -> None:
        inode = (parts / DRAFT).stat().st_ino
        sink.write(batch(6))
        sink.close()
        assert everything(path) == joined(batches(7))
        assert not parts.exists()
        assert os.name == "nt" or path.stat().st_ino == inode
        assert load_metadata(path)["site"] == "mill"
        assert pq.read_schema(path).metadata[b"site"] == b"mill"

    def test_nothing_that_is_in_it_is_read_again(
        self, sink: ParquetSink, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[Path] = []

        def noting(sources: list[Path]) -> Iterator[Any]:
            read.extend(sources)
            return parquet_parts.groups_of(sources)

        monkeypatch.setattr(parquet, "groups_of", noting)
        sink.write(batch(6))
        sink.close()
        assert [part.name for part in read] == ["000007.parquet"]
        assert everything(path) == joined(batches(7))

    def test_a_file_that_was_put_there_meanwhile_is_kept(self, sink: ParquetSink, path: Path) -> None:
        with open_sink(path.with_name("other.parquet")) as other:
            other.write(batch(50))
        path.with_name("other.parquet").rename(path)
        sink.close()
        assert everything(path) == [*batch(50), *joined(batches(6))]

    def test_a_full_disk_at_the_end_leaves_the_parts(
        self, sink: ParquetSink, path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sink.write(batch(6))
        monkeypatch.setattr(Draft, "complete", refuse)
        with pytest.raises(ServomexSinkWriteError, match="is full"):
            sink.close()
        monkeypatch.undo()
        assert not path.exists()
        assert not (parts / DRAFT).exists()
        assert everything(path) == joined(batches(7))

    def test_appending_merges_at_the_end(self, sink: ParquetSink, path: Path, parts: Path) -> None:
        sink.close()
        with open_sink(path, append=True, flush_s=0) as again:
            for part in batches(6, 6):
                again.write(part)
            assert not (parts / DRAFT).exists()
        assert everything(path) == joined(batches(12))


class TestWhatHappensMeanwhile:
    def test_a_kill_leaves_the_parts(self, sink: ParquetSink, path: Path, parts: Path) -> None:
        shutil.copytree(parts, path.with_name("left.parquet.parts"))
        left = path.with_name("left.parquet")
        assert everything(left) == joined(batches(6))
        with open_sink(left, append=True) as again:
            again.write(batch(6))
        assert everything(left) == joined(batches(7))
        assert not left.with_name("left.parquet.parts").exists()

    def test_a_part_that_is_deleted_is_counted_and_the_others_are_merged(
        self, sink: ParquetSink, path: Path, parts: Path
    ) -> None:
        (parts / "000002.parquet").unlink()
        sink.write(batch(6))
        with pytest.raises(ServomexSinkWriteError, match="5 rows"):
            sink.close()
        assert everything(path) == [*batch(0), *joined(batches(5, 2))]

    def test_a_draft_that_is_deleted_costs_nothing(self, sink: ParquetSink, path: Path, parts: Path) -> None:
        (parts / DRAFT).unlink()
        sink.close()
        assert everything(path) == joined(batches(6))

    @needs_posix
    def test_parts_that_are_moved_take_no_draft_with_them(
        self, sink: ParquetSink, path: Path, parts: Path
    ) -> None:
        moved = path.with_name("moved.parquet.parts")
        parts.rename(moved)
        for part in batches(6, 6):
            sink.write(part)
        sink.close()
        assert everything(path) == joined(batches(6, 6))
        assert everything(moved) == joined(batches(6))
        assert not (moved / DRAFT).exists()

    def test_a_full_disk_costs_the_draft_first(
        self, sink: ParquetSink, path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add = Draft.add

        def adding(draft: Draft, table: Any) -> None:
            if (parts / DRAFT).exists():
                refuse()
            add(draft, table)

        monkeypatch.setattr(Draft, "add", adding)
        sink.write(batch(6))
        assert not (parts / DRAFT).exists()
        assert sink.unstored == 0
        monkeypatch.undo()
        sink.close()
        assert everything(path) == joined(batches(7))

    @needs_posix
    def test_a_forked_child_writes_nothing_to_it(self, sink: ParquetSink, path: Path) -> None:
        child = os.fork()
        if not child:
            try:
                sink.__del__()
                del sink
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        sink.write(batch(6))
        sink.close()
        assert everything(path) == joined(batches(7))
