"""PostgreSQL: a table that several programs may write to, ``postgresql://user@host/database?table=samples``.

psycopg is imported when a table is opened, and not with this module: it is an optional package.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from servomex.durations import counted
from servomex.errors import ServomexValidationError
from servomex.errors.excerpts import unicode_text
from servomex.errors.validation import flag
from servomex.models.sample import Sample
from servomex.runtime.logs import package_log
from servomex.sinks.base import FLUSH_S, FSYNC_S, BufferedSink
from servomex.sinks.postgres_config import PostgresConfig, check_psycopg
from servomex.sinks.postgres_rows import text_without_nul

_log = package_log("servomex")

MOST_PENDING = 1_000
"""The most rows that wait for a flush."""


class PostgresSink(BufferedSink):
    """Writes a table of a PostgreSQL server. Several programs may write to it at the same time, from any computer.

    The columns are :data:`servomex.ROW_COLUMNS`: times are ``timestamptz``, ``analyser_clock`` is a ``timestamp``,
    ``monotonic_ns`` a ``bigint``, numbers are ``double precision``, flags ``boolean``, ``tags`` is ``jsonb``, all
    else ``text``. Rows are sent in batches of 1,000, or after ``flush_s``. A row that the table has already is not
    stored again, so that rows whose fate is unknown, as after a lost connection, are sent again.

    A commit survives the loss of power of the server, since it turns ``synchronous_commit`` on for its session.
    The metadata of recordings is in the table ``<table>_metadata``.

    Args:
        config: Which table it is, as a :class:`PostgresConfig` or a URL, see :meth:`PostgresConfig.from_url`.
        flush_s: Seconds until a row is in the table, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, if sooner than ``flush_s``; ``None`` for that.
        metadata: Facts about the whole recording.
        table: The table, in place of the one that ``config`` names.
        append: Whether rows are added to a table that exists, as they always are.

    Attributes:
        config: Which table it is.
        repeated: Rows that were already in the table when they arrived.

    Raises:
        ServomexValidationError: The URL or an argument is not valid.
        ServomexSinkWriteError: The server cannot be reached, or the table cannot be written.
        ServomexSinkSchemaError: The table is not one of this package.
        ServomexSinkDependencyError: psycopg is not installed.
    """

    most_pending = MOST_PENDING
    always_appends = True

    def __init__(
        self,
        config: PostgresConfig | str,
        *,
        flush_s: float = FLUSH_S,
        fsync_s: float | None = FSYNC_S,
        metadata: Mapping[str, str] | None = None,
        table: str | None = None,
        append: bool = True,
    ) -> None:
        if not flag(append, "append"):
            raise ServomexValidationError("rows are always added to a table", cure="Name another table")
        self.config: PostgresConfig = _config_of(config, table)
        self.metadata: dict[str, str] = {
            text_without_nul(unicode_text(key)): text_without_nul(unicode_text(text))
            for key, text in (metadata or {}).items()
        }
        self.repeated: int = 0
        self._in_table = 0
        from servomex.sinks.postgres_writer import TableWriter

        self._writer = TableWriter(self.config, self.metadata)
        super().__init__(self.config.target(), flush_s=flush_s, fsync_s=fsync_s)

    def _open(self) -> None:
        self._held.callback(self._writer.disconnect)
        self._writer.connect()

    def _let_go(self) -> None:
        """Leave the connection, and the rows waiting for the next flush, to the parent of a forked child."""
        self._writer.let_go()
        self._held = contextlib.ExitStack()
        self._pending = []
        self.closed = True

    def _store(self, rows: list[Any]) -> None:
        tables = self._writer.tables
        try:
            outcome = self._writer.send(rows)
        finally:
            if self._writer.tables != tables:
                self._note_dropped_table()
        self._in_table += len(rows) - len(outcome.refused)
        self.repeated += outcome.repeated
        self._refused += len(outcome.refused)
        if outcome.refused:
            number, (row, reason) = len(outcome.refused), outcome.refused[0]
            _log.warning("%s did not accept %s: %s, %s", self.name, counted(number, "row"), row, reason)

    def _note_dropped_table(self) -> None:
        self._removed += self._in_table
        _log.warning(
            "%s was dropped while it was written, with %s: the rest goes to a new file",
            self.name,
            counted(self._in_table, "row"),
        )
        self._in_table = 0

    @classmethod
    def place_of(cls, url: str) -> str:
        """Return the server, the database and the table that a URL leads to."""
        return PostgresConfig.from_url(url).target()

    @classmethod
    def check_url(cls, url: str, *, table: str | None = None) -> None:
        """Check whether a table can be written, as far as possible without changing anything.

        Raises:
            ServomexError: It cannot; the errors are those of the constructor.
        """
        config = _config_of(url, table)
        from servomex.sinks.postgres_reader import check_writable

        check_writable(config)

    @classmethod
    def read(cls, source: PostgresConfig | str, table: str | None = None) -> Iterator[Sample]:
        """Return the samples of a table in the order of their arrival; it connects for the first of them.

        Raises:
            ServomexValidationError: The URL is not valid.
            ServomexSinkReadError: It cannot be read.
            ServomexSinkSchemaError: It is not a table of this package, or a row in it is not.
        """
        config = _config_of(source, table)
        from servomex.sinks.postgres_reader import samples_of

        return samples_of(config)

    @classmethod
    def read_metadata(cls, source: PostgresConfig | str) -> dict[str, str]:
        """Return the metadata of the recordings in a table; for equal keys the newest.

        Raises:
            ServomexSinkReadError: It cannot be read.
        """
        config = _config_of(source)
        from servomex.sinks.postgres_reader import metadata_of

        return metadata_of(config)


def _config_of(source: PostgresConfig | str, table: str | None = None) -> PostgresConfig:
    config = source if isinstance(source, PostgresConfig) else PostgresConfig.from_url(source)
    check_psycopg()
    return config if table is None else attrs.evolve(config, table=table)
