"""A wide table of samples: a row per time, and for each channel its values and their quality. No I/O."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from servomex.enums import ChannelId, Quality
from servomex.errors import ServomexSinkSchemaError, ServomexValidationError
from servomex.models.reading import Reading
from servomex.models.sample import Sample
from servomex.units import Unit, UnitKind

UNCERTAIN = "uncertain"
"""The one value of ``keep``."""
QUALITY = "{} quality"
"""The label of the column beside the values."""
_ORDER = {channel.value: place for place, channel in enumerate(ChannelId)}


class Column(NamedTuple):
    """What the values of one column have in common: a column never holds two quantities."""

    device: str
    channel: str
    name: str | None
    kind: UnitKind
    unit_text: str
    """What tells unknown units apart; empty for known ones, which convert within their kind."""


class Row(NamedTuple):
    """The readings of one time, by the place of their column; empty where a reading failed."""

    received_at: datetime
    readings: dict[int, Reading]


class Layout:
    """The columns of a wide table, from a first pass over all of its samples.

    Values in %, vpm and ppm share a column, in the first of these units that the channel has; any other unit, and
    another name of the channel, has a column of its own, since it may be another quantity.

    Args:
        samples: The samples.

    Attributes:
        columns: The columns, in the order of the devices and of their channels.
        labels: Their names, such as ``I1 [%]``; with the device in front when there are several, and with the name
            of the channel where it has more than one.
        units: The units that their values are in.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        devices: dict[str, int] = {}
        first: dict[Column, Reading] = {}
        for sample in samples:
            devices.setdefault(sample.device, len(devices))
            if sample.reading:
                first.setdefault(_column_of(sample.device, sample.reading), sample.reading)
        self.columns: list[Column] = sorted(
            first,
            key=lambda item: (devices[item.device], _ORDER.get(item.channel, len(_ORDER))),
        )
        self.units: list[Unit] = [first[column].unit for column in self.columns]
        texts = [column.unit_text or first[column].unit.value for column in self.columns]
        self.labels: list[str] = _labels(self.columns, texts, several=len(devices) > 1)
        self._places = {column: place for place, column in enumerate(self.columns)}

    def rows(self, samples: Iterable[Sample]) -> Iterator[Row]:
        """Put the samples into rows, in the order in which they arrive.

        Raises:
            ServomexSinkSchemaError: A sample was not among those of the first pass.
        """
        row: Row | None = None
        taken: set[tuple[str, str]] = set()
        for sample in samples:
            # Broadcasts that waited in the port share a time of arrival: a repeated channel begins another row.
            source = (sample.device, sample.reading.channel) if sample.reading else None
            if row is None or sample.received_at != row.received_at or source in taken:
                if row is not None:
                    yield row
                row = Row(sample.received_at, {})
                taken.clear()
            if sample.reading and source:
                taken.add(source)
                row.readings[self._place_of(sample.device, sample.reading)] = sample.reading
        if row is not None:
            yield row

    def _place_of(self, device: str, reading: Reading) -> int:
        try:
            return self._places[_column_of(device, reading)]
        except KeyError:
            raise ServomexSinkSchemaError(
                "the recording was changed while it was read", cure="Try again when it has ended"
            ) from None


def qualities_kept(keep: str | None) -> frozenset[Quality]:
    """Return the qualities of values that a wide table shows.

    Raises:
        ServomexValidationError: ``keep`` is neither ``None`` nor ``uncertain``.
    """
    if keep not in (None, UNCERTAIN):
        raise ServomexValidationError(f"keep must be None or {UNCERTAIN!r}, not {keep!r}")
    return frozenset({Quality.GOOD, Quality.UNCERTAIN} if keep else {Quality.GOOD})


def value_in(unit: Unit, reading: Reading | None, kept: frozenset[Quality]) -> float | None:
    """Return a value in the unit of its column; ``None`` for one that is missing or not good enough."""
    if reading is None or reading.value is None or reading.quality not in kept:
        return None
    return reading.value if reading.unit is unit else reading.to(unit)


def _column_of(device: str, reading: Reading) -> Column:
    text = reading.unit_text if reading.unit is Unit.UNKNOWN else ""
    return Column(device, reading.channel, reading.name, reading.unit.kind, text)


def _labels(columns: Sequence[Column], units: Sequence[str], *, several: bool) -> list[str]:
    """Name the columns by device, channel and unit; add the channel's name or a number where these are alike."""
    short = [
        _label(column, unit, several=several, named=False) for column, unit in zip(columns, units, strict=True)
    ]
    counts = Counter(short)
    labels: list[str] = []
    for column, unit, label in zip(columns, units, short, strict=True):
        wanted = label if counts[label] == 1 else _label(column, unit, several=several, named=True)
        free, number = wanted, 1
        while free in labels:
            number += 1
            free = f"{wanted} ({number})"
        labels.append(free)
    return labels


def _label(column: Column, unit: str, *, several: bool, named: bool) -> str:
    parts = [column.device] * several + [str(column.channel)] + [column.name or "-"] * named
    return f"{' '.join(parts)} [{unit}]"
