"""Parquet files as they are read: a merged file, its parts, and the checks of both."""

import contextlib
import errno
import functools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from servomex.errors import ServomexSinkDependencyError, ServomexSinkReadError, ServomexSinkSchemaError
from servomex.errors.excerpts import plain
from servomex.errors.missing import how_to_get
from servomex.models.sample import Sample
from servomex.rows.cells import COLUMN_KINDS, ColumnKind, check_columns, sample_of, typed_row
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log
from servomex.sinks.mapped import cast_tags, holds_tags
from servomex.sinks.pages import groups_in, rows_at_once
from servomex.sinks.places import real

_log = package_log("servomex")

FLAT = len(COLUMN_KINDS) - 1
"""Columns with one value a row: all but the last one, the tags."""
GROUP_ROWS = 100_000
"""Rows of a row group of the merged file."""
RECORDING = b"servomex.recording.recording"
"""Metadata of each part and of the merged file: which recording it belongs to."""
MERGED = b"servomex.merged_parts"
"""Metadata of a merged file: as JSON, for each recording in it the number of its last part."""
LARGEST_FOOTER = 16_000_000
"""Bytes of a footer; that of a recording of 300 million rows."""
MOST_OF_A_KIND = 100_000
"""Columns, or row groups, of a file."""
STREAM_BYTES = 65_536
"""Bytes of a column that are read from the file in one go."""
TRIES = 20
"""How often a recording is looked at again that another program ends at that moment."""
PAUSE_S = 0.05
_LIMITS = {"thrift_string_size_limit": LARGEST_FOOTER, "thrift_container_size_limit": MOST_OF_A_KIND}


def parts_of(path: Path) -> Path:
    """Give the folder that holds the parts of a file until it is closed."""
    place = real(path)
    return place.with_name(f"{place.name}.parts")


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


def numbered(folder: Path) -> list[Path]:
    """Give the parts in a folder in their order."""
    return sorted((file for file in folder.glob("*.parquet") if file.stem.isdecimal()), key=number_of)


def number_of(part: Path) -> int:
    """Give the number of a part, from its name."""
    return int(part.stem)


def _notes_in(path: Path) -> dict[bytes, bytes]:
    with opened(path) as part:
        return part.notes


def metadata_of(sources: list[Path]) -> dict[bytes, bytes]:
    """Return what is said of a recording; the newest of its files that is not damaged knows all of it."""
    for source in reversed(sources):
        with contextlib.suppress(ServomexSinkSchemaError):
            return {key: text for key, text in _notes_in(source).items() if key != MERGED}
    return {}


def merged_in(path: Path) -> dict[str, int]:
    """Return, by recording, the number of its last part in a merged file; empty when there is no such file."""
    return _merged(_notes_in(path)) if path.exists() else {}


def _merged(notes: dict[bytes, bytes]) -> dict[str, int]:
    try:
        found = json.loads(notes.get(MERGED, b"{}"))
        return {str(recording): int(number) for recording, number in found.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}  # it was not written by this package


def recording_of(part: Path) -> str:
    """Return which recording a part belongs to; what is damaged, or does not say, belongs to none."""
    try:
        return _notes_in(part).get(RECORDING, b"").decode("utf-8", "replace")
    except ServomexSinkSchemaError:
        return ""


def has_other_columns(part: Path) -> bool:
    """Whether the footer of a part can be read, and has columns that this version does not write."""
    try:
        with part.open("rb") as source:
            footer = _footer_in(part, source)
            with _understood(part):
                names = footer.schema.to_arrow_schema().names
    except ServomexSinkSchemaError:
        return False
    return list(names) != list(COLUMN_KINDS)


def is_merged(part: Path, merged: dict[str, int]) -> bool:
    """Whether the rows of a part are in the merged file already, as after a kill at the end of a recording."""
    return bool(merged) and number_of(part) <= merged.get(recording_of(part), 0)


def sources_of(path: Path) -> list[Path]:
    """Return the files that hold a recording: those of a folder, or the merged file and the parts not in it."""
    with contextlib.ExitStack() as held:
        return [source for source, _ in _sources(path, held)]


def _sources(path: Path, held: contextlib.ExitStack) -> "list[tuple[Path, Part | None]]":
    """Return the files that hold a recording, the merged one opened: another program may replace it.

    Raises:
        FileNotFoundError: Another program has just put the parts into the file.
    """
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
        if not found and path.suffix != ".parts":
            raise ServomexSinkReadError(f"{path} is a folder without parts of a recording")
        _check_numbers(path, [part for part in found if part.stem.isdecimal()], 0)
        return [(part, None) for part in found]
    merged = held.enter_context(opened(path)) if path.exists() else None
    parts = _parts_beside(path, merged)
    if merged is None and path.exists():
        raise FileNotFoundError(errno.ENOENT, "its parts are being put together")
    if merged is not None and not merged.is_at(path):
        raise FileNotFoundError(errno.ENOENT, "it is being replaced")
    first: list[tuple[Path, Part | None]] = [] if merged is None else [(path, merged)]
    return first + [(part, None) for part in parts]


def _parts_beside(path: Path, merged: "Part | None") -> list[Path]:
    """Return the parts that are not in the merged file: later ones, and those of another recording."""
    parts = numbered(parts_of(path))
    if merged is None:
        _check_numbers(path, parts, 0)
        return parts
    done = _merged(merged.notes)
    recordings = {part: recording_of(part) for part in parts}
    left = [part for part, recording in recordings.items() if number_of(part) > done.get(recording, 0)]
    if len({*recordings.values()}) == 1:  # the numbers of several do not follow each other
        _check_numbers(path, left, max(done.get(recording, 0) for recording in recordings.values()))
    return left


def _check_numbers(path: Path, parts: list[Path], before: int) -> None:
    """Report parts that are missing among those of a recording."""
    missing = max(map(number_of, parts), default=before) - before - len(parts)
    if missing > 0:
        _log.warning("%s: %d of its parts are missing, and the rows in them", path, missing)


@attrs.frozen
class Part:
    """An open file, of a recording or of a part of it.

    Attributes:
        path: Its name.
        file: The file as pyarrow has it.
        source: The same as bytes.
    """

    path: Path
    file: Any
    source: BinaryIO

    @property
    def notes(self) -> dict[bytes, bytes]:
        """Its key-value metadata."""
        return self.file.schema_arrow.metadata or {}

    def is_at(self, path: Path) -> bool:
        """Whether it is still the file of that name."""
        try:
            return os.path.samestat(os.fstat(self.source.fileno()), path.stat())
        except FileNotFoundError:
            return False

    def batches(self) -> Iterator[Any]:
        """Yield what it holds, checked, with the columns and types of :func:`schema_of_rows`.

        Raises:
            ServomexSinkSchemaError: It is damaged, or needs more memory than a recording does.
        """
        with _understood(self.path):
            groups = [*groups_in(self.source)]
            if sum(group.rows for group in groups) != self.file.metadata.num_rows:
                raise ValueError("its row groups have another number of rows than the file")
        for number, group in enumerate(groups):
            with _understood(self.path):
                rows = rows_at_once(self.source, group, FLAT) if group.rows else 0
                found = self.file.iter_batches(rows, row_groups=[number]) if rows else iter(())
            left = group.rows
            while True:
                with _understood(self.path):
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
        ServomexSinkSchemaError: It is damaged, or its columns are others.
    """
    arrow = imported_pyarrow()
    texts = {column for column, kind in COLUMN_KINDS.items() if kind in (ColumnKind.TEXT, ColumnKind.TAGS)}
    with path.open("rb") as source:
        metadata = _footer_in(path, source)
        with _understood(path):
            names = metadata.schema.to_arrow_schema().names
        check_columns(str(path), names)
        with _understood(path):
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
            _check_schema(path, schema)
        yield Part(path, file, source)


def _footer_in(path: Path, source: BinaryIO) -> Any:
    _check_footer(path, source)
    with _understood(path):
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
    """Check the columns of a file that another program may have written: other types may hold the same values."""
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
    """Give the columns of a batch the types of a recording.

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
    """Cast a dictionary without unpacking it: a long text in it may stand in every row."""
    arrow = imported_pyarrow()
    if not arrow.types.is_dictionary(column.type):
        return column.cast(wanted.value_type).dictionary_encode()
    texts = column.dictionary.cast(wanted.value_type)
    return arrow.DictionaryArray.from_arrays(column.indices.cast(wanted.index_type), texts)


@contextlib.contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Tell damage, for which pyarrow has several errors, from a file that cannot be read."""
    arrow = imported_pyarrow()
    try:
        yield
    except (arrow.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError, KeyError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ServomexSinkSchemaError(f"{path} is damaged or no Parquet file: {plain(str(error))}") from error


def groups_of(sources: Iterable[Path]) -> Iterator[Any]:
    """Yield what files hold, small pieces put together."""
    arrow = imported_pyarrow()
    held: list[Any] = []
    for source in sources:
        with opened(source) as part:
            for batch in part.batches():
                held.append(arrow.Table.from_batches([batch]))
                if sum(table.num_rows for table in held) >= GROUP_ROWS:
                    yield arrow.concat_tables(held).unify_dictionaries()
                    held = []
    if held:
        yield arrow.concat_tables(held).unify_dictionaries()


def samples_in(path: Path) -> Iterator[Sample]:
    """Yield the samples of a recording, also while another program puts its parts together.

    Raises:
        OSError: It cannot be read.
        ServomexSinkSchemaError: It is damaged; the error names the row.
    """
    given = 0
    for left in reversed(range(TRIES)):
        number = 0
        try:
            for sample in _samples_once(path):
                number += 1
                if number > given:
                    given = number
                    yield sample
        except FileNotFoundError:
            if not left or not (path.exists() or parts_of(path).exists()):
                raise
            time.sleep(PAUSE_S)  # what was given is in the file that is made of the parts, in the same order
        else:
            return


def _samples_once(path: Path) -> Iterator[Sample]:
    with contextlib.ExitStack() as held:
        sources = _sources(path, held)
        for source, merged in sources:
            with contextlib.ExitStack() as opening:
                try:
                    part = merged or opening.enter_context(opened(source))
                except ServomexSinkSchemaError as error:
                    if source == path or source != sources[-1][0] or has_other_columns(source):
                        raise
                    _log.warning("%s; it is left out: the recording was not ended properly", error.message)
                    return
                yield from _samples_of(part)


def metadata_in(path: Path) -> dict[bytes, bytes]:
    """Return what is said of a recording, also while another program puts its parts together.

    Raises:
        OSError: It cannot be read.
    """
    for _ in range(TRIES):
        try:
            return metadata_of(sources_of(path))
        except FileNotFoundError:
            time.sleep(PAUSE_S)
    return metadata_of(sources_of(path))


def _samples_of(part: Part) -> Iterator[Sample]:
    number = 0
    for batch in part.batches():
        with _understood(part.path):
            rows = [*zip(*map(_values, batch.columns), strict=True)]
        for row in rows:
            number += 1
            try:
                sample = sample_of(typed_row(row))
            except ValueError as error:
                raise ServomexSinkSchemaError(f"{part.path}, row {number}: {error}") from error
            yield sample


def _values(column: Any) -> list[Any]:
    """Return the values of a column; a text that stands in many rows is one object."""
    if not imported_pyarrow().types.is_dictionary(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    used = column.indices.drop_null().unique()
    texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [None if index is None else texts[index] for index in column.indices.to_pylist()]
