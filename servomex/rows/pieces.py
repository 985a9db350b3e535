"""Rows of samples in a format, put together from pieces: what many rows have in common is formatted once."""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors.mappings import FrozenMapping
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import LARGEST, make_plain, plain_tags, utc
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.rows.kinds import UNUSUAL
from servomex.rows.samples import cal_groups_of
from servomex.units import Unit

P = TypeVar("P", str, tuple[Any, ...])
"""What rows consist of: text, or a tuple of values."""

MOST_CHANNELS, MOST_ANALYSERS = 1024, 256
"""How many states of channels, and of analysers, have their pieces kept in each format."""
LONGEST_KEPT = 400
"""Characters of a device, a name and a unit together, beyond which their piece is not kept."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VALUE, _ANALYSER, _CLOCK, _ERROR = map(ROW_COLUMNS.index, ("value", "analyser_fault", "analyser_clock", "error"))
_LABEL = slice(2, _VALUE)
_STATE = slice(_VALUE + 1, _ANALYSER)
_FLAGS = slice(_ANALYSER, _CLOCK)
_END = slice(_ERROR, None)
PLACES: tuple[int | slice, ...] = (
    *(0, 1, _LABEL, _VALUE, _STATE),
    *(_FLAGS, _CLOCK, _CLOCK + 1, _CLOCK + 2, _END),
)
"""The columns in their order; those in a slice have one piece, which many rows share."""


def distinct(pieces: Sequence[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Return the different objects among pieces that many rows share, and for each piece which of them it is."""
    ids = [*map(id, pieces)]
    different = dict(zip(ids, pieces, strict=True))
    places = dict(zip(different, itertools.count()))
    return [*different.values()], [*map(places.__getitem__, ids)]


def plain_row(sample: Sample) -> tuple[Any, ...]:
    """Flatten a sample to values that every format can hold, one for each column; see :func:`make_plain`.

    Raises:
        ValueError: A time has no zone, a number is not finite or longer than 64 bits, or the tags are invalid.
    """
    row = make_plain(sample.as_dict())
    row["tags"] = plain_tags(sample.metadata)
    return tuple(row.values())


class RowFormat(Generic[P]):
    """A format of rows, which are pieces put together, one for each column.

    :meth:`rows` returns what :meth:`row` makes of each :func:`plain_row`. It keeps the pieces that depend only on
    the channel and its state, or on that of the analyser, and makes those of times and values anew.

    Args:
        write: For each column, what makes a piece of its value.
        join: What puts pieces together to a longer one.
    """

    def __init__(self, write: Sequence[Callable[[Any], P]], join: Callable[[Iterable[P]], P]) -> None:
        self._write: Sequence[Callable[[Any], P]] = write
        self._join: Callable[[Iterable[P]], P] = join
        self._received_at: Callable[[Any], P] = write[0]
        self._monotonic_ns: Callable[[Any], P] = write[1]
        self._value: Callable[[Any], P] = write[_VALUE]
        self._clock: Callable[[Any], P] = write[_CLOCK]
        self._requested_at: Callable[[Any], P] = write[_CLOCK + 1]
        self._latency: Callable[[Any], P] = write[_CLOCK + 2]
        self._last_groups: tuple[tuple[CalGroupState, ...], str] = ((), "")
        # Typed: 1 is equal to True, but not written like it.
        self._channel: Callable[..., tuple[P, P]] = functools.lru_cache(MOST_CHANNELS, typed=True)(
            self._channel_pieces
        )
        self._analyser: Callable[..., tuple[P, P]] = functools.lru_cache(MOST_ANALYSERS, typed=True)(
            self._analyser_pieces
        )

    def row(self, values: Sequence[Any]) -> P:
        """Return the row of these values, one for each column."""
        pieces = [
            self._joined(place, values[place]) if isinstance(place, slice) else self._write[place](values[place])
            for place in PLACES
        ]
        return functools.reduce(operator.add, pieces)

    def rows(self, samples: Iterable[Sample]) -> list[P]:
        """Return the row of each sample.

        Raises:
            ValueError: A sample has none, see :func:`plain_row`.
        """
        found: list[P] = []
        write_value = self._value
        frame: Sample | None = None
        received_at = monotonic_ns = None
        for sample in samples:
            reading = sample.reading
            if reading is None or not _is_usual(sample, reading):
                found.append(self.row(plain_row(sample)))
                continue
            try:
                if not (
                    reading.received_at is received_at
                    and reading.monotonic_ns is monotonic_ns
                    and frame is not None
                    and sample.analyser is frame.analyser
                    and sample.requested_at is frame.requested_at
                    and sample.latency_s is frame.latency_s
                    and sample.metadata is frame.metadata
                ):
                    first, last = self._frame_pieces(sample, reading)
                    frame, received_at, monotonic_ns = sample, reading.received_at, reading.monotonic_ns
                before, after = self._around_value(sample.device, reading, reading.status)
            except UNUSUAL:  # the whole row shows whether it can be written
                found.append(self.row(plain_row(sample)))
            else:
                found.append(first + before + write_value(reading.value) + after + last)
        return found

    def _around_value(self, device: str, reading: Reading, status: ChannelStatus) -> tuple[P, P]:
        return self._channel(
            device,
            reading.protocol,
            reading.channel,
            reading.name,
            reading.unit,
            reading.unit_text,
            reading.value is None,
            status.fault,
            status.maintenance,
            status.calibrating,
            status.warming_up,
            *status.alarms,
        )

    def _frame_pieces(self, sample: Sample, reading: Reading) -> tuple[P, P]:
        """Return the pieces that all readings of a frame have in common: the first one, and the last one.

        Raises:
            ValueError: It is not as those of an analyser are, and may be wrong.
        """
        ns, latency_s, requested_at = reading.monotonic_ns, sample.latency_s, sample.requested_at
        if type(ns) is not int or not -LARGEST <= ns < LARGEST:
            raise ValueError
        if latency_s is not None and not _is_finite(latency_s):
            raise ValueError
        analyser, clock = sample.analyser, None
        if analyser is None:
            state, end = self._analyser(False, False, False, "", sample.metadata)
        else:
            clock = analyser.clock
            groups, cal_text = self._last_groups
            if analyser.cal_groups is not groups:  # in most frames they are the same object as in the last one
                cal_text = analyser.cal_text
                self._last_groups = (analyser.cal_groups, cal_text)
            state, end = self._analyser(True, analyser.fault, analyser.maintenance, cal_text, sample.metadata)
        arrival = self._received_at(utc(reading.received_at)) + self._monotonic_ns(ns)
        request = self._requested_at(requested_at and utc(requested_at)) + self._latency(latency_s)
        return arrival, state + self._clock(clock) + request + end

    def _channel_pieces(
        self,
        device: str,
        protocol: ProtocolKind,
        channel: ChannelId | str,
        name: str | None,
        unit: Unit,
        unit_text: str,
        is_empty: bool,
        *flags: bool,
    ) -> tuple[P, P]:
        """Return the pieces before and after a value, to be kept.

        Raises:
            ValueError: They are too long for that, or no such row can be written.
        """
        if len(device) + len(name or "") + len(unit_text) > LONGEST_KEPT:
            raise ValueError
        fault, maintenance, calibrating, warming_up, *alarms = flags
        status = ChannelStatus(
            fault, maintenance, calibrating, warming_up, (alarms[0], alarms[1], alarms[2], alarms[3])
        )
        value = None if is_empty else 0.0
        reading = Reading(channel, name, value, unit, unit_text, status, protocol, _EPOCH, 0)
        row = plain_row(Sample(device, protocol, _EPOCH, 0, reading))
        return self._joined(_LABEL, row[_LABEL]), self._joined(_STATE, row[_STATE])

    def _analyser_pieces(
        self, is_known: bool, fault: bool, maintenance: bool, cal_text: str, metadata: FrozenMapping[str]
    ) -> tuple[P, P]:
        """Return the pieces of the state of an analyser and of the end of a row without an error, to be kept.

        Raises:
            ValueError: No such row can be written.
        """
        analyser = AnalyserStatus(fault, maintenance, cal_groups_of(cal_text)) if is_known else None
        row = plain_row(Sample("", ProtocolKind.AUTO, _EPOCH, 0, None, analyser, metadata=metadata))
        return self._joined(_FLAGS, row[_FLAGS]), self._joined(_END, row[_END])

    def _joined(self, columns: slice, values: Iterable[Any]) -> P:
        return self._join([write(value) for write, value in zip(self._write[columns], values, strict=True)])


def _is_usual(sample: Sample, reading: Reading) -> bool:
    """Return whether a row is as those of analysers are: its value cannot be wrong, nor be written otherwise."""
    return (
        type(sample) is Sample
        and type(reading) is Reading
        and sample.error is None
        and (reading.value is None or _is_finite(reading.value))
    )


def _is_finite(number: float) -> bool:
    return type(number) is float and math.isfinite(number)
