"""Tables of SQLite and the compression of Parquet: what is chosen is what is written, and found again."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from servomex.errors import Argument, ServomexSinkReadError, ServomexSinkSchemaError, ServomexValidationError
from servomex.models.columns import ROW_COLUMNS
from servomex.recording.load import load, load_metadata
from servomex.sinks import ParquetSink, SqliteSink, check_targets, open_sink
from tests.helpers.recordings import batch, batches, joined, write


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        )


class TestTablesOfSqlite:
    @pytest.mark.parametrize("table", ["run_1", "_x", "order", "SELECT", "Samples", "x" * 63])
    def test_it_is_written_continued_and_found(self, table: str, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        write(path, batches(2), table=table, metadata={"port": "COM3"})
        assert tables(path) == sorted([table, "metadata"])
        check_targets([path], table=table, append=True)
        write(path, batches(2, 2), table=table, append=True)
        assert list(load(path)) == list(load(path, table=table)) == joined(batches(4))
        assert load_metadata(path) == {"port": "COM3"}

    def test_several_share_a_file_and_one_must_be_named(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        first = write(path, batches(2))
        second = write(path, batches(3, 10), table="second", append=True)
        assert list(load(path, table="samples")) == first
        assert list(load(path, table="second")) == second
        with pytest.raises(
            ServomexSinkSchemaError, match="several recordings, in its tables 'samples', 'second'"
        ) as caught:
            list(load(path))
        assert caught.value.argument == Argument("table")
        assert "Choose one with table='s" in str(caught.value)
        assert [len(list(load([path], table=table))) for table in ("second", "samples")] == [
            len(second),
            len(first),
        ]

    def test_tables_of_others_are_not_in_the_way(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        written = write(path, batches(2), table="mine")
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                f'CREATE TABLE "a b" ({", ".join(ROW_COLUMNS)});'
                "CREATE TABLE other (x); CREATE VIEW good AS SELECT * FROM mine WHERE ok;"
            )
        assert list(load(path)) == written
        with pytest.raises(ServomexSinkSchemaError, match=r"its 'good' is not a table as this package makes it"):
            list(load(path, table="good"))
        with pytest.raises(ServomexSinkSchemaError, match=r"the table 'other' of .* does not have the columns"):
            list(load(path, table="other"))
        with pytest.raises(ServomexSinkSchemaError, match=r"holds no recording: it has no table 'nowhere'"):
            list(load(path, table="nowhere"))

    def test_an_old_recording_beside_a_new_one_is_not_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        write(path, batches(2), table="mine")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"CREATE TABLE samples ({', '.join(ROW_COLUMNS[:-2])})")
        with pytest.raises(ServomexSinkSchemaError, match="several recordings"):
            list(load(path))

    @pytest.mark.parametrize("table", [
        "", "1st", "a b", 'a"b', "a;--", "é", "x" * 64, "metadata", "Metadata", "sqlite_x", "a\n", "a.b", "ａ", 7,
        None,
    ])  # fmt: skip
    def test_what_is_no_name_is_refused_before_anything_is_made(self, table: Any, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        with pytest.raises(ServomexValidationError, match=re.escape(f"a table cannot be named {table!r}")):
            SqliteSink(path, table=table)
        assert list(tmp_path.iterdir()) == []
        if table is not None:
            write(path, batches(1))
            for call in (lambda: list(load(path, table=table)), lambda: check_targets([path], table=table)):
                with pytest.raises(ServomexValidationError, match="a table cannot be named"):
                    call()

    def test_a_file_without_tables_says_so(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", batches(1))
        with pytest.raises(ServomexValidationError, match=r"run\.csv has no tables\. Omit table"):
            load(tmp_path / "run.csv", table="samples")
        with pytest.raises(ServomexSinkReadError, match="there is no file"):
            load(tmp_path / "none.sqlite", table="samples")

    def test_a_rotated_one_has_it_in_each_file(self, tmp_path: Path) -> None:
        with open_sink(tmp_path / "run.sqlite", rotate="4s", table="mine") as sink:
            for part in batches(5):
                sink.write(part)
        files = sorted(tmp_path.iterdir())
        assert len(files) > 1
        assert [tables(file) for file in files] == [["metadata", "mine"]] * len(files)
        assert list(load(files)) == joined(batches(5))

    def test_one_that_is_deleted_while_it_is_written_comes_again(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        sink = SqliteSink(path, table="mine", flush_s=0)
        sink.write(batch(0))
        for file in tmp_path.glob("run.sqlite*"):
            file.unlink()
        sink.write(batch(1))
        sink.flush()
        assert list(load(path, table="mine")) == batch(1)
        with pytest.raises(OSError, match="another program removed 5 rows"):
            sink.close()


class TestCompressionOfParquet:
    @pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "brotli", "lz4", "none"])
    def test_it_is_that_of_the_file_and_its_parts(self, compression: str, tmp_path: Path) -> None:
        path = tmp_path / "run.parquet"
        with ParquetSink(path, compression=compression) as sink:
            sink.write(batch(0))
            sink.flush()
            (part,) = (tmp_path / "run.parquet.parts").glob("*.parquet")
            found = [pq.read_metadata(part).row_group(0).column(0).compression]
        found.append(pq.read_metadata(path).row_group(0).column(0).compression)
        assert found == [{"none": "UNCOMPRESSED"}.get(compression, compression.upper())] * 2
        assert list(load(path)) == batch(0)
        write(path, [batch(1)], append=True)
        assert list(load(path)) == joined(batches(2))

    def test_the_usual_one_is_zstd(self, tmp_path: Path) -> None:
        write(tmp_path / "run.parquet", batches(1))
        assert pq.read_metadata(tmp_path / "run.parquet").row_group(0).column(0).compression == "ZSTD"

    @pytest.mark.parametrize("compression", ["ZSTD", "lzo", "", None, 3])
    def test_another_is_refused_before_anything_is_made(self, compression: Any, tmp_path: Path) -> None:
        with pytest.raises(
            ServomexValidationError, match="compression must be one of zstd, snappy, gzip, brotli, lz4, none"
        ):
            ParquetSink(tmp_path / "run.parquet", compression=compression)
        assert list(tmp_path.iterdir()) == []
