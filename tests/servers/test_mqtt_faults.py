"""What becomes of a recording when a broker of MQTT goes away, refuses it, or the recording is killed."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import servomex
from servomex.errors import ServomexSinkWriteError
from servomex.sinks import MqttConfig, MqttSink
from tests.helpers.recordings import fresh_batch as now
from tests.servers.mosquitto_server import (
    PASSWORD,
    MosquittoServer,
    Observer,
    broker,
    retained,
)

SITE = "mill-3"
TOP = f"servomex/{SITE}/rig A"
QUOTED = "correct%20horse%2Fbattery%3Fstaple%40100%25"
ACL = f"""
user logger
topic readwrite servomex/{SITE}/#
topic readwrite servomex/bridge/#
user reader
topic read #
"""


@pytest.fixture
def server() -> Iterator[MosquittoServer]:
    """A broker that takes everyone."""
    with broker() as found:
        yield found


@pytest.fixture(scope="module")
def guarded() -> Iterator[MosquittoServer]:
    """A broker with users, of whom one may write the topics of one site only."""
    lines = ("allow_anonymous false", "password_file FOLDER/passwords", "acl_file FOLDER/acl")
    with broker(*lines, users=("logger", "reader"), acl=ACL) as found:
        yield found


@pytest.fixture(scope="module")
def encrypted() -> Iterator[MosquittoServer]:
    """A broker with a certificate of its own."""
    lines = ("allow_anonymous true", "certfile FOLDER/ca.pem", "keyfile FOLDER/key.pem")
    with broker(*lines, tls=True) as found:
        yield found


def config(server: MosquittoServer, **changes: object) -> MqttConfig:
    """Give the configuration of a sink."""
    return MqttConfig("127.0.0.1", server.port, site=SITE, bridge="test", **changes)  # type: ignore[arg-type]


class TestAway:
    def test_nothing_is_lost_while_it_is_stopped_for_five_seconds(self, server: MosquittoServer) -> None:
        url = f"{server.url}?site={SITE}"
        with (
            servomex.open_device("sim://4100", protocol="modbus_rtu", channels=["I1"], name="rig A") as analyzer,
            Observer(server, f"{TOP}/I1/#", session="keeps") as observer,
        ):
            with servomex.Recorder(analyzer, url, rate_hz=5, sink_options={"flush_s": 0}) as recorder:
                observer.wait_for(f"{TOP}/I1", number=3)
                server.stop()
                time.sleep(5)
                server.start()
                time.sleep(2.5)
            assert recorder.summary.samples_emitted > 35
            wanted = recorder.summary.samples_emitted
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                times = [item.record["received_at"] for item in observer.seen]
                if len({*times}) >= wanted:
                    break
                time.sleep(0.1)
        assert len({*times}) == wanted
        assert list(dict.fromkeys(times)) == sorted({*times})

    def test_it_says_so_at_once_and_recovers(self, server: MosquittoServer) -> None:
        with MqttSink(config(server), flush_s=0) as sink:
            sink.write(now())
            server.stop()
            begun = time.monotonic()
            for _ in range(3):
                with pytest.raises(ServomexSinkWriteError, match=r"cannot be reached|connection was lost"):
                    sink.write(now())
            assert time.monotonic() - begun < 2
            assert (sink.rows, sink.pending) == (5, 0)
            server.start()
            sink.write(now())
            assert sink.rows == 10
            kept = retained(server)
        assert kept[sink.bridge].payload == kept[f"{TOP}/availability"].payload == b"online"

    def test_one_that_forgot_all_hears_it_again_with_nothing_to_publish(self, server: MosquittoServer) -> None:
        with MqttSink(config(server), flush_s=0) as sink:
            sink.write(now())
            server.stop()
            (server.folder / "mosquitto.db").unlink()
            server.start()
            with Observer(server) as observer:
                observer.wait_for(sink.bridge, b"online")
                observer.wait_for(f"{TOP}/availability", b"online")

    def test_one_that_hangs_is_given_up(self, server: MosquittoServer) -> None:
        sink = MqttSink(config(server, timeout_s=1.0), flush_s=0)
        server.hang()
        try:
            begun = time.monotonic()
            with pytest.raises(ServomexSinkWriteError, match=r"the broker did not answer within 1 s"):
                sink.write(now())
            assert time.monotonic() - begun < 3
            begun = time.monotonic()
            for _ in range(20):
                with pytest.raises(ServomexSinkWriteError):
                    sink.write(now())
            assert time.monotonic() - begun < 4  # a slow failure is not repeated for each batch
        finally:
            server.wake()
        time.sleep(2.1)
        sink.write(now())
        sink.close()

    def test_the_last_rows_are_counted_when_it_is_away_at_the_end(self, server: MosquittoServer) -> None:
        sink = MqttSink(config(server), flush_s=1000)
        sink.write(now())
        server.stop()
        with pytest.raises(ServomexSinkWriteError, match=r"The last 5 rows are lost"):
            sink.close()
        assert (sink.rows, sink.closed) == (0, True)


def test_the_broker_says_offline_after_a_kill(server: MosquittoServer) -> None:
    command = [sys.executable, "-m", "servomex", "record", "sim://4100", f"{server.url}?site={SITE}&bridge=test"]
    command += ["--protocol", "modbus_rtu", "--name", "rig A", "-q"]
    with Observer(server) as observer, subprocess.Popen(command) as process:
        try:
            observer.wait_for(f"{TOP}/I1")
            process.send_signal(signal.SIGKILL)
            observer.wait_for("servomex/bridge/test", b"offline")
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .*multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_the_connection_alone(server: MosquittoServer) -> None:
    with MqttSink(config(server), flush_s=0) as sink:
        sink.write(now())
        pid = os.fork()
        if not pid:
            sink.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        sink.write(now())
        assert retained(server)[sink.bridge].payload == b"online"


class TestRefused:
    def test_a_wrong_password_is_an_error_that_does_not_show_it(self, guarded: MosquittoServer) -> None:
        url = f"mqtt://logger:wrong-{QUOTED}@127.0.0.1:{guarded.port}/"
        with pytest.raises(ServomexSinkWriteError) as caught:
            MqttSink(url)
        said = f"{caught.value!s} {caught.value!r} {caught.value.as_json()} {caught.value.__cause__!r}"
        assert "the broker refuses the user or the password (Not authorized)" in said
        assert "password_file or in SERVOMEX_MQTT_PASSWORD" in said
        assert "horse" not in said

    def test_nobody_is_refused_too(self, guarded: MosquittoServer) -> None:
        with pytest.raises(ServomexSinkWriteError, match=r"refuses the user or the password"):
            MqttSink(guarded.url)

    @pytest.mark.parametrize("source", ["url", "file", "environment"])
    def test_the_right_password_comes_from(
        self,
        source: str,
        guarded: MosquittoServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        secret, query = "", f"?site={SITE}"
        if source == "url":
            secret = f":{QUOTED}"
        elif source == "file":
            (tmp_path / "pw").write_text(f"{PASSWORD}\n")
            query += f"&password_file={tmp_path}/pw"
        else:
            monkeypatch.setenv("SERVOMEX_MQTT_PASSWORD", PASSWORD)
        with MqttSink(f"mqtt://logger{secret}@127.0.0.1:{guarded.port}/{query}", flush_s=0) as sink:
            sink.write(now())
            shown = f"{sink!r} {sink.config!r} {sink.name} {[item.name for item in threading.enumerate()]}"
        assert sink.rows == 5
        assert "horse" not in shown + caplog.text

    def test_a_user_who_may_not_write_hears_what_to_allow(self, guarded: MosquittoServer) -> None:
        wanted = r"does not allow this user to write servomex/bridge/test .Not authorized"
        with pytest.raises(ServomexSinkWriteError, match=wanted) as caught:
            MqttSink(config(guarded, user="reader", password=PASSWORD))
        assert caught.value.cure == "Allow the user 'reader' to write servomex/# in the broker's access list"

    def test_a_topic_that_may_not_be_written_does_not_count_as_stored(self, guarded: MosquittoServer) -> None:
        own = MqttConfig("127.0.0.1", guarded.port, user="logger", password=PASSWORD, site="mill-4", bridge="test")
        with MqttSink(own, flush_s=0) as sink:
            with pytest.raises(ServomexSinkWriteError, match=r"write servomex/mill-4/rig A/availability"):
                sink.write(now())
            assert (sink.rows, sink.pending) == (0, 0)


class TestEncrypted:
    def test_with_its_ca_it_is_trusted(self, encrypted: MosquittoServer) -> None:
        url = f"mqtts://127.0.0.1:{encrypted.port}/?ca={encrypted.folder}/ca.pem"
        with MqttSink(url, flush_s=0) as sink:
            sink.write(now() * 40)
        assert sink.rows == 200

    def test_without_it_there_is_no_connection(self, encrypted: MosquittoServer) -> None:
        with pytest.raises(ServomexSinkWriteError, match=r"certificate is not trusted") as caught:
            MqttSink(f"mqtts://127.0.0.1:{encrypted.port}/")
        assert "ca=FILE" in (caught.value.cure or "")

    def test_the_wrong_scheme_is_an_error(self, encrypted: MosquittoServer, server: MosquittoServer) -> None:
        with pytest.raises(ServomexSinkWriteError, match=r"no encrypted connection|the connection was lost"):
            MqttSink(f"mqtts://127.0.0.1:{server.port}/?timeout_s=2")
        with pytest.raises(ServomexSinkWriteError, match=r"the connection was lost"):
            MqttSink(f"mqtt://127.0.0.1:{encrypted.port}/?timeout_s=2")
