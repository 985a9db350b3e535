"""A sample: one row of a recording, and the only flattening of a reading to a row."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from servomex.enums import (
    ChannelId,
    ProtocolKind,
)
from servomex.errors import ServomexError, ServomexValidationError
from servomex.errors.mappings import FrozenMapping
from servomex.models.analyser import AnalyserStatus
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import json_of, plain_tags
from servomex.models.reading import Reading, member_repr
from servomex.models.tags import NO_TAGS


def frozen_tags(tags: Mapping[str, str]) -> FrozenMapping[str]:
    """Return tags that cannot be changed."""
    return tags if type(tags) is FrozenMapping else FrozenMapping(tags)


def _own(error: Exception | None) -> ServomexError | None:
    """Return the error of a sample; an exception from elsewhere is wrapped in one that names its type.

    Raises:
        ServomexValidationError: It is not an exception.
    """
    if error is None or isinstance(error, ServomexError):
        return error
    if not isinstance(error, BaseException):
        raise ServomexValidationError(
            f"the error of a sample must be an exception, not {error!r}", cure="Write ServomexError(text)"
        )
    wrapped = ServomexError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _type_and_text(error: ServomexError | None) -> tuple[type[ServomexError], str] | None:
    return None if error is None else (type(error), str(error))


@attrs.frozen
class Sample:
    """One row of a recording: a reading with its surroundings, or an error that replaced it.

    Attributes:
        device: The caller's name for the analyser.
        protocol: The communication mode.
        received_at: Arrival, UTC; for an error, when it happened.
        monotonic_ns: The same on the monotonic clock, in nanoseconds.
        reading: The reading; ``None`` for an error.
        analyser: The analyser's state at that moment; ``None`` for an error.
        requested_at: When it was requested, UTC; ``None`` for a broadcast.
        latency_s: Seconds from the request to the arrival; ``None`` for a broadcast.
        error: Why there is no reading, a :class:`ServomexError`; ``None`` when there is one. Another exception is
            wrapped in one that names its type. Samples are equal when the class and the text of their errors are;
            one that was read from a file has these, but nothing else of its error.
        metadata: The tags of the analyser and of the recording, such as ``{"site": "mill-3"}``.
    """

    device: str
    protocol: ProtocolKind = attrs.field(repr=member_repr)
    received_at: datetime
    monotonic_ns: int
    reading: Reading | None = None
    analyser: AnalyserStatus | None = None
    requested_at: datetime | None = None
    latency_s: float | None = None
    error: ServomexError | None = attrs.field(default=None, converter=_own, eq=_type_and_text)
    metadata: FrozenMapping[str] = attrs.field(default=NO_TAGS, converter=frozen_tags)

    @property
    def channel(self) -> ChannelId | str | None:
        """The channel; ``None`` for an error, which belongs to no single channel."""
        return self.reading.channel if self.reading else None

    def as_json(self) -> dict[str, Any]:
        """Return :meth:`as_dict` in the form for ``json.dumps`` and JSON lines: times are texts in UTC.

        Raises:
            ServomexValidationError: A number is not finite, a time has no zone, or a tag is not valid.
        """
        return json_of({**self.as_dict(), "tags": plain_tags(self.metadata)})

    def as_dict(self) -> dict[str, Any]:
        """Flatten to a row: the keys are :data:`ROW_COLUMNS`, in that order.

        Times are ``datetime``, flags are ``bool``, unknown values are ``None``; ``tags`` is a ``dict``, ``error``
        the text of the error and ``error_type`` the name of its class. For an error, only the columns that say
        when, where and why are filled.
        """
        row: dict[str, Any] = dict.fromkeys(ROW_COLUMNS)
        row |= {
            "received_at": self.received_at,
            "monotonic_ns": self.monotonic_ns,
            "device": self.device,
            "protocol": self.protocol.value,
            "requested_at": self.requested_at,
            "latency_s": self.latency_s,
            "tags": {} if self.metadata is NO_TAGS else self.metadata.plain(),
        }
        if self.error is not None:
            row |= {"error": str(self.error), "error_type": type(self.error).__name__}
        if self.reading:
            row |= self.reading.as_dict()
        if self.analyser:
            row |= {
                "analyser_fault": self.analyser.fault,
                "analyser_maintenance": self.analyser.maintenance,
                "cal_groups": self.analyser.cal_text,
                "analyser_clock": self.analyser.clock,
            }
        return row
