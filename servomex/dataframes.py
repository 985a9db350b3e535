"""Recordings as tables of pandas."""

import os
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from servomex.enums import ChannelId
from servomex.errors import ServomexSinkDependencyError
from servomex.loading import Source, load
from servomex.models import ROW_COLUMNS, Sample
from servomex.rows import COLUMN_KINDS, ColumnKind

if TYPE_CHECKING:
    from pandas import DataFrame

_TYPES = {
    ColumnKind.TIME: "datetime64[us, UTC]",
    ColumnKind.CLOCK: "datetime64[us]",
    ColumnKind.INTEGER: "int64",
    ColumnKind.NUMBER: "float64",
    ColumnKind.FLAG: "boolean",
    ColumnKind.TEXT: "category",
}


def to_pandas(source: Source | Iterable[Source | Sample], *, wide: bool = False) -> "DataFrame":
    """Give a recording as a table. Needs the extra ``pandas``.

    Args:
        source: What :func:`servomex.load` takes, or samples.
        wide: Give one column of values a channel, named ``I1``, or ``DEVICE I1`` when there are several devices,
            with ``received_at`` (UTC) as the index. Where a reading failed, a row of NaN shows the gap. Without
            it there is one row a sample, with the columns of :data:`servomex.ROW_COLUMNS`.

    Raises:
        ServomexSinkDependencyError: pandas is not installed.
        ServomexSinkError: A file is missing, damaged or cannot be read.
    """
    try:
        import pandas
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f'tables need pandas: python -m pip install "servomex[pandas]" ({error})'
        ) from error
    samples = _samples(source)
    if wide:
        return _wide(pandas, samples)
    rows = [tuple(sample.as_dict().values()) for sample in samples]
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


def _wide(pandas: Any, samples: list[Sample]) -> "DataFrame":
    devices = list(dict.fromkeys(sample.device for sample in samples))
    moments: list[datetime] = []
    values: dict[tuple[str, ChannelId | None], dict[int, float | None]] = {}
    for sample in samples:
        cell = (sample.device, sample.channel)
        # Broadcasts that waited in the port have one time of arrival: what is there already begins another row.
        if not moments or sample.received_at != moments[-1] or len(moments) - 1 in values.get(cell, ()):
            moments.append(sample.received_at)
        if sample.reading:
            values.setdefault(cell, {})[len(moments) - 1] = sample.reading.value
    index = pandas.DatetimeIndex(moments, dtype="datetime64[us, UTC]", name="received_at")
    columns = {
        f"{device} {channel}" if len(devices) > 1 else channel.value: pandas.Series(
            values[device, channel], index=range(len(moments)), dtype="float64"
        ).to_numpy()
        for device in devices
        for channel in ChannelId
        if (device, channel) in values
    }
    return pandas.DataFrame(columns, index=index).sort_index(kind="stable")  # type: ignore[no-any-return]
