"""Opening SQLite databases for reading, their tables, and what their errors mean."""

import contextlib
import errno
import itertools
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote_from_bytes

from servomex.errors import (
    Argument,
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.errors.excerpts import plain, shown
from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.rows.cells import STORED
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind, check_columns
from servomex.runtime.logs import package_log
from servomex.sinks.files import explained_reading
from servomex.sinks.sqlite_log import log_of, unseen_transactions

_log = package_log("servomex")

TABLE = "samples"
"""The usual table of the rows."""
METADATA = "metadata"
SYNCED = "synced_at"
"""The key of the time up to which nothing can be lost in a loss of power."""
MOST_NOTES = 10_000
"""Rows of the table of metadata; a manager of a hundred analysers has some hundreds."""
MOST_TABLES = 1_000
"""The most tables that are searched for the one with the rows."""
MOST_SHOWN = 10
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
BUSY_S = 5.0
"""How long opening and reading wait for another program that is writing to the same database."""
LONGEST_VALUE = 1_000_000
"""Bytes of a value or a row; a longer one is damage, and is not loaded."""
STEPS = 1_000_000
"""The most instructions of SQLite between two rows; a row of this package takes a few dozen."""
_TYPES = {ColumnKind.INTEGER: "INTEGER", ColumnKind.FLAG: "INTEGER", ColumnKind.NUMBER: "REAL"}
COLUMNS = {column: _TYPES.get(kind, "TEXT") for column, kind in COLUMN_KINDS.items()}
_NEVER_EMPTY = ("received_at", "monotonic_ns", "device", "protocol")
_COLUMNS = ", ".join(
    f"{name} {kind}{' NOT NULL' if name in _NEVER_EMPTY else ''}" for name, kind in COLUMNS.items()
)
CREATE = f"""
CREATE TABLE IF NOT EXISTS "{{table}}" ({_COLUMNS});
CREATE INDEX IF NOT EXISTS "{{table}}_received_at" ON "{{table}}" (received_at);
CREATE TABLE IF NOT EXISTS metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
INSERT = f"""INSERT INTO "{{table}}" VALUES ({", ".join("?" * len(ROW_COLUMNS))})"""  # noqa: S608 (a checked name)
NOTE = "INSERT INTO metadata VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_SELECT = f"""SELECT rowid, {", ".join(ROW_COLUMNS)} FROM "{{table}}" ORDER BY rowid"""  # noqa: S608 (a checked name)
_CAUSES = {
    "SQLITE_BUSY": ("is locked by another program", "Let that one finish, or write to another file"),
    "SQLITE_FULL": ("cannot grow, since its disk is full", "Free some space there, or write to another disk"),
    "SQLITE_READONLY": ("may only be read", "Check the permissions of the file and its folder"),
    "SQLITE_CANTOPEN": ("cannot be opened", "Check that its folder exists and may be written"),
    "SQLITE_IOERR": ("cannot be written: its disk fails, is full or was removed", "Check that disk"),
}


_CALLS = 10
_WITHOUT_ROWID = re.compile(r"\bWITHOUT\s+ROWID\b", re.IGNORECASE)
_NO_ROOM = ("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY")


def checked_table(name: str) -> str:
    """Check the name of a table of rows.

    Raises:
        ServomexValidationError: A table cannot have this name.
    """
    is_word = isinstance(name, str) and _TABLE_NAME.fullmatch(name)
    if not is_word or name.lower() == METADATA or name.lower().startswith("sqlite_"):
        raise ServomexValidationError(
            f"a table cannot be named {name!r}",
            cure=f"Use up to 63 letters, digits and '_', and not {METADATA!r}",
        )
    return name


@contextlib.contextmanager
def reading(path: Path, table: str | None = None) -> Iterator[tuple[sqlite3.Connection, str]]:
    """Open a database that holds a recording, and read it as of one moment; see :func:`connected`.

    Code in it, such as a trigger or a view in place of a table, is not run.

    Yields:
        The database and the table of the recording: the only one when ``table`` is ``None``.

    Raises:
        ServomexSinkSchemaError: It has no such table, or several and none was named.
    """
    with connected(path) as connection:
        found = checked_table(table) if table is not None else _only_table(connection, path)
        if not check_tables(connection, path, found, triggers=True):
            raise ServomexSinkSchemaError(
                f"{path} holds no recording: it has no table {found!r}"
                + (", it is empty" if _is_empty(connection) else "")
            )
        connection.execute("BEGIN")
        yield connection, found


def _only_table(connection: sqlite3.Connection, path: Path) -> str:
    """Find the table of the recording: the only one with the right columns, or the usual one, whatever it is."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 LIMIT ?"
    names = [name for (name,) in connection.execute(query, (MOST_TABLES,)).fetchall()]
    found = [
        name
        for name in names
        if _TABLE_NAME.fullmatch(name)
        and (name.lower() == TABLE or list(_columns(connection, name)) == ROW_COLUMNS)
    ]
    if len(found) > 1:
        raise ServomexSinkSchemaError(
            f"{path} holds several recordings, in its tables {', '.join(map(shown, sorted(found)[:MOST_SHOWN]))}",
            cure=f"Choose one with {Argument('table', found[0])}",
            argument=Argument("table"),
        )
    return found[0] if found else TABLE


def is_blank(path: Path) -> bool:
    """Return whether a database has no tables at all, as a new one may be after a loss of power."""
    try:
        with connected(path) as connection:
            return _is_empty(connection)
    except ServomexSinkError:
        return False


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,))


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that may be written at the same time.

    It is not opened in any other way: on POSIX, closing that would also release the locks of SQLite.

    Raises:
        ServomexSinkReadError: It cannot be opened.
        ServomexSinkSchemaError: It is damaged, or has other columns.
    """
    with explained_reading(path):
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, "not permitted")
        mode = _mode(path)
    try:
        with contextlib.closing(_opened(path, mode)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise explanation(str(path), error, reading=True) from error
    except MemoryError as error:
        raise ServomexSinkSchemaError(
            f"{path} is damaged: SQLite cannot allocate the memory that it asks for"
        ) from error


def _mode(path: Path) -> str:
    """Return the mode for reading a database: opened writable, it leaves no log afterwards."""
    log = log_of(path)
    # Twice: another program may be writing to it at the moment.
    if log.exists() and unseen_transactions(log) and (unseen := unseen_transactions(log)):
        _log.warning("%s is damaged or was not ended properly: %d transactions in it are omitted", log, unseen)
        return "mode=ro"  # closing would remove it otherwise
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "mode=rw"
    return "mode=ro" if log.exists() else "immutable=1"


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    try:
        return _guarded(path, mode)
    except sqlite3.Error as error:
        log = log_of(path)
        if not _name_of(error).startswith(_NO_ROOM) or (log.exists() and log.stat().st_size):
            raise
    return _guarded(path, "immutable=1")  # there is no room for the files beside it, and they are empty


def uri_of(path: PurePath, options: str) -> str:
    r"""Return a path as SQLite wants it: unlike in Python, that of ``\\nas\lab`` begins with four slashes."""
    text = quote_from_bytes(os.fsencode(path.as_posix()), safe="/:")
    return f"file://{'' if text.startswith('/') else '/'}{text}?{options}"


def _guarded(path: Path, mode: str) -> sqlite3.Connection:
    """Open a database of unknown origin with limits, and run none of the code in it."""
    connection = sqlite3.connect(uri_of(path.absolute(), mode), uri=True, timeout=BUSY_S, check_same_thread=False)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        _interrupt_endless(connection)
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON", "schema_version"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _interrupt_endless(connection: sqlite3.Connection) -> None:
    """Interrupt a statement that takes more instructions than one row could; each row restarts the count."""
    calls = 0

    def row(_cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal calls
        calls = 0
        return values

    def is_too_much() -> bool:
        nonlocal calls
        calls += 1
        return calls > _CALLS

    connection.row_factory = row
    connection.set_progress_handler(is_too_much, STEPS // _CALLS)


def has_metadata(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether a database has metadata of a recording.

    Raises:
        ServomexSinkSchemaError: Something else has the name of the table for it.
    """
    _check_kinds(connection, path, (METADATA,), triggers=True)
    found = _columns(connection, METADATA)
    if found and list(found) != ["key", "value"]:
        raise ServomexSinkSchemaError(
            f"{path} has a table {METADATA!r} that is not from this package", cure="Choose another file"
        )
    return bool(found)


def check_tables(connection: sqlite3.Connection, path: Path, table: str, *, triggers: bool = False) -> bool:
    """Check our tables, as far as they exist; return whether the table of the samples does.

    Args:
        connection: The database.
        path: Its file, for messages.
        table: The table of the samples.
        triggers: Whether they may have triggers, which writing would run.

    Raises:
        ServomexSinkSchemaError: They are not tables, or have other columns.
    """
    _check_kinds(connection, path, (table.lower(), METADATA), triggers=triggers)
    has_metadata(connection, path)
    found = _columns(connection, table)
    if not found:
        return False
    check_columns(f"the table {table!r} of {path}", found)
    for name, kind in COLUMNS.items():
        if found[name].upper() != kind:
            raise ServomexSinkSchemaError(f"{path}: the column {name!r} is {plain(found[name])} instead of {kind}")
    return True


def _check_kinds(connection: sqlite3.Connection, path: Path, tables: tuple[str, ...], *, triggers: bool) -> None:
    """Check that whatever has the name of one of our tables is a table, and does not compute its rows."""
    found = connection.execute(
        "SELECT type, lower(tbl_name), rootpage, sql FROM sqlite_master "
        "WHERE type IN ('table', 'view', 'trigger') AND lower(tbl_name) IN (?, ?)",
        (tables[0], tables[-1]),
    )
    for kind, name, root, sql in found.fetchall():
        if kind == "trigger":
            if not triggers:
                raise ServomexSinkSchemaError(
                    f"{path}: its table {name!r} has a trigger", cure="Choose another file"
                )
        elif kind != "table" or not root or _WITHOUT_ROWID.search(sql or ""):
            raise ServomexSinkSchemaError(f"{path}: its {name!r} is not a table as this package makes it")


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table, each with its type; a computed column has an empty one."""
    rows = connection.execute(f'PRAGMA table_xinfo("{table}")')
    return {name: "" if hidden else kind for _, name, kind, _, _, _, hidden in rows}


def explanation(path: str, error: sqlite3.Error, *, reading: bool = False) -> ServomexSinkError:
    """Return an error that says what to do about an error of SQLite."""
    name = _name_of(error)
    if name.startswith("SQLITE_NOTADB"):
        return ServomexSinkSchemaError(f"{path} is not an SQLite database", cure="Choose another file")
    known = next((words for key, words in _CAUSES.items() if name.startswith(key)), None)
    if name.startswith("SQLITE_CORRUPT") or (reading and known is None):
        return ServomexSinkSchemaError(f"{path} is damaged: {plain(str(error))}")
    cause, cure = known or (f"failed: {plain(str(error))}", "")
    kind = ServomexSinkReadError if reading else ServomexSinkWriteError
    return kind(f"{path} {cause}", cure=cure)


def _name_of(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def samples_in(path: Path, table: str | None) -> Iterator[Sample]:
    """Yield the samples of a database in the order in which they were written.

    Raises:
        ServomexSinkReadError: It cannot be read.
        ServomexSinkSchemaError: It is damaged, or see :func:`reading`.
    """
    with reading(path, table) as (connection, found):
        number = last = 0
        for rowid, *row in connection.execute(_SELECT.format(table=found)):
            if number and rowid <= last:
                raise ServomexSinkSchemaError(f"{path} is damaged: its row {rowid} comes after row {last}")
            number, last = number + 1, rowid
            try:
                sample = STORED.sample(row)
            except ValueError as error:
                raise ServomexSinkSchemaError(f"{path}, row {number}: {error}") from error
            yield sample
        _check_count(connection, path, found, number)


def last_samples_in(path: Path, table: str | None, most: int) -> list[Sample]:
    """Return the newest samples of a database.

    Raises:
        ServomexSinkError: See :func:`samples_in`.
    """
    with reading(path, table) as (connection, found):
        query = f"{_SELECT.format(table=found)} DESC LIMIT ?"
        rows = connection.execute(query, (most,)).fetchall()
    try:
        return [STORED.sample(row[1:]) for row in reversed(rows)]
    except ValueError as error:
        raise ServomexSinkSchemaError(f"{path}, near its end: {error}") from error


def _check_count(connection: sqlite3.Connection, path: Path, table: str, rows: int) -> None:
    """Compare the rows that were read with those in the index: damage can hide a page of the table."""
    index = f"{table}_received_at"
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?", (index,))
    if known.fetchone() is None:
        return
    indexed = 0
    ordered = f'SELECT rowid FROM "{table}" INDEXED BY "{index}" ORDER BY received_at'  # noqa: S608
    for (_,) in connection.execute(ordered):
        indexed += 1
        if indexed > rows:
            break
    if indexed != rows:
        raise ServomexSinkSchemaError(f"{path} is damaged: it has {rows} rows, its index {indexed} or more")


def notes_in(path: Path) -> dict[str, str]:
    """Return the table of metadata.

    Raises:
        ServomexSinkReadError: It cannot be read.
        ServomexSinkSchemaError: It is damaged, or not of this package.
    """
    with connected(path) as connection:
        if not has_metadata(connection, path):
            return {}
        found = connection.execute("SELECT key, value FROM metadata WHERE key <> ?", (SYNCED,))
        notes = {str(key): str(value) for key, value in itertools.islice(found, MOST_NOTES + 1)}
    if len(notes) > MOST_NOTES:
        raise ServomexSinkSchemaError(f"{path} has more than {MOST_NOTES} notes: it is not from this package")
    return notes
