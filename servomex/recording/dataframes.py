"""Recordings as tables of pandas."""

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from servomex.enums import Quality
from servomex.errors import Argument, ServomexSinkDependencyError, ServomexValidationError
from servomex.errors.missing import how_to_get
from servomex.errors.validation import flag
from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.recording.load import Source, load
from servomex.rows.formats import GROUPED, tags_cell
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind
from servomex.rows.pieces import PLACES, distinct
from servomex.rows.wide import QUALITY, Layout, qualities_kept, value_in

if TYPE_CHECKING:
    from pandas import DataFrame

_TYPES = {
    ColumnKind.TIME: "datetime64[us, UTC]",
    ColumnKind.CLOCK: "datetime64[us]",
    ColumnKind.INTEGER: "int64",
    ColumnKind.NUMBER: "float64",
    ColumnKind.FLAG: "boolean",
    ColumnKind.TEXT: "category",
    ColumnKind.TAGS: "category",
}


def to_pandas(
    source: Source | Iterable[Source | Sample], *, wide: bool = False, keep: str | None = None
) -> "DataFrame":
    """Return a recording as a table. Needs the extra ``pandas``.

    Args:
        source: What :func:`servomex.load` takes, or samples.
        wide: One row per time, with ``received_at`` (UTC) as the index, and two columns per channel: the values,
            as in ``I1 [%]``, and beside them ``I1 [%] quality``. With several devices, the column names begin
            with the device. A value is NaN unless it is good, and where a reading failed all are. Values in %, vpm
            and ppm are converted to the first of these units that the channel has; any other unit, and another
            name of the channel, begins columns of their own. Without ``wide`` there is one row per sample, with
            the columns of :data:`servomex.ROW_COLUMNS`; ``tags`` are the text of a JSON object there.
        keep: ``uncertain`` also keeps the values of maintenance, calibration and warm-up in a wide table.

    Raises:
        ServomexValidationError: ``keep`` is something else, or the table is not wide.
        ServomexSinkDependencyError: pandas is not installed.
        ServomexSinkError: A file is missing, damaged or cannot be read.
    """
    flag(wide, "wide")
    kept = qualities_kept(keep)
    if keep and not wide:
        raise ServomexValidationError("keep is only for a wide table", cure=f"Add {Argument('wide', True)}")
    try:
        import pandas
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f"tables need pandas: {how_to_get('pandas', 'pandas')} ({error})"
        ) from error
    if wide:
        return _wide(pandas, [*_samples(source)], kept)
    return pandas.DataFrame(dict(zip(ROW_COLUMNS, _columns(pandas, _rows(source)), strict=True)))


def _sources(source: Source | Iterable[Source | Sample]) -> Iterable[Source | Sample]:
    is_one = isinstance(source, str | bytes | os.PathLike) or not isinstance(source, Iterable)
    return [source] if is_one else source  # type: ignore[list-item, return-value]


def _samples(source: Source | Iterable[Source | Sample]) -> Iterator[Sample]:
    for item in _sources(source):
        if isinstance(item, Sample):
            yield item
        else:
            yield from load(item)


def _rows(source: Source | Iterable[Source | Sample]) -> list[tuple[Any, ...]]:
    """Return the rows of samples in the format :data:`GROUPED`; what the caller made may have any values."""
    rows: list[tuple[Any, ...]] = []
    for item in _sources(source):
        if isinstance(item, Sample):
            rows.append(GROUPED.row([*(item.as_dict() | {"tags": item.metadata}).values()]))
        else:
            rows += GROUPED.rows(load(item))
    return rows


def _columns(pandas: Any, rows: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the columns of a table; values that many rows share are converted once."""
    kinds = [*COLUMN_KINDS.values()]
    for number, place in enumerate(PLACES):
        values = [row[number] for row in rows]
        if not isinstance(place, slice):
            yield _column(pandas, kinds[place], values)
            continue
        different, places = distinct(values)
        groups = zip(*different, strict=True) if different else [()] * len(kinds[place])
        for kind, items in zip(kinds[place], groups, strict=True):
            yield _column(pandas, kind, items).take(places)


def _column(pandas: Any, kind: ColumnKind, values: Iterable[Any]) -> Any:
    found = [*map(tags_cell, values)] if kind is ColumnKind.TAGS else [*values]
    return pandas.Series(found, dtype=_TYPES[kind]).array


def _wide(pandas: Any, samples: list[Sample], kept: frozenset[Quality]) -> "DataFrame":
    layout = Layout(samples)
    moments: list[datetime] = []
    values: list[list[float | None]] = [[] for _ in layout.columns]
    qualities: list[list[str | None]] = [[] for _ in layout.columns]
    for moment, readings in layout.rows(samples):
        moments.append(moment)
        for place, unit in enumerate(layout.units):
            reading = readings.get(place)
            values[place].append(value_in(unit, reading, kept))
            qualities[place].append(None if reading is None else reading.quality.value)
    table: dict[str, Any] = {}
    for label, column, words in zip(layout.labels, values, qualities, strict=True):
        table[label] = pandas.Series(column, dtype="float64").array
        table[QUALITY.format(label)] = pandas.Categorical(words, categories=[item.value for item in Quality])
    index = pandas.DatetimeIndex(moments, dtype="datetime64[us, UTC]", name="received_at")
    return pandas.DataFrame(table, index=index).sort_index(kind="stable")  # type: ignore[no-any-return]
