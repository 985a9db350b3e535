"""The database of an outbox: its tables, its opening, and which of its errors mean what."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from servomex.errors import ServomexSinkError, ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.errors.excerpts import plain

APPLICATION = 0x53564F42
"""Marks a database as an outbox: the bytes ``SVOB`` in its header."""
VERSION = 1
"""Of the tables and of the columns of the rows."""
PAGE = 4096
BUSY_S = 1.0
"""How long a call waits for another program that holds the database for a moment."""
_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

_TABLES = """
CREATE TABLE chunks (
    first INTEGER PRIMARY KEY, rows INTEGER NOT NULL, at REAL NOT NULL, wall REAL NOT NULL,
    is_marker INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE TABLE sinks (
    name TEXT PRIMARY KEY, position INTEGER NOT NULL, sent INTEGER NOT NULL, delivered INTEGER NOT NULL,
    dropped INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY, sink TEXT NOT NULL, device TEXT NOT NULL, protocol TEXT NOT NULL,
    first_at TEXT NOT NULL, last_at TEXT NOT NULL, monotonic_ns INTEGER NOT NULL, rows INTEGER,
    why TEXT NOT NULL, is_taken INTEGER NOT NULL, held_until INTEGER
);
CREATE INDEX gaps_of ON gaps (sink, device);
CREATE TABLE poison (
    id INTEGER PRIMARY KEY, sink TEXT NOT NULL, row INTEGER NOT NULL, tries INTEGER NOT NULL,
    wall REAL NOT NULL, reason TEXT NOT NULL, data BLOB NOT NULL
);
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error of SQLite means that the file is damaged."""
    return name_of(error).startswith(_DAMAGE)


def name_of(error: sqlite3.Error) -> str:
    """Return the name that SQLite has for an error; empty when it is one of the module ``sqlite3``."""
    return getattr(error, "sqlite_errorname", None) or ""


def explained(path: Path, error: sqlite3.Error | OSError) -> ServomexSinkError:
    """Return an error that says why an outbox cannot be written, and what to do."""
    name = name_of(error) if isinstance(error, sqlite3.Error) else ""
    if name.startswith("SQLITE_FULL"):
        return ServomexSinkWriteError(f"the disk of the outbox {path} is full", cure="Free some space there")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return ServomexSinkWriteError(f"the outbox {path} is used by another program", cure="End that one")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return ServomexSinkWriteError(
            f"the outbox {path} cannot be written: {plain(str(error))}", cure="Check the permissions of its folder"
        )
    if name.startswith(_DAMAGE):
        return ServomexSinkSchemaError(f"the outbox {path} is damaged: {plain(str(error))}")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ServomexSinkWriteError(f"there is no folder {Path(path).parent} for the outbox", cure="Create it")
    why = getattr(error, "strerror", None) or plain(str(error))
    return ServomexSinkWriteError(f"the outbox {path} cannot be written: {why}")


def check_kind(path: Path) -> None:
    """Check whether a file, if there is one, is an outbox or what a damage has left of one.

    No connection may be open to it in this process: closing the file would end the locks of SQLite.

    Raises:
        ServomexSinkSchemaError: It is something else, which is not to be touched.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        return
    if not header.strip(b"\0") or header[68:72] == APPLICATION.to_bytes(4, "big"):
        return
    if header.startswith(_MAGIC) and len(header) < _HEADER:
        return
    raise ServomexSinkSchemaError(f"{path} is not an outbox", cure="Choose another file")


def connected(path: Path, *, autocheckpoint: int) -> sqlite3.Connection:
    """Open an outbox, or make a new one.

    Args:
        path: Its file.
        autocheckpoint: After how many pages in the log it is written back.

    Raises:
        sqlite3.Error: It cannot be opened.
        ServomexSinkSchemaError: Another version of this package wrote it.
    """
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            _create(connection)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        check_version(version, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {autocheckpoint}")
        connection.execute(f"PRAGMA journal_size_limit = {autocheckpoint * PAGE}")
    except BaseException:
        connection.close()
        raise
    return connection


def check_version(version: int, path: Path) -> None:
    """Check the version of an outbox.

    Raises:
        ServomexSinkSchemaError: It is another one than that of this package.
    """
    if version != VERSION:
        raise ServomexSinkSchemaError(
            f"the outbox {path} has version {version}, and this package has version {VERSION}",
            cure="Deliver what is in it with the version that wrote it, or move it away",
        )


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables: all of them, or none if the process is killed meanwhile."""
    connection.execute(f"PRAGMA page_size = {PAGE}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")  # in the file itself, by which it is known
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    with ended(connection):
        connection.execute(f"PRAGMA user_version = {VERSION}")
        for statement in _TABLES.split(";"):
            connection.execute(statement)


@contextlib.contextmanager
def ended(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit the transaction that has begun, or undo it after an exception."""
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def sidecars(path: Path) -> list[Path]:
    """Return the files that SQLite has beside a database."""
    return [path.with_name(path.name + end) for end in ("-wal", "-shm")]


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
