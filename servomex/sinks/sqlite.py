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
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
)
from servomex.models import ROW_COLUMNS, Sample
from servomex.process import keep_forever
from servomex.rows import sample_of, stored_row, time_text
from servomex.sinks.database import BUSY_S, COLUMNS, check_tables, connected, log_of, reading, told
from servomex.sinks.files import BUSY, FileSink, Place, explained, place_of, sync_folder

BUSY_WRITING_MS = 500
"""How long a flush waits for it: not for long, since other sinks wait for this one."""

_NEVER_EMPTY = ("received_at", "monotonic_ns", "device", "protocol")
_CREATE = """
CREATE TABLE IF NOT EXISTS samples ({columns});
CREATE INDEX IF NOT EXISTS samples_received_at ON samples (received_at);
CREATE TABLE IF NOT EXISTS metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
""".format(
    columns=", ".join(
        f"{name} {kind}{' NOT NULL' if name in _NEVER_EMPTY else ''}" for name, kind in COLUMNS.items()
    )
)
_INSERT = f"INSERT INTO samples VALUES ({', '.join('?' * len(ROW_COLUMNS))})"  # noqa: S608 (no text from outside)
_NOTE = "INSERT INTO metadata VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_SYNCED = "synced_at"


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
        self._link = contextlib.ExitStack()
        self._held.callback(lambda: self._link.close())
        with self._creating() if create else contextlib.nullcontext():
            self._connect()
        if self._fsync_s is not None:
            sync_folder(self.path.parent)

    def _connect(self) -> None:
        self._connected, self._rows = False, 0
        with explained(self.name):
            self._opened_as = self.path.stat()
            self._descriptor = _placeholder(self.path)
        if self._descriptor is not None:
            self._link.callback(os.close, self._descriptor)
        with self._explained():
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._link.callback(self._connection.close)
            check_tables(self._connection, self.path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_WRITING_MS}")
            self._connection.executescript(_CREATE)
        with self._transaction():
            self._connection.executemany(_NOTE, self.metadata.items())
        self._connected = True

    def _check_place(self) -> None:
        """Go on in a new database when this one was deleted or moved."""
        if self._connected:
            with explained(self.name):
                place = self._place()
            if place is Place.HERE:
                return
            self._leave(place)
        self._begin_anew()

    def _place(self) -> Place:
        if self._descriptor is not None:
            return place_of(self._descriptor, self.path)
        if os.name == "nt":
            return Place.HERE
        same = self.path.exists() and os.path.samestat(self._opened_as, self.path.stat())
        return Place.HERE if same else Place.DELETED

    def _leave(self, place: Place) -> None:
        """Complete a database that was moved, and let go of it; its log must not become that of the new one."""
        with self._explained():
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and place is Place.MOVED:
            raise ServomexSinkWriteError(f"{self.name} was moved, and another program is reading it: end that one")
        self._connected = False
        self._link.close()
        if not self.path.exists():
            _unlink(self.path)
        self._note_place(place, self._rows)

    def _begin_anew(self) -> None:
        with self._beginning_anew():
            with explained(self.name), contextlib.suppress(FileExistsError):
                self.path.open("xb").close()
            try:
                self._connect()
            except BaseException:
                self._link.close()
                raise

    def _let_go(self) -> None:
        """Leave the connection alone in a forked child: closing it there could write a stale log over the file."""
        keep_forever(self._connection)
        self._held = contextlib.ExitStack()
        self._pending, self.closed = [], True

    @property
    def size(self) -> int:
        """Bytes that its file has so far, and what waits in the log beside it."""
        return sum(path.stat().st_size for path in (self.path, log_of(self.path)) if path.exists())

    def _store(self, rows: list[Any]) -> None:
        try:
            with self._transaction():
                self._connection.executemany(_INSERT, map(_values, rows))
        except ServomexSinkSchemaError as error:  # it is not these rows that are at fault
            raise ServomexSinkError(error.message) from error
        self._rows += len(rows)

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
            raise told(self.name, error) from error

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
        with connected(path) as connection:
            check_tables(connection, path)

    @classmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Give the samples of a database in the order in which they were written."""
        select = f"SELECT {', '.join(ROW_COLUMNS)} FROM samples ORDER BY rowid"  # noqa: S608 (no text from outside)
        with reading(path) as connection:
            for number, row in enumerate(connection.execute(select), 1):
                try:
                    sample = sample_of(stored_row(row))
                except ValueError as error:
                    raise ServomexSinkSchemaError(f"{path}, row {number}: {error}") from error
                yield sample

    @classmethod
    def read_metadata(cls, path: Path) -> dict[str, str]:
        """Give the table ``metadata``."""
        with reading(path) as connection:
            found = connection.execute("SELECT key, value FROM metadata WHERE key <> ?", (_SYNCED,))
            return {str(key): str(value) for key, value in found}


def _placeholder(path: Path) -> int | None:
    """Return a descriptor that shows what becomes of a file; ``None`` where the system has no harmless one.

    The end of any other would end the locks of SQLite on the same file.
    """
    flags = getattr(os, "O_PATH", None)
    return None if flags is None else os.open(path, flags)


def _values(row: tuple[Any, ...]) -> list[Any]:
    return [time_text(value) if isinstance(value, datetime) else value for value in row]


def _unlink(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
