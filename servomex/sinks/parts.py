"""Parquet files as they are read: a merged file, its parts, and the checks of both."""

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

from servomex.errors import ServomexSinkDependencyError, ServomexSinkReadError, ServomexSinkSchemaError
from servomex.extras import how_to_get
from servomex.models import Sample
from servomex.rows import COLUMN_KINDS, TIMES, ColumnKind, check_columns, sample_of
from servomex.sinks.places import real

BATCH_ROWS = 5_000
"""Rows that are read in one go."""
GROUP_ROWS = 100_000
"""Rows of a row group of the merged file."""
RECORDING = b"servomex.recording"
"""Metadata of each part and of the merged file: which recording it belongs to."""
MERGED = b"servomex.merged_parts"
"""Metadata of a merged file: as JSON, for each recording in it the number of its last part."""


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
    }
    return arrow.schema([(column, types[kind]) for column, kind in COLUMN_KINDS.items()])


def numbered(folder: Path) -> list[Path]:
    """Give the parts in a folder in their order."""
    return sorted((file for file in folder.glob("*.parquet") if file.stem.isdecimal()), key=number_of)


def number_of(part: Path) -> int:
    """Give the number of a part, from its name."""
    return int(part.stem)


def _notes_in(path: Path) -> dict[bytes, bytes]:
    with opened(path) as file:
        return file.schema_arrow.metadata or {}


def metadata_of(sources: list[Path]) -> dict[bytes, bytes]:
    """Give what is said of a recording; the newest of its files that is not damaged knows all of it."""
    for source in reversed(sources):
        with contextlib.suppress(ServomexSinkSchemaError):
            return {key: text for key, text in _notes_in(source).items() if key != MERGED}
    return {}


def merged_in(path: Path) -> dict[str, int]:
    """Give, by recording, the number of the last part that is in a merged file; none when there is no such file.

    Raises:
        ServomexSinkSchemaError: The file is damaged, or is not from this package.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(_notes_in(path).get(MERGED, b"{}"))
        return {str(recording): int(number) for recording, number in found.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ServomexSinkSchemaError(f"{path}: what it says of its parts makes no sense: {error}") from error


def recording_of(part: Path) -> str:
    """Tell which recording a part belongs to; empty when it does not say.

    Raises:
        ServomexSinkSchemaError: It is damaged.
    """
    return _notes_in(part).get(RECORDING, b"").decode("utf-8", "replace")


def is_merged(part: Path, merged: dict[str, int]) -> bool:
    """Whether the rows of a part are in the merged file already, as after a kill at the end of a recording."""
    if not merged:
        return False
    try:
        return number_of(part) <= merged.get(recording_of(part), 0)
    except ServomexSinkSchemaError:
        return number_of(part) <= max(merged.values())


def sources_of(path: Path) -> list[Path]:
    """Give the files that hold a recording: those of a folder, or the merged file and the parts not in it."""
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
        if not found and path.suffix != ".parts":
            raise ServomexSinkReadError(f"{path} is a folder without parts of a recording")
        return found
    merged = merged_in(path)
    later = [part for part in numbered(parts_of(path)) if not is_merged(part, merged)]
    return ([path] if path.exists() else []) + later


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file and check its columns.

    Raises:
        OSError: It cannot be read.
        ServomexSinkSchemaError: It is damaged, or its columns are others.
    """
    arrow = imported_pyarrow()
    with path.open("rb") as source:
        with _understood(path):
            file = arrow.parquet.ParquetFile(source)
        if not file.schema_arrow.equals(schema_of_rows()):
            _check_schema(path, file.schema_arrow)
        yield file


def _check_schema(path: Path, schema: Any) -> None:
    check_columns(str(path), schema.names)
    for wanted in schema_of_rows():
        found = schema.field(wanted.name)
        if found.type != wanted.type:
            raise ServomexSinkSchemaError(
                f"{path}: the column {wanted.name!r} is {found.type} instead of {wanted.type}"
            )


@contextlib.contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Tell damage, for which pyarrow has several errors, from a file that cannot be read."""
    arrow = imported_pyarrow()
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ServomexSinkSchemaError(f"{path} is damaged or no Parquet file: {error}") from error


def groups_of(sources: Iterable[Path]) -> Iterator[Any]:
    """Give what files hold, small pieces put together."""
    arrow = imported_pyarrow()
    held: list[Any] = []
    for source in sources:
        with opened(source) as file, _understood(source):
            for number in range(file.num_row_groups):
                held.append(file.read_row_group(number))
                if sum(table.num_rows for table in held) >= GROUP_ROWS:
                    yield arrow.concat_tables(held).unify_dictionaries()
                    held = []
    if held:
        yield arrow.concat_tables(held).unify_dictionaries()


def samples_of(file: Any, path: Path) -> Iterator[Sample]:
    """Give the samples of an open file.

    Raises:
        ServomexSinkSchemaError: It is damaged; the error tells the row.
    """
    number = 0
    with _understood(path):
        for batch in file.iter_batches(BATCH_ROWS):
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
