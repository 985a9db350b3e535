"""What is published by MQTT, and what a URL of a broker may have; tests/servers has what needs a broker."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servomex.errors import ServomexSinkDependencyError, ServomexSinkWriteError, ServomexValidationError
from servomex.models.sample import Sample
from servomex.rows.formats import PLAIN
from servomex.sinks import MqttConfig, MqttSink
from servomex.sinks.mqtt_devices import FRESH_S, Device, Devices
from servomex.sinks.mqtt_discovery import config_payload, config_topic
from servomex.sinks.mqtt_topics import LONGEST_LEVEL, channel_level, identifier, level
from servomex.units import Unit
from tests.helpers.any_samples import samples
from tests.helpers.recordings import batch, fresh

anything = st.text(st.characters(codec=None), max_size=200)
CONFIG = MqttConfig("broker", site="mill-3", ha=True)


class TestTopics:
    @given(one=anything, other=anything)
    def test_different_texts_are_different_levels(self, one: str, other: str) -> None:
        assert (level(one) == level(other)) == (one == other)
        assert (channel_level(one or "I1") == channel_level(other or "I1")) == ((one or "I1") == (other or "I1"))

    @given(anything)
    def test_a_level_is_one_that_every_broker_takes(self, text: str) -> None:
        found = level(text)
        assert 0 < len(found.encode("utf-8")) <= LONGEST_LEVEL
        assert not re.search(r"[/+#\x00-\x1f\x7f-\x9f]", found)

    @pytest.mark.parametrize("length", [159, 160, 161, 5_000, 70_000])
    @pytest.mark.parametrize("char", ["a", "€", "/", "𝛌"])
    def test_long_ones_are_cut_and_stay_different(self, char: str, length: int) -> None:
        assert len(level(char * length).encode()) <= LONGEST_LEVEL
        assert level(char * length) != level(char * (length + 1))

    @pytest.mark.parametrize("name", ["availability", "error"])
    def test_a_channel_is_not_taken_for_what_is_not_one(self, name: str) -> None:
        assert channel_level(name) not in (name, level(name))

    @given(anything, anything)
    @example("a" * 60, "b" * 60)
    def test_identifiers_are_words(self, one: str, other: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", identifier(one, other))


def messages_of(rows: list[Sample], config: MqttConfig = CONFIG) -> list[Any]:
    """Give what is published of samples."""
    return Devices(config).messages(PLAIN.rows(rows))


class TestMessages:
    @given(samples())
    def test_every_sample_is_valid_json_that_expires_and_never_0_for_nothing(self, sample: Sample) -> None:
        *_, found = messages_of([sample])
        record = json.loads(found.payload, parse_constant=lambda text: pytest.fail(text))
        assert found.expiry_s >= 1
        if sample.reading is None or sample.error is not None:
            assert set(record) == {"error", "error_type", "received_at"}
            return
        assert set(record) == {"value", "unit", "quality", "states", "received_at", "name"}
        assert record["value"] == (None if record["quality"] == "bad" else sample.reading.value)
        assert record["states"] == [*sample.reading.status.words]

    def test_the_time_that_is_left_is_the_expiry(self) -> None:
        found = messages_of([fresh(batch(0)[0], age_s=4.5)])[-1]
        assert (found.retain, found.expiry_s) == (True, 5)

    @pytest.mark.parametrize("age_s", [10.1, 3600])
    def test_a_late_one_is_not_retained(self, age_s: float) -> None:
        (found,) = messages_of([fresh(batch(0)[0], age_s=age_s)])
        assert (found.retain, found.topic) == (False, "servomex/mill-3/rig A/I1/late")

    def test_a_time_in_the_future_is_as_old_as_the_other_clock_says(self) -> None:
        (found,) = messages_of([attrs.evolve(fresh(batch(0)[0], age_s=-3600), monotonic_ns=-(10**14))])
        assert found.topic.endswith("/late")

    def test_a_site_is_that_of_the_row_first(self) -> None:
        found = messages_of([attrs.evolve(fresh(batch(0)[0]), metadata={"site": "other"})])[-1]
        assert found.topic == "servomex/other/rig A/I1"


class TestFreshness:
    @pytest.mark.parametrize(("interval_s", "limit_s"), [(1, 10), (4, 10), (10, 25), (3600, 9000)])
    def test_it_is_two_and_a_half_intervals(self, interval_s: float, limit_s: float) -> None:
        device = Device("a", "b", "c")
        moment = datetime.now(UTC)
        for number in range(4):
            device.see(moment + timedelta(seconds=number * interval_s), 0)
            device.learn(None)
        assert device.limit_s == limit_s

    def test_an_outage_is_not_an_interval(self) -> None:
        device = Device("a", "b", "c")
        moment = datetime.now(UTC)
        for seconds in (0, 1, 2, 3, 400, 401, 900, 901):
            device.see(moment + timedelta(seconds=seconds), 0)
            device.learn(None)
        assert device.limit_s == FRESH_S

    def test_it_can_be_set(self) -> None:
        device = Device("a", "b", "c")
        device.see(datetime.now(UTC), 0)
        device.learn(3.0)
        assert device.limit_s == 3


TEXT: Any = str
NUMBER: Any = int
SCHEMA: dict[str, Any] = {
    "device": {"identifiers": [TEXT], "name": TEXT, "manufacturer": TEXT},
    "origin": {"name": TEXT, "sw_version": TEXT},
    "availability": [{"topic": TEXT}, {"topic": TEXT}],
    "availability_mode": "all",
    "qos": 1,
}
COMMON = {"unique_id", "name", "state_topic", "expire_after", "platform", "value_template"}
SENSOR = {"state_class", "suggested_display_precision", "json_attributes_template", "json_attributes_topic"}
UNITS = {"carbon_monoxide": "ppm", "carbon_dioxide": "ppm", "current": "mA"}


def matches(value: Any, schema: Any) -> bool:
    """Return whether a value is exactly as a schema says."""
    if isinstance(schema, type):
        return type(value) is schema
    if isinstance(schema, dict):
        return set(value) == set(schema) and all(matches(value[key], schema[key]) for key in schema)
    if isinstance(schema, list):
        return len(value) == len(schema) and all(map(matches, value, schema))
    return bool(value == schema)


def discovery(rows: list[Sample], config: MqttConfig = CONFIG) -> dict[str, Any]:
    """Give what Home Assistant gets of samples, with the topic."""
    devices = Devices(config)
    devices.messages(PLAIN.rows([*map(fresh, rows)]))
    (device,) = devices.known
    found: dict[str, Any] = json.loads(config_payload(config, device, "servomex/bridge/x"))
    return found | {"topic": config_topic(config, device)}


class TestDiscovery:
    def test_it_is_as_home_assistant_wants_it(self) -> None:
        found = discovery(batch(0))
        topic, components = found.pop("topic"), found.pop("components")
        assert matches(found, SCHEMA), found
        (own,) = found["device"]["identifiers"]
        assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
        assert topic.split("/")[2] == own
        assert len({item["unique_id"] for item in components.values()}) == len(components) == 5 * 7
        for key, item in components.items():
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)
            assert item["unique_id"] == f"{own}_{key}"
            assert item["state_topic"].startswith("servomex/mill-3/rig A/")
            assert (type(item["expire_after"]), item["expire_after"]) == (int, 10)
            if item["platform"] == "sensor":
                assert set(item) - {"device_class", "unit_of_measurement"} == COMMON | SENSOR
                assert (item["state_class"], item["value_template"]) == ("measurement", "{{ value_json.value }}")
                assert (
                    UNITS.get(item.get("device_class"), item["unit_of_measurement"]) == item["unit_of_measurement"]
                )
            else:
                assert item["platform"] == "binary_sensor"
                assert set(item) - {"entity_category"} == COMMON | {"device_class"}
                assert item["device_class"] == "problem"

    def test_a_sensor_names_its_gas_and_its_unit(self) -> None:
        components = discovery(batch(0))["components"]
        found = {item["state_topic"][-2:]: item for item in components.values() if item["platform"] == "sensor"}
        assert [(found[key]["name"], found[key]["unit_of_measurement"]) for key in ("I1", "I2", "E1")] == [
            ("Oxygen", "%"),
            ("CO", "%"),
            ("E1", "mA"),
        ]
        assert [found[key].get("device_class") for key in ("I1", "I2", "E1")] == [None, None, "current"]
        assert [found[key]["suggested_display_precision"] for key in ("I1", "E1")] == [3, 2]

    @pytest.mark.parametrize(
        ("name", "kind"), [("CO₂", "carbon_dioxide"), ("CO", "carbon_monoxide"), ("N2O", None)]
    )
    def test_vpm_is_ppm_for_gases_that_have_a_class(self, name: str, kind: str | None) -> None:
        sample = batch(0)[0]
        assert sample.reading is not None
        reading = attrs.evolve(sample.reading, name=name, unit=Unit.VPM, unit_text="vpm")
        (found,) = [
            item
            for item in discovery([attrs.evolve(sample, reading=reading)])["components"].values()
            if item["platform"] == "sensor"
        ]
        assert found.get("device_class") == kind
        assert found["unit_of_measurement"] == ("ppm" if kind else "vpm")

    def test_two_channels_of_one_gas_have_different_names(self) -> None:
        first, second = batch(0)[:2]
        assert first.reading is not None
        assert second.reading is not None
        rows = [first, attrs.evolve(second, reading=attrs.evolve(second.reading, name="Oxygen"))]
        names = {item["name"] for item in discovery(rows)["components"].values() if item["platform"] == "sensor"}
        assert names == {"Oxygen I1", "Oxygen I2"}

    def test_alarms_and_faults_are_sensors_of_their_own(self) -> None:
        names = {item["name"] for item in discovery(batch(0)[:1])["components"].values()}
        states = ["fault", "maintenance", "alarm 1", "alarm 2", "alarm 3", "alarm 4"]
        assert names == {"Oxygen", *(f"Oxygen {state}" for state in states)}


class TestUrls:
    def test_all_parts(self) -> None:
        url = (
            "mqtts://me:p%40ss@[::1]:9000/plant/gas?site=mill%203&bridge=b&client_id=c&ca=/x/ca.pem&fresh_s=2.5"
            "&ha=1&ha_prefix=ha&timeout_s=3&cert=/x/c.pem&key=/x/k.pem"
        )
        assert MqttConfig.from_url(url) == MqttConfig(
            "::1", 9000, "me", "p@ss", prefix="plant/gas", site="mill 3", bridge="b", client_id="c", tls=True,
            ca="/x/ca.pem", fresh_s=2.5, ha=True, ha_prefix="ha", timeout_s=3.0, cert="/x/c.pem", key="/x/k.pem",
        )  # fmt: skip
        assert MqttConfig.from_url(url).target() == "mqtts://[::1]:9000/plant/gas"

    @pytest.mark.parametrize(("url", "port"), [("mqtt://h", 1883), ("MQTTS://h/", 8883), ("mqtt://h:5", 5)])
    def test_ports(self, url: str, port: int) -> None:
        assert MqttConfig.from_url(url).address == ("h", port)
        assert MqttConfig.from_url(url).prefix == "servomex"

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("mqtt://", "no valid host and port"),
            ("mqtt://h:0", "no valid host and port"),
            ("mqtt://me:se/cret@h", "@ in the wrong place. Percent-encode"),
            ("mqtt://me:se#cret@h", "Percent-encode"),
            ("mqtt://me:secret@h/a?ha=maybe", "ha must be 1 or 0"),
            ("mqtt://me:secret@h/a?fresh=1", "unknown parameter 'fresh' in the URL. Did you mean fresh_s"),
            ("mqtt://me:secret@h/a?ha=1&ha=1", "ha is given twice"),
            ("mqtt://me@h/a?password=secret", "password= in a mqtt:// URL would be seen by others"),
            ("mqtt://me:secret@h/+/b", "prefix must be the beginning of a topic"),
            ("mqtt://me:secret@h/$SYS", "not begin with [$]"),
            ("mqtt://me:secret@h/a//b", "no empty level"),
            ("mqtt://:secret@h", "a password without a user"),
            ("mqtt://me:secret@h?password_file=x", "not from both"),
            ("mqtt://me:secret@h?ca=x", "certificates are for mqtts"),
            ("mqtts://me:secret@h?key=x", "key without its certificate"),
            ("mqtt://me:secret@h?timeout_s=0", "timeout_s must be more than 0"),
        ],
    )
    def test_mistakes_are_named_without_the_password(self, url: str, words: str) -> None:
        with pytest.raises(ServomexValidationError, match=words) as caught:
            MqttConfig.from_url(url)
        assert "secret" not in str(caught.value).replace("password=secret", "")

    def test_places_differ_by_what_is_published(self) -> None:
        places = [f"mqtt://{rest}" for rest in ("h", "h/a", "h?site=x", "h:1884", "g")]
        assert len({MqttSink.place_of(url) for url in places}) == len(places)
        assert MqttSink.place_of("mqtt://me:pw@h:1883/") == MqttSink.place_of("mqtt://h")

    def test_files_that_are_not_there(self) -> None:
        with pytest.raises(ServomexSinkWriteError, match=r"the file of the password, /nope, cannot be read"):
            MqttSink("mqtt://me@127.0.0.1:1/?password_file=/nope")
        with pytest.raises(ServomexSinkWriteError, match=r"there is no file /nope"):
            MqttSink("mqtts://127.0.0.1:1/?ca=/nope")

    def test_a_table_and_replacing_are_refused(self) -> None:
        with pytest.raises(ServomexValidationError, match=r"no tables"):
            MqttSink.check_url("mqtt://h", table="x")
        with pytest.raises(ServomexValidationError, match=r"always added"):
            MqttSink("mqtt://h", append=False)


def test_without_paho_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "paho.mqtt.enums", None)
    with pytest.raises(ServomexSinkDependencyError, match=r"MQTT needs paho-mqtt 2.*servomex\[mqtt\]"):
        MqttSink("mqtt://h")
