"""Parquet: types, parts, and the merge that loses and doubles nothing whenever it is interrupted."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from servomex.errors import ServomexSinkDependencyError, ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.models.columns import ROW_COLUMNS
from servomex.recording.load import load, load_metadata
from servomex.sinks import open_sink, parquet, parquet_parts
from servomex.sinks.parquet import ParquetSink
from tests.helpers.recordings import batch, batches, joined, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.parquet"


@pytest.fixture
def parts(path: Path) -> Path:
    return path.with_name("run.parquet.parts")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "PART_ROWS", 10)


def killed(path: Path, first: int, count: int, **options: Any) -> None:
    """Leave what a run leaves that is killed right after its last flush."""
    sink = open_sink(path, flush_s=0, **options)
    for part in batches(count, first):
        sink.write(part)
    copy = path.with_name("copy")
    shutil.copytree(path.with_name(f"{path.name}.parts"), copy)
    before = path.read_bytes() if path.exists() else None
    sink.close()
    copy.rename(path.with_name(f"{path.name}.parts"))
    path.unlink()
    if before is not None:
        path.write_bytes(before)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir() if item.name != ".lock")


class TestTheFile:
    def test_the_columns_have_their_types(self, path: Path) -> None:
        write(path, batches(7))
        schema = pq.read_schema(path)
        assert schema.names == ROW_COLUMNS
        text = pa.dictionary(pa.int32(), pa.string())
        for column, kind in {
            "received_at": pa.timestamp("us", "UTC"), "requested_at": pa.timestamp("us", "UTC"),
            "analyser_clock": pa.timestamp("us"), "monotonic_ns": pa.int64(), "value": pa.float64(),
            "latency_s": pa.float64(), "ok": pa.bool_(), "alarm4": pa.bool_(), "analyser_fault": pa.bool_(),
            "device": text, "name": text, "error": text, "cal_groups": text,
        }.items():  # fmt: skip
            assert schema.field(column).type == kind
        frame = pq.read_table(path).to_pandas()
        assert frame.value.isna().tolist() == [False] * 30 + [True]
        assert frame.error.tolist()[-1] == "no reply to 6"

    def test_metadata_is_in_the_file_and_in_its_parts(self, path: Path, parts: Path) -> None:
        killed(path, 0, 1, metadata={"port": "COM3", "note": "µ"})
        assert load_metadata(path) == load_metadata(parts) == {"port": "COM3", "note": "µ"}
        write(path, batches(1), append=True, metadata={"port": "COM4"})
        assert load_metadata(path) == {"port": "COM4", "note": "µ"}
        write(path, [], append=True)
        assert pq.read_schema(path).metadata[b"note"] == "µ".encode()

    def test_the_merged_file_has_large_groups(
        self, path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parquet_parts, "GROUP_ROWS", 100)
        written = write(path, batches(60), flush_s=0)
        groups = pq.ParquetFile(path).metadata
        assert [groups.row_group(number).num_rows // 10 for number in range(groups.num_row_groups)] == [10, 10, 6]
        assert write(path, batches(60), append=True) == written
        assert list(load(path)) == written * 2


class TestParts:
    def test_each_is_complete_in_itself(self, path: Path, parts: Path, small_parts: None) -> None:
        with open_sink(path, flush_s=0) as sink:
            for number, part in enumerate(batches(6)):
                sink.write(part)
                found = [pq.read_table(item).num_rows for item in sorted(parts.glob("*.parquet"))]
                assert sum(found) == 5 * (number + 1)
                assert found[:-1] == [10] * (len(found) - 1)
            assert names(parts) == ["000001.parquet", "000002.parquet", "000003.parquet"]
            assert isinstance(sink, ParquetSink)
            assert sink.size == sum(item.stat().st_size for item in parts.iterdir())
            assert not path.exists()
        assert names(path.parent) == ["run.parquet"]

    def test_one_that_was_synced_is_not_touched_again(self, path: Path, parts: Path) -> None:
        with open_sink(path, flush_s=0) as sink:
            sink.write(batch(0))
            sink.write(batch(1))
            sink.sync()
            synced = (parts / "000001.parquet").stat()
            sink.sync()
            sink.write(batch(2))
            assert names(parts) == ["000001.parquet", "000002.parquet"]
            assert (parts / "000001.parquet").stat().st_ino == synced.st_ino
            assert sink.size == sum(item.stat().st_size for item in parts.iterdir())  # type: ignore[attr-defined]
        assert list(load(path)) == joined(batches(3))

    def test_they_are_read_in_place_of_the_file_and_by_themselves(self, path: Path, parts: Path) -> None:
        killed(path, 0, 9)
        assert names(path.parent) == ["run.parquet.parts"]
        assert list(load(path)) == list(load(parts)) == joined(batches(9))
        assert list(load([path, parts])) == list(load(f"{path.parent}/*.parquet*")) == joined(batches(9))
        assert list(load(f"{path.parent}/*.parquet")) == joined(batches(9))

    def test_they_are_a_recording_that_exists(self, path: Path) -> None:
        killed(path, 0, 1)
        with pytest.raises(ServomexSinkWriteError, match=r"run\.parquet exists already"):
            open_sink(path)
        assert list(load(path)) == batch(0)
        assert write(path, [batch(3)], overwrite=True) == list(load(path))
        assert names(path.parent) == ["run.parquet"]

    def test_appending_goes_on_behind_them(self, path: Path, parts: Path, small_parts: None) -> None:
        killed(path, 0, 5)
        killed(path, 5, 5, append=True)
        assert names(parts) == [f"00000{number}.parquet" for number in range(1, 6)]
        assert list(load(path)) == joined(batches(10))
        write(path, batches(2, 10), append=True)
        assert names(path.parent) == ["run.parquet"]
        killed(path, 12, 3, append=True)
        assert names(parts) == ["000007.parquet"]
        assert list(load(path)) == joined(batches(15))
        write(path, [], append=True)
        assert list(load(path)) == joined(batches(15))

    def test_a_kill_between_the_merge_and_the_end_doubles_nothing(
        self, path: Path, parts: Path, small_parts: None
    ) -> None:
        killed(path, 0, 5)
        copy = shutil.copytree(parts, path.with_name("copy"))
        write(path, [], append=True)
        copy.rename(parts)
        assert list(load(path)) == joined(batches(5))
        assert write(path, batches(1, 5), append=True) == batch(5)
        assert list(load(path)) == joined(batches(6))

    def test_temporary_files_are_no_parts(self, path: Path, parts: Path) -> None:
        killed(path, 0, 2)
        (parts / "000002.parquet.tmp").write_bytes(b"PAR1 half")
        assert list(load(path)) == joined(batches(2))
        write(path, [], append=True)
        assert names(path.parent) == ["run.parquet"]

    def test_a_last_part_that_a_loss_of_power_spoilt_is_put_aside(
        self, path: Path, parts: Path, small_parts: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        killed(path, 0, 5, metadata={"port": "COM3"})
        last = parts / "000003.parquet"
        last.write_bytes(bytes(last.stat().st_size))
        assert list(load(path)) == joined(batches(4))
        assert len(caplog.messages) == 1
        assert f"{last} is damaged" in caplog.text
        assert "it is omitted" in caplog.text
        assert load_metadata(path) == {"port": "COM3"}
        write(path, batches(1, 5), append=True)
        assert f"{last} is damaged" in caplog.messages[1]
        assert caplog.messages[1].endswith("it is set aside")
        assert list(load(path)) == joined(batches(4)) + batch(5)
        assert names(parts) == ["000003.parquet.damaged"]

    def test_damage_before_the_end_is_an_error(self, path: Path, parts: Path, small_parts: None) -> None:
        killed(path, 0, 5)
        (parts / "000002.parquet").write_bytes(b"")
        samples = load(path)
        assert [next(samples) for _ in range(10)] == joined(batches(2))
        with pytest.raises(ServomexSinkSchemaError, match=r"000002\.parquet is damaged or not a Parquet file"):
            next(samples)


class TestFailures:
    def test_a_part_that_cannot_be_written_leaves_the_one_before(
        self, path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_sink(path, flush_s=1000) as sink:
            sink.write(batch(0))
            sink.flush()
            with monkeypatch.context() as patch:
                patch.setattr("os.replace", _full)
                sink.write(batch(1))
                with pytest.raises(ServomexSinkWriteError, match=rf"the disk of {re.escape(str(path))} is full"):
                    sink.flush()
            assert names(parts) == ["000001.parquet"]
            assert list(load(path)) == batch(0)
            sink.write(batch(2))
        assert list(load(path)) == joined(batches(3))

    def test_a_merge_that_fails_leaves_the_parts(
        self, path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = write(path, batches(2))
        sink = open_sink(path, append=True)
        sink.write(batch(2))
        sink.flush()
        monkeypatch.setattr("os.replace", _full)
        with pytest.raises(ServomexSinkWriteError, match=rf"the disk of {re.escape(str(path))} is full"):
            sink.close()
        monkeypatch.undo()
        sink.close()
        assert names(parts) == ["000002.parquet"]
        assert list(load(path)) == before + batch(2)
        write(path, [], append=True)
        assert list(load(path)) == before + batch(2)
        assert names(path.parent) == ["run.parquet"]

    @pytest.mark.parametrize(("change", "words"), [
        (lambda table: table.drop_columns(["alarm4"]), "it lacks 'alarm4'"),
        (lambda table: table.append_column("note", pa.nulls(5)), "it also has 'note'"),
        (lambda table: table.set_column(7, "value", pa.array([1] * 5)), "'value' is int64 instead of double"),
    ])  # fmt: skip
    def test_other_columns_are_reported(self, path: Path, parts: Path, change: Any, words: str) -> None:
        write(path, batches(1))
        pq.write_table(change(pq.read_table(path)), path)
        with pytest.raises(ServomexSinkSchemaError, match=words):
            open_sink(path, append=True)
        with pytest.raises(ServomexSinkSchemaError, match=words):
            list(load(path))
        assert not parts.exists()

    def test_a_row_that_cannot_be_is_reported_with_its_number(self, path: Path) -> None:
        write(path, batches(1))
        table = pq.read_table(path)
        channels = pa.array(["I1", "I2", "I7", "E1", "E2"]).dictionary_encode()
        pq.write_table(table.set_column(4, table.schema.field("channel"), channels), path)
        with pytest.raises(ServomexSinkSchemaError, match=r"run\.parquet, row 3: invalid channel: 'I7'"):
            list(load(path))

    def test_a_damaged_file_is_reported(self, path: Path) -> None:
        write(path, batches(50))
        content = bytearray(path.read_bytes())
        content[100:2000] = b"\xff" * 1900
        path.write_bytes(content)
        with pytest.raises(ServomexSinkSchemaError, match=rf"{re.escape(str(path))} is damaged"):
            list(load(path))

    def test_missing_pyarrow_is_reported_on_reading_too(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(path, batches(1))
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ServomexSinkDependencyError, match=r'python -m pip install "servomex\[parquet\]"'):
            load(path)


def _full(*_args: object, **_options: object) -> None:
    raise OSError(28, "No space left on device")
