"""Samples from rows of a file: what many of its rows have in common is read and checked once."""

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from servomex.errors.excerpts import shown
from servomex.errors.mappings import FrozenMapping
from servomex.models.analyser import AnalyserStatus
from servomex.models.columns import ROW_COLUMNS
from servomex.models.reading import Reading
from servomex.models.sample import Sample
from servomex.rows.kinds import UNUSUAL
from servomex.rows.samples import analyser_of, sample_of

MOST_CHANNELS = 256
"""How many states of channels are kept for each format."""
MOST_FRAMES = 16
"""How many frames are: the readings of one come one after the other."""
LONGEST_KEPT = 2_000
"""Characters of the texts of a channel and of its tags together, beyond which they are not kept."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VALUE, _ANALYSER, _ERROR = map(ROW_COLUMNS.index, ("value", "analyser_fault", "error"))
_ARRIVAL = slice(0, 2)
_LABEL = slice(2, _VALUE)
_STATE = slice(_VALUE + 1, _ANALYSER)
_OF_FRAME = slice(_ANALYSER, _ERROR)
_FRAME_COLUMNS = (*ROW_COLUMNS[_ARRIVAL], *ROW_COLUMNS[_OF_FRAME])
_CHANNEL_COLUMNS = (*ROW_COLUMNS[_LABEL], *ROW_COLUMNS[_STATE], *ROW_COLUMNS[_ERROR + 1 :])

_Frame = tuple[datetime, int, AnalyserStatus | None, datetime | None, float | None]
_Channel = tuple[str, Reading, FrozenMapping[str]]


class RowReader:
    """Reads the rows of a format, given as values in the order of :data:`ROW_COLUMNS`.

    :meth:`sample` returns the :func:`sample_of` of :meth:`row`. It keeps what depends only on the channel and its
    state, and what belongs to a whole frame.

    Args:
        read: For each column, what reads its value, and raises ``ValueError`` or ``TypeError`` for another kind.
        nothing: What stands for an unknown value.
        tags_key: What makes tags hashable; the result can be read like them.
    """

    def __init__(
        self,
        read: Sequence[Callable[[Any], Any]],
        nothing: Any = None,
        tags_key: Callable[[Any], Hashable] = lambda tags: tags,
    ) -> None:
        self._read = dict(zip(ROW_COLUMNS, read, strict=True))
        self._read_value: Callable[[Any], Any] = self._read["value"]
        self._nothing = nothing
        self._tags_key = tags_key
        # Typed: a flag may be true or 1, but not 1.0.
        self._frame: Callable[..., _Frame] = functools.lru_cache(MOST_FRAMES, typed=True)(self._frame_parts)
        self._channel: Callable[..., _Channel] = functools.lru_cache(MOST_CHANNELS, typed=True)(
            self._channel_parts
        )

    def row(self, values: Iterable[Any]) -> dict[str, Any]:
        """Return the row of these values, as :func:`sample_of` takes it.

        Raises:
            ValueError: A value is of the wrong kind for its column.
        """
        return self._columns(ROW_COLUMNS, values)

    def sample(self, values: Sequence[Any]) -> Sample:
        """Return the sample of these values.

        Raises:
            ValueError: There is no such sample.
        """
        if values[_ERROR] != self._nothing:
            return sample_of(self.row(values))
        try:
            received_at, ns, analyser, requested_at, latency_s = self._frame(*values[_ARRIVAL], *values[_OF_FRAME])
            device, channel, metadata = self._channel(
                *values[_LABEL], *values[_STATE], values[_ERROR + 1], self._tags_key(values[-1])
            )
            value = None if values[_VALUE] == self._nothing else self._read_value(values[_VALUE])
        except UNUSUAL:  # the whole row shows what is wrong with it
            return sample_of(self.row(values))
        reading = Reading(
            channel.channel,
            channel.name,
            value,
            channel.unit,
            channel.unit_text,
            channel.status,
            channel.protocol,
            received_at,
            ns,
        )
        return Sample(
            device, channel.protocol, received_at, ns, reading, analyser, requested_at, latency_s, None, metadata
        )

    def _frame_parts(self, *values: Any) -> _Frame:
        """Return what the rows of a frame have in common, to be kept.

        Raises:
            ValueError: It is not complete, or of the wrong kind.
        """
        row = self._columns(_FRAME_COLUMNS, values)
        received_at, monotonic_ns = row["received_at"], row["monotonic_ns"]
        if received_at is None or monotonic_ns is None:
            raise ValueError
        return received_at, monotonic_ns, analyser_of(row), row["requested_at"], row["latency_s"]

    def _channel_parts(self, *values: Any) -> _Channel:
        """Return what the rows of a channel in a state have in common, to be kept.

        Raises:
            ValueError: It is no reading, is too long to be kept, or of the wrong kind.
        """
        if sum(len(str(value)) for value in values) > LONGEST_KEPT:
            raise ValueError
        row = dict.fromkeys(ROW_COLUMNS) | self._columns(_CHANNEL_COLUMNS, values)
        sample = sample_of(row | {"received_at": _EPOCH, "monotonic_ns": 0})
        if sample.reading is None:
            raise ValueError
        return sample.device, sample.reading, sample.metadata

    def _columns(self, columns: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
        row = {}
        for column, value in zip(columns, values, strict=True):
            try:
                row[column] = None if value == self._nothing else self._read[column](value)
            except (ValueError, TypeError, OverflowError):
                raise ValueError(f"invalid {column}: {shown(value)}") from None
        return row
