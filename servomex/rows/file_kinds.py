"""The format of a recording by its first bytes, for files whose names do not say it."""

import contextlib
import gzip
import io
import zlib
from pathlib import Path

from servomex.models.columns import ROW_COLUMNS

FORMATS = {"csv": ".csv", "jsonl": ".jsonl", "sqlite": ".sqlite", "parquet": ".parquet"}
"""The formats of files by name, each with the suffix that stands for it."""

BEGINNINGS = {
    f"{ROW_COLUMNS[0]},".encode(): "csv",
    f"{ROW_COLUMNS[0]};".encode(): "csv",
    f'{{"{ROW_COLUMNS[0]}"'.encode(): "jsonl",
    b"SQLite format 3\0": "sqlite",
    b"PAR1": "parquet",
}
"""How recordings begin."""
LOOKED_AT = 64
"""Bytes: more than the longest beginning, even as UTF-16."""
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def format_of(path: Path) -> str | None:
    """Return the format of a recording by its content; ``None`` when it is not a recording, or cannot be read."""
    if not path.is_file():
        return "parquet" if path.with_name(f"{path.name}.parts").is_dir() else None
    head = b""
    with contextlib.suppress(OSError, EOFError, zlib.error), _opened(path) as file:
        head = file.read(LOOKED_AT)
    for mark in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            head = head.removeprefix(mark).replace(b"\0", b"")
    return next((name for beginning, name in BEGINNINGS.items() if head.startswith(beginning)), None)


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")
