"""Databases that take lines of InfluxDB by HTTP: ``influx+http://host:8086/write?db=plant``, ``influx+https://``."""

import contextlib
from typing import Any

from servomex.durations import counted
from servomex.errors import ServomexSinkWriteError, ServomexValidationError
from servomex.errors.excerpts import plain
from servomex.errors.validation import flag
from servomex.models.columns import ROW_COLUMNS
from servomex.rows.influx import influx_line
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log
from servomex.sinks.base import FLUSH_S, BufferedSink
from servomex.sinks.influx_config import InfluxConfig
from servomex.sinks.influx_http import Answer, LineWriter

_log = package_log("servomex")

MOST_PENDING = 1_000
"""The most rows that wait to be sent, and the most that are sent at once."""


class InfluxSink(BufferedSink):
    """Writes lines to InfluxDB 1, 2 or 3, to VictoriaMetrics, or to whatever else takes them.

    Each row becomes a line of the measurement ``servomex``, as ``--format influx`` prints it; a failed reading
    becomes one with the fields ``error``, ``error_type`` and ``failed=1i``. Rows are sent in batches of 1,000, or
    after ``flush_s``. Sending a row twice stores it once.

    Args:
        config: Which database it is, as an :class:`InfluxConfig` or a URL, see :meth:`InfluxConfig.from_url`.
        flush_s: Seconds until a row is sent, 0 for at once.
        append: Whether rows are added to what is there, as they always are.

    Attributes:
        config: Which database it is.

    Raises:
        ServomexValidationError: The URL or an argument is not valid.
        ServomexSinkWriteError: The server cannot be reached, or does not take lines.
    """

    most_pending = MOST_PENDING
    always_appends = True

    def __init__(self, config: InfluxConfig | str, *, flush_s: float = FLUSH_S, append: bool = True) -> None:
        if not flag(append, "append"):
            raise ServomexValidationError("rows are always added to a database", cure="Name another database")
        self.config: InfluxConfig = _config_of(config)
        self._writer = LineWriter(self.config)
        super().__init__(self.config.target(), flush_s=flush_s, fsync_s=None)

    def _open(self) -> None:
        self._held.callback(self._writer.disconnect)
        self.config.check_files()
        self._writer.check()

    def _let_go(self) -> None:
        """Leave the rows waiting to be sent to the parent of a forked child."""
        self._writer.disconnect()
        self._held = contextlib.ExitStack()
        self._pending = []
        self.closed = True

    def _store(self, rows: list[Any]) -> None:
        refused: list[tuple[Any, Answer]] = []
        for first in range(0, len(rows), MOST_PENDING):
            self._send_or_part(rows[first : first + MOST_PENDING], refused)
        if not refused:
            return
        if len(refused) == len(rows):
            self._check_reason(refused[0][1])
        self._refused += len(refused)
        row, answer = refused[0]
        _log.warning(
            "%s did not accept %s: %s, %s", self.name, counted(len(refused), "row"), _described(row), answer.words
        )

    def _send_or_part(self, rows: list[Any], refused: list[tuple[Any, Answer]]) -> None:
        """Send rows; when the server refuses one of them, find out which, and send the others."""
        self._moved_at = time.monotonic()
        answer = self._writer.send("".join(map(influx_line, rows)).encode())
        if answer.is_good:
            return
        if len(rows) == 1:
            refused.append((rows[0], answer))
            return
        half = len(rows) // 2
        self._send_or_part(rows[:half], refused)
        self._send_or_part(rows[half:], refused)

    def _check_reason(self, answer: Answer) -> None:
        """Check that the database takes lines at all, since it took none of these.

        Raises:
            ServomexSinkWriteError: It does not; so the rows are not the reason.
        """
        try:
            self._writer.check()
        except ServomexSinkWriteError:
            raise self._writer.explained(answer) from None

    @classmethod
    def place_of(cls, url: str) -> str:
        """Return the server and the database that a URL leads to."""
        return InfluxConfig.from_url(url).target()

    @classmethod
    def check_url(cls, url: str, *, table: str | None = None) -> None:
        """Check whether a database takes lines, without writing any.

        Raises:
            ServomexError: It does not; the errors are those of the constructor.
        """
        if table is not None:
            raise ServomexValidationError("rows go to a measurement, not to a table", cure="Omit table")
        config = _config_of(url)
        config.check_files()
        writer = LineWriter(config)
        try:
            writer.check()
        finally:
            writer.disconnect()


def _config_of(source: InfluxConfig | str) -> InfluxConfig:
    return source if isinstance(source, InfluxConfig) else InfluxConfig.from_url(source)


def _described(row: Any) -> str:
    """Describe a row for a message."""
    known = dict(zip(ROW_COLUMNS, row, strict=True))
    return plain(f"{known['device']} {known['channel'] or ''} of {known['received_at']}")
