"""A reading: one channel at one moment, with its state; and which values and names do not count, in any mode.

Times: ``received_at`` (UTC) and ``monotonic_ns`` (``time.monotonic_ns``) are the arrival of the last byte of
the data, moved back by its known delay, see :attr:`servomex.Frame.delayed_s`. ``requested_at`` and
``latency_s`` belong to Modbus, where the data was requested; a broadcast has none. The analyser's own clock is
kept apart, in :attr:`servomex.AnalyserStatus.clock`.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import attrs

from servomex.enums import (
    EXTERNAL_CHANNELS,
    ChannelId,
    ChannelKind,
    ProtocolKind,
    Quality,
)
from servomex.models.markup import table
from servomex.models.naming import own_channel
from servomex.models.plain import json_of
from servomex.models.texts import HEADINGS, clock_text, number_text
from servomex.runtime import suspend as awake
from servomex.units import Unit, channel_name, convert, unit_and_text


def member_repr(item: str) -> str:
    """Format a member of an enum as in a program."""
    return f"{type(item).__name__}.{item.name}" if isinstance(item, Enum) else repr(item)


NO_TIME = datetime.fromtimestamp(0, UTC)
"""The arrival of what did not arrive at a known time."""


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
        """The raised states in words, such as ``("warming up", "alarm 2")``."""
        flags = [
            (self.fault, "fault"),
            (self.maintenance, "maintenance"),
            (self.calibrating, "calibrating"),
            (self.warming_up, "warming up"),
            *((alarm, f"alarm {number}") for number, alarm in enumerate(self.alarms, 1)),
        ]
        return tuple(word for raised, word in flags if raised)

    def __str__(self) -> str:
        """Return the raised states in words, such as ``warming up, alarm 2``; ``ok`` when none is."""
        return ", ".join(self.words) or "ok"

    def __repr__(self) -> str:
        flags = ("fault", "maintenance", "calibrating", "warming_up")
        raised = [f"{flag}=True" for flag in flags if getattr(self, flag)]
        raised += [f"alarms={self.alarms}"] * any(self.alarms)
        return f"ChannelStatus({', '.join(raised)})"


_NOTHING_RAISED = ChannelStatus()


def _channel(value: ChannelId | str) -> ChannelId | str:
    """Check the channel of a reading: one of the analyser's, or an id from a user's own source."""
    return value if type(value) is ChannelId else own_channel(value)


@attrs.frozen
class Reading:
    """One channel's value with its state and its time.

    Attributes:
        channel: The channel, a :class:`ChannelId`; a plain text for an id from a user's own source.
        name: Its name on the display, such as ``Oxygen``; ``None`` when it has none.
        value: The value in :attr:`unit`; ``None``, never 0, when the analyser gave no valid one.
        unit: The unit; :attr:`Unit.UNKNOWN` when :attr:`unit_text` is not a known one.
        unit_text: The unit as the analyser shows it, without padding.
        status: The channel's state.
        protocol: The communication mode in which it was received.
        received_at: Arrival, UTC.
        monotonic_ns: Arrival on the monotonic clock, in nanoseconds.
        raw: The channel's bytes as received, which show an unknown glyph or a text in place of the value. In
            continuous mode the 33 bytes of its block, separators included. Over Modbus the 14 bytes of its
            registers (value, name, unit), and one more with its discrete inputs as Modbus packs them: bit 0 fault
            (of E1 and E2: invalid), 1 maintenance, 2 calibrating, 3 warming up, 4 to 7 alarm 1 to 4. Empty when it
            was read from a file. Not part of rows or of comparisons.
    """

    channel: ChannelId | str = attrs.field(repr=member_repr, converter=_channel)
    name: str | None
    value: float | None
    unit: Unit = attrs.field(repr=member_repr)
    unit_text: str
    status: ChannelStatus
    protocol: ProtocolKind = attrs.field(repr=member_repr)
    received_at: datetime
    monotonic_ns: int
    raw: bytes = attrs.field(default=b"", eq=False, repr=False)

    @property
    def kind(self) -> ChannelKind | None:
        """Where the value comes from; ``None`` when the channel has an id from a user's own source."""
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
        """Return the value in another unit of concentration; ``None`` when there is no value.

        Raises:
            ServomexValidationError: The units measure different quantities.
        """
        converted = convert(0.0 if self.value is None else self.value, self.unit, unit)
        return None if self.value is None else converted

    def as_dict(self) -> dict[str, Any]:
        """Return the columns of a row that belong to this reading, see :data:`ROW_COLUMNS`."""
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
        """Return it on one line: ``I1 Oxygen 20.376 %, good``, followed by the raised states in words."""
        return reading_text(self)

    def _repr_html_(self) -> str:
        return readings_table([self], caption=[arrival_text(self.received_at, self.age_s)])

    def as_json(self) -> dict[str, Any]:
        """Return :meth:`as_dict` in a form for ``json.dumps``: times are texts of ISO 8601, in UTC.

        Raises:
            ServomexValidationError: The value is not a finite number.
        """
        return json_of(self.as_dict())

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        return "None" if self.value is None else format(self.value, spec)


def has_value(channel: ChannelId, status: ChannelStatus) -> bool:
    """Return whether a channel in this state has a value: an external input reported as invalid has none."""
    return not (status.fault and channel in EXTERNAL_CHANNELS)


def is_populated(reading: Reading) -> bool:
    """Return whether a reading belongs to a channel that the analyser has.

    E1 and E2 always do. Any other channel does when it has a name, a raised state, or a value other than 0: an
    alarm must not vanish because a label was cleared.
    """
    return bool(
        reading.channel in EXTERNAL_CHANNELS
        or reading.name is not None
        or reading.status != _NOTHING_RAISED
        or reading.value
    )


class _Unfrozen(Reading):
    """A reading while it is built: its fields are set in a quarter of the time that a frozen class takes."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


def reading_of(
    channel: ChannelId,
    name: str | None,
    value: float | None,
    unit: Unit,
    unit_text: str,
    status: ChannelStatus,
    protocol: ProtocolKind,
    received_at: datetime,
    monotonic_ns: int,
    raw: bytes,
) -> Reading:
    """Return what ``Reading`` returns, sooner, and without its check of the channel."""
    reading: Any = object.__new__(_Unfrozen)
    reading.channel = channel
    reading.name = name
    reading.value = value
    reading.unit = unit
    reading.unit_text = unit_text
    reading.status = status
    reading.protocol = protocol
    reading.received_at = received_at
    reading.monotonic_ns = monotonic_ns
    reading.raw = raw
    reading.__class__ = Reading
    return reading  # type: ignore[no-any-return]


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
    """Build a reading from the decoded fields, by the same rules in every mode.

    A value that is not finite, or that of an external input reported as invalid, does not count as a value.
    """
    if value is not None and not (has_value(channel, status) and math.isfinite(value)):
        value = None
    unit, unit_text = unit_and_text(raw_unit)
    return reading_of(
        channel, channel_name(raw_name), value, unit, unit_text, status, protocol, received_at, monotonic_ns, raw
    )


def value_text(reading: Reading) -> str:
    """Format a value with its unit."""
    return "no value" if reading.value is None else f"{number_text(reading.value)} {reading.unit_text}".rstrip()


def state_text(reading: Reading) -> str:
    """Return the raised states in words; ``ok`` when none is."""
    missing = ("no value",) if reading.value is None else ()
    return ", ".join((*missing, *reading.status.words)) or "ok"


def reading_text(reading: Reading) -> str:
    """Format a reading on one line, such as ``I1 Oxygen 20.376 %, good``."""
    label = " ".join(filter(None, (str(reading.channel), reading.name, value_text(reading))))
    return ", ".join((label, reading.quality.value, *reading.status.words))


def cells(reading: Reading) -> tuple[str, ...]:
    """Return the cells of a reading, in the order of :data:`HEADINGS`."""
    return (
        str(reading.channel),
        reading.name or "",
        number_text(reading.value),
        reading.unit_text,
        state_text(reading),
        reading.quality.value,
    )


def readings_table(readings: Iterable[Reading], *, caption: Sequence[str] = ()) -> str:
    """Format readings; a bad value is left empty, and its quality shows why."""
    return table(HEADINGS, map(_shown, readings), caption=caption)


def arrival_text(received_at: datetime, age_s: float) -> str:
    """Format the arrival time of something, and its age now."""
    return f"received {clock_text(received_at)}; {age_s:.1f} s old at {clock_text(datetime.now(UTC))}"


_VALUE = HEADINGS.index("value")


def _shown(reading: Reading) -> list[str]:
    shown = list(cells(reading))
    if reading.quality is Quality.BAD:
        shown[_VALUE] = ""
    return shown
