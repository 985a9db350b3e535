"""A frame: all channels at one moment, with the state of the analyser."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from servomex.enums import (
    ChannelId,
    ProtocolKind,
    Quality,
)
from servomex.errors import ServomexChannelNotFoundError, ServomexValidationError
from servomex.errors.mappings import frozen
from servomex.models.analyser import AnalyserStatus, analyser_text
from servomex.models.naming import asked_channel, asked_channels, find, needed
from servomex.models.plain import json_of, plain_tags
from servomex.models.reading import (
    Reading,
    arrival_text,
    cells,
    is_populated,
    member_repr,
    readings_table,
)
from servomex.models.sample import Sample, frozen_tags
from servomex.models.tags import NO_TAGS
from servomex.models.texts import HEADINGS, Paint, aligned, clock_text, unpainted
from servomex.runtime import suspend as awake


@attrs.frozen
class Frame:
    """All channels at one moment: one broadcast, or one Modbus sweep.

    Indexable by channel (``frame["I1"]``, ``frame["Oxygen"]``) and iterable over its readings, which are in the
    analyser's order. ``in`` tests for a channel, by its id or name, or for a reading.

    Attributes:
        protocol: The communication mode in which it was received.
        readings: The populated I and D channels, and E1 and E2. A channel is populated when it has a name, a
            raised state, or a value other than 0.
        analyser: The state of the analyser.
        received_at: Arrival of the last byte, UTC.
        monotonic_ns: Arrival of the last byte on the monotonic clock, in nanoseconds.
        requested_at: When the first byte of the first request was sent, UTC; ``None`` for a broadcast.
        latency_s: Seconds from that request to the last byte; ``None`` for a broadcast.
        raw: The bytes it was decoded from: the broadcast, or the Modbus replies one after the other.
        delayed_s: How many seconds late a broadcast may have arrived, held up by a network or a serial server; 0.0
            for a punctual one and over Modbus. The times of arrival, here and in the readings, are moved back by
            it.
    """

    protocol: ProtocolKind = attrs.field(repr=member_repr)
    readings: tuple[Reading, ...]
    analyser: AnalyserStatus
    received_at: datetime
    monotonic_ns: int
    requested_at: datetime | None = None
    latency_s: float | None = None
    raw: bytes = attrs.field(default=b"", repr=False)
    delayed_s: float = 0.0

    @property
    def age_s(self) -> float:
        """Seconds since the last byte arrived, the sleep of this computer and :attr:`delayed_s` included."""
        return awake.age_s(self.monotonic_ns)

    @property
    def channels(self) -> tuple[ChannelId | str, ...]:
        """The channels it holds."""
        return tuple([reading.channel for reading in self.readings])

    @property
    def ok(self) -> bool:
        """Whether the analyser has no fault and every reading is ok; a frame without any reading is not."""
        return bool(self.readings) and not self.analyser.fault and all(reading.ok for reading in self.readings)

    def get(self, channel: ChannelId | str) -> Reading | None:
        """Return the reading of a channel, ``None`` when the frame does not hold it.

        Args:
            channel: Its id, such as ``I1``, or its name on the display, such as ``Oxygen``, both in any case. A
                subscript is the same as its digit. An id is never taken for a name.

        Raises:
            ServomexChannelNotFoundError: Several channels have this name; the error lists them.
            ServomexValidationError: It looks like an id, but the series has no such id.
        """
        return find(self.readings, asked_channel(channel))

    def channel(self, cid: ChannelId | str) -> Reading:
        """Return the reading of a channel; ``frame[cid]`` is the same.

        Args:
            cid: Its id or its name, as for :meth:`get`.

        Raises:
            ServomexChannelNotFoundError: The frame does not hold this channel, or several have this name; the
                error lists those that exist. It is also a ``LookupError``.
            ServomexValidationError: It looks like an id, but the series has no such id.
        """
        return self._needed(asked_channel(cid))

    def __getitem__(self, channel: ChannelId | str) -> Reading:
        return self.channel(channel)

    def _needed(self, asked: ChannelId | str) -> Reading:
        return needed(self.readings, asked, holder="this frame")

    def __str__(self) -> str:
        """Return the table that ``servomex read`` prints, with the current age of the frame."""
        return frame_text(self, self.protocol)

    def _repr_html_(self) -> str:
        return frame_table(self)

    def __iter__(self) -> Iterator[Reading]:
        return iter(self.readings)

    def __len__(self) -> int:
        return len(self.readings)

    def __contains__(self, item: object) -> bool:
        if isinstance(item, Reading):
            return item in self.readings
        try:
            return isinstance(item, str) and self.get(item) is not None
        except ServomexChannelNotFoundError:  # several have this name
            return True
        except ServomexValidationError:
            return False

    def only(self, channels: Iterable[ChannelId | str]) -> "Frame":
        """Return the same frame with these channels only.

        Args:
            channels: Ids or names, as for :meth:`get`.

        Raises:
            ServomexChannelNotFoundError: The frame does not hold one of them, or several channels have its name.
            ServomexValidationError: One looks like an id, but the series has no such id.
        """
        wanted = {self._needed(channel).channel for channel in asked_channels(channels)}
        return attrs.evolve(self, readings=tuple(item for item in self.readings if item.channel in wanted))

    def populated(self) -> "Frame":
        """Return the same frame without the blocks of missing channels, see :func:`is_populated`."""
        readings = tuple(item for item in self.readings if is_populated(item))
        return self if len(readings) == len(self.readings) else attrs.evolve(self, readings=readings)

    def as_json(self, *, device: str = "", metadata: Mapping[str, str] = NO_TAGS) -> dict[str, Any]:
        """Return it as a JSON object, as ``servomex read --format json`` prints it.

        Its keys are ``device`` and ``tags``, the fields of the frame except its bytes, ``analyser`` with
        ``fault``, ``maintenance``, ``cal_groups`` and ``clock``, and ``readings``: a list with the
        :meth:`Reading.as_json` of each.

        Args:
            device: The caller's name for the analyser.
            metadata: The tags of the analyser.

        Raises:
            ServomexValidationError: A number is not finite, or a tag is not valid.
        """
        own = {
            "device": device,
            "protocol": self.protocol.value,
            "received_at": self.received_at,
            "monotonic_ns": self.monotonic_ns,
            "requested_at": self.requested_at,
            "latency_s": self.latency_s,
            "delayed_s": self.delayed_s,
            "tags": plain_tags(frozen_tags(metadata)),
        }
        readings = [reading.as_json() for reading in self.readings]
        return {**json_of(own), "analyser": self.analyser.as_json(), "readings": readings}

    def as_samples(self, *, device: str = "", metadata: Mapping[str, str] = NO_TAGS) -> list[Sample]:
        """Return one :class:`Sample` per reading, for rows and recordings.

        Args:
            device: The caller's name for the analyser.
            metadata: The tags of the analyser and of the recording.
        """
        tags = frozen(metadata)  # once, not for each reading
        return [
            Sample(
                device,
                self.protocol,
                self.received_at,
                self.monotonic_ns,
                reading,
                self.analyser,
                self.requested_at,
                self.latency_s,
                metadata=tags,
            )
            for reading in self.readings
        ]


class _Unfrozen(Frame):
    """A frame while it is built, as readings are, see :func:`reading_of`."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


def broadcast_of(
    protocol: ProtocolKind,
    readings: tuple[Reading, ...],
    analyser: AnalyserStatus,
    received_at: datetime,
    monotonic_ns: int,
    raw: bytes,
) -> Frame:
    """Return what ``Frame`` returns for a broadcast, sooner."""
    frame: Any = object.__new__(_Unfrozen)
    frame.protocol = protocol
    frame.readings = readings
    frame.analyser = analyser
    frame.received_at = received_at
    frame.monotonic_ns = monotonic_ns
    frame.requested_at = None
    frame.latency_s = None
    frame.raw = raw
    frame.delayed_s = 0.0
    frame.__class__ = Frame
    return frame  # type: ignore[no-any-return]


def frame_text(frame: Frame, title: str, *, arrived: bool = True, paint: Paint = unpainted) -> str:
    """Format a table, with a line above it for the analyser and one for the time of the data.

    Args:
        frame: The frame to format.
        title: Names the analyser: its port, and how it is reached.
        arrived: Whether to write when the data arrived and how old it is; this is unknown for a capture.
        paint: Marks bad and uncertain values.
    """
    lines = [f"{title}: {analyser_text(frame.analyser, paint)}"]
    if arrived:
        lines.append(_time_line(frame))
    texts = aligned([HEADINGS, *(cells(reading) for reading in frame)], numbers=HEADINGS.index("value"))
    lines.append(texts[0])
    for reading, text in zip(frame, texts[1:], strict=True):
        lines.append(text if reading.quality is Quality.GOOD else paint(text, reading.quality))
    return "\n".join(lines)


def _time_line(frame: Frame) -> str:
    latency = "" if frame.latency_s is None else f", read in {frame.latency_s:.2f} s"
    return f"received {clock_text(frame.received_at)}, {frame.age_s:.1f} s ago{latency}"


def frame_table(frame: Frame) -> str:
    """Format a frame, with its time of arrival, and its age at a stated time, since the text stays the same."""
    state = f"{frame.protocol}: {analyser_text(frame.analyser)}"
    return readings_table(frame, caption=[state, arrival_text(frame.received_at, frame.age_s)])
