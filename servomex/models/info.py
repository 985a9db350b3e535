"""The facts about an open analyser besides its readings: its port, mode, address and channels."""

from typing import Any

import attrs

from servomex.enums import (
    ChannelId,
    ChannelKind,
    ProtocolKind,
)
from servomex.models.markup import table
from servomex.models.plain import json_fields, json_value
from servomex.models.reading import member_repr
from servomex.settings import SerialSettings
from servomex.units import Unit

MODEL = "SERVOPRO 4000 series"
"""The instrument reveals no more: its registers do not show whether it is a 4100, a 4200 or a 4900."""


@attrs.frozen
class ChannelInfo:
    """The facts about a populated channel besides its value.

    Attributes:
        channel: The channel.
        name: Its name on the display; ``None`` when it has none.
        unit: Its unit.
        unit_text: The unit as the analyser shows it.
    """

    channel: ChannelId = attrs.field(repr=member_repr)
    name: str | None
    unit: Unit = attrs.field(repr=member_repr)
    unit_text: str

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**json_fields(self), "kind": json_value(self.kind)}

    @property
    def kind(self) -> ChannelKind:
        """Where the channel's value comes from."""
        return self.channel.kind

    def __str__(self) -> str:
        """Name it, such as ``I1 Oxygen (%)``."""
        return channel_text(self)


def channel_text(info: ChannelInfo) -> str:
    """Format a channel with its name and unit, such as ``I1 Oxygen (%)``."""
    unit = f"({info.unit_text})" if info.unit_text else ""
    return " ".join(filter(None, (str(info.channel), info.name, unit)))


@attrs.frozen
class DeviceInfo:
    """The facts about an open analyser, which reveals neither a serial number nor which of the series it is.

    Attributes:
        port: Device path or URL of the port.
        protocol: The communication mode in use.
        address: Modbus slave address; ``None`` in continuous mode, which has none.
        serial_settings: The settings in use.
        channels: The populated channels, in the analyser's order.
        model: The series, ``SERVOPRO 4000 series``: other instruments are refused.
    """

    port: str
    protocol: ProtocolKind = attrs.field(repr=member_repr)
    address: int | None
    serial_settings: SerialSettings
    channels: tuple[ChannelInfo, ...]
    model: str = attrs.field(default=MODEL, kw_only=True)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return json_fields(self)

    def __str__(self) -> str:
        """Return it on one line, such as ``/dev/ttyUSB0: SERVOPRO 4000 series, modbus_rtu, address 1, ...``."""
        return f"{self._place}: {', '.join(map(str, self.channels)) or 'no channel'}"

    def _repr_html_(self) -> str:
        rows = [(item.channel, item.name, item.unit_text, item.kind) for item in self.channels]
        return table(("channel", "name", "unit", "kind"), rows, caption=[self._place])

    @property
    def _place(self) -> str:
        address = "" if self.address is None else f"address {self.address}"
        facts = (self.model, self.protocol, address, str(self.serial_settings))
        return f"{self.port}: {', '.join(filter(None, facts))}"
