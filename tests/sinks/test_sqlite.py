"""SQLite: types, the index, metadata, and others that use the database."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest

from servomex.errors import (
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
)
from servomex.models.columns import ROW_COLUMNS
from servomex.recording.fan_out import FanOut
from servomex.recording.load import load, load_metadata
from servomex.sinks import check_targets, open_sink, sqlite
from servomex.sinks import sqlite_database as database
from servomex.sinks.sqlite import SqliteSink
from tests.helpers.recordings import batch, batches, joined, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the database."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.02)
    monkeypatch.setattr(sqlite, "BUSY_S", 0.02)
    monkeypatch.setattr(sqlite, "BUSY_WRITING_MS", 20)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (PurePosixPath("/lab/run 1?#.sqlite"), "file:///lab/run%201%3F%23.sqlite?mode=ro"),
        (PureWindowsPath(r"C:\lab\run.sqlite"), "file:///C:/lab/run.sqlite?mode=ro"),
        (PureWindowsPath(r"\\nas\lab\run.sqlite"), "file:////nas/lab/run.sqlite?mode=ro"),
    ],
)
def test_a_path_is_written_as_sqlite_reads_it(path: PurePath, uri: str) -> None:
    assert database.uri_of(path, "mode=ro") == uri


def values(connection: sqlite3.Connection, query: str) -> list[object]:
    return [row[0] for row in connection.execute(query)]


class TestTheDatabase:
    def test_the_columns_have_their_types(self, path: Path) -> None:
        write(path, batches(7))
        with closing(sqlite3.connect(path)) as connection:
            table = connection.execute("PRAGMA table_info(samples)").fetchall()
            kinds = {name: kind for _, name, kind, *_ in table}
            assert list(kinds) == ROW_COLUMNS
            assert set(kinds.values()) == {"TEXT", "INTEGER", "REAL"}
            for column, kind in (
                ("received_at", "text"), ("monotonic_ns", "integer"), ("value", "real"), ("ok", "integer"),
                ("alarm4", "integer"), ("analyser_clock", "text"), ("name", "text"),
            ):  # fmt: skip
                query = f"SELECT DISTINCT typeof({column}) FROM samples WHERE channel = 'I1'"
                assert values(connection, query) == [kind]
            assert values(connection, "SELECT count(*) FROM samples WHERE value IS NULL AND error <> ''") == [1]

    def test_times_can_be_searched_by_an_index(self, path: Path) -> None:
        write(path, batches(30))
        with closing(sqlite3.connect(path)) as connection:
            query = "SELECT count(*) FROM samples WHERE received_at >= '2026-03-01T12:31' AND channel = 'I1'"
            assert values(connection, query) == [19]
            plan = " ".join(str(row) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
            assert "samples_received_at" in plan
            latest = "SELECT strftime('%H:%M:%S', max(received_at)) FROM samples"
            assert values(connection, latest) == ["12:31:43"]

    def test_the_journal_is_a_log_that_is_gone_in_the_end(self, path: Path) -> None:
        with open_sink(path, flush_s=0) as sink:
            sink.write(batch(0))
            assert path.with_name("run.sqlite-wal").exists()
            assert isinstance(sink, SqliteSink)
            assert sink.size >= path.stat().st_size + path.with_name("run.sqlite-wal").stat().st_size
        assert [item.name for item in path.parent.iterdir()] == [path.name]

    def test_a_sync_waits_for_the_disk_and_a_flush_does_not(self, path: Path) -> None:
        said: list[str] = []
        with open_sink(path) as sink:
            assert isinstance(sink, SqliteSink)
            sink._connection.set_trace_callback(said.append)
            sink.write(batch(0))
            sink.flush()
            assert not any("synchronous" in line for line in said)
            sink.sync()
            marks = [line for line in said if line.startswith(("PRAGMA", "COMMIT", "INSERT INTO metadata"))]
            assert [line[:26] for line in marks[1:]] == [
                "PRAGMA synchronous = FULL",
                "INSERT INTO metadata VALUE",
                "COMMIT",
                "PRAGMA synchronous = NORMA",
                "PRAGMA wal_checkpoint(PASS",
                "PRAGMA data_version",
            ]
            assert values(sink._connection, "PRAGMA journal_mode") == ["wal"]
            assert values(sink._connection, "PRAGMA synchronous") == [1]

    def test_metadata_need_not_be_unicode(self, path: Path) -> None:
        write(path, [batch(0)], metadata={"port": "/dev/tty\udcff"})
        assert load_metadata(path) == {"port": "/dev/tty?"}

    def test_metadata_is_a_table_of_its_own(self, path: Path) -> None:
        with open_sink(path, metadata={"port": "COM3", "software": "servomex 0.1"}):
            pass
        with open_sink(path, append=True, metadata={"port": "COM4", "note": "=1"}):
            pass
        assert load_metadata(path) == {"port": "COM4", "software": "servomex 0.1", "note": "=1"}
        with closing(sqlite3.connect(path)) as connection:
            assert values(connection, "SELECT value FROM metadata WHERE key = 'synced_at'")


class TestOthers:
    def test_they_may_read_while_it_is_written(self, path: Path, no_waiting: None) -> None:
        with open_sink(path, flush_s=0) as sink:
            sink.write(batch(0))
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                assert values(reader, "SELECT count(*) FROM samples") == [5]
                sink.write(batch(1))
                assert values(reader, "SELECT count(*) FROM samples") == [5]
                reader.execute("COMMIT")
                assert values(reader, "SELECT count(*) FROM samples") == [10]

    def test_a_lock_is_reported_and_nothing_is_lost_when_it_ends(self, path: Path, no_waiting: None) -> None:
        with open_sink(path, flush_s=1000) as sink:
            sink.write(batch(0))
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(ServomexSinkWriteError) as caught:
                    sink.flush()
                assert str(caught.value) == (
                    f"{path} is locked by another program. Let that one finish, or write to another file"
                )
                other.execute("COMMIT")
            sink.write(batch(1))
        assert list(load(path)) == joined(batches(2))

    def test_a_lock_that_stays_does_not_hold_up_closing(self, path: Path, no_waiting: None) -> None:
        sink = open_sink(path, flush_s=1000)
        sink.write(batch(0))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ServomexSinkWriteError, match=r"is locked .* The last 5 rows are lost"):
                sink.close()
        assert list(load(path)) == []

    def test_a_locked_database_is_reported_on_opening(
        self, path: Path, other: sqlite3.Connection, no_waiting: None
    ) -> None:
        other.execute("CREATE TABLE mine (x)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServomexSinkWriteError, match="is locked by another program"):
            open_sink(path, append=True)

    def test_a_flush_that_fails_halfway_leaves_nothing_behind(self, path: Path, other: sqlite3.Connection) -> None:
        with open_sink(path, append=True, flush_s=1000) as sink:
            other.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON samples WHEN new.channel = 'E1' "
                "BEGIN SELECT RAISE (FAIL, 'not E1'); END"
            )
            sink.write(batch(0))
            with pytest.raises(ServomexSinkWriteError, match=r"run\.sqlite failed: not E1"):
                sink.flush()
            assert values(other, "SELECT count(*) FROM samples") == [0]
            other.execute("DROP TRIGGER refuse")
            sink.write(batch(1))
        assert list(load(path)) == joined(batches(2))

    def test_a_database_that_is_being_written_is_not_replaced(self, path: Path, no_waiting: None) -> None:
        with open_sink(path) as sink:
            sink.write(batch(0))
            sink.flush()
            for attempt in (open_sink, lambda target, **options: check_targets([target], **options)):
                with pytest.raises(ServomexSinkWriteError, match="is being written by another program"):
                    attempt(path, overwrite=True)
            sink.write(batch(1))
        assert list(load(path)) == batch(0) + batch(1)
        write(path, [batch(2)], overwrite=True)
        assert list(load(path)) == batch(2)

    def test_damage_during_a_run_ends_it(self, path: Path) -> None:
        sink = open_sink(path, flush_s=0)
        sink.write(batch(0))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            size = connection.execute("PRAGMA page_size").fetchone()[0]
        with path.open("r+b") as file:
            file.seek(size)
            file.write(bytes(size * (pages - 1)))
        writer = FanOut([sink])
        with pytest.raises(ServomexSinkError, match="is damaged"):
            writer.write(batch(1))
        with pytest.raises(ServomexSinkError, match="is damaged"):
            writer.close()

    def test_a_database_with_other_tables_gets_ours(self, path: Path, other: sqlite3.Connection) -> None:
        other.execute("CREATE TABLE mine (x)")
        other.execute("INSERT INTO mine VALUES (7)")
        assert write(path, batches(2), append=True) == list(load(path))
        assert values(other, "SELECT x FROM mine") == [7]

    @pytest.mark.parametrize(("table", "words"), [
        ("samples (received_at, x)", "the table 'samples' of .* it lacks 'monotonic_ns', .* it also has 'x'"),
        (f"samples ({', '.join(ROW_COLUMNS)})", "the column 'received_at' is  instead of TEXT"),
        (f"samples ({' TEXT, '.join(ROW_COLUMNS)} TEXT)", "'monotonic_ns' is TEXT instead of INTEGER"),
        ("metadata (key, value, more)", "has a table 'metadata' that is not from this package"),
    ])  # fmt: skip
    def test_tables_of_our_names_that_are_not_ours_are_reported(
        self, path: Path, other: sqlite3.Connection, table: str, words: str
    ) -> None:
        other.execute(f"CREATE TABLE {table}")
        with pytest.raises(ServomexSinkSchemaError, match=words):
            open_sink(path, append=True)
        assert values(other, "SELECT count(*) FROM sqlite_master WHERE type = 'table'") == [1]

    def test_a_database_that_is_overwritten_takes_its_log_along(self, path: Path) -> None:
        log = path.with_name("run.sqlite-wal")
        with open_sink(path, flush_s=0) as sink:
            sink.write(batch(0))
            killed = log.read_bytes()
        log.write_bytes(killed)
        assert write(path, [batch(1)], overwrite=True) == list(load(path))


class TestReading:
    def test_reading_leaves_nothing_behind(self, path: Path) -> None:
        write(path, batches(2))
        samples = load(path)
        next(samples)
        list(samples)
        assert [item.name for item in path.parent.iterdir()] == [path.name]

    def test_a_folder_that_may_not_be_written_can_be_read(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = write(path, batches(2))
        monkeypatch.setattr(os, "access", lambda _path, mode: mode == os.R_OK)
        assert list(load(path)) == written
        assert [item.name for item in path.parent.iterdir()] == [path.name]

    def test_a_file_that_may_not_be_used_is_reported(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(path, batches(2))
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ServomexSinkReadError, match=r"run\.sqlite cannot be read: permission denied"):
            list(load(path))
        with pytest.raises(
            ServomexSinkWriteError,
            match=r"run\.sqlite cannot be written: permission denied. Check the permissions",
        ):
            open_sink(path, append=True)

    @pytest.mark.parametrize(("change", "words"), [
        ("UPDATE samples SET channel = 'I7' WHERE rowid = 3", "row 3: invalid channel: 'I7'"),
        ("UPDATE samples SET value = 'x' WHERE rowid = 4", "row 4: invalid value: 'x'"),
        ("UPDATE samples SET name = CAST(x'ff' AS TEXT) WHERE rowid = 2", "is damaged: Could not decode"),
        ("DROP TABLE samples", "holds no recording: it has no table 'samples'"),
    ])  # fmt: skip
    def test_what_cannot_be_is_reported(
        self, path: Path, other: sqlite3.Connection, change: str, words: str
    ) -> None:
        write(path, batches(2), append=True)
        other.execute(change)
        with pytest.raises(ServomexSinkSchemaError, match=words):
            list(load(path))

    def test_a_damaged_database_is_reported(self, path: Path) -> None:
        write(path, batches(200))
        content = bytearray(path.read_bytes())
        content[4096 * 5 : 4096 * 12] = b"\xff" * 4096 * 7
        path.write_bytes(content)
        with pytest.raises(ServomexSinkSchemaError, match="is damaged: database disk image is malformed"):
            list(load(path))

    def test_what_is_no_database_is_reported(self, path: Path) -> None:
        path.write_bytes(b"nothing of the kind" * 100)
        for act in (lambda: list(load(path)), lambda: open_sink(path, append=True)):
            with pytest.raises(ServomexSinkSchemaError, match="is not an SQLite database"):
                act()


def test_a_database_with_endless_metadata_is_not_taken_in(path: Path) -> None:
    write(path, [batch(0)], metadata={"port": "COM3"})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO metadata VALUES (?, 'x')", ((str(number),) for number in range(20_000))
        )
    with pytest.raises(ServomexSinkSchemaError, match="more than 10000 notes"):
        load_metadata(path)
    assert list(load(path)) == batch(0)
