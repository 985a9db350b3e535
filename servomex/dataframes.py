"""Recordings as tables of pandas."""

import math
import os
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from servomex.columns import ROW_COLUMNS
from servomex.enums import ChannelId, Quality
from servomex.errors import Argument, ServomexSinkDependencyError, ServomexValidationError
from servomex.extras import how_to_get
from servomex.loading import Source, load
from servomex.models import Reading, Sample
from servomex.rows import COLUMN_KINDS, ColumnKind, tags_cell
from servomex.units import Unit, UnitKind

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


UNCERTAIN = "uncertain"
"""The one value of ``keep``."""


def to_pandas(
    source: Source | Iterable[Source | Sample], *, wide: bool = False, keep: str | None = None
) -> "DataFrame":
    """Give a recording as a table. Needs the extra ``pandas``.

    Args:
        source: What :func:`servomex.load` takes, or samples.
        wide: Give a row a time, with ``received_at`` (UTC) as the index, and two columns a channel: the values, as
            in ``I1 [%]``, and beside them ``I1 [%] quality``. When there are several devices, their names are in
            front. A value is NaN unless it is good, and where a reading failed all are. Values in %, vpm and ppm
            are converted to the first of these units that the channel has; any other unit, and another name of
            the channel, begins columns of their own. Without ``wide`` there is one row a sample, with the columns
            of :data:`servomex.ROW_COLUMNS`; ``tags`` are the text of a JSON object there.
        keep: ``uncertain`` also keeps the values of maintenance, calibration and warm-up in a wide table.

    Raises:
        ServomexValidationError: ``keep`` is something else, or the table is not wide.
        ServomexSinkDependencyError: pandas is not installed.
        ServomexSinkError: A file is missing, damaged or cannot be read.
    """
    if keep not in (None, UNCERTAIN):
        raise ServomexValidationError(f"keep is None or {UNCERTAIN!r}, not {keep!r}")
    if keep and not wide:
        raise ServomexValidationError("keep is for a wide table", cure=f"Add {Argument('wide', True)}")
    try:
        import pandas
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f"tables need pandas: {how_to_get('pandas', 'pandas')} ({error})"
        ) from error
    samples = _samples(source)
    if wide:
        return _wide(pandas, samples, {Quality.GOOD, Quality.UNCERTAIN} if keep else {Quality.GOOD})
    rows = [tuple((sample.as_dict() | {"tags": tags_cell(sample.metadata)}).values()) for sample in samples]
    columns = zip(*rows, strict=True) if rows else [()] * len(ROW_COLUMNS)
    return pandas.DataFrame(
        {
            column: pandas.Series(list(values), dtype=_TYPES[COLUMN_KINDS[column]])
            for column, values in zip(ROW_COLUMNS, columns, strict=True)
        }
    )


def _samples(source: Source | Iterable[Source | Sample]) -> list[Sample]:
    if isinstance(source, str | os.PathLike):
        return list(load(source))
    samples: list[Sample] = []
    for item in source:
        if isinstance(item, Sample):
            samples.append(item)
        else:
            samples += load(item)
    return samples


@attrs.frozen
class _Column:
    """What the values of one column have in common: no two quantities are in one."""

    device: str
    channel: ChannelId
    name: str | None
    unit: str
    """The text of a unit, or ``concentration`` for all units of that kind."""


def _wide(pandas: Any, samples: list[Sample], kept: set[Quality]) -> "DataFrame":
    moments: list[datetime] = []
    cells: dict[_Column, dict[int, Reading]] = {}
    filled: set[tuple[int, str, ChannelId | None]] = set()
    for sample in samples:
        # Broadcasts that waited in the port have one time of arrival: what is there already begins another row.
        there = (len(moments) - 1, sample.device, sample.channel) in filled
        if not moments or sample.received_at != moments[-1] or there:
            moments.append(sample.received_at)
        if sample.reading:
            filled.add((len(moments) - 1, sample.device, sample.channel))
            cells.setdefault(_column_of(sample.device, sample.reading), {})[len(moments) - 1] = sample.reading
    index = pandas.DatetimeIndex(moments, dtype="datetime64[us, UTC]", name="received_at")
    devices = list(dict.fromkeys(sample.device for sample in samples))
    order = list(ChannelId)
    columns = sorted(cells, key=lambda item: (devices.index(item.device), order.index(item.channel)))
    table: dict[str, Any] = {}
    for column, label in zip(columns, _labels(columns, cells, several=len(devices) > 1), strict=True):
        found = cells[column]
        unit = next(iter(found.values())).unit
        values = [_value(found.get(row), unit, kept) for row in range(len(moments))]
        qualities = [found[row].quality.value if row in found else None for row in range(len(moments))]
        table[label] = pandas.array(values, dtype="float64")
        table[f"{label} quality"] = pandas.Categorical(qualities, categories=[item.value for item in Quality])
    return pandas.DataFrame(table, index=index).sort_index(kind="stable")  # type: ignore[no-any-return]


def _column_of(device: str, reading: Reading) -> _Column:
    concentration = reading.unit.kind is UnitKind.CONCENTRATION
    unit = UnitKind.CONCENTRATION.value if concentration else reading.unit_text
    return _Column(device, reading.channel, reading.name, unit)


def _value(reading: Reading | None, unit: Unit, kept: set[Quality]) -> float:
    """Return a value in the unit of its column; NaN for one that is missing or not good enough."""
    if reading is None or reading.value is None or reading.quality not in kept:
        return math.nan
    if reading.unit is unit:
        return reading.value
    return math.nan if (value := reading.to(unit)) is None else value


def _labels(columns: list[_Column], cells: dict[_Column, dict[int, Reading]], *, several: bool) -> list[str]:
    """Name the columns by device, channel and unit, and those by their name as well that would be alike."""
    short = [_label(column, cells[column], several=several, named=False) for column in columns]
    return [
        label if short.count(label) == 1 else _label(column, cells[column], several=several, named=True)
        for column, label in zip(columns, short, strict=True)
    ]


def _label(column: _Column, found: dict[int, Reading], *, several: bool, named: bool) -> str:
    unit = next(iter(found.values())).unit_text or Unit.UNKNOWN.value
    parts = [column.device] * several + [column.channel.value] + [column.name or "-"] * named
    return f"{' '.join(parts)} [{unit}]"
