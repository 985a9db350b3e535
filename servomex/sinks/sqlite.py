"""SQLite databases: ``.sqlite``, ``.sqlite3`` and ``.db``."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servomex.errors import (
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
)
from servomex.models import ROW_COLUMNS, Sample
from servomex.process import keep_forever
from servomex.rows import COLUMN_KINDS, ColumnKind, check_columns, sample_of, stored_row, time_text
from servomex.sinks.files import BUSY, FileSink, explained, explained_reading, sync_folder

BUSY_S = 5.0
"""How long opening and reading wait for another program that writes to the same database."""
BUSY_WRITING_MS = 500
"""How long a flush waits for it: not for long, since other sinks wait for this one."""

_TYPES = {ColumnKind.INTEGER: "INTEGER", ColumnKind.FLAG: "INTEGER", ColumnKind.NUMBER: "REAL"}
_NEVER_EMPTY = ("received_at", "monotonic_ns", "device", "protocol")
_COLUMNS = {column: _TYPES.get(kind, "TEXT") for column, kind in COLUMN_KINDS.items()}
_CREATE = """
CREATE TABLE IF NOT EXISTS samples ({columns});
CREATE INDEX IF NOT EXISTS samples_received_at ON samples (received_at);
CREATE TABLE IF NOT EXISTS metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
""".format(
    columns=", ".join(
        f"{name} {kind}{' NOT NULL' if name in _NEVER_EMPTY else ''}" for name, kind in _COLUMNS.items()
    )
)
_INSERT = f"INSERT INTO samples VALUES ({', '.join('?' * len(ROW_COLUMNS))})"  # noqa: S608 (no text from outside)
_NOTE = "INSERT INTO metadata VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_SYNCED = "synced_at"
_CURES = {
    "SQLITE_BUSY": "is locked by another program: let that one finish, or write to another file",
    "SQLITE_FULL": "cannot grow: its disk is full. Free some space there, or write to another disk",
    "SQLITE_READONLY": "may only be read: check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "cannot be opened: check that its folder exists and may be written",
    "SQLITE_IOERR": "cannot be written: its disk fails, is full or was removed",
}


class SqliteSink(FileSink):
    """Writes the table ``samples`` of a database; other programs may read it at the same time.

    The columns are :data:`servomex.ROW_COLUMNS`: times are TEXT in ISO 8601, flags and ``monotonic_ns`` INTEGER,
    ``value`` and ``latency_s`` REAL, all else TEXT; there is an index on ``received_at``. The metadata is in the
    table ``metadata(key, value)``; its ``synced_at`` tells up to when a loss of power can take nothing away.

    The database is in WAL mode: a commit survives the death of the process, and a sync a loss of power.
    """

    def _open(self) -> None:
        create = not (self.append and self.path.exists())
        with explained(self.name):
            if self.overwrite and self.path.exists():
                self._check_unused(self.path)
                _unlink(self.path)
            if create:
                self.path.open("xb").close()  # tells better than SQLite why it cannot be
            elif not os.access(self.path, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, "not permitted")
        with self._creating() if create else contextlib.nullcontext():
            self._connect()
        if self._fsync_s is not None:
            sync_folder(self.path.parent)

    def _connect(self) -> None:
        with self._explained():
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._held.callback(self._connection.close)
            _check_tables(self._connection, self.path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_WRITING_MS}")
            self._connection.executescript(_CREATE)
        with self._transaction():
            self._connection.executemany(_NOTE, self.metadata.items())

    def _let_go(self) -> None:
        """Leave the connection alone in a forked child: closing it there could write a stale log over the file."""
        keep_forever(self._connection)
        self._held = contextlib.ExitStack()
        self._pending, self.closed = [], True

    @property
    def size(self) -> int:
        """Bytes that its file has so far, and what waits in the log beside it."""
        return sum(path.stat().st_size for path in (self.path, _log_of(self.path)) if path.exists())

    def _store(self, rows: list[Any]) -> None:
        try:
            with self._transaction():
                self._connection.executemany(_INSERT, map(_values, rows))
        except ServomexSinkSchemaError as error:  # it is not these rows that are at fault
            raise ServomexSinkError(error.message) from error

    def _sync(self) -> None:
        # Only a commit that changes something makes SQLite wait for the disk.
        with self._explained():
            self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            self._connection.execute(_NOTE, (_SYNCED, time_text(datetime.now(UTC))))
        with self._explained():
            self._connection.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _told(self.name, error) from error

    @contextlib.contextmanager
    def _creating(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # Windows, as long as it is open
                _unlink(self.path)
            raise

    @classmethod
    def _check_unused(cls, path: Path) -> None:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")  # is refused while another one has it open
        except sqlite3.Error as error:
            if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise ServomexSinkWriteError(BUSY.format(path=path)) from error

    @classmethod
    def _check_columns(cls, path: Path) -> None:
        with _connected(path) as connection:
            _check_tables(connection, path)

    @classmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Give the samples of a database in the order in which they were written."""
        select = f"SELECT {', '.join(ROW_COLUMNS)} FROM samples ORDER BY rowid"  # noqa: S608 (no text from outside)
        with _reading(path) as connection:
            for number, row in enumerate(connection.execute(select), 1):
                try:
                    sample = sample_of(stored_row(row))
                except ValueError as error:
                    raise ServomexSinkSchemaError(f"{path}, row {number}: {error}") from error
                yield sample

    @classmethod
    def read_metadata(cls, path: Path) -> dict[str, str]:
        """Give the table ``metadata``."""
        with _reading(path) as connection:
            found = connection.execute("SELECT key, value FROM metadata WHERE key <> ?", (_SYNCED,))
            return {str(key): str(value) for key, value in found}


def _values(row: tuple[Any, ...]) -> list[Any]:
    return [time_text(value) if isinstance(value, datetime) else value for value in row]


def _unlink(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that holds a recording; see :func:`_connected`."""
    with _connected(path) as connection:
        if not _check_tables(connection, path):
            raise ServomexSinkSchemaError(f"{path} holds no recording: it has no table 'samples'")
        yield connection


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that may be written at the same time.

    It is not opened in any other way beside that: on POSIX, the end of that would end the locks of SQLite as well.

    Raises:
        ServomexSinkReadError: It cannot be opened.
        ServomexSinkSchemaError: It is damaged, or its columns are others.
    """
    with explained_reading(path):
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, "not permitted")
    url = f"{path.absolute().as_uri()}?{_mode(path)}"
    try:
        with contextlib.closing(sqlite3.connect(url, uri=True, timeout=BUSY_S)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection
    except sqlite3.Error as error:
        raise _told(str(path), error, reading=True) from error


def _mode(path: Path) -> str:
    """Say how a database is opened for reading: one that may be written leaves no log behind."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "mode=rw"
    return "mode=ro" if _log_of(path).exists() else "immutable=1"


def _check_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """Check the columns of our tables, as far as they exist; tell whether that of the samples does.

    Raises:
        ServomexSinkSchemaError: They are others.
    """
    metadata = [name for _, name, *_ in connection.execute("PRAGMA table_info(metadata)")]
    if metadata and metadata != ["key", "value"]:
        raise ServomexSinkSchemaError(f"{path} has a table 'metadata' that is not ours: choose another file")
    found = {name: kind for _, name, kind, *_ in connection.execute("PRAGMA table_info(samples)")}
    if not found:
        return False
    check_columns(f"the table 'samples' of {path}", found)
    for name, kind in _COLUMNS.items():
        if found[name].upper() != kind:
            raise ServomexSinkSchemaError(f"{path}: the column {name!r} is {found[name]} instead of {kind}")
    return True


def _told(path: str, error: sqlite3.Error, *, reading: bool = False) -> ServomexSinkError:
    """Give the error that says what to do."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith("SQLITE_NOTADB"):
        return ServomexSinkSchemaError(f"{path} is no SQLite database: choose another file")
    if name.startswith("SQLITE_CORRUPT") or (reading and not name):
        return ServomexSinkSchemaError(f"{path} is damaged: {error}")
    cure = next((text for key, text in _CURES.items() if name.startswith(key)), f"failed: {error}")
    kind = ServomexSinkReadError if reading else ServomexSinkWriteError
    return kind(f"{path} {cure}")
