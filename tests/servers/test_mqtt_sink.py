"""What a real broker of MQTT keeps of a recording, and what becomes of it when either of them ends."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from servomex.errors import ServomexSinkWriteError
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.sinks import MqttConfig, MqttSink, check_targets, open_sink
from tests.helpers.recordings import fresh_batch as now
from tests.servers.mosquitto_server import MosquittoServer, Observer, broker, retained

SITE = "mill-3"
TOP = f"servomex/{SITE}/rig A"
ERROR = 6
"""The number of a batch that is an error."""


@pytest.fixture(scope="module")
def server() -> Iterator[MosquittoServer]:
    """A broker that takes everyone, the same for all tests of this file."""
    with broker() as found:
        yield found


@pytest.fixture
def url(server: MosquittoServer) -> str:
    """The URL of a broker that keeps nothing of other tests."""
    with Observer(server) as observer:
        for topic in retained(server):
            observer.client.publish(topic, b"", qos=1, retain=True)
        observer.client.publish("cleaned", b"", qos=1)
        observer.wait_for("cleaned")
    return f"{server.url}?site={SITE}&bridge=test"


def marked(sample: Sample, **changes: Any) -> Sample:
    """Give a sample with another reading."""
    assert sample.reading is not None
    return attrs.evolve(sample, reading=attrs.evolve(sample.reading, **changes))


class TestValues:
    def test_each_channel_has_its_newest_value_on_its_topic(self, server: MosquittoServer, url: str) -> None:
        first, second = now(0), now(1)
        with MqttSink(url, flush_s=0) as sink:
            sink.write(first)
            sink.write(second)
            kept = retained(server)
        assert kept[f"{TOP}/I1"].record == {
            "value": 20.001,
            "unit": "%",
            "quality": "good",
            "states": [],
            "received_at": second[0].received_at.isoformat(),
            "name": "Oxygen",
        }
        assert {topic for topic in kept if topic.startswith(f"{TOP}/")} == {
            f"{TOP}/{name}" for name in ("I1", "I2", "I3", "E1", "E2", "availability")
        }
        assert 1 <= (kept[f"{TOP}/I1"].expiry_s or 0) <= 10
        assert (sink.rows, sink.unstored, sink.refused) == (10, 0, 0)

    @pytest.mark.parametrize("changes", [{"value": None}, {"status": ChannelStatus(fault=True)}])
    def test_a_value_that_is_bad_is_null(self, server: MosquittoServer, url: str, changes: dict[str, Any]) -> None:
        alarms = ChannelStatus(fault="status" in changes, alarms=(False, True, False, False))
        with MqttSink(url, flush_s=0) as sink:
            sink.write([marked(now()[0], **{**changes, "status": alarms})])
            record = retained(server)[f"{TOP}/I1"].record
        assert (record["value"], record["quality"]) == (None, "bad")
        assert record["states"] == ["fault", "alarm 2"][not alarms.fault :]

    def test_the_value_of_a_dead_analyser_expires(self, server: MosquittoServer, url: str) -> None:
        with MqttSink(f"{url}&fresh_s=2", flush_s=0) as sink:
            sink.write(now())
            assert f"{TOP}/I1" in retained(server)
            time.sleep(3.1)
            assert f"{TOP}/I1" not in retained(server)

    def test_a_late_value_never_stands_for_a_current_one(self, server: MosquittoServer, url: str) -> None:
        with Observer(server) as observer, MqttSink(url, flush_s=0) as sink:
            sink.write(now(age_s=11) + now(ERROR, age_s=11))
            assert observer.wait_for(f"{TOP}/I1/late").record["value"] == 20.0
            assert "no reply" in observer.wait_for(f"{TOP}/error/late").record["error"]
            assert not observer.on(f"{TOP}/I1") + observer.on(f"{TOP}/availability")
        assert set(retained(server)) == {"servomex/bridge/test"}

    def test_names_cannot_leave_their_level(self, server: MosquittoServer, url: str) -> None:
        with MqttSink(url, flush_s=0) as sink:
            sink.write([attrs.evolve(item, device="a/b+#\0%c", metadata={"site": "x/y"}) for item in now()])
            kept = retained(server)
        assert "servomex/x%2Fy/a%2Fb%2B%23%00%25c/I1" in kept

    def test_more_rows_than_a_broker_takes_at_once(self, server: MosquittoServer, url: str) -> None:
        with Observer(server, f"{TOP}/I1") as observer, MqttSink(url, flush_s=1000) as sink:
            rows = [sample for _ in range(500) for sample in now()]
            sink.write(rows)
            observer.wait_for(f"{TOP}/I1", number=500)


class TestAvailability:
    def test_an_analyser_that_fails_is_offline_at_once(self, server: MosquittoServer, url: str) -> None:
        with Observer(server) as observer, MqttSink(url, flush_s=0) as sink:
            sink.write(now())
            sink.write(now(ERROR))
            sink.write(now(ERROR))
            error = observer.wait_for(f"{TOP}/error", number=2)
            assert observer.payloads(f"{TOP}/availability") == [b"online", b"offline"]
            assert (error.record["error_type"], error.retained) == ("ServomexTimeoutError", False)
            sink.write(now())
            observer.wait_for(f"{TOP}/availability", b"online", 2)

    def test_an_analyser_of_which_nothing_comes_is_offline(self, server: MosquittoServer, url: str) -> None:
        with Observer(server) as observer, MqttSink(f"{url}&fresh_s=0.5", flush_s=0) as sink:
            sink.write(now())
            while b"offline" not in observer.payloads(f"{TOP}/availability"):
                time.sleep(0.1)
                sink.flush_if_due()

    def test_the_end_is_announced(self, server: MosquittoServer, url: str) -> None:
        with MqttSink(url, flush_s=0) as sink:
            sink.write(now())
            kept = retained(server)
            assert [kept[topic].payload for topic in (sink.bridge, f"{TOP}/availability")] == [b"online"] * 2
        kept = retained(server)
        assert [kept[topic].payload for topic in (sink.bridge, f"{TOP}/availability")] == [b"offline"] * 2

    def test_the_end_of_another_with_the_same_bridge_is_corrected(self, server: MosquittoServer, url: str) -> None:
        with MqttSink(url) as sink, Observer(server, sink.bridge) as observer:
            MqttSink(url).close()
            observer.wait_for(sink.bridge, b"offline")
            observer.wait_for(sink.bridge, b"online", 2)
            time.sleep(0.2)
            assert retained(server)[sink.bridge].payload == b"online"

    def test_its_thread_has_a_name_and_ends(self, url: str) -> None:
        with MqttSink(url):
            assert [item.name for item in threading.enumerate() if "servomex-mqtt mqtt://127" in item.name]
        assert not [item for item in threading.enumerate() if "mqtt" in item.name]


class TestHomeAssistant:
    def test_it_discovers_an_analyser_and_hears_of_it_again_when_it_starts(
        self, server: MosquittoServer, url: str
    ) -> None:
        with Observer(server) as observer, MqttSink(f"{url}&ha=1", flush_s=0) as sink:
            sink.write(now())
            observer.wait_for(f"{TOP}/I1")
            (topic,) = [item.topic for item in observer.seen if item.topic.startswith("homeassistant/")]
            found = json.loads(observer.wait_for(topic).payload)
            assert {item["topic"] for item in found["availability"]} == {sink.bridge, f"{TOP}/availability"}
            assert retained(server)[topic].record == found
            sink.write(now())
            observer.wait_for(f"{TOP}/I1", number=2)
            assert len(observer.on(topic)) == 1
            observer.client.publish("homeassistant/status", b"online", qos=1)
            observer.wait_for(topic, number=2)
            sink.write([marked(now()[0], name="N2")])
            observer.wait_for(topic, number=3)
            names = {item["name"] for item in json.loads(observer.on(topic)[-1].payload)["components"].values()}
            assert "N2" in names


def test_check_publishes_nothing(server: MosquittoServer, url: str) -> None:
    check_targets([url, "run.csv"])
    assert retained(server) == {}


def test_the_recorded_port_names_the_bridge(server: MosquittoServer) -> None:
    with open_sink(server.url, metadata={"port": "/dev/ttyUSB0"}) as sink:
        assert isinstance(sink, MqttSink)
        assert sink.bridge.endswith("-ttyUSB0")


def test_a_broker_that_is_not_there() -> None:
    with pytest.raises(ServomexSinkWriteError, match=r"mqtt://127.0.0.1:1/servomex: the broker cannot be reached"):
        MqttSink(MqttConfig("127.0.0.1", 1))
