"""SQLite databases: ``.sqlite``, ``.sqlite3`` and ``.db``."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servomex.errors import ServomexSinkError, ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.models.plain import time_text
from servomex.models.sample import Sample
from servomex.rows.formats import SQL
from servomex.runtime.forks import keep_forever
from servomex.runtime.logs import package_log
from servomex.sinks.base import FLUSH_S, FSYNC_S
from servomex.sinks.files import FileSink, explained, lost, plain_metadata
from servomex.sinks.places import (
    LockFile,
    Place,
    busy,
    check_one_name,
    open_at_end,
    place_of,
    real,
    sync_folder,
    unused,
)
from servomex.sinks.sqlite_database import (
    BUSY_S,
    CREATE,
    INSERT,
    NOTE,
    SYNCED,
    TABLE,
    check_tables,
    checked_table,
    connected,
    explanation,
    is_blank,
    last_samples_in,
    notes_in,
    samples_in,
    uri_of,
)
from servomex.sinks.sqlite_log import log_of, put_aside_log, unlink_database, unlink_log

_log = package_log("servomex")

BUSY_WRITING_MS = 500
"""How long a flush waits for another program; other sinks wait for this one meanwhile."""


class SqliteSink(FileSink):
    """Writes a table of a database; other programs may read it at the same time.

    The columns are :data:`servomex.ROW_COLUMNS`: times are TEXT in ISO 8601, flags and ``monotonic_ns`` INTEGER,
    ``value`` and ``latency_s`` REAL, all else TEXT; there is an index on ``received_at``. The metadata is in the
    table ``metadata(key, value)``, one for all tables; its ``synced_at`` is the time up to which nothing can be
    lost in a loss of power.

    The database is in WAL mode: a commit survives the death of the process, and a sync a loss of power.

    Args:
        path: The file.
        append: Append to the file if it exists.
        overwrite: Replace the file if it exists.
        flush_s: Seconds until a row survives the death of the process, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once; ``None`` leaves that to the system.
        metadata: Facts about the whole recording.
        table: The table of the rows: a word of up to 63 letters, digits and ``_``, the first one not a digit.

    Raises:
        ServomexSinkError: See :class:`FileSink`.
        ServomexValidationError: The table cannot have this name, or see :class:`FileSink`.
    """

    _format = SQL

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        overwrite: bool = False,
        flush_s: float = FLUSH_S,
        fsync_s: float | None = FSYNC_S,
        metadata: Mapping[str, str] | None = None,
        table: str = TABLE,
    ) -> None:
        self.table: str = checked_table(table)
        self.metadata: dict[str, str] = plain_metadata(metadata)
        super().__init__(path, append=append, overwrite=overwrite, flush_s=flush_s, fsync_s=fsync_s)

    def _open(self) -> None:
        create = not (self.append and self.path.exists())
        self._link = contextlib.ExitStack()
        self._held.callback(lambda: self._link.close())
        with explained(self.name):
            self._lock_recording()
            check_one_name(self.path)
            if self.overwrite and self.path.exists():
                self._check_unused(self.path)
                unlink_database(self.path)
            if create:
                open_at_end(self.path, create=True).close()  # explains a failure better than SQLite
            elif not os.access(self.path, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, "not permitted")
        with self._creating() if create else contextlib.nullcontext():
            try:
                self._connect()
            except BaseException:
                self._link.close()  # Windows does not remove an open file
                raise

    def _lock_recording(self) -> None:
        path = real(self.path)
        self._lock = LockFile(path.with_name(f"{path.name}-lock"), self.path)
        self._link.callback(self._lock.close)

    def _connect(self) -> None:
        self._connected, self._rows, self._longest = False, 0, 0
        self._rows_in_file = self._log_size = 0
        with explained(self.name):
            self._opened_as = self.path.stat()
            if not self._opened_as.st_size:
                put_aside_log(self.path)
            self._descriptor = _placeholder(self.path)
        if self._descriptor is not None:
            self._link.callback(os.close, self._descriptor)
        with self._explained():
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._link.callback(self._connection.close)
            check_tables(self._connection, self.path, self.table)
            (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA fullfsync = ON")
            self._connection.execute("PRAGMA checkpoint_fullfsync = ON")
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_WRITING_MS}")
            self._connection.executescript(CREATE.format(table=self.table))
        self._has_log = mode == "wal"
        if not self._has_log:
            _log.warning(
                "%s has no log (journal mode %r), as on some network folders: reading it delays the writing",
                self.name,
                mode,
            )
        with self._transaction():
            self._connection.executemany(NOTE, self.metadata.items())
        self._write_log_back()
        if self._fsync_s is not None:
            sync_folder(real(self.path).parent)
        self._connected = True

    def _check_place(self) -> None:
        """Continue in a new database when this one was deleted, moved or emptied."""
        if self._connected:
            with explained(self.name):
                place = self._place()
                log = log_of(self.path)
                is_whole = not self._has_log or log.exists()
                is_shorter = self._has_log and is_whole and log.stat().st_size < self._log_size
            if place is Place.HERE and is_shorter and self._misses_rows():
                self._leave_cut_log()
                self._start_over()
                return
            if place is Place.HERE and is_whole:
                if not self._lock.is_kept:
                    self._lock.close()
                    self._lock_recording()
                return
            if place is Place.HERE:
                self._renew_log()
                return
            self._leave(place)
        self._start_over()

    def _place(self) -> Place:
        place = Place.HERE
        if self._descriptor is not None:
            place = place_of(self._descriptor, self.path)
        elif os.name != "nt":
            same = self.path.exists() and os.path.samestat(self._opened_as, self.path.stat())
            place = Place.HERE if same else Place.DELETED
        return Place.CUT if place is Place.HERE and self._is_cut() else place

    def _is_cut(self) -> bool:
        """Return whether the database has become shorter, and not by a ``VACUUM`` of another program."""
        size, before = self.path.stat().st_size, self._longest
        self._longest = size
        if size >= before:
            return False
        return not size or self._version() == self._version_before

    def _leave(self, place: Place) -> None:
        """Complete and close a database that was moved; its log must not become that of the new one."""
        is_left = place is not Place.CUT and self._checkpoint("TRUNCATE")
        if is_left and place is Place.MOVED:
            raise ServomexSinkWriteError(
                f"{self.name} was moved, and another program is reading it", cure="End that one"
            )
        self._connected = False
        self._link.close()
        if place is Place.CUT:
            with explained(self.name):
                os.truncate(self.path, 0)  # closing the connection has written only a part into it
        if place is Place.CUT or not self.path.exists():
            unlink_log(self.path)
        self._note_place(place, self._rows)

    def _misses_rows(self) -> bool:
        """Return whether another connection misses the newest row; shortening the log may be legitimate."""
        newest = f'SELECT max(rowid) FROM "{self.table}"'  # noqa: S608 (a checked name)
        with self._blaming_database(), self._explained():
            (wanted,) = self._connection.execute(newest).fetchone()
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=0)) as other:
                return bool(other.execute(newest).fetchone() != (wanted,))
        except sqlite3.Error:
            url = uri_of(self.path.absolute(), "immutable=1")
            with (
                self._blaming_database(),
                self._explained(),
                contextlib.closing(sqlite3.connect(url, uri=True)) as alone,
            ):
                alone.execute(newest).fetchone()  # damage of the database itself is another matter
            return True

    def _leave_cut_log(self) -> None:
        """Rename a database that has the state of the last sync: later rows were in the log."""
        path, rows = real(self.path), self._rows - self._rows_in_file
        kept = unused(path.with_name(f"{path.stem}-cut{path.suffix}"))
        with explained(self.name):
            # Otherwise closing the connection would write the rest of the log into it, and ruin it.
            path.rename(kept)
        self._link.close()
        unlink_log(self.path)
        self._removed += rows
        self._connected = False
        _log.warning(
            "%s was cut by another program while it was written: %s; the rows up to the last sync are in %s, and "
            "the rest goes to a new database",
            log_of(self.path),
            lost(rows),
            kept.name,
        )

    def _renew_log(self) -> None:
        """Write the rows of a deleted log, which is still open, into the database; continue with a new log."""
        if self._checkpoint("PASSIVE"):
            return  # another program reads the database: retry at the next check
        rows, self._connected = self._rows, False
        self._link.close()
        _log.warning("%s was deleted by another program: its rows are in the database", log_of(self.path))
        self._start_over()
        self._rows = rows

    def _start_over(self) -> None:
        with self._starting_over():
            with explained(self.name):
                self._lock_recording()
                with contextlib.suppress(FileExistsError):
                    open_at_end(self.path, create=True).close()
            try:
                self._connect()
            except BaseException:
                self._link.close()
                raise

    def _write_log_back(self) -> None:
        """Write the log into the database, so that a copy of the database file alone has all rows so far."""
        self._checkpoint("PASSIVE")
        self._version_before = self._version()
        with explained(self.name):
            self._longest = self.path.stat().st_size

    def _checkpoint(self, how: str) -> bool:
        """Write the log into the database, as far as its readers allow; return whether some of it is left."""
        with self._explained():
            busy, logged, written = self._connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        if busy or logged > written:
            return True
        self._rows_in_file = self._rows
        return False

    def _version(self) -> int:
        """Return a number that changes when another program writes to the database."""
        with self._explained():
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(number)

    def _let_go(self) -> None:
        """Leave the connection alone in a forked child: closing it there could write a stale log over the file."""
        keep_forever(self._connection)
        self._lock.let_go()
        self._held = contextlib.ExitStack()
        self._pending = []
        self.closed = True

    @property
    def size(self) -> int:
        """Bytes that its file and the log beside it have so far."""
        return sum(path.stat().st_size for path in (self.path, log_of(self.path)) if path.exists())

    def _store(self, rows: list[Any]) -> None:
        with self._blaming_database(), self._transaction():
            self._connection.executemany(INSERT.format(table=self.table), rows)
        self._rows += len(rows)
        if self._has_log:
            with explained(self.name), contextlib.suppress(FileNotFoundError):
                self._log_size = log_of(self.path).stat().st_size

    def _sync(self) -> None:
        # Only a commit that changes something makes SQLite wait for the disk.
        with self._explained():
            self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            self._connection.execute(NOTE, (SYNCED, time_text(datetime.now(UTC))))
        with self._explained():
            self._connection.execute("PRAGMA synchronous = NORMAL")
        self._write_log_back()

    @contextlib.contextmanager
    def _blaming_database(self) -> Iterator[None]:
        """Turn damage into an error that ends the writing: the rows are not at fault."""
        try:
            yield
        except ServomexSinkSchemaError as error:
            raise ServomexSinkError(error.message, cure=error.cure) from error

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
            raise explanation(self.name, error) from error

    @contextlib.contextmanager
    def _creating(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                unlink_database(self.path)
            raise

    @classmethod
    def _check_unused(cls, path: Path) -> None:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")  # is refused while another program has it open
        except sqlite3.Error as error:
            if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise busy(path) from error

    @classmethod
    def check(cls, path: Path, *, append: bool = False, overwrite: bool = False, **others: Any) -> None:
        """Check whether a file can be written; see :meth:`FileSink.check`."""
        table = checked_table(others.pop("table", TABLE))
        super().check(path, append=append, overwrite=overwrite, **others)
        if append and path.exists():
            with connected(path) as connection:
                check_tables(connection, path, table)

    @classmethod
    def _check_columns(cls, path: Path) -> None:
        """Do nothing: :meth:`check` knows the table, and checks it."""

    @classmethod
    def is_blank(cls, path: Path) -> bool:
        """Return whether a database has no tables yet."""
        return is_blank(path)

    @classmethod
    def read(cls, path: Path, table: str | None = None) -> Iterator[Sample]:
        """Return the samples of a database in the order in which they were written.

        Without ``table``, those of the only table that is a recording.
        """
        return samples_in(path, table)

    @classmethod
    def read_last(cls, path: Path, most: int, table: str | None = None) -> list[Sample]:
        """Return the newest samples of a database."""
        return last_samples_in(path, table, most)

    @classmethod
    def read_metadata(cls, path: Path) -> dict[str, str]:
        """Return the table ``metadata``."""
        return notes_in(path)


def _placeholder(path: Path) -> int | None:
    """Return a descriptor for watching a file; ``None`` where the system has no harmless one.

    Closing any other would release the locks of SQLite on the same file.
    """
    flags = getattr(os, "O_PATH", None)
    return None if flags is None else os.open(path, flags)
