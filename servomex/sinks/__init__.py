"""Sinks: where recordings are written, found by the suffix of a file or the scheme of a URL."""

import importlib
import inspect
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from servomex.contents import FORMATS
from servomex.errors import Argument, ServomexValidationError
from servomex.sinks.base import Sink
from servomex.sinks.files import FileSink
from servomex.sinks.memory import MemorySink
from servomex.sinks.places import same_place
from servomex.sinks.rotation import RotatingSink

__all__ = ["FileSink", "MemorySink", "RotatingSink", "Sink", "check_targets", "open_sink", "sink_class"]

_SINKS = {
    ".csv": "csv.CsvSink",
    ".csv.gz": "csv.CsvSink",
    ".jsonl": "jsonl.JsonlSink",
    ".ndjson": "jsonl.JsonlSink",
    ".jsonl.gz": "jsonl.JsonlSink",
    ".sqlite": "sqlite.SqliteSink",
    ".sqlite3": "sqlite.SqliteSink",
    ".db": "sqlite.SqliteSink",
    ".parquet": "parquet.ParquetSink",
    "memory://": "memory.MemorySink",
}
"""Suffixes and schemes, and the modules and classes that are imported when they are wanted."""
SUFFIXES = ", ".join(key for key in _SINKS if key[0] == ".")
"""Those of files, for a message."""


def open_sink(
    target: str | os.PathLike[str], *, file_format: str | None = None, rotate: str | None = None, **options: Any
) -> Sink:
    """Open what samples are written to.

    Args:
        target: A file, or a URL.
        file_format: ``csv``, ``jsonl``, ``sqlite`` or ``parquet``, for a file whose name does not say it by its
            suffix; a name that ends with ``.gz`` is packed. When omitted, the suffix must say it.
        rotate: Go on in a new file at a size, a time or both: ``100MB``, ``1d``, ``100MB,1d``; for files only.
        options: Options of the sink. Those of a file are ``append``, ``overwrite``, ``flush_s``, ``fsync_s``,
            ``metadata`` and ``decimal``, see :class:`FileSink`.

    Raises:
        ServomexValidationError: The suffix, the scheme or an option is unknown, an option is out of range, or the
            suffix says another format.
        ServomexSinkWriteError: It exists already, or cannot be written.
        ServomexSinkSchemaError: The file that is to be continued has other columns.
        ServomexSinkDependencyError: A package that the format needs is not installed.
    """
    key, kind = _chosen(target, file_format, options)
    if rotate is None:
        sink: Sink = kind(os.fspath(target), **options)
        return sink
    if not issubclass(kind, FileSink):
        raise ServomexValidationError(f"{target} is no file: it cannot be rotated")
    return RotatingSink(kind, Path(target), key, rotate, **options)


def check_targets(targets: Iterable[str | os.PathLike[str]], **options: Any) -> None:
    """Check whether :func:`open_sink` would succeed for each of them, as far as that shows without a change.

    Raises:
        ServomexValidationError: One of them is named twice, or see :func:`open_sink`.
        ServomexSinkError: See :func:`open_sink`.
    """
    seen: list[Path] = []
    for target in targets:
        _check_target(target, **options)
        path = Path(target)
        if any(same_place(path, other) for other in seen):
            raise ServomexValidationError(f"{os.fspath(target)} is named twice")
        seen.append(path)


def _check_target(
    target: str | os.PathLike[str], *, file_format: str | None = None, rotate: str | None = None, **options: Any
) -> None:
    _, kind = _chosen(target, file_format, options)
    if rotate is not None:
        open_sink(
            target, file_format=file_format, rotate=rotate, **options
        ).close()  # it makes its first file with the first sample
    elif issubclass(kind, FileSink):
        kind.check(Path(target), **options)


def _chosen(
    target: str | os.PathLike[str], file_format: str | None, options: dict[str, Any]
) -> tuple[str, type[Any]]:
    """Find the class of a sink, and check that it has these options."""
    key, kind = sink_class(target, file_format)
    try:
        inspect.signature(kind).bind(target, **options)
    except TypeError as error:
        raise ServomexValidationError(f"{os.fspath(target)}: {error}") from error
    return key, kind


def sink_class(target: str | os.PathLike[str], file_format: str | None = None) -> tuple[str, type[Any]]:
    """Find the class of a sink, and the suffix or scheme that it was found by.

    Args:
        target: A file, or a URL.
        file_format: One of :data:`FORMATS`, for a file whose suffix does not say it.

    Raises:
        ServomexValidationError: The suffix, the scheme or the format is unknown, and the error lists those
            that are known; or the suffix says another format.
    """
    name = os.fspath(target)
    key = _key_of(name)
    if file_format is None and key is not None:
        return key, _imported(_SINKS[key])
    if file_format is None:
        raise ServomexValidationError(
            f"{name!r} is {'a folder' if Path(target).is_dir() else 'not the name of a recording'}",
            cure=f"Choose one, as in {Argument('file_format', 'csv')}, or name a file that ends with {SUFFIXES}",
        )
    if file_format not in FORMATS:
        raise ServomexValidationError(f"unknown file format {file_format!r}; known are {', '.join(FORMATS)}")
    if key is not None and _SINKS[key] != _SINKS[FORMATS[file_format]]:
        raise ServomexValidationError(
            f"{name} says by {key} that it is not {file_format}",
            cure=f"Omit {Argument('file_format')}, or choose another name",
        )
    if key is None and "://" in name:
        raise ServomexValidationError(f"{name} is not a file: {file_format} is a format of files")
    if key is None and name.lower().endswith(".gz") and f"{FORMATS[file_format]}.gz" not in _SINKS:
        raise ServomexValidationError(
            f"{name} cannot be packed as {file_format}", cure="Choose a name without .gz"
        )
    return Path(name).suffix if key is None else key, _imported(_SINKS[FORMATS[file_format]])


def _key_of(name: str) -> str | None:
    """Return the suffix or scheme that is known."""
    name = name.lower()
    scheme = re.match(r"[a-z][a-z0-9+.-]*://", name)
    return next((key for key in _SINKS if (key == scheme[0] if scheme else name.endswith(key))), None)


def _imported(place: str) -> type[Any]:
    module, _, name = place.partition(".")
    kind: type[Any] = getattr(importlib.import_module(f"servomex.sinks.{module}"), name)
    return kind
