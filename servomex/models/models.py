"""What the analyser says, in one set of frozen models for all three communication modes.

Times: ``received_at`` (UTC) and ``monotonic_ns`` (``time.monotonic_ns``) are the arrival of the last byte of
the data, moved back by what is known of its delay, see :attr:`Frame.delayed_s`. ``requested_at`` and ``latency_s``
belong to Modbus, where the data was asked for; a broadcast has none. The analyser's own clock is kept apart, in
:attr:`AnalyserStatus.clock`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import attrs

from servomex.enums import (
    EXTERNAL_CHANNELS,
    CalPhase,
    ChannelId,
    ChannelKind,
    ProtocolKind,
    Quality,
)
from servomex.errors import ServomexChannelNotFoundError, ServomexError, ServomexValidationError
from servomex.errors.mappings import FrozenMapping, frozen
from servomex.models.columns import ROW_COLUMNS
from servomex.models.markup import arrival_text, frame_table, readings_table, table
from servomex.models.naming import asked_channel, asked_channels, find, needed, reading_channel
from servomex.models.plain import json_fields, json_of, json_value, plain_tags, time_text
from servomex.models.tags import NO_TAGS
from servomex.models.texts import analyser_text, channel_text, frame_text, reading_text
from servomex.runtime import suspend as awake
from servomex.settings import SerialSettings
from servomex.units import Unit, channel_name, convert, unit_and_text


def _member(item: str) -> str:
    """Show a member of an enum as a program writes it."""
    return f"{type(item).__name__}.{item.name}" if isinstance(item, Enum) else repr(item)


MODEL = "SERVOPRO 4000 series"
"""The instrument shows no more of itself: whether it is a 4100, a 4200 or a 4900 is not in its registers."""


@attrs.frozen
class ChannelStatus:
    """The state of one channel.

    Attributes:
        fault: The channel reports a fault; for E1 and E2 that its input is invalid.
        maintenance: Maintenance is required.
        calibrating: The channel is on calibration gas.
        warming_up: The channel has not reached its working temperature.
        alarms: Alarm 1 to 4, in this order.
    """

    fault: bool = False
    maintenance: bool = False
    calibrating: bool = False
    warming_up: bool = False
    alarms: tuple[bool, bool, bool, bool] = (False, False, False, False)

    @property
    def ok(self) -> bool:
        """Whether there is neither a fault nor an alarm."""
        return not self.fault and not any(self.alarms)

    @property
    def words(self) -> tuple[str, ...]:
        """What is raised, in words, such as ``("warming up", "alarm 2")``."""
        flags = [
            (self.fault, "fault"),
            (self.maintenance, "maintenance"),
            (self.calibrating, "calibrating"),
            (self.warming_up, "warming up"),
            *((alarm, f"alarm {number}") for number, alarm in enumerate(self.alarms, 1)),
        ]
        return tuple(word for raised, word in flags if raised)

    def __str__(self) -> str:
        """Say in words what is raised, such as ``warming up, alarm 2``; ``ok`` when nothing is."""
        return ", ".join(self.words) or "ok"

    def __repr__(self) -> str:
        flags = ("fault", "maintenance", "calibrating", "warming_up")
        raised = [f"{flag}=True" for flag in flags if getattr(self, flag)]
        raised += [f"alarms={self.alarms}"] * any(self.alarms)
        return f"ChannelStatus({', '.join(raised)})"


@attrs.frozen
class Reading:
    """One channel's value with its state and its time.

    Attributes:
        channel: The channel, a :class:`ChannelId`; a plain text where a source of one's own gave it an id.
        name: Its name on the display, such as ``Oxygen``; ``None`` when it has none.
        value: The value in :attr:`unit`; ``None`` when the analyser gave no valid one, never 0 in its stead.
        unit: The unit; :attr:`Unit.UNKNOWN` when :attr:`unit_text` is none that is known.
        unit_text: The unit as the analyser shows it, without padding.
        status: The channel's state.
        protocol: The communication mode it came by.
        received_at: Arrival, UTC.
        monotonic_ns: Arrival on the monotonic clock, in nanoseconds.
        raw: The channel's bytes as they came, where an unknown glyph or a text in the place of the value can be
            seen. Of a broadcast the 33 bytes of its block, separators included. Over Modbus the 14 bytes of its
            registers (value, name, unit), and one more with its discrete inputs as Modbus packs them: bit 0 fault
            (of E1 and E2: invalid), 1 maintenance, 2 calibrating, 3 warming up, 4 to 7 alarm 1 to 4. Empty when it
            was read from a file. Not part of rows or of comparisons.
    """

    channel: ChannelId | str = attrs.field(repr=_member, converter=reading_channel)
    name: str | None
    value: float | None
    unit: Unit = attrs.field(repr=_member)
    unit_text: str
    status: ChannelStatus
    protocol: ProtocolKind = attrs.field(repr=_member)
    received_at: datetime
    monotonic_ns: int
    raw: bytes = attrs.field(default=b"", eq=False, repr=False)

    @property
    def kind(self) -> ChannelKind | None:
        """Where the value comes from; ``None`` when a source of one's own gave the channel its id."""
        return self.channel.kind if isinstance(self.channel, ChannelId) else None

    @property
    def ok(self) -> bool:
        """Whether there is a value, and neither a fault nor an alarm."""
        return self.value is not None and self.status.ok

    @property
    def quality(self) -> Quality:
        """BAD without a value or with a fault; UNCERTAIN in maintenance, calibration or warm-up; else GOOD."""
        status = self.status
        if self.value is None or status.fault:
            return Quality.BAD
        if status.maintenance or status.calibrating or status.warming_up:
            return Quality.UNCERTAIN
        return Quality.GOOD

    @property
    def age_s(self) -> float:
        """Seconds since the value arrived, the sleep of this computer included."""
        return awake.age_s(self.monotonic_ns)

    def to(self, unit: Unit | str) -> float | None:
        """Give the value in another unit of concentration; ``None`` when there is no value.

        Raises:
            ServomexValidationError: The units do not measure the same.
        """
        converted = convert(0.0 if self.value is None else self.value, self.unit, unit)
        return None if self.value is None else converted

    def as_dict(self) -> dict[str, Any]:
        """Give the columns of a row that belong to this reading, see :data:`ROW_COLUMNS`."""
        status = self.status
        return {
            "received_at": self.received_at,
            "monotonic_ns": self.monotonic_ns,
            "protocol": self.protocol.value,
            "channel": str(self.channel),
            "kind": None if (kind := self.kind) is None else kind.value,
            "name": self.name,
            "value": self.value,
            "unit": self.unit.value,
            "unit_text": self.unit_text,
            "quality": self.quality.value,
            "ok": self.ok,
            "fault": status.fault,
            "maintenance": status.maintenance,
            "calibrating": status.calibrating,
            "warming_up": status.warming_up,
            "alarm1": status.alarms[0],
            "alarm2": status.alarms[1],
            "alarm3": status.alarms[2],
            "alarm4": status.alarms[3],
        }

    def __str__(self) -> str:
        """Say it on one line: ``I1 Oxygen 20.376 %, good``, and then in words what is raised."""
        return reading_text(self)

    def _repr_html_(self) -> str:
        return readings_table([self], caption=[arrival_text(self.received_at, self.age_s)])

    def as_json(self) -> dict[str, Any]:
        """Return :meth:`as_dict` as ``json.dumps`` takes it: times are texts of ISO 8601, in UTC.

        Raises:
            ServomexValidationError: The value is not a finite number.
        """
        return json_of(self.as_dict())

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        return "None" if self.value is None else format(self.value, spec)


def has_value(channel: ChannelId, status: ChannelStatus) -> bool:
    """Whether a channel in this state has a value at all: an external input reported as invalid has none."""
    return not (status.fault and channel in EXTERNAL_CHANNELS)


def is_populated(reading: Reading) -> bool:
    """Return whether a reading belongs to a channel that the analyser has.

    E1 and E2 always do. Any other channel does when it has a name, a raised state, or a value other than 0: an
    alarm must not vanish because a label was cleared.
    """
    return bool(
        reading.channel in EXTERNAL_CHANNELS or reading.name is not None or reading.status.words or reading.value
    )


def make_reading(
    channel: ChannelId,
    raw_name: bytes,
    value: float | None,
    raw_unit: bytes,
    status: ChannelStatus,
    protocol: ProtocolKind,
    received_at: datetime,
    monotonic_ns: int,
    raw: bytes = b"",
) -> Reading:
    """Build a reading from what came over the wire, by the same rules in every mode.

    A value that is not finite, and that of an external input reported as invalid, is no value.
    """
    if value is not None and not (has_value(channel, status) and math.isfinite(value)):
        value = None
    unit, unit_text = unit_and_text(raw_unit)
    return Reading(
        channel, channel_name(raw_name), value, unit, unit_text, status, protocol, received_at, monotonic_ns, raw
    )


@attrs.frozen
class CalGroupState:
    """What one calibration group is doing.

    Attributes:
        group: 1 to 4.
        calibrating: On calibration gas (``C``) rather than on sample (``S``).
        cal_gas: Which calibration gas, 1 or 2.
    """

    group: int
    calibrating: bool
    cal_gas: int

    @property
    def phase(self) -> CalPhase:
        """What the group is on: never ``SAMPLING``, which the state alone does not show."""
        if not self.calibrating:
            return CalPhase.IDLE
        return CalPhase.CAL_GAS_2 if self.cal_gas == 2 else CalPhase.CAL_GAS_1

    def __str__(self) -> str:
        return f"{'C' if self.calibrating else 'S'}{self.cal_gas}"


@attrs.frozen
class AnalyserStatus:
    """The state of the analyser as a whole.

    Attributes:
        fault: The analyser reports a fault.
        maintenance: Maintenance is required.
        cal_groups: The four calibration groups.
        clock: The analyser's own clock, local to it and without a zone; it may be wrong. ``None`` over Modbus,
            which does not carry it, and when it is not set.
    """

    fault: bool
    maintenance: bool
    cal_groups: tuple[CalGroupState, ...]
    clock: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of JSON; the groups are the text of :attr:`cal_text`."""
        clock = self.clock and time_text(self.clock)
        return {
            "fault": self.fault,
            "maintenance": self.maintenance,
            "cal_groups": self.cal_text,
            "clock": clock,
        }

    @property
    def cal_text(self) -> str:
        """The calibration groups as the instrument writes them, such as ``S1S1C2S1``."""
        return "".join(map(str, self.cal_groups))

    @property
    def cal_words(self) -> tuple[str, ...]:
        """The groups that are on calibration gas, in words, such as ``("group 3 on calibration gas 2",)``."""
        return tuple(
            f"group {item.group} on calibration gas {item.cal_gas}" for item in self.cal_groups if item.calibrating
        )

    def __str__(self) -> str:
        """Say in words what is raised, and its clock: ``analyser ok, its clock 2020-10-06 02:54:12``."""
        return analyser_text(self)


@attrs.frozen
class Frame:
    """All channels at one moment: one broadcast, or one Modbus sweep.

    Indexable by channel (``frame["I1"]``, ``frame["Oxygen"]``) and iterable over its readings, which are in the
    analyser's order. ``in`` asks for a channel, by its id or name, or for a reading.

    Attributes:
        protocol: The communication mode it came by.
        readings: The populated I and D channels, and E1 and E2. A channel is populated when it has a name, a
            raised state, or a value other than 0.
        analyser: The state of the analyser.
        received_at: Arrival of the last byte, UTC.
        monotonic_ns: Arrival of the last byte on the monotonic clock, in nanoseconds.
        requested_at: When the first byte of the first request was sent, UTC; ``None`` for a broadcast.
        latency_s: Seconds from that request to the last byte; ``None`` for a broadcast.
        raw: The bytes it was decoded from: the broadcast, or the Modbus replies one after the other.
        delayed_s: How many seconds late a broadcast may have come, held up by a network or a serial server; 0.0
            for one in time and over Modbus. The times of arrival, here and in the readings, are moved back by it.
    """

    protocol: ProtocolKind = attrs.field(repr=_member)
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
        return tuple(reading.channel for reading in self.readings)

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
            ServomexValidationError: It looks like an id, and there is none such in the series.
        """
        return find(self.readings, asked_channel(channel))

    def channel(self, cid: ChannelId | str) -> Reading:
        """Return the reading of a channel; ``frame[cid]`` is the same.

        Args:
            cid: Its id or its name, as for :meth:`get`.

        Raises:
            ServomexChannelNotFoundError: The frame does not hold this channel, or several have this name; the
                error lists those there are. It is a ``LookupError`` as well.
            ServomexValidationError: It looks like an id, and there is none such in the series.
        """
        return self._needed(asked_channel(cid))

    def __getitem__(self, channel: ChannelId | str) -> Reading:
        return self.channel(channel)

    def _needed(self, asked: ChannelId | str) -> Reading:
        return needed(self.readings, asked, holder="this frame")

    def __str__(self) -> str:
        """Return the table that ``servomex-read`` prints, with the age that the frame has now."""
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
            ServomexValidationError: One looks like an id, and there is none such in the series.
        """
        wanted = {self._needed(channel).channel for channel in asked_channels(channels)}
        return attrs.evolve(self, readings=tuple(item for item in self.readings if item.channel in wanted))

    def populated(self) -> "Frame":
        """Return the same frame without the blocks of channels that are not there, see :func:`is_populated`."""
        readings = tuple(item for item in self.readings if is_populated(item))
        return self if len(readings) == len(self.readings) else attrs.evolve(self, readings=readings)

    def as_json(self, *, device: str = "", metadata: Mapping[str, str] = NO_TAGS) -> dict[str, Any]:
        """Return it as an object of JSON, as ``servomex read --format json`` prints it.

        Its keys are ``device`` and ``tags``, the fields of the frame but for its bytes, ``analyser`` with
        ``fault``, ``maintenance``, ``cal_groups`` and ``clock``, and ``readings``: a list with the
        :meth:`Reading.as_json` of each.

        Args:
            device: The caller's name for the analyser.
            metadata: The tags of the analyser.

        Raises:
            ServomexValidationError: A number is not finite, or a tag cannot be one.
        """
        own = {
            "device": device,
            "protocol": self.protocol.value,
            "received_at": self.received_at,
            "monotonic_ns": self.monotonic_ns,
            "requested_at": self.requested_at,
            "latency_s": self.latency_s,
            "delayed_s": self.delayed_s,
            "tags": plain_tags(_frozen_tags(metadata)),
        }
        readings = [reading.as_json() for reading in self.readings]
        return {**json_of(own), "analyser": self.analyser.as_json(), "readings": readings}

    def as_samples(self, *, device: str = "", metadata: Mapping[str, str] = NO_TAGS) -> "list[Sample]":
        """Return one :class:`Sample` a reading, for rows and recordings.

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


def _frozen_tags(tags: Mapping[str, str]) -> FrozenMapping[str]:
    return tags if type(tags) is FrozenMapping else FrozenMapping(tags)


def _own(error: Exception | None) -> ServomexError | None:
    """Return the error of a sample; one that is not of this package is wrapped in one that names its type.

    Raises:
        ServomexValidationError: It is not an exception.
    """
    if error is None or isinstance(error, ServomexError):
        return error
    if not isinstance(error, BaseException):
        raise ServomexValidationError(
            f"the error of a sample is an exception, not {error!r}", cure="Write ServomexError(text)"
        )
    wrapped = ServomexError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _type_and_text(error: ServomexError | None) -> tuple[type[ServomexError], str] | None:
    return None if error is None else (type(error), str(error))


@attrs.frozen
class Sample:
    """One row of a recording: a reading with its surroundings, or an error that took its place.

    Attributes:
        device: The caller's name for the analyser.
        protocol: The communication mode.
        received_at: Arrival, UTC; of an error, when it happened.
        monotonic_ns: The same on the monotonic clock, in nanoseconds.
        reading: The reading; ``None`` for an error.
        analyser: The analyser's state that came with it; ``None`` for an error.
        requested_at: When it was asked for, UTC; ``None`` for a broadcast.
        latency_s: Seconds from the request to the arrival; ``None`` for a broadcast.
        error: Why there is no reading, a :class:`ServomexError`; ``None`` when there is one. Another exception is
            wrapped in one that names its type. Samples are equal when the class and the text of their errors are;
            one that was read from a file has these, and nothing else of its error.
        metadata: The tags of the analyser and of the recording, such as ``{"site": "mill-3"}``.
    """

    device: str
    protocol: ProtocolKind = attrs.field(repr=_member)
    received_at: datetime
    monotonic_ns: int
    reading: Reading | None = None
    analyser: AnalyserStatus | None = None
    requested_at: datetime | None = None
    latency_s: float | None = None
    error: ServomexError | None = attrs.field(default=None, converter=_own, eq=_type_and_text)
    metadata: FrozenMapping[str] = attrs.field(default=NO_TAGS, converter=_frozen_tags)

    @property
    def channel(self) -> ChannelId | str | None:
        """The channel; ``None`` for an error, which belongs to no single channel."""
        return self.reading.channel if self.reading else None

    def as_json(self) -> dict[str, Any]:
        """Return :meth:`as_dict` as ``json.dumps`` takes it, and as JSON lines hold it: times are texts in UTC.

        Raises:
            ServomexValidationError: A number is not finite, a time has no zone, or a tag cannot be one.
        """
        return json_of({**self.as_dict(), "tags": plain_tags(self.metadata)})

    def as_dict(self) -> dict[str, Any]:
        """Flatten to a row: the keys are :data:`ROW_COLUMNS`, in that order.

        Times are ``datetime``, flags are ``bool``, what is unknown is ``None``; ``tags`` is a ``dict``, ``error``
        the text of the error and ``error_type`` the name of its class. Of an error, only the columns that say
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


@attrs.frozen
class ChannelInfo:
    """What is known of a populated channel beside its value.

    Attributes:
        channel: The channel.
        name: Its name on the display; ``None`` when it has none.
        unit: Its unit.
        unit_text: The unit as the analyser shows it.
    """

    channel: ChannelId = attrs.field(repr=_member)
    name: str | None
    unit: Unit = attrs.field(repr=_member)
    unit_text: str

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {**json_fields(self), "kind": json_value(self.kind)}

    @property
    def kind(self) -> ChannelKind:
        """Where the channel's value comes from."""
        return self.channel.kind

    def __str__(self) -> str:
        """Name it, such as ``I1 Oxygen (%)``."""
        return channel_text(self)


@attrs.frozen
class DeviceInfo:
    """What is known of an open analyser, which shows neither a serial number nor which of the series it is.

    Attributes:
        port: Device path or URL of the port.
        protocol: The communication mode in use.
        address: Modbus slave address; ``None`` in continuous mode, which has none.
        serial_settings: The settings in use.
        channels: The populated channels, in the analyser's order.
        model: The series, ``SERVOPRO 4000 series``: other instruments are refused.
    """

    port: str
    protocol: ProtocolKind = attrs.field(repr=_member)
    address: int | None
    serial_settings: SerialSettings
    channels: tuple[ChannelInfo, ...]
    model: str = attrs.field(default=MODEL, kw_only=True)

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return json_fields(self)

    def __str__(self) -> str:
        """Say it on one line, such as ``/dev/ttyUSB0: SERVOPRO 4000 series, modbus_rtu, address 1, ...``."""
        return f"{self._whereabouts}: {', '.join(map(str, self.channels)) or 'no channel'}"

    def _repr_html_(self) -> str:
        rows = [(item.channel, item.name, item.unit_text, item.kind) for item in self.channels]
        return table(("channel", "name", "unit", "kind"), rows, caption=[self._whereabouts])

    @property
    def _whereabouts(self) -> str:
        address = "" if self.address is None else f"address {self.address}"
        facts = (self.model, self.protocol, address, str(self.serial_settings))
        return f"{self.port}: {', '.join(filter(None, facts))}"
