"""Sinks: where recordings are written, found by the suffix of a file or the scheme of a URL."""

import importlib
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from servomex.contents import FORMATS
from servomex.errors import Argument, ServomexValidationError
from servomex.sinks.base import FLUSH_S, FSYNC_S, Sink
from servomex.sinks.files import FileSink
from servomex.sinks.places import same_place
from servomex.sinks.rotation import RotatingSink

if TYPE_CHECKING:
    from servomex.sinks.csv import CsvSink
    from servomex.sinks.jsonl import JsonlSink
    from servomex.sinks.memory import InMemorySink
    from servomex.sinks.parquet import ParquetSink
    from servomex.sinks.sqlite import SqliteSink

__all__ = [
    "CsvSink",
    "FileSink",
    "InMemorySink",
    "JsonlSink",
    "ParquetSink",
    "RotatingSink",
    "Sink",
    "SinkOptions",
    "SqliteSink",
    "check_targets",
    "open_sink",
    "options_of",
    "sink_class",
]

_MODULE_OF = {
    "CsvSink": "csv",
    "InMemorySink": "memory",
    "JsonlSink": "jsonl",
    "ParquetSink": "parquet",
    "SqliteSink": "sqlite",
}
"""Where each class is that is imported when it is wanted, so that what it needs is."""
_SINKS = {
    ".csv": "CsvSink",
    ".csv.gz": "CsvSink",
    ".jsonl": "JsonlSink",
    ".ndjson": "JsonlSink",
    ".jsonl.gz": "JsonlSink",
    ".sqlite": "SqliteSink",
    ".sqlite3": "SqliteSink",
    ".db": "SqliteSink",
    ".parquet": "ParquetSink",
    "memory://": "InMemorySink",
}
"""Suffixes and schemes, and their classes."""
SUFFIXES = ", ".join(key for key in _SINKS if key[0] == ".")
"""Those of files, for a message."""

if not TYPE_CHECKING:  # which would take any name for one that there is

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'servomex.sinks' has no attribute {name!r}")
        return _class(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def _class(name: str) -> type[Any]:
    found = globals()[name] = getattr(importlib.import_module(f"servomex.sinks.{_MODULE_OF[name]}"), name)
    kind: type[Any] = found
    return kind


_OF_OPENING = ("rotate", "file_format")
"""The options that are not those of a class."""


class SinkOptions(TypedDict, total=False):
    """The options of :func:`open_sink`, for what passes them on."""

    file_format: str | None
    rotate: str | None
    append: bool
    overwrite: bool
    flush_s: float
    fsync_s: float | None
    metadata: Mapping[str, str] | None
    decimal: str
    table: str
    compression: str


def open_sink(
    target: str | os.PathLike[str],
    *,
    file_format: str | None = None,
    rotate: str | None = None,
    append: bool = False,
    overwrite: bool = False,
    flush_s: float = FLUSH_S,
    fsync_s: float | None = FSYNC_S,
    metadata: Mapping[str, str] | None = None,
    decimal: str | None = None,
    table: str | None = None,
    compression: str | None = None,
) -> Sink:
    """Open what samples are written to.

    An option that is not for this format is an error, which names the formats that have it.

    Args:
        target: A file, or a URL.
        file_format: ``csv``, ``jsonl``, ``sqlite`` or ``parquet``, for a file whose name does not say it by its
            suffix; a name that ends with ``.gz`` is packed. When omitted, the suffix must say it.
        rotate: Go on in a new file at a size, a time or both: ``100MB``, ``1d``, ``100MB,1d``; for files only.
        append: Go on with the file if there is one.
        overwrite: Replace the file if there is one.
        flush_s: Seconds until a row survives the death of the process, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once; ``None`` leaves that to the system.
        metadata: What is said of the whole recording: SQLite, Parquet and memory.
        decimal: Decimal sign of csv, ``.`` or ``,``.
        table: The table of SQLite, ``samples`` when omitted.
        compression: That of Parquet: ``zstd`` when omitted, ``snappy``, ``gzip``, ``brotli``, ``lz4`` or ``none``.

    Raises:
        ServomexValidationError: The suffix, the scheme or an option is unknown, an option is out of range, or the
            suffix says another format.
        ServomexSinkWriteError: It exists already, or cannot be written.
        ServomexSinkSchemaError: The file that is to be continued has other columns.
        ServomexSinkDependencyError: A package that the format needs is not installed.
    """
    usual = {"append": False, "overwrite": False, "flush_s": FLUSH_S, "fsync_s": FSYNC_S}
    given = {
        "append": append,
        "overwrite": overwrite,
        "flush_s": flush_s,
        "fsync_s": fsync_s,
        "metadata": metadata,
        "decimal": decimal,
        "table": table,
        "compression": compression,
    }
    options = {name: value for name, value in given.items() if value != usual.get(name)}
    key, kind = sink_class(target, file_format)
    for name in options:
        if name not in _options(kind):
            raise ServomexValidationError(
                f"{os.fspath(target)} has no {Argument(name)}: that is for {_that_have(name)}",
                cure=f"Leave it out for {os.fspath(target)}",
            )
    if rotate is None:
        sink: Sink = kind(os.fspath(target), **options)
        return sink
    if not issubclass(kind, FileSink):
        raise ServomexValidationError(f"{target} is no file: it cannot be rotated")
    return RotatingSink(kind, Path(target), key, rotate, **options)


def options_of(target: str | os.PathLike[str], options: SinkOptions) -> SinkOptions:
    """Return those of some options that a target has, of several of which each is for one of them at least.

    Raises:
        ServomexValidationError: The suffix or the scheme is unknown.
    """
    kind = sink_class(target, options.get("file_format"))[1]
    known = {*_options(kind), *_OF_OPENING}
    own: Any = {name: value for name, value in options.items() if name in known}
    return own  # type: ignore[no-any-return]


def _options(kind: type[Any]) -> set[str]:
    return {name for name, item in inspect.signature(kind).parameters.items() if item.kind is item.KEYWORD_ONLY}


def _that_have(option: str) -> str:
    """Name the formats that have an option."""
    return ", ".join(
        key for key in _SINKS if option in _options(sink_class(f"x{key}" if key[0] == "." else key)[1])
    )


def check_targets(targets: Iterable[str | os.PathLike[str]], **options: Unpack[SinkOptions]) -> None:
    """Check whether :func:`open_sink` would succeed for each of them, as far as that shows without a change.

    Of several targets, each is given those of the options that it has, see :func:`options_of`.

    Raises:
        ServomexValidationError: One of them is named twice, no target has an option, or see :func:`open_sink`.
        ServomexSinkError: See :func:`open_sink`.
    """
    named = list(targets)
    owns = [options_of(target, options) for target in named]
    for name in options:
        if named and name != "metadata" and not any(name in own for own in owns):
            raise ServomexValidationError(
                f"no file to be written has {Argument(name)}: that is for {_that_have(name)}", cure="Leave it out"
            )
    seen: list[Path] = []
    for target, own in zip(named, owns, strict=True):
        _check_target(target, own)
        path = Path(target)
        if any(same_place(path, other) for other in seen):
            raise ServomexValidationError(f"{os.fspath(target)} is named twice")
        seen.append(path)


def _check_target(target: str | os.PathLike[str], options: SinkOptions) -> None:
    kind = sink_class(target, options.get("file_format"))[1]
    if options.get("rotate") is not None:
        open_sink(target, **options).close()  # it makes its first file with the first sample
    elif issubclass(kind, FileSink):
        checked: dict[str, Any] = {name: value for name, value in options.items() if name not in _OF_OPENING}
        kind.check(Path(target), **checked)


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
        return key, _class(_SINKS[key])
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
    return Path(name).suffix if key is None else key, _class(_SINKS[FORMATS[file_format]])


def _key_of(name: str) -> str | None:
    """Return the suffix or scheme that is known."""
    name = name.lower()
    scheme = re.match(r"[a-z][a-z0-9+.-]*://", name)
    return next((key for key in _SINKS if (key == scheme[0] if scheme else name.endswith(key))), None)
