"""What is published of each analyser: its values, whether it is available, and how long a value is current."""

import json
import math
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import time_text
from servomex.runtime.clock import time
from servomex.sinks.mqtt_config import MqttConfig
from servomex.sinks.mqtt_topics import (
    AVAILABILITY,
    ERROR,
    LATE,
    OFFLINE,
    ONLINE,
    channel_level,
    device_topic,
)

FRESH_S = 10.0
"""How long a value is current before the interval of its analyser is known, and at least."""
PERIODS = 2.5
"""How many intervals a value is current."""
_INTERVALS = 5
"""How many of the last intervals are compared: the shortest counts, since an outage is not an interval."""
STATES = (
    ("fault", "fault"),
    ("maintenance", "maintenance"),
    ("calibrating", "calibrating"),
    ("warming_up", "warming up"),
    *((f"alarm{number}", f"alarm {number}") for number in range(1, 5)),
)
"""The columns of the states, and the word that is published for each."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@attrs.frozen
class Message:
    """Something to be published.

    Attributes:
        topic: Where.
        payload: What.
        retain: Whether the broker keeps it for those who subscribe later.
        expiry_s: After how many seconds the broker drops it; ``None`` for never.
    """

    topic: str
    payload: bytes
    retain: bool = False
    expiry_s: int | None = None


@attrs.frozen
class Channel:
    """A channel, as it was last seen.

    Attributes:
        name: The name of its gas, if it has one.
        unit: Its unit, as a symbol or as the analyser shows it.
    """

    name: str | None
    unit: str | None


@attrs.define
class Device:
    """An analyser, as far as its rows show it.

    Attributes:
        name: Its name.
        site: Its site.
        topic: The topic below which all of it is.
        channels: Its channels so far.
        is_online: Whether it was announced as available; ``None`` before it was announced at all.
        limit_s: How long a value is current.
    """

    name: str
    site: str
    topic: str
    channels: dict[str, Channel] = attrs.field(factory=dict)
    is_online: bool | None = None
    limit_s: float = FRESH_S
    _seen_at: float = attrs.field(factory=lambda: time.monotonic())
    _arrived: datetime | None = None
    _intervals: deque[float] = attrs.field(factory=lambda: deque(maxlen=_INTERVALS))

    @property
    def availability(self) -> str:
        """The topic that says whether it is available."""
        return f"{self.topic}/{AVAILABILITY}"

    @property
    def is_silent(self) -> bool:
        """Whether it counts as available although its last value is no longer current."""
        return bool(self.is_online) and time.monotonic() - self._seen_at > self.limit_s

    def see(self, arrived: datetime, age_s: float) -> None:
        """Note a current reading, and the interval since the one before."""
        self._seen_at = time.monotonic() - age_s
        if self._arrived is not None and (interval_s := (arrived - self._arrived).total_seconds()) > 0:
            self._intervals.append(interval_s)
        if self._arrived is None or arrived > self._arrived:
            self._arrived = arrived

    def learn(self, fresh_s: float | None) -> None:
        """Set how long a value is current; a small change of the interval does not count."""
        if fresh_s is not None:
            self.limit_s = fresh_s
        elif self._intervals:
            limit_s = max(FRESH_S, PERIODS * min(self._intervals))
            if not 0.7 * self.limit_s <= limit_s <= self.limit_s:
                self.limit_s = float(math.ceil(limit_s))


class Devices:
    """The analysers of a sink, and the messages that their rows become.

    Args:
        config: Which topics, and how long a value is current.
    """

    def __init__(self, config: MqttConfig) -> None:
        self._config = config
        self._site = config.site_or_host
        self._devices: dict[tuple[str, str], Device] = {}

    @property
    def known(self) -> Sequence[Device]:
        """The analysers so far that had a current reading."""
        return [device for device in self._devices.values() if device.channels]

    def announced(self) -> list[Device]:
        """Return the analysers that were announced as available or not."""
        return [device for device in self._devices.values() if device.is_online is not None]

    def silent(self) -> list[Device]:
        """Return the analysers of which nothing current has come for too long."""
        return [device for device in self._devices.values() if device.is_silent]

    def forget_announcements(self) -> None:
        """Announce each analyser again with its next row, since it is not known what arrived."""
        for device in self._devices.values():
            device.is_online = None

    def messages(self, rows: Iterable[Sequence[Any]]) -> list[Message]:
        """Return what is published of rows, in their order.

        A value that is no longer current is not retained, and published below its topic: whoever reads the topic
        of a channel never takes it for a current one. The same holds for an error.
        """
        now = datetime.now(UTC)
        found: list[Message] = []
        for values in rows:
            row = dict(zip(ROW_COLUMNS, values, strict=True))
            row["failed"] = row["error"] is not None or row["channel"] is None
            device = self._device(row)
            age_s = _age_s(row, now)
            is_late = age_s > (self._config.fresh_s or device.limit_s)
            if not is_late:
                found += self._announcement(device, row, age_s)
            found.append(_message(device, row, age_s, is_late=is_late))
        return found

    def _device(self, row: dict[str, Any]) -> Device:
        name, site = str(row["device"]), row["tags"].get("site") or self._site
        device = self._devices.get((site, name))
        if device is None:
            device = Device(name, site, device_topic(self._config.prefix, site, name))
            self._devices[site, name] = device
        return device

    def _announcement(self, device: Device, row: dict[str, Any], age_s: float) -> list[Message]:
        """Note a current row; return the message that says whether the analyser is available, if that changed."""
        was, device.is_online = device.is_online, not row["failed"]
        if device.is_online:
            device.see(row["received_at"], age_s)
            device.learn(self._config.fresh_s)
            unit = row["unit_text"] if row["unit"] in (None, "?") else row["unit"]
            device.channels[str(row["channel"])] = Channel(row["name"], unit or None)
        return [] if was is device.is_online else [availability(device)]


def availability(device: Device) -> Message:
    """Return the message that says whether an analyser is available."""
    return Message(device.availability, ONLINE if device.is_online else OFFLINE, retain=True)


def _age_s(row: dict[str, Any], now: datetime) -> float:
    """Return how old a row is. When the clock was set back since, the other clock shows it."""
    age_s: float = (now - row["received_at"]).total_seconds()
    return age_s if age_s >= 0 else max(0.0, float(time.monotonic_ns() - row["monotonic_ns"]) / 1e9)


def _message(device: Device, row: dict[str, Any], age_s: float, *, is_late: bool) -> Message:
    topic = f"{device.topic}/{ERROR if row['failed'] else channel_level(str(row['channel']))}"
    if is_late:
        return Message(f"{topic}/{LATE}", _payload(row), expiry_s=math.ceil(device.limit_s))
    expiry_s = max(1, math.floor(device.limit_s - age_s))
    return Message(topic, _payload(row), retain=not row["failed"], expiry_s=expiry_s)


def _payload(row: dict[str, Any]) -> bytes:
    received_at = time_text(row["received_at"])
    if row["failed"]:
        return _encode(
            {"error": row["error"], "error_type": row["error_type"], "received_at": received_at}
        ).encode()
    return _encode(
        {
            "value": None if row["quality"] == "bad" else row["value"],
            "unit": row["unit_text"] if row["unit"] in (None, "?") else row["unit"],
            "quality": row["quality"],
            "states": [word for column, word in STATES if row[column]],
            "received_at": received_at,
            "name": row["name"],
        }
    ).encode()
