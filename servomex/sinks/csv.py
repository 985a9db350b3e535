"""Comma-separated values: ``.csv`` and ``.csv.gz``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servomex.errors import Argument, ServomexSinkSchemaError, ServomexValidationError
from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.rows.cells import CELLS, csv_cells
from servomex.rows.formats import CSV, SEPARATORS
from servomex.rows.kinds import check_columns
from servomex.sinks.base import FLUSH_S, FSYNC_S
from servomex.sinks.files import explained_reading
from servomex.sinks.lines import Lines, check_encoding
from servomex.sinks.text import TextSink

_HEADERS = {decimal: separator.join(ROW_COLUMNS).encode() for decimal, separator in SEPARATORS.items()}


class CsvSink(TextSink):
    """Writes csv: a header, then one line per row, as :func:`servomex.rows.formats.csv_text` describes it.

    The columns are :data:`servomex.ROW_COLUMNS`. There is no place for metadata. With ``decimal=","`` the numbers
    have a decimal comma and the cells are separated by semicolons; a reader recognises that by the header.

    Args:
        path: The file.
        append: Append to the file if it exists.
        overwrite: Replace the file if it exists.
        flush_s: Seconds until a row survives the death of the process, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once; ``None`` leaves that to the system.
        decimal: The decimal sign, ``.`` or ``,``.

    Raises:
        ServomexSinkError: See :class:`FileSink`.
        ServomexValidationError: The decimal sign is another one, or see :class:`FileSink`.
    """

    _beginnings = tuple(_HEADERS.values())
    _header = _HEADERS["."] + b"\n"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        overwrite: bool = False,
        flush_s: float = FLUSH_S,
        fsync_s: float | None = FSYNC_S,
        decimal: str = ".",
    ) -> None:
        if decimal not in SEPARATORS:
            raise ServomexValidationError(f"the decimal sign must be '.' or ',', not {decimal!r}")
        self.decimal = decimal
        self._format = CSV[decimal]
        super().__init__(path, append=append, overwrite=overwrite, flush_s=flush_s, fsync_s=fsync_s)

    def _open(self) -> None:
        self._header = _HEADERS[self.decimal] + b"\n"
        super()._open()

    def _check_beginning(self, line: bytes, *, whole: bool) -> None:
        super()._check_beginning(line, whole=whole)
        if whole:
            _check_decimal(self.path, line, self.decimal)

    @classmethod
    def check(cls, path: Path, *, append: bool = False, overwrite: bool = False, **others: Any) -> None:
        """Check whether a file can be written; see :meth:`FileSink.check`."""
        super().check(path, append=append, overwrite=overwrite, **others)
        if append and path.exists():
            with explained_reading(path):
                for line in Lines(path):
                    _check_decimal(path, line, others.get("decimal", "."))
                    break

    @classmethod
    def _reader_for(cls, path: Path, line: bytes) -> Callable[[str], Sample]:
        check_encoding(path, line)
        decimal = _decimal_of(line)
        names = line.decode("utf-8-sig", "replace").replace('"', "").rstrip("\r").split(SEPARATORS[decimal])
        check_columns(str(path), names)
        return lambda row: CELLS.sample(csv_cells(row, decimal))

    @classmethod
    def _is_whole(cls, line: bytes) -> bool:
        """Return whether a line without a line end is whole: it ends with the quotation mark of its last cell."""
        if not line.removesuffix(b"\r").endswith(b'"'):
            return False
        decimal = "," if line.count(b";") >= len(ROW_COLUMNS) - 1 else "."
        try:
            CELLS.sample(csv_cells(line.removesuffix(b"\r").decode("utf-8"), decimal))
        except ValueError:
            return False
        return True


def _decimal_of(header: bytes) -> str:
    return "," if b";" in header else "."


def _check_decimal(path: Path, header: bytes, decimal: str) -> None:
    there = _decimal_of(header)
    if there != decimal:
        raise ServomexSinkSchemaError(
            f"{path} has the decimal sign {there!r}",
            cure=f"Append to it with {Argument('decimal', there)}, or choose another file",
        )
