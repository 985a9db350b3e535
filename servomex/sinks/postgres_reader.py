"""Reading tables of PostgreSQL, row by row, with bounded memory."""

import contextlib
from collections.abc import Iterator

from psycopg import sql

from servomex.errors import ServomexSinkReadError, ServomexSinkSchemaError
from servomex.models.sample import Sample
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind
from servomex.sinks.postgres_config import PostgresConfig
from servomex.sinks.postgres_connection import Connection, connected
from servomex.sinks.postgres_errors import explained
from servomex.sinks.postgres_rows import LONGEST_STORED, sample_from, text_with_nul
from servomex.sinks.postgres_table import check, reading_order, stored_metadata, table

AT_ONCE = 1_000
"""Rows that are loaded at a time."""
_SELECT = sql.SQL("SELECT {} FROM {} ORDER BY {}")
_READ = {ColumnKind.TEXT: f"left({{}}, {LONGEST_STORED})", ColumnKind.TAGS: f"left({{}}::text, {LONGEST_STORED})"}
_COLUMNS = sql.SQL(", ").join(
    sql.SQL(_READ.get(kind, "{}")).format(sql.Identifier(name)) for name, kind in COLUMN_KINDS.items()
)


def check_writable(config: PostgresConfig) -> None:
    """Check whether a table can be written, as far as possible without changing anything.

    Raises:
        ServomexSinkWriteError: The server cannot be reached, or the table cannot be written.
        ServomexSinkSchemaError: The table is not one of this package.
    """
    with explained(config.target()), contextlib.closing(connected(config)) as connection:
        check(connection, config)


def metadata_of(config: PostgresConfig) -> dict[str, str]:
    """Return the metadata of the recordings in a table; for equal keys the newest.

    Raises:
        ServomexSinkReadError: It cannot be read.
    """
    with _reading(config) as connection:
        found = stored_metadata(connection, config)
    return {text_with_nul(key): text_with_nul(text) for key, text in found.items()}


def samples_of(config: PostgresConfig) -> Iterator[Sample]:
    """Return the samples of a table in the order of their arrival.

    Raises:
        ServomexSinkReadError: It cannot be read.
        ServomexSinkSchemaError: It is not a table of this package, or a row in it is not.
    """
    where = config.target()
    with _reading(config) as connection, connection.transaction():
        if check(connection, config, writing=False) is None:
            raise ServomexSinkReadError(f"{where}: there is no such table", cure="Name another table")
        with connection.cursor("servomex_reading", binary=True) as cursor:
            cursor.itersize = AT_ONCE
            cursor.execute(_SELECT.format(_COLUMNS, table(config), reading_order()))
            for number, row in enumerate(cursor, 1):
                try:
                    sample = sample_from(row)
                except ValueError as error:
                    raise ServomexSinkSchemaError(f"{where}, row {number}: {error}") from error
                yield sample


@contextlib.contextmanager
def _reading(config: PostgresConfig) -> Iterator[Connection]:
    with (
        explained(config.target(), reading=True),
        contextlib.closing(connected(config, reading=True)) as connection,
    ):
        connection.read_only = True
        yield connection
