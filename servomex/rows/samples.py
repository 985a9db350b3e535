"""Samples from rows: :func:`sample_of` is the inverse of :meth:`Sample.as_dict`."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexError, tree
from servomex.errors.excerpts import shown
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.models.tags import NO_TAGS
from servomex.rows.kinds import CHANNEL_FLAGS
from servomex.units import Unit

_OF_READING = ("kind", "name", "value", "unit", "unit_text", "quality", *CHANNEL_FLAGS)
_LONGEST_GROUPS = 1_000
"""Characters; the instrument writes eight."""
_E = TypeVar("_E", bound=StrEnum)
_CAL_GROUP = re.compile(r"([CS])([0-9]+)")


def sample_of(row: Mapping[str, Any]) -> Sample:
    """Build a sample from its row: the inverse of :meth:`Sample.as_dict`.

    The columns ``quality`` and ``ok`` follow from the others and are ignored.

    Raises:
        ValueError: The row lacks something, or a name in it is unknown.
    """
    protocol = _member(ProtocolKind, row, "protocol")
    received_at, monotonic_ns = _needed(row, "received_at"), _needed(row, "monotonic_ns")
    return Sample(
        row["device"] or "",
        protocol,
        received_at,
        monotonic_ns,
        _reading(row, protocol, received_at, monotonic_ns),
        analyser_of(row),
        row["requested_at"],
        row["latency_s"],
        _error(row),
        row["tags"] or NO_TAGS,
    )


_ERRORS = {
    name: kind for name, kind in vars(tree).items() if isinstance(kind, type) and issubclass(kind, ServomexError)
}


def _error(row: Mapping[str, Any]) -> ServomexError | None:
    """Build an error with the text of the original one, and its class if that is one of this package."""
    if row["error"] is None:
        _must_be_empty(row, ("error_type",), "error")
        return None
    return _ERRORS.get(_needed(row, "error_type"), ServomexError)(row["error"])


def _needed(row: Mapping[str, Any], column: str) -> Any:
    if row[column] is None:
        raise ValueError(f"{column} is empty")
    return row[column]


def _member(kind: type[_E], row: Mapping[str, Any], column: str) -> _E:
    text = _needed(row, column)
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"invalid {column}: {shown(text)}") from None


def _reading(
    row: Mapping[str, Any], protocol: ProtocolKind, received_at: datetime, monotonic_ns: int
) -> Reading | None:
    if row["channel"] is None:
        _must_be_empty(row, _OF_READING, "channel")
        return None
    fault, maintenance, calibrating, warming_up, *alarms = (_needed(row, column) for column in CHANNEL_FLAGS[1:])
    return Reading(
        _channel(row),
        row["name"],
        row["value"],
        _member(Unit, row, "unit"),
        row["unit_text"] or "",
        ChannelStatus(fault, maintenance, calibrating, warming_up, (alarms[0], alarms[1], alarms[2], alarms[3])),
        protocol,
        received_at,
        monotonic_ns,
    )


_CHANNELS = {channel.value: (channel, channel.kind.value) for channel in ChannelId}


def _channel(row: Mapping[str, Any]) -> ChannelId | str:
    """Return the channel of a row: only a row without a kind has a channel id of a user's own source."""
    text: str = row["channel"]
    kind = row["kind"]
    if kind is None:
        return text  # the reading checks whether it can be one
    if text not in _CHANNELS:
        raise ValueError(f"invalid channel: {shown(text)}")
    channel, own_kind = _CHANNELS[text]
    if kind != own_kind:
        raise ValueError(f"invalid kind of {channel}: {shown(kind)}")
    return channel


def analyser_of(row: Mapping[str, Any]) -> AnalyserStatus | None:
    """Return the state of the analyser in a row; ``None`` when there is none.

    Raises:
        ValueError: A part of it is missing, or cannot be read.
    """
    if row["analyser_fault"] is None:
        _must_be_empty(row, ("analyser_maintenance", "cal_groups", "analyser_clock"), "analyser_fault")
        return None
    return AnalyserStatus(
        row["analyser_fault"],
        _needed(row, "analyser_maintenance"),
        cal_groups_of(row["cal_groups"] or ""),
        row["analyser_clock"],
    )


@lru_cache(maxsize=256)
def cal_groups_of(text: str) -> tuple[CalGroupState, ...]:
    """Return the calibration groups of a text such as ``S1S1C2S1``.

    Raises:
        ValueError: It is something else.
    """
    found = list(_CAL_GROUP.finditer(text[: _LONGEST_GROUPS + 1]))
    if len(text) > _LONGEST_GROUPS or "".join(item[0] for item in found) != text:
        raise ValueError(f"invalid cal_groups: {shown(text)}")
    return tuple(CalGroupState(number, item[1] == "C", int(item[2])) for number, item in enumerate(found, 1))


def _must_be_empty(row: Mapping[str, Any], columns: Iterable[str], missing: str) -> None:
    filled = [column for column in columns if row[column] is not None]
    if filled:
        raise ValueError(f"{missing} is empty, but {filled[0]} is {shown(row[filled[0]])}")
