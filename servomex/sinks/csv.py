"""Comma-separated values: ``.csv`` and ``.csv.gz``."""

from pathlib import Path
from typing import Any

from servomex.models import ROW_COLUMNS
from servomex.rows import check_columns, csv_row, csv_text
from servomex.sinks.text import TextSink


class CsvSink(TextSink):
    """Writes csv: a header, then one line a row, as :func:`servomex.rows.csv_text` describes it.

    The columns are :data:`servomex.ROW_COLUMNS`. There is no place for metadata.
    """

    _beginning = ",".join(ROW_COLUMNS).encode()
    _header = _beginning + b"\n"

    def _encoded(self, rows: list[Any]) -> bytes:
        return csv_text(rows).encode("utf-8")

    @classmethod
    def _check_first(cls, path: Path, line: bytes) -> None:
        check_columns(str(path), line.decode("utf-8-sig", "replace").replace('"', "").rstrip("\r").split(","))

    @classmethod
    def _row(cls, line: str) -> dict[str, Any]:
        return csv_row(line)
