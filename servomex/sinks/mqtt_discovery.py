"""Home Assistant's discovery by MQTT: one configuration a device, with a sensor and alarms for each channel."""

import json
import math
from collections import Counter
from typing import Any

from servomex.sinks.mqtt_config import MqttConfig
from servomex.sinks.mqtt_devices import STATES, Channel, Device
from servomex.sinks.mqtt_topics import channel_level, identifier
from servomex.version import __version__

_PRECISIONS = {"%": 3, "vpm": 1, "ppm": 1, "mA": 2}
"""Digits after the decimal point that are shown; for other units, two."""
_GASES = {
    "co": "carbon_monoxide",
    "carbonmonoxide": "carbon_monoxide",
    "co2": "carbon_dioxide",
    "carbondioxide": "carbon_dioxide",
}
"""Gases for which Home Assistant has a class of sensors, which takes ppm; it has none for oxygen."""
_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789", " ")
_ALARMS = [(word, None) for _, word in STATES if word.startswith("alarm")]
_BINARY = [("fault", "diagnostic"), ("maintenance", "diagnostic"), *_ALARMS]
"""The states that become sensors of their own, and their category."""
_ATTRIBUTES = (
    "{{ {'quality': value_json.quality, 'states': value_json.states, 'received_at': value_json.received_at} "
    "| tojson }}"
)


def config_topic(config: MqttConfig, device: Device) -> str:
    """Return the topic of the configuration of a device."""
    return f"{config.ha_prefix}/device/{_id(config, device)}/config"


def config_payload(config: MqttConfig, device: Device, bridge: str) -> bytes:
    """Return the configuration of a device: what Home Assistant needs to show it.

    Args:
        config: Where it is published.
        device: The analyser, with its channels.
        bridge: The topic that says whether the recording is connected.
    """
    own = _id(config, device)
    names = Counter(channel.name for channel in device.channels.values())
    components: dict[str, Any] = {}
    for key, channel in device.channels.items():
        word = identifier(key).removeprefix("servomex_")
        name = channel.name if channel.name and names[channel.name] == 1 else f"{channel.name or ''} {key}".strip()
        common = {
            "state_topic": f"{device.topic}/{channel_level(key)}",
            "expire_after": math.ceil(device.limit_s),
        }
        components[word] = _sensor(channel) | common | {"json_attributes_topic": common["state_topic"]}
        components[word] |= {"unique_id": f"{own}_{word}", "name": name}
        for state, category in _BINARY:
            part = f"{word}_{state.replace(' ', '_')}"
            components[part] = _binary(state, category) | common
            components[part] |= {"unique_id": f"{own}_{part}", "name": f"{name} {state}"}
    return json.dumps(
        {
            "device": {"identifiers": [own], "name": device.name, "manufacturer": "Servomex"},
            "origin": {"name": "servomex", "sw_version": __version__},
            "availability": [{"topic": bridge}, {"topic": device.availability}],
            "availability_mode": "all",
            "qos": 1,
            "components": components,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def _sensor(channel: Channel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "platform": "sensor",
        "state_class": "measurement",
        "value_template": "{{ value_json.value }}",
        "suggested_display_precision": _PRECISIONS.get(channel.unit or "", 2),
        "json_attributes_template": _ATTRIBUTES,
    }
    kind, unit = _class_of(channel)
    if kind is not None:
        found["device_class"] = kind
    if unit is not None:
        found["unit_of_measurement"] = unit
    return found


def _class_of(channel: Channel) -> tuple[str | None, str | None]:
    """Return the class of a sensor, and the unit as that class has it; vpm is ppm."""
    if channel.unit == "mA":
        return "current", "mA"
    gas = _GASES.get((channel.name or "").translate(_DIGITS).lower())
    return (gas, "ppm") if gas is not None and channel.unit in ("vpm", "ppm") else (None, channel.unit)


def _binary(state: str, category: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "platform": "binary_sensor",
        "device_class": "problem",
        "value_template": f"{{{{ 'ON' if '{state}' in value_json.states else 'OFF' }}}}",
    }
    return found | ({"entity_category": category} if category else {})


def _id(config: MqttConfig, device: Device) -> str:
    return identifier(*([] if config.prefix == "servomex" else [config.prefix]), device.site, device.name)
