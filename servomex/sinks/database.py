"""SQLite databases as they are opened to be read, their tables, and what their errors mean."""

import contextlib
import errno
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
from servomex.rows.cells import COLUMN_KINDS, ColumnKind, check_columns
from servomex.runtime.logs import package_log
from servomex.sinks.files import explained_reading
from servomex.sinks.places import real
from servomex.sinks.wal import unseen_transactions

_log = package_log("servomex")

TABLE = "samples"
"""The usual table of the rows."""
METADATA = "metadata"
MOST_TABLES = 1_000
"""Tables that are looked at for the one with the rows."""
MOST_SHOWN = 10
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
BUSY_S = 5.0
"""How long opening and reading wait for another program that writes to the same database."""
LONGEST_VALUE = 1_000_000
"""Bytes of a value or a row; a longer one is damage, and is not brought into memory."""
STEPS = 1_000_000
"""Instructions of SQLite between two rows at most; a table of ours takes some dozens."""
_TYPES = {ColumnKind.INTEGER: "INTEGER", ColumnKind.FLAG: "INTEGER", ColumnKind.NUMBER: "REAL"}
COLUMNS = {column: _TYPES.get(kind, "TEXT") for column, kind in COLUMN_KINDS.items()}
_CAUSES = {
    "SQLITE_BUSY": ("is locked by another program", "Let that one finish, or write to another file"),
    "SQLITE_FULL": ("cannot grow, since its disk is full", "Free some space there, or write to another disk"),
    "SQLITE_READONLY": ("may only be read", "Check the permissions of the file and its folder"),
    "SQLITE_CANTOPEN": ("cannot be opened", "Check that its folder exists and may be written"),
    "SQLITE_IOERR": ("cannot be written: its disk fails, is full or was removed", "Look at that disk"),
}


_CALLS = 10
_WITHOUT_ROWID = re.compile(r"\bWITHOUT\s+ROWID\b", re.IGNORECASE)
_NO_ROOM = ("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY")


def log_of(path: Path) -> Path:
    """Give the log beside a database, in which what was written waits to be put into it."""
    place = real(path)
    return place.with_name(f"{place.name}-wal")


def checked_table(name: str) -> str:
    """Check the name of a table of rows.

    Raises:
        ServomexValidationError: It cannot be one.
    """
    if not isinstance(name, str) or not _TABLE_NAME.fullmatch(name) or _is_reserved(name):
        raise ServomexValidationError(
            f"a table cannot be named {name!r}",
            cure=f"Use up to 63 letters, digits and '_', and not {METADATA!r}",
        )
    return name


def _is_reserved(name: str) -> bool:
    return name.lower() == METADATA or name.lower().startswith("sqlite_")


@contextlib.contextmanager
def reading(path: Path, table: str | None = None) -> Iterator[tuple[sqlite3.Connection, str]]:
    """Open a database that holds a recording, to be read as one moment shows it; see :func:`connected`.

    What it does by itself, such as a view in the place of a table or a trigger, is not run.

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
    """Find the table of the recording: the only one with the columns of rows, or the usual one, of any shape."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 LIMIT ?"
    names = [name for (name,) in connection.execute(query, (MOST_TABLES,)).fetchall()]
    found = [name for name in names if _TABLE_NAME.fullmatch(name) and _may_be_ours(connection, name)]
    if len(found) > 1:
        raise ServomexSinkSchemaError(
            f"{path} holds several recordings, in its tables {', '.join(map(shown, sorted(found)[:MOST_SHOWN]))}",
            cure=f"Choose one with {Argument('table', found[0])}",
            argument=Argument("table"),
        )
    return found[0] if found else TABLE


def _may_be_ours(connection: sqlite3.Connection, name: str) -> bool:
    return name.lower() == TABLE or list(_columns(connection, name)) == ROW_COLUMNS


def is_blank(path: Path) -> bool:
    """Whether a database has no tables at all, as a loss of power leaves one that was just begun."""
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

    It is not opened in any other way beside that: on POSIX, the end of that would end the locks of SQLite as well.

    Raises:
        ServomexSinkReadError: It cannot be opened.
        ServomexSinkSchemaError: It is damaged, or its columns are others.
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
        raise told(str(path), error, reading=True) from error
    except MemoryError as error:
        raise ServomexSinkSchemaError(f"{path} is damaged: SQLite finds no memory for what it claims") from error


def _mode(path: Path) -> str:
    """Return how a database is opened for reading: one that may be written leaves no log behind."""
    log = log_of(path)
    if (
        log.exists() and unseen_transactions(log) and (unseen := unseen_transactions(log))
    ):  # not only at the moment
        _log.warning("%s is damaged or was not ended properly: %d transactions in it are omitted", log, unseen)
        return "mode=ro"  # its end would be removed otherwise
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
    return _guarded(path, "immutable=1")  # there is no room for the files beside it, and nothing is in them


def uri_of(path: PurePath, options: str) -> str:
    r"""Return a path as SQLite wants it: that of ``\\nas\lab`` begins with four slashes, other than in Python."""
    text = quote_from_bytes(os.fsencode(path.as_posix()), safe="/:")
    return f"file://{'' if text.startswith('/') else '/'}{text}?{options}"


def _guarded(path: Path, mode: str) -> sqlite3.Connection:
    """Open a database from anywhere: with bounds, and so that it runs nothing that it brings."""
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
    """Interrupt a statement that takes more instructions than a row of ours could; each row begins a new count."""
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
    """Whether a database has metadata of a recording.

    Raises:
        ServomexSinkSchemaError: Something else has the name of the table for it.
    """
    _check_kinds(connection, path, (METADATA,), triggers=True)
    found = _columns(connection, METADATA)
    if found and list(found) != ["key", "value"]:
        raise ServomexSinkSchemaError(
            f"{path} has a table {METADATA!r} that is not ours", cure="Choose another file"
        )
    return bool(found)


def check_tables(connection: sqlite3.Connection, path: Path, table: str, *, triggers: bool = False) -> bool:
    """Check our tables, as far as they exist; return whether that of the samples does.

    Args:
        connection: The database.
        path: Its file, for messages.
        table: That of the samples.
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
    """Check that what has the name of a table of ours is one, and nothing that computes its rows."""
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
    """Return the columns of a table, each with its type. A column that is computed has an empty one."""
    rows = connection.execute(f'PRAGMA table_xinfo("{table}")')
    return {name: "" if hidden else kind for _, name, kind, _, _, _, hidden in rows}


def told(path: str, error: sqlite3.Error, *, reading: bool = False) -> ServomexSinkError:
    """Give the error that says what to do."""
    name = _name_of(error)
    if name.startswith("SQLITE_NOTADB"):
        return ServomexSinkSchemaError(f"{path} is no SQLite database", cure="Choose another file")
    known = next((told for key, told in _CAUSES.items() if name.startswith(key)), None)
    if name.startswith("SQLITE_CORRUPT") or (reading and known is None):
        return ServomexSinkSchemaError(f"{path} is damaged: {plain(str(error))}")
    cause, cure = known or (f"failed: {plain(str(error))}", "")
    kind = ServomexSinkReadError if reading else ServomexSinkWriteError
    return kind(f"{path} {cause}", cure=cure)


def _name_of(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""
