"""Writing rows to a table of PostgreSQL: each once, all of a batch or none."""

import contextlib
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from psycopg import sql

from servomex.errors import ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.models.columns import ROW_COLUMNS
from servomex.runtime.forks import keep_forever
from servomex.sinks.postgres_config import PostgresConfig
from servomex.sinks.postgres_connection import Connection, connected
from servomex.sinks.postgres_errors import OF_A_ROW, explained, is_lasting, said
from servomex.sinks.postgres_rows import stored
from servomex.sinks.postgres_table import COLUMNS, INCOMING, TYPES, note_metadata, oid_of, prepare, table


@attrs.define
class Outcome:
    """The outcome for rows that were sent.

    Attributes:
        repeated: Rows that were in the table already, as after a second attempt.
        refused: Rows that the table did not accept, each with the reason.
    """

    repeated: int = 0
    refused: list[tuple[str, str]] = attrs.field(factory=list)


class TableWriter:
    """Writes rows to a table. It reconnects when the connection was lost, and recreates a dropped table.

    Args:
        config: Which table it is.
        metadata: Facts about the whole recording.

    Attributes:
        tables: How many tables it has written to: one, plus one for each that was dropped.
    """

    def __init__(self, config: PostgresConfig, metadata: Mapping[str, str]) -> None:
        self.tables: int = 0
        self._config = config
        self._metadata = metadata
        self._recording = uuid.uuid4()
        self._connection: Connection | None = None
        self._oid: int | None = None

    def connect(self) -> None:
        """Connect, and make sure that there is a suitable table.

        Raises:
            ServomexSinkWriteError: The server cannot be reached, or the table cannot be written.
            ServomexSinkSchemaError: The table is not one of this package.
        """
        try:
            with explained(self._config.target()):
                self._ready()
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def let_go(self) -> None:
        """Leave the connection alone in a forked child: closing it there would end that of the parent."""
        if self._connection is not None:
            keep_forever(self._connection)
            with contextlib.suppress(OSError):
                os.close(self._connection.fileno())

    def send(self, rows: list[Any]) -> Outcome:
        """Store rows: all except those that the table does not accept, or none and an error.

        Raises:
            ServomexSinkWriteError: They are not stored, or that is not known; they may be sent again.
        """
        was_connected = self._connection is not None
        try:
            return self._send(rows)
        except ServomexSinkWriteError as error:
            if not was_connected or is_lasting(error):
                raise
        return self._send(rows)  # the connection was lost, and perhaps only that

    def _send(self, rows: list[Any]) -> Outcome:
        outcome = Outcome()
        try:
            with explained(self._config.target()):
                connection = self._ready()
                with connection.transaction():
                    self._insert_or_part(connection, rows, outcome)
        except ServomexSinkSchemaError as error:  # of the table: it may be repaired
            self.disconnect()
            raise ServomexSinkWriteError(error.message, cure=error.cure) from error
        except BaseException:
            self.disconnect()
            raise
        return outcome

    def _ready(self) -> Connection:
        """Return a connection with a suitable table."""
        if self._connection is None:
            self._connection = connected(self._config)
        elif oid_of(self._connection, self._config) == self._oid:
            return self._connection
        number = prepare(self._connection, self._config)
        self.tables += number != self._oid
        self._oid = number
        note_metadata(self._connection, self._config, self._recording, self._metadata)
        return self._connection

    def _insert_or_part(self, connection: Connection, rows: list[Any], outcome: Outcome) -> None:
        """Insert rows; when the server refuses one of them, find out which, and insert the others."""
        try:
            with connection.transaction():
                self._insert(connection, rows, outcome)
        except OF_A_ROW as error:
            if len(rows) == 1:
                outcome.refused.append((_described(rows[0]), said(error)))
                return
            half = len(rows) // 2
            self._insert_or_part(connection, rows[:half], outcome)
            self._insert_or_part(connection, rows[half:], outcome)

    def _insert(self, connection: Connection, rows: list[Any], outcome: Outcome) -> None:
        values = list(map(stored, rows))
        if self._config.use_copy:
            connection.execute(sql.SQL("DELETE FROM {}").format(INCOMING))
            with connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(INCOMING, COLUMNS)) as copy:
                for row in values:
                    copy.write_row(row)
            source, given = sql.SQL("{} AS incoming").format(INCOMING), None
        else:
            source, given = _ARRAYS, [list(column) for column in zip(*values, strict=True)]
        insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT DO NOTHING").format(
            table(self._config), COLUMNS, COLUMNS, source
        )
        inserted = connection.execute(insert, given).rowcount
        if inserted == len(rows):
            return
        different = _DIFFERENT.format(COLUMNS, source, table(self._config), _THERE, _HERE)
        others = connection.execute(different, given).fetchall()
        outcome.repeated += len(rows) - inserted - len(others)
        outcome.refused += [(_described(row), "another row already has its key") for row in others]


_ARRAYS = sql.SQL("unnest({}) AS incoming ({})").format(
    sql.SQL(", ").join(
        sql.SQL("{}::text[]::jsonb[]" if kind == "jsonb" else f"{{}}::{kind}[]").format(sql.Placeholder())
        for kind in TYPES.values()
    ),
    COLUMNS,
)
_DIFFERENT = sql.SQL(
    "SELECT {} FROM {} WHERE NOT EXISTS (SELECT FROM {} AS there WHERE there.received_at = incoming.received_at "
    "AND ROW({}) IS NOT DISTINCT FROM ROW({}))"
)
_THERE, _HERE = (
    sql.SQL(", ").join(sql.Identifier(name, column) for column in ROW_COLUMNS) for name in ("there", "incoming")
)


def _described(row: Sequence[Any]) -> str:
    """Describe a row for a message."""
    known = dict(zip(ROW_COLUMNS, row, strict=True))
    return f"{known['device']} {known['channel'] or ''} of {known['received_at']}"
