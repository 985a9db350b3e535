"""Reading recordings back: the samples that were written, whatever the format."""

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

from servomex.errors import Argument, ServomexSinkReadError, ServomexValidationError
from servomex.errors.validation import path_text
from servomex.models.sample import Sample
from servomex.rows.file_kinds import format_of
from servomex.runtime.logs import package_log
from servomex.sinks.files import FileSink
from servomex.sinks.opening import SUFFIXES, name_of, sink_class

_log = package_log("servomex")

Source = str | os.PathLike[str]
Place = Path | str
"""A file, or the URL of a table."""

_PARTS = ".parts"


def load(source: Source | Iterable[Source], *, table: str | None = None) -> Iterator[Sample]:
    """Return the samples of a recording, equal to those that were written and in the same order.

    A half line at the end of a file, as a kill can leave it, is omitted with a warning. So is, among several
    files, an SQLite file without tables, as a loss of power leaves one that was just begun.

    Args:
        source: A file that a sink wrote, a folder of Parquet parts, a pattern such as ``run-*.csv`` or ``run-*``,
            the ``postgresql://`` URL of a table, or several of these, which are read one after the other. Of the
            matches only recordings are read, each with what belongs to it, such as ``-wal`` or ``.parts``.
        table: The table of SQLite files and of PostgreSQL; when omitted, the only one in each file that is a
            recording, and what the URL says.

    Raises:
        ServomexSinkReadError: A file is missing or cannot be read.
        ServomexSinkSchemaError: A file is damaged or has other columns; the error names the line or row.
        ServomexSinkDependencyError: A package that the format needs is not installed.
        ServomexValidationError: Neither the suffix nor the content of a file is that of a recording, or a table is
            named and a file has none.
    """
    found = [(_kind_of(place), place) for place in files_of(source)]
    if table is None:
        return chain.from_iterable(kind.read(place) for kind, place in found)
    from servomex.sinks.postgres import PostgresSink
    from servomex.sinks.sqlite import SqliteSink

    for kind, place in found:
        if not issubclass(kind, SqliteSink | PostgresSink):
            raise ServomexValidationError(
                f"{name_of(place)} has no tables", cure=f"Omit {Argument('table')}", argument=Argument("table")
            )
    return chain.from_iterable(kind.read(place, table) for kind, place in found)


def load_metadata(path: Source) -> dict[str, str]:
    """Return the metadata of a whole recording; CSV and JSON lines have no place for it.

    Raises:
        ServomexSinkError: The file is missing, damaged or cannot be read.
    """
    place = os.fspath(path) if _is_url(path) else Path(path)
    found: dict[str, str] = _kind_of(place).read_metadata(place)
    return found


def files_of(source: Source | Iterable[Source]) -> list[Place]:
    """Return the files and tables that paths, patterns and URLs name, each once.

    Raises:
        ServomexSinkReadError: A pattern matches no file.
        ServomexValidationError: The URL is of something that cannot be read back.
    """
    names = source if isinstance(source, Iterable) and not isinstance(source, str | bytes) else [source]
    found = dict.fromkeys(path for name in names for path in _expanded(path_text(name, "source")))
    paths = [path for path in found if not (_is_folder_of_parts(path) and path.with_suffix("") in found)]
    return [path for path in paths if not _is_blank(path)] if len(paths) > 1 else paths


def _is_url(name: Source) -> bool:
    return "://" in path_text(name, "source")


def _is_folder_of_parts(path: Place) -> TypeGuard[Path]:
    return isinstance(path, Path) and path.suffix == _PARTS


def _is_blank(path: Place) -> bool:
    """Return whether a file among others has only just been begun; log it if so."""
    if isinstance(path, str) or not path.is_file() or not _kind_of_file(path).is_blank(path):
        return False
    _log.warning("%s has no tables: its recording ended before any row was written", path)
    return True


def _expanded(name: str) -> list[Path] | list[str]:
    if _is_url(name):
        if not hasattr(sink_class(name)[1], "read"):
            raise ServomexValidationError(
                f"{name_of(name)} cannot be read back: only files and tables of PostgreSQL can"
            )
        return [name]
    if Path(name).exists() or Path(name + _PARTS).exists() or not glob.has_magic(name):
        return [Path(name)]
    there = {*_fitting(name), *_fitting(name + _PARTS)}
    fitting = {path for path in there if not _is_empty_folder(path)}
    if not name.endswith(_PARTS):
        fitting = {whole if _is_recording(whole := path.removesuffix(_PARTS)) else path for path in fitting}
    paths = sorted(filter(_is_recording, fitting))
    found = [path for path in paths if not _is_blank(Path(path))]
    if fitting == there and not paths:
        raise ServomexSinkReadError(f"no {'recording' if fitting else 'file'} matches {name}")
    return [Path(path) for path in found]


def _is_empty_folder(name: str) -> bool:
    """Return whether something is a folder for parts of a recording without any; log it if so."""
    if not name.endswith(_PARTS) or _is_recording(name) or Path(name.removesuffix(_PARTS)).exists():
        return False
    _log.warning("%s is empty: its recording ended before any row was written", name)
    return True


def _is_recording(name: str) -> bool:
    """Return whether a match of a pattern is a recording, by its suffix, and not a file that belongs to one."""
    if Path(name).is_dir():
        return next(Path(name).glob("*.parquet"), None) is not None
    try:
        return issubclass(sink_class(name)[1], FileSink)
    except ServomexValidationError:
        return False


def _fitting(pattern: str) -> list[str]:
    return glob.glob(pattern)  # noqa: PTH207 (that of Path takes no absolute patterns)


def _kind_of(place: Place) -> type[Any]:
    """Find the class that can read a file or a table; of a file, check that it is there."""
    return _kind_of_file(place) if isinstance(place, Path) else sink_class(place)[1]


def _kind_of_file(path: Path) -> type[FileSink]:
    kind = _class_for(path)
    kind.check_installed()
    if not kind.exists(path):
        raise ServomexSinkReadError(f"there is no file {path}")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ServomexSinkReadError(f"{path} is a device or a pipe", cure="Name a file")
    return kind


def _class_for(path: Path) -> type[FileSink]:
    """Find the class of a file by its suffix or, when that says nothing, by its content."""
    try:
        kind: type[FileSink] = sink_class(".parquet" if path.is_dir() else path)[1]
    except ServomexValidationError:
        found = format_of(path)
        if found is None:
            why = "does not begin like one" if path.exists() else "is not there"
            raise ServomexValidationError(
                f"{path} does not have the name of a recording, and {why}",
                cure=f"Name a file that ends with {SUFFIXES}",
            ) from None
        kind = sink_class(path, found)[1]
    return kind
