"""Opening a sink: its class is found by the suffix of a file or the scheme of a URL."""

import importlib
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

from servomex.errors import Argument, ServomexValidationError
from servomex.errors.excerpts import without_password
from servomex.errors.validation import path_text
from servomex.rows.file_kinds import FORMATS
from servomex.sinks.base import FLUSH_S, FSYNC_S, Sink
from servomex.sinks.files import FileSink
from servomex.sinks.places import same_place
from servomex.sinks.rotation import RotatingSink

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
    "postgresql://": "postgres.PostgresSink",
    "mqtt://": "mqtt.MqttSink",
    "mqtts://": "mqtt.MqttSink",
    "influx+http://": "influx.InfluxSink",
    "influx+https://": "influx.InfluxSink",
    "memory://": "memory.InMemorySink",
}
"""Suffixes and schemes, and their classes."""
SUFFIXES = ", ".join(key for key in _SINKS if key[0] == ".")
"""The suffixes of files, for messages."""


def _class(key: str) -> type[Any]:
    """Import the class for a suffix or a scheme; only now, so that only what is needed gets loaded."""
    module, _, name = _SINKS[key].partition(".")
    kind: type[Any] = getattr(importlib.import_module(f"servomex.sinks.{module}"), name)
    return kind


_OF_OPENING = ("rotate", "keep", "min_free", "file_format")
"""The options that do not belong to a class; only files have them."""


class SinkOptions(TypedDict, total=False):
    """The options of :func:`open_sink`, for functions that pass them on."""

    file_format: str | None
    rotate: str | None
    keep: str | None
    min_free: str | None
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
    keep: str | None = None,
    min_free: str | None = None,
    append: bool = False,
    overwrite: bool = False,
    flush_s: float = FLUSH_S,
    fsync_s: float | None = FSYNC_S,
    metadata: Mapping[str, str] | None = None,
    decimal: str | None = None,
    table: str | None = None,
    compression: str | None = None,
) -> Sink:
    """Open the sink for a file or a URL.

    An option that does not apply to the format is an error, which names the formats that have it.

    Args:
        target: A file, or a URL.
        file_format: ``csv``, ``jsonl``, ``sqlite`` or ``parquet``, for a file whose suffix does not show
            it; a name that ends with ``.gz`` is packed. When omitted, the suffix must show it.
        rotate: Begin a new file at a size, a time or both: ``100MB``, ``1d``, ``100MB,1d``; for files only.
        keep: How much of the rotated files is kept: ``90d``, ``20GB`` or both, ``90d,20GB``. The oldest go when a
            new file begins, at most two of them because of their age.
        min_free: What is to stay free on the disk, such as ``1GB``: when it does not, the oldest of the rotated
            files go, one every 10 s.
        append: Append to the file if it exists. Rows are always appended to a table of PostgreSQL.
        overwrite: Replace the file if it exists.
        flush_s: Seconds until a row survives the death of the process, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once; ``None`` leaves that to the system.
        metadata: Facts about the whole recording: SQLite, Parquet, PostgreSQL and memory.
        decimal: Decimal sign of csv, ``.`` or ``,``.
        table: The table of SQLite or PostgreSQL, ``samples`` when omitted.
        compression: That of Parquet: ``zstd`` when omitted, ``snappy``, ``gzip``, ``brotli``, ``lz4`` or ``none``.

    Raises:
        ServomexValidationError: The suffix, the scheme or an option is unknown, an option is out of range, or the
            suffix is that of another format.
        ServomexSinkWriteError: It exists already, or cannot be written.
        ServomexSinkSchemaError: The file to append to, or the table, has other columns.
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
    _check_options(kind, options, name_of(target))
    if rotate is not None:
        return _rotating(kind, target, key, {"rotate": rotate, "keep": keep, "min_free": min_free} | options)
    if keep or min_free:
        needless = Argument("keep" if keep else "min_free")
        raise ServomexValidationError(
            f"{needless} is for rotated files", cure=f"Add {Argument('rotate', '1d')}, or omit it"
        )
    sink: Sink = kind(os.fspath(target), **options)
    return sink


def _check_options(kind: type[Any], options: Mapping[str, Any], name: str) -> None:
    """Check whether a class has options.

    Raises:
        ServomexValidationError: It lacks one; the error names the formats that have it.
    """
    for option in options:
        if option not in _options(kind):
            raise ServomexValidationError(
                f"{name} has no {Argument(option)}: that is for {_that_have(option)}", cure=f"Omit it for {name}"
            )


def _rotating(kind: type[Any], target: str | os.PathLike[str], suffix: str, options: dict[str, Any]) -> Sink:
    """Open the sink of rotated files.

    Raises:
        ServomexValidationError: The target is not a file, or see :class:`RotatingSink`.
    """
    if not issubclass(kind, FileSink):
        raise ServomexValidationError(f"{name_of(target)} is not a file: it cannot be rotated")
    return RotatingSink(kind, Path(target), suffix, **options)


def options_of(target: str | os.PathLike[str], options: SinkOptions) -> SinkOptions:
    """Return those of the given options that apply to a target.

    Raises:
        ServomexValidationError: The suffix or the scheme is unknown.
    """
    if _is_url(target):
        known = _options(sink_class(target)[1])
    else:
        known = {*_options(sink_class(target, options.get("file_format"))[1]), *_OF_OPENING}
    own: Any = {name: value for name, value in options.items() if name in known}
    return own  # type: ignore[no-any-return]


def _options(kind: type[Any]) -> set[str]:
    return {name for name, item in inspect.signature(kind).parameters.items() if item.kind is item.KEYWORD_ONLY}


def _that_have(option: str) -> str:
    """Return the formats that have an option."""
    if option in _OF_OPENING:
        return "files"
    return ", ".join(
        key for key in _SINKS if option in _options(sink_class(f"x{key}" if key[0] == "." else key)[1])
    )


def check_targets(targets: Iterable[str | os.PathLike[str]], **options: Unpack[SinkOptions]) -> None:
    """Check whether :func:`open_sink` would succeed for each target, as far as possible without changing anything.

    Each target gets only the options that apply to it, see :func:`options_of`.

    Raises:
        ServomexValidationError: One of them is named twice, no target has an option, or see :func:`open_sink`.
        ServomexSinkError: See :func:`open_sink`.
    """
    named = list(targets)
    owns = [options_of(target, options) for target in named]
    for name in options:
        if named and name != "metadata" and not any(name in own for own in owns):
            raise ServomexValidationError(
                f"no file to be written has {Argument(name)}: that is for {_that_have(name)}", cure="Omit it"
            )
    seen: list[Path | str] = []
    for target, own in zip(named, owns, strict=True):
        _check_target(target, own)
        place = place_of(target)
        if any(is_same_place(place, other) for other in seen):
            raise ServomexValidationError(f"{name_of(target)} is named twice")
        seen.append(place)


def name_of(target: str | os.PathLike[str]) -> str:
    """Return a target without its password, for messages."""
    return without_password(os.fspath(target))


def place_of(target: str | os.PathLike[str]) -> Path | str:
    """Return where a target is: the path of a file, or what a URL leads to.

    Raises:
        ServomexValidationError: The URL is not valid.
    """
    return str(sink_class(target)[1].place_of(os.fspath(target))) if _is_url(target) else Path(target)


def is_same_place(one: Path | str, other: Path | str) -> bool:
    """Return whether two targets are the same."""
    if isinstance(one, Path) and isinstance(other, Path):
        return same_place(one, other)
    return one == other


def _is_url(target: str | os.PathLike[str]) -> bool:
    return "://" in path_text(target, "target")


def _check_target(target: str | os.PathLike[str], options: SinkOptions) -> None:
    kind = sink_class(target, options.get("file_format"))[1]
    if options.get("rotate") is not None:
        open_sink(target, **options).close()  # it makes its first file with the first sample
    elif issubclass(kind, FileSink):
        checked: dict[str, Any] = {name: value for name, value in options.items() if name not in _OF_OPENING}
        kind.check(Path(target), **checked)
    else:
        kind.check_url(os.fspath(target), table=options.get("table"))


def sink_class(target: str | os.PathLike[str], file_format: str | None = None) -> tuple[str, type[Any]]:
    """Find the class of a sink, and the suffix or scheme that it was found by.

    Args:
        target: A file, or a URL.
        file_format: One of :data:`FORMATS`, for a file whose suffix does not show it.

    Raises:
        ServomexValidationError: The suffix, the scheme or the format is unknown, and the error lists those
            that are known; or the suffix is that of another format.
    """
    name = path_text(target, "target")
    key = _key_of(name)
    if file_format is None and key is not None:
        return key, _class(key)
    if file_format is None:
        raise ServomexValidationError(
            f"{name_of(name)!r} is {'a folder' if Path(target).is_dir() else 'not the name of a recording'}",
            cure=f"Choose one, as in {Argument('file_format', 'csv')}, or name a file that ends with {SUFFIXES}, "
            "or a table, as postgresql://USER@HOST/DATABASE",
        )
    if file_format not in FORMATS:
        raise ServomexValidationError(f"unknown file format {file_format!r}; known are {', '.join(FORMATS)}")
    if key is not None and _SINKS[key] != _SINKS[FORMATS[file_format]]:
        raise ServomexValidationError(
            f"{name_of(name)} is not {file_format}, as {key} shows",
            cure=f"Omit {Argument('file_format')}, or choose another name",
        )
    if key is None and "://" in name:
        raise ServomexValidationError(f"{name_of(name)} is not a file, but {file_format} is a format of files")
    if key is None and name.lower().endswith(".gz") and f"{FORMATS[file_format]}.gz" not in _SINKS:
        raise ServomexValidationError(
            f"{name_of(name)} cannot be compressed as {file_format}", cure="Choose a name without .gz"
        )
    return Path(name).suffix if key is None else key, _class(FORMATS[file_format])


def _key_of(name: str) -> str | None:
    """Return the suffix or scheme that is known."""
    name = re.sub(r"^postgres://", "postgresql://", name.lower())  # libpq takes both
    scheme = re.match(r"[a-z][a-z0-9+.-]*://", name)
    return next((key for key in _SINKS if (key == scheme[0] if scheme else name.endswith(key))), None)
