"""Reading one Parquet file: its columns, types and sizes are checked, whatever program wrote it."""

import contextlib
import functools
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from servomex.errors import ServomexSinkDependencyError, ServomexSinkSchemaError
from servomex.errors.excerpts import plain
from servomex.errors.missing import how_to_get
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind, check_columns
from servomex.sinks.parquet_pages import groups_in, rows_at_once
from servomex.sinks.parquet_tags import cast_tags, holds_tags

FLAT = len(COLUMN_KINDS) - 1
"""Columns with one value per row: all but the last one, the tags."""
LARGEST_FOOTER = 16_000_000
"""Bytes of a footer: that of a recording of 300 million rows."""
MOST_OF_A_KIND = 100_000
"""Columns, or row groups, of a file."""
STREAM_BYTES = 65_536
"""Bytes of a column that are read from the file at once."""
_SCHEMA = b"ARROW:schema"
"""The key under which pyarrow keeps the types of the columns."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMITS = {"thrift_string_size_limit": LARGEST_FOOTER, "thrift_container_size_limit": MOST_OF_A_KIND}


def imported_pyarrow() -> Any:
    """Return pyarrow.

    Raises:
        ServomexSinkDependencyError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f"Parquet files need pyarrow: {how_to_get('pyarrow', 'parquet')} ({error})"
        ) from error
    return pyarrow


@functools.cache
def schema_of_rows() -> Any:
    """Return the columns of a recording with their types."""
    arrow = imported_pyarrow()
    types = {
        ColumnKind.TIME: arrow.timestamp("us", tz="UTC"),
        ColumnKind.CLOCK: arrow.timestamp("us"),
        ColumnKind.INTEGER: arrow.int64(),
        ColumnKind.NUMBER: arrow.float64(),
        ColumnKind.FLAG: arrow.bool_(),
        ColumnKind.TEXT: arrow.dictionary(arrow.int32(), arrow.string()),
        ColumnKind.TAGS: arrow.map_(arrow.string(), arrow.string()),
    }
    return arrow.schema([(column, types[kind]) for column, kind in COLUMN_KINDS.items()])


def has_other_columns(part: Path) -> bool:
    """Return whether the footer of a part can be read, and has columns that this version does not write."""
    try:
        with part.open("rb") as source:
            footer = _footer_in(part, source)
            with understood(part):
                names = footer.schema.to_arrow_schema().names
    except ServomexSinkSchemaError:
        return False
    return list(names) != list(COLUMN_KINDS)


@attrs.frozen
class Part:
    """An open file, of a recording or of a part of it.

    Attributes:
        path: Its name.
        file: The file as opened by pyarrow.
        source: The file as bytes.
    """

    path: Path
    file: Any
    source: BinaryIO

    @property
    def notes(self) -> dict[bytes, bytes]:
        """Its key-value metadata."""
        found = self.file.metadata.metadata or {}
        return {key: text for key, text in found.items() if key != _SCHEMA}

    def is_at(self, path: Path) -> bool:
        """Return whether it is still the file of that name."""
        try:
            return os.path.samestat(os.fstat(self.source.fileno()), path.stat())
        except FileNotFoundError:
            return False

    def batches(self) -> Iterator[Any]:
        """Yield its rows, checked, with the columns and types of :func:`schema_of_rows`.

        Raises:
            ServomexSinkSchemaError: It is damaged, or needs more memory than a recording does.
        """
        with understood(self.path):
            groups = [*groups_in(self.source)]
            if sum(group.rows for group in groups) != self.file.metadata.num_rows:
                raise ValueError("its row groups and the file differ in the number of rows")
        for number, group in enumerate(groups):
            with understood(self.path):
                rows = rows_at_once(self.source, group, FLAT) if group.rows else 0
                found = self.file.iter_batches(rows, row_groups=[number]) if rows else iter(())
            left = group.rows
            while True:
                with understood(self.path):
                    batch = next(found, None)
                    if batch is None:
                        break
                    left -= batch.num_rows
                    batch.validate(full=True)
                    batch = _cast(batch)
                yield batch
            if left:
                raise ServomexSinkSchemaError(
                    f"{self.path} is damaged: {left} rows of row group {number + 1} are missing"
                )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Part]:
    """Open a file and check its columns.

    Raises:
        OSError: It cannot be read.
        ServomexSinkSchemaError: It is damaged, or has other columns.
    """
    arrow = imported_pyarrow()
    texts = {column for column, kind in COLUMN_KINDS.items() if kind in (ColumnKind.TEXT, ColumnKind.TAGS)}
    with path.open("rb") as source:
        metadata = _footer_in(path, source)
        with understood(path):
            names = metadata.schema.to_arrow_schema().names
        check_columns(str(path), names)
        with understood(path):
            file = arrow.parquet.ParquetFile(
                source,
                metadata=metadata,
                read_dictionary=[path for path in _paths(metadata) if path.partition(".")[0] in texts],
                buffer_size=STREAM_BYTES,
                page_checksum_verification=True,
                **_LIMITS,
            )
            schema = file.schema_arrow
        if not schema.equals(schema_of_rows()):
            with understood(path):
                _check_schema(path, schema)
        yield Part(path, file, source)


def _footer_in(path: Path, source: BinaryIO) -> Any:
    _check_footer(path, source)
    with understood(path):
        return imported_pyarrow().parquet.ParquetFile(source, **_LIMITS).metadata


def _paths(metadata: Any) -> list[str]:
    """Return the columns as they are stored: a map has one of keys and one of values."""
    return [metadata.schema.column(number).path for number in range(metadata.num_columns)]


def _check_footer(path: Path, source: BinaryIO) -> None:
    size = source.seek(0, os.SEEK_END)
    source.seek(max(0, size - 8))
    footer = int.from_bytes(source.read(4), "little")
    if source.read(4) == b"PAR1" and footer > LARGEST_FOOTER:
        raise ServomexSinkSchemaError(f"{path} is damaged: its footer would have {footer} bytes")
    source.seek(0)


def _check_schema(path: Path, schema: Any) -> None:
    """Check the columns of a file, which another program may have written with other types for the same values."""
    for wanted in schema_of_rows():
        found = schema.field(wanted.name).type
        if not _can_hold(found, COLUMN_KINDS[wanted.name]):
            raise ServomexSinkSchemaError(
                f"{path}: the column {wanted.name!r} is {plain(str(found))} instead of {wanted.type}"
            )


def _can_hold(found: Any, kind: ColumnKind) -> bool:
    types = imported_pyarrow().types
    if types.is_null(found):
        return True
    if kind is ColumnKind.TAGS:
        return holds_tags(found, lambda text: _can_hold(text, ColumnKind.TEXT))
    if kind in (ColumnKind.TIME, ColumnKind.CLOCK):
        return bool(types.is_timestamp(found)) and (found.tz is not None) == (kind is ColumnKind.TIME)
    if kind is ColumnKind.TEXT:
        text = found.value_type if types.is_dictionary(found) else found
        checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
        return any(check(text) for check in checks)
    if kind is ColumnKind.INTEGER:
        return bool(types.is_integer(found))
    return bool(types.is_float64(found) if kind is ColumnKind.NUMBER else types.is_boolean(found))


def _cast(batch: Any) -> Any:
    """Convert the columns of a batch to the types of a recording.

    Raises:
        ArrowInvalid: A value does not fit, such as a time with parts of a microsecond.
    """
    schema = schema_of_rows()
    if batch.schema.equals(schema):
        return batch
    arrow = imported_pyarrow()
    columns = [_cast_column(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _cast_column(column: Any, wanted: Any) -> Any:
    types = imported_pyarrow().types
    if column.type.equals(wanted):
        return column
    if types.is_map(wanted):
        return cast_tags(column, wanted)
    return _cast_text(column, wanted) if types.is_dictionary(wanted) else column.cast(wanted)


def _cast_text(column: Any, wanted: Any) -> Any:
    """Cast a dictionary without unpacking it: a long text in it may occur in every row."""
    arrow = imported_pyarrow()
    if not arrow.types.is_dictionary(column.type):
        return column.cast(wanted.value_type).dictionary_encode()
    texts = column.dictionary.cast(wanted.value_type)
    return arrow.DictionaryArray.from_arrays(column.indices.cast(wanted.index_type), texts)


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turn pyarrow's various errors for damage into one, but not those of a file that cannot be read."""
    arrow = imported_pyarrow()
    try:
        yield
    except ServomexSinkSchemaError:
        raise
    except (arrow.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError, KeyError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ServomexSinkSchemaError(f"{path} is damaged or not a Parquet file: {plain(str(error))}") from error


def values_of(column: Any) -> list[Any]:
    """Return the values of a column; a text or a time that occurs in many rows is one object."""
    types = imported_pyarrow().types
    if types.is_timestamp(column.type):
        return _times(column)
    if not types.is_dictionary(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    used = column.indices.drop_null().unique()
    texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [None if index is None else texts[index] for index in column.indices.to_pylist()]


def _times(column: Any) -> list[datetime | None]:
    """Return times in microseconds as Python has them; pyarrow would take most of the time of reading for them."""
    epoch = _EPOCH if column.type.tz is not None else _EPOCH.replace(tzinfo=None)
    ticks = column.cast(imported_pyarrow().int64()).to_pylist()
    times = {tick: None if tick is None else epoch + timedelta(microseconds=tick) for tick in dict.fromkeys(ticks)}
    return [times[tick] for tick in ticks]
