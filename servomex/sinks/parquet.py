"""Parquet files: ``.parquet``, by way of parts that are readable whatever happens."""

import contextlib
import errno
import functools
import os
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

from servomex.errors import ServomexSinkDependencyError, ServomexSinkReadError, ServomexSinkSchemaError
from servomex.logs import package_log
from servomex.models import Sample
from servomex.rows import COLUMN_KINDS, TIMES, ColumnKind, check_columns, sample_of
from servomex.sinks.files import FileSink, explained, explained_reading, lock, sync_folder

_log = package_log("servomex")

PART_ROWS = 5_000
"""A flush writes the newest part again until it has so many rows, or was synced: few parts, little to write."""
GROUP_ROWS = 100_000
"""Rows of a row group of the merged file."""
COMPRESSION = "zstd"

_MERGED = b"servomex.merged_parts"
"""Metadata of a merged file: the number of the last part that is in it."""


class ParquetSink(FileSink):
    """Writes a Parquet file, with the metadata in its key-value metadata. Needs the extra ``parquet``.

    The columns are :data:`servomex.ROW_COLUMNS`: times are timestamps in microseconds, UTC except for
    ``analyser_clock``, which has no zone; flags are boolean, ``monotonic_ns`` is a 64-bit integer, ``value`` and
    ``latency_s`` are doubles, all else is text with a dictionary.

    A Parquet file can be read when it is complete, not before. So rows go to ``NAME.parquet.parts/000001.parquet``
    and so on, each complete in itself; closing merges them into ``NAME.parquet`` and then removes them.
    """

    def _open(self) -> None:
        self._schema = _schema()
        self._parts = parts_of(self.path)
        self._unsynced: set[Path] = set()
        with explained(self.name):
            if not (self.append or self.overwrite) and self.exists(self.path):
                raise FileExistsError(errno.EEXIST, "exists")
            merged = _merged_number(self.path) if self.append else 0
            self._parts.mkdir(exist_ok=True)
            self._lock_parts()
            if self.overwrite:
                self.path.unlink(missing_ok=True)
                _remove(self._parts.glob("*.parquet"))
            _remove(self._parts.glob("*.tmp"))
            self._take_up_parts(merged)
            self._notes = self._all_notes()
            if self._fsync_s is not None:
                sync_folder(self.path.parent)
        self._part = self._schema.empty_table()
        self._size = self._size_before_part = 0

    def _lock_parts(self) -> None:
        if os.name == "nt":
            return
        descriptor = os.open(self._parts, os.O_RDONLY)
        self._held.callback(os.close, descriptor)
        lock(descriptor, self.path)

    def _take_up_parts(self, merged: int) -> None:
        """Go on behind the parts of a run that was killed; put aside what a loss of power spoilt."""
        _remove(part for part in _numbered(self._parts) if _number(part) <= merged)
        for part in _numbered(self._parts):
            try:
                with _opened(part):
                    continue
            except ServomexSinkSchemaError as error:
                _log.warning("%s; it is put aside", error.message)
                part.replace(part.with_name(f"{part.name}.damaged"))
        self._number = max([merged, *map(_number, _numbered(self._parts))]) + 1

    def _all_notes(self) -> dict[bytes, bytes]:
        """Give the metadata: what is known from runs before, and what is said now."""
        before = _metadata_of(_sources(self.path))
        return before | {key.encode(): text.encode() for key, text in self.metadata.items()}

    @classmethod
    def check_installed(cls) -> None:
        """Check that pyarrow is installed."""
        _pyarrow()

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Whether there is the file, or parts of it."""
        return path.exists() or parts_of(path).exists()

    @property
    def size(self) -> int:
        """Bytes that the parts of this run have so far; merged they are fewer."""
        return self._size

    def _store(self, rows: list[Any]) -> None:
        arrow = _pyarrow()
        columns = [
            arrow.array(values, field.type)
            for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        new = arrow.Table.from_arrays(columns, schema=self._schema)
        table = arrow.concat_tables([self._part, new]).unify_dictionaries().combine_chunks()
        part = self._parts / f"{self._number:06d}.parquet"
        with explained(self.name):
            self._replace(part, self._notes, [table])
            self._size = self._size_before_part + part.stat().st_size
        self._unsynced.add(part)
        self._part = table
        if table.num_rows >= PART_ROWS:
            self._begin_part()

    def _begin_part(self) -> None:
        self._number += 1
        self._part = self._schema.empty_table()
        self._size_before_part = self._size

    def _replace(
        self, path: Path, metadata: dict[bytes, bytes], tables: Iterable[Any], *, sync: bool = False
    ) -> None:
        """Write a file under another name, and give it its name when it is complete."""
        arrow = _pyarrow()
        temporary = self._parts / f"{path.name}.tmp"
        try:
            with temporary.open("wb") as file:
                schema = self._schema.with_metadata(metadata)
                with arrow.parquet.ParquetWriter(file, schema, compression=COMPRESSION) as writer:
                    for table in tables:
                        writer.write_table(table, row_group_size=max(1, table.num_rows))
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _sync(self) -> None:
        with explained(self.name):
            for part in self._unsynced:
                with part.open("r+b") as file:
                    os.fsync(file.fileno())
            sync_folder(self._parts)
        self._unsynced.clear()
        if self._part.num_rows:
            self._begin_part()  # a loss of power may spoil a part that is written again, so this one no longer is

    def _finish(self) -> None:
        """Merge the parts, and what the file held before, into the file."""
        parts = _numbered(self._parts)
        before = [self.path] if self.path.exists() else []
        with explained(self.name):
            if parts or not before:
                number = {_MERGED: b"%d" % max(map(_number, parts), default=0)}
                self._replace(self.path, self._notes | number, _groups([*before, *parts]), sync=True)
                sync_folder(self.path.parent)
            _remove(parts)
            with contextlib.suppress(OSError):  # what was put aside stays
                self._parts.rmdir()
        self._unsynced.clear()

    @classmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Give the samples of a file and of its parts, or of a folder of parts."""
        with explained_reading(path):
            sources = _sources(path)
            for source in sources:
                with contextlib.ExitStack() as held:
                    try:
                        file = held.enter_context(_opened(source))
                    except ServomexSinkSchemaError as error:
                        if source == path or source != sources[-1]:
                            raise
                        _log.warning("%s; it is left out: the recording was not ended properly", error.message)
                        return
                    yield from _samples(file, source)

    @classmethod
    def read_metadata(cls, path: Path) -> dict[str, str]:
        """Give the key-value metadata."""
        with explained_reading(path):
            return {key.decode(): text.decode() for key, text in _metadata_of(_sources(path)).items()}


def parts_of(path: Path) -> Path:
    """Give the folder that holds the parts of a file until it is closed."""
    return path.with_name(f"{path.name}.parts")


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f'Parquet files need pyarrow: python -m pip install "servomex[parquet]" ({error})'
        ) from error
    return pyarrow


@functools.cache
def _schema() -> Any:
    arrow = _pyarrow()
    types = {
        ColumnKind.TIME: arrow.timestamp("us", tz="UTC"),
        ColumnKind.CLOCK: arrow.timestamp("us"),
        ColumnKind.INTEGER: arrow.int64(),
        ColumnKind.NUMBER: arrow.float64(),
        ColumnKind.FLAG: arrow.bool_(),
        ColumnKind.TEXT: arrow.dictionary(arrow.int32(), arrow.string()),
    }
    return arrow.schema([(column, types[kind]) for column, kind in COLUMN_KINDS.items()])


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink()


def _numbered(folder: Path) -> list[Path]:
    """Give the parts in a folder in their order."""
    return sorted((file for file in folder.glob("*.parquet") if file.stem.isdecimal()), key=_number)


def _number(part: Path) -> int:
    return int(part.stem)


def _notes_in(path: Path) -> dict[bytes, bytes]:
    with _opened(path) as file:
        return file.schema_arrow.metadata or {}


def _metadata_of(sources: list[Path]) -> dict[bytes, bytes]:
    """Give what is said of a recording; the newest of its files that is not damaged knows all of it."""
    for source in reversed(sources):
        with contextlib.suppress(ServomexSinkSchemaError):
            return {key: text for key, text in _notes_in(source).items() if key != _MERGED}
    return {}


def _merged_number(path: Path) -> int:
    """Give the number of the last part that is in a merged file; 0 when there is no such file."""
    return int(_notes_in(path).get(_MERGED, b"0")) if path.exists() else 0


def _sources(path: Path) -> list[Path]:
    """Give the files that hold a recording: those of a folder, or the merged file and the parts not in it."""
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
        if not found and path.suffix != ".parts":
            raise ServomexSinkReadError(f"{path} is a folder without parts of a recording")
        return found
    merged = _merged_number(path)
    later = [part for part in _numbered(parts_of(path)) if _number(part) > merged]
    return ([path] if path.exists() else []) + later


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file and check its columns.

    Raises:
        OSError: It cannot be read.
        ServomexSinkSchemaError: It is damaged, or its columns are others.
    """
    arrow = _pyarrow()
    with path.open("rb") as source:
        with _understood(path):
            file = arrow.parquet.ParquetFile(source)
        if not file.schema_arrow.equals(_schema()):
            _check_schema(path, file.schema_arrow)
        yield file


def _check_schema(path: Path, schema: Any) -> None:
    check_columns(str(path), schema.names)
    for wanted in _schema():
        found = schema.field(wanted.name)
        if found.type != wanted.type:
            raise ServomexSinkSchemaError(
                f"{path}: the column {wanted.name!r} is {found.type} instead of {wanted.type}"
            )


@contextlib.contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Tell damage, for which pyarrow has several errors, from a file that cannot be read."""
    arrow = _pyarrow()
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ServomexSinkSchemaError(f"{path} is damaged or no Parquet file: {error}") from error


def _groups(sources: Iterable[Path]) -> Iterator[Any]:
    """Give what files hold, small pieces put together."""
    arrow = _pyarrow()
    held: list[Any] = []
    for source in sources:
        with _opened(source) as file, _understood(source):
            for number in range(file.num_row_groups):
                held.append(file.read_row_group(number))
                if sum(table.num_rows for table in held) >= GROUP_ROWS:
                    yield arrow.concat_tables(held).unify_dictionaries()
                    held = []
    if held:
        yield arrow.concat_tables(held).unify_dictionaries()


def _samples(file: Any, path: Path) -> Iterator[Sample]:
    number = 0
    with _understood(path):
        for batch in file.iter_batches(PART_ROWS):
            for row in batch.to_pylist():
                number += 1
                try:
                    sample = sample_of(_with_utc(row))
                except ValueError as error:
                    raise ServomexSinkSchemaError(f"{path}, row {number}: {error}") from error
                yield sample


def _with_utc(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row with the time zone that all of this package has; pyarrow's is another."""
    for column in TIMES:
        if row[column] is not None:
            row[column] = row[column].astimezone(UTC)
    return row
