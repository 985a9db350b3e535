"""What the errors of PostgreSQL mean, and what to do about each."""

import contextlib
import re
from collections.abc import Iterator

import psycopg

from servomex.errors import ServomexSinkError, ServomexSinkReadError, ServomexSinkWriteError
from servomex.errors.excerpts import plain

_BUSY = "Let the other session finish, or see pg_stat_activity and pg_locks"
_STATES = {
    "08": ("the connection was lost", "Check the server and the network"),
    "22P05": ("the database cannot hold a character", "Create the database with ENCODING 'UTF8'"),
    "25006": ("the server is read-only: it is a standby, or the database is read-only", "Name the primary"),
    "28": ("the server refuses this user", "Check user, password and pg_hba.conf"),
    "3D000": ("there is no such database", "Create it, or name another"),
    "3F000": ("there is no such schema", "Create it, or name another"),
    "40": ("it conflicts with another session", ""),
    "42501": (
        "this user lacks a privilege",
        "GRANT SELECT, INSERT on the tables; to create them also CREATE on the schema; TEMP on the database, or "
        "use_copy=0",
    ),
    "42P01": ("there is no such table", "Create it, or let create_table=1 do so"),
    "53100": ("the disk of the server is full", "Free some space there"),
    "53300": ("the server has no connection left", "Close others, or raise max_connections"),
    "55P03": ("another session has locked the table", _BUSY),
    "57014": ("the statement took too long, or was cancelled", _BUSY),
    "57": ("the server is stopping, starting or was restarted", "Start it, or wait until it is ready"),
    "58": ("the server reports a disk error", "Check the log of the server"),
}
"""Codes of errors, or the beginnings of codes, with what happened and what to do."""

_WORDS = (
    (r"password authentication failed|no password supplied|fe_sendauth", "28"),
    (r"no pg_hba\.conf entry|role .* does not exist|is not permitted to log in|authentication failed", "28"),
    (r"database .* does not exist", "3D000"),
    (r"too many clients|remaining connection slots|too many connections", "53300"),
    (r"the database system is (starting up|shutting down|in recovery)|not yet accepting", "57"),
)
"""Messages of libpq for a connection that failed, since such errors have no code."""
_UNREACHED = ("the server cannot be reached", "Check host and port, and whether the server runs")


class SilentServerError(psycopg.OperationalError):
    """The server sent nothing for too long, and the connection was abandoned."""


TAKES_TOO_LONG = (SilentServerError, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
"""Errors that an immediate second attempt would only repeat, just as slowly."""
OF_A_ROW = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.RaiseException)
"""Errors that a row can cause: a constraint, a trigger."""


@contextlib.contextmanager
def explained(name: str, *, reading: bool = False) -> Iterator[None]:
    """Turn an error of psycopg into one that says what to do.

    Args:
        name: What is written or read, for the message.
        reading: Whether it is read.

    Raises:
        ServomexSinkReadError: Something in the block raised one, while reading.
        ServomexSinkWriteError: The same, while writing.
    """
    try:
        yield
    except psycopg.Error as error:
        kind = ServomexSinkReadError if reading else ServomexSinkWriteError
        what, cure = _meaning(error)
        error._pgconn = None  # it contains the password, and tools that report errors show attributes
        raise kind(f"{name}: {what} ({said(error)})", cure=cure) from error


def said(error: psycopg.Error) -> str:
    """Return the words of the server or of libpq on one line."""
    return plain(error.diag.message_primary or str(error) or type(error).__name__)


def _meaning(error: psycopg.Error) -> tuple[str, str]:
    if isinstance(error, SilentServerError):
        return "the server does not answer", "Check the server and the network"
    code = error.sqlstate or ""
    if not code:
        code = next((known for words, known in _WORDS if re.search(words, str(error))), "")
    if not code and isinstance(error, psycopg.OperationalError):
        return _UNREACHED
    known = _STATES.get(code) or _STATES.get(code[:2])
    return known or ("the server refuses that", "")


def is_lasting(error: ServomexSinkError) -> bool:
    """Return whether an immediate second attempt would only repeat the error, just as slowly."""
    return isinstance(error.__cause__, TAKES_TOO_LONG)
