"""SQLite databases as they are opened to be read, their tables, and what their errors mean."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from servomex.errors import (
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
)
from servomex.rows import COLUMN_KINDS, ColumnKind, check_columns
from servomex.sinks.files import explained_reading
from servomex.sinks.places import real

BUSY_S = 5.0
"""How long opening and reading wait for another program that writes to the same database."""
_TYPES = {ColumnKind.INTEGER: "INTEGER", ColumnKind.FLAG: "INTEGER", ColumnKind.NUMBER: "REAL"}
COLUMNS = {column: _TYPES.get(kind, "TEXT") for column, kind in COLUMN_KINDS.items()}
_CURES = {
    "SQLITE_BUSY": "is locked by another program: let that one finish, or write to another file",
    "SQLITE_FULL": "cannot grow: its disk is full. Free some space there, or write to another disk",
    "SQLITE_READONLY": "may only be read: check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "cannot be opened: check that its folder exists and may be written",
    "SQLITE_IOERR": "cannot be written: its disk fails, is full or was removed",
}


def log_of(path: Path) -> Path:
    """Give the log beside a database, in which what was written waits to be put into it."""
    place = real(path)
    return place.with_name(f"{place.name}-wal")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that holds a recording; see :func:`connected`."""
    with connected(path) as connection:
        if not check_tables(connection, path):
            raise ServomexSinkSchemaError(f"{path} holds no recording: it has no table 'samples'")
        yield connection


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
    url = f"{path.absolute().as_uri()}?{_mode(path)}"
    try:
        with contextlib.closing(sqlite3.connect(url, uri=True, timeout=BUSY_S)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection
    except sqlite3.Error as error:
        raise told(str(path), error, reading=True) from error


def _mode(path: Path) -> str:
    """Say how a database is opened for reading: one that may be written leaves no log behind."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "mode=rw"
    return "mode=ro" if log_of(path).exists() else "immutable=1"


def check_tables(connection: sqlite3.Connection, path: Path) -> bool:
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
    for name, kind in COLUMNS.items():
        if found[name].upper() != kind:
            raise ServomexSinkSchemaError(f"{path}: the column {name!r} is {found[name]} instead of {kind}")
    return True


def told(path: str, error: sqlite3.Error, *, reading: bool = False) -> ServomexSinkError:
    """Give the error that says what to do."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith("SQLITE_NOTADB"):
        return ServomexSinkSchemaError(f"{path} is no SQLite database: choose another file")
    if name.startswith("SQLITE_CORRUPT") or (reading and not name):
        return ServomexSinkSchemaError(f"{path} is damaged: {error}")
    cure = next((text for key, text in _CURES.items() if name.startswith(key)), f"failed: {error}")
    kind = ServomexSinkReadError if reading else ServomexSinkWriteError
    return kind(f"{path} {cure}")
