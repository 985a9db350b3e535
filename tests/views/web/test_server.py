"""What the server sends, how it begins and ends, and what clients may cost."""

import json
import socket
import threading
from itertools import islice
from pathlib import Path

import pytest

import servomex
from servomex.errors import ServomexParseError, ServomexTimeoutError
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.views.web import WebServer, connection, events, gate
from servomex.views.web.events import MOST_CLIENTS
from tests.helpers.serving import Listener, ask, live_of, reading, sample, served, threads_of_servers
from tests.helpers.waiting import wait_until

HOSTILE = "=cmd|' /C calc'!A0\n<img src=x onerror=alert(1)>"


def json_of(server: WebServer, path: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(ask(server, path).body)
    return found


def test_a_reading_of_an_analyser_comes_out_as_an_event() -> None:
    with served(["stack-1"]) as (server, live, _lines), Listener(server) as listener:
        assert listener.status == 200
        for event in listener.events():
            if event.get("event") == "frame" and '"I1"' in event["data"]:
                frame = json.loads(event["data"])
                break
        oxygen = frame["channels"][0]
        assert (frame["name"], oxygen["id"], oxygen["name"], oxygen["unit"]) == ("stack-1", "I1", "Oxygen", "%")
        assert (oxygen["value"], oxygen["text"], oxygen["quality"]) == (20.376, "20.376", "good")
        assert event["id"].startswith(f"{live.run}-")
    assert threads_of_servers() == []


def test_a_client_that_comes_back_gets_what_it_missed() -> None:
    live = live_of("a")
    for number in range(5):
        live.take([sample("a", reading(float(number)))])
    with WebServer(live, port=0) as server:
        for query, header, first in (
            ("", f"Last-Event-ID: {live.run}-2\r\n", 3),
            (f"?since={live.run}-4", "", 5),
            ("", "Last-Event-ID: of-another-run\r\n", 1),
            (f"?since={live.run}-99999999999999999999", "", 1),
        ):
            with Listener(server, query, header) as listener:
                heard = list(islice(listener.events(), 2))
            assert heard[0]["event"] == "hello"
            assert heard[1]["id"] == f"{live.run}-{first}"


def test_a_client_without_a_place_gets_only_what_comes() -> None:
    live = live_of("a")
    live.take([sample("a", reading(1.0))])
    with WebServer(live, port=0) as server, Listener(server) as listener:
        heard = listener.events()
        assert json.loads(next(heard)["data"])["analysers"][0]["channels"][0]["value"] == 1.0
        live.take([sample("a", reading(2.0))])
        assert next(heard)["id"] == f"{live.run}-2"


def test_a_beat_shows_that_the_server_lives_while_no_reading_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT_S", 0.2)
    with WebServer(live_of("a"), port=0) as server, Listener(server) as listener:
        kinds = [event["event"] for event in islice(listener.events(), 2)]
    assert kinds == ["hello", "beat"]


def test_frames_are_handed_out_in_parts() -> None:
    live = live_of("a", hold=4)
    for number in range(6):
        live.take([sample("a", reading(float(number)))])
    with WebServer(live, port=0) as server:
        first = json_of(server, "/api/frames?most=3")
        assert [item["channels"][0]["value"] for item in first["frames"]] == [2.0, 3.0, 4.0]  # type: ignore[attr-defined]
        assert (first["more"], first["oldest"]) == (True, f"{live.run}-3")
        second = json_of(server, f"/api/frames?since={first['next']}")
        assert [item["channels"][0]["value"] for item in second["frames"]] == [5.0]  # type: ignore[attr-defined]
        assert second["more"] is False
        assert json_of(server, f"/api/frames?since={second['next']}")["frames"] == []
        for query in ("newest=1", "newest=x&most=-1&since=" + first["next"], "most=99999999999"):  # type: ignore[operator]
            assert ask(server, f"/api/frames?{query}").status == 200


def test_a_download_is_a_recording_and_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    live = live_of("a", HOSTILE)
    taken = [
        sample("a", reading(name=HOSTILE, unit="=1")),
        sample("a", reading(None, status=ChannelStatus(fault=True))),
        sample(HOSTILE, reading()),
    ]
    for item in taken:
        live.take([item])
    with WebServer(live, port=0) as server:
        answer = ask(server, "/download.csv")
    assert answer.headers["content-disposition"].startswith('attachment; filename="servomex-')
    path = tmp_path / "run.csv"
    path.write_bytes(answer.body)
    assert [item.reading for item in servomex.load(path)] == [item.reading for item in taken]
    assert [item.device for item in servomex.load(path)] == ["a", "a", HOSTILE]
    for line in answer.text.splitlines()[1:]:
        assert not any(cell.strip('"').startswith(("=", "@", "+")) for cell in line.split(","))


def test_what_is_held_has_a_bound_in_rows() -> None:
    live = live_of("a", hold=10)
    for number in range(50):
        live.take([sample("a", reading(float(number))), sample("a", reading(1.0, channel="I2"))])
    assert live.rows == 10
    assert [entry.number for entry in live.after(0, 100)] == [46, 47, 48, 49, 50]
    assert [entry.number for entry in live.after(48, 1)] == [49]
    assert live.after(50, 5) == live.after(51, 5) == []


class TestMetrics:
    def test_they_have_values_states_and_counts(self) -> None:
        status = ChannelStatus(alarms=(False, True, False, False))
        live = live_of("stack-1")
        live.take([sample("stack-1", reading(500.0, channel="I2", name="CO", unit="vpm", status=status))])
        with WebServer(live, port=0) as server:
            answer = ask(server, "/metrics")
        labels = 'analyser="stack-1",channel="I2",gas="CO"'
        for line in (
            f'servomex_channel_value{{{labels},unit="vpm"}} 500.0',
            f"servomex_channel_concentration_ratio{{{labels}}} 0.0005",
            f'servomex_channel_quality{{{labels},quality="good"}} 1.0',
            f'servomex_channel_state{{{labels},state="alarm 2"}} 1.0',
            f'servomex_channel_state{{{labels},state="fault"}} 0.0',
            'servomex_up{analyser="stack-1"} 1.0',
            'servomex_analyser_info{analyser="stack-1",mode="modbus_rtu, address 1",port="nowhere"} 1.0',
            'servomex_readings_total{analyser="stack-1",result="good"} 0.0',
            "servomex_web_clients 0.0",
        ):
            assert line in answer.text.splitlines()
        assert answer.headers["content-type"].startswith("text/plain; version=")

    def test_what_is_stale_or_bad_has_no_value(self) -> None:
        live = live_of("old", "lost", "bad", "never", "broken", fresh_s=5.0)
        for name in ("old", "lost", "broken"):
            live.take([sample(name, reading(at_s=0.0 if name == "old" else None))])
        live.take([sample("bad", reading(None, status=ChannelStatus(fault=True)))])
        now = reading()
        for name, error in (("lost", ServomexTimeoutError("no reply")), ("broken", ServomexParseError("damaged"))):
            live.take([Sample(name, now.protocol, now.received_at, now.monotonic_ns, error=error)])
        with WebServer(live, port=0) as server:
            lines = ask(server, "/metrics").text.splitlines()

        def having(metric: str) -> set[str]:
            return {line.split('"')[1] for line in lines if line.startswith(f"{metric}{{")}

        assert having("servomex_channel_value") == {"broken"}, "damage alone makes nothing stale"
        assert having("servomex_channel_state") == having("servomex_frame_timestamp_seconds") == {"bad", "broken"}
        assert 'servomex_up{analyser="lost"} 0.0' in lines
        assert having("servomex_up") == {"old", "lost", "bad", "never", "broken"}

    def test_no_label_breaks_out_of_its_line(self) -> None:
        live = live_of(HOSTILE + '"}\\')
        live.take([sample(HOSTILE + '"}\\', reading(name='x"} 1\nservomex_up 7'))])
        with WebServer(live, port=0) as server:
            lines = ask(server, "/metrics").text.splitlines()
        assert not any(line.startswith("servomex_up 7") for line in lines)


class TestClients:
    def test_there_are_at_most_32_streams(self) -> None:
        with WebServer(live_of("a"), port=0) as server:
            listeners = [Listener(server) for _ in range(MOST_CLIENTS)]
            with Listener(server) as one_more:
                assert one_more.status == 503
            assert server.counts.refused == 1
            assert ask(server, "/healthz").status == 200
            listeners.pop().close()
            wait_until(lambda: server.counts.clients < MOST_CLIENTS)
            with Listener(server) as another:
                assert another.status == 200
            for listener in listeners:
                listener.close()
            wait_until(lambda: server.counts.clients == 0)

    def test_one_that_never_reads_is_dropped_and_counted_and_delays_no_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gate, "SEND_S", 0.5)
        live = live_of("a")
        ended = threading.Event()

        def much() -> None:
            while not ended.wait(0.001):
                live.take([sample("a", reading(name="x" * 20_000)) for _ in range(5)])

        with WebServer(live, port=0) as server, Listener(server) as reader:
            lazy = socket.socket()
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", server.port))
            lazy.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            thread = threading.Thread(target=much)
            thread.start()
            frames = (event for event in reader.events() if event["event"] == "frame")
            while not server.counts.dropped:
                next(frames)
            ended.set()
            thread.join()
            wait_until(lambda: server.counts.clients <= 1)
            assert server.counts.dropped == 1
            lazy.close()

    @pytest.mark.parametrize("path", ["/api/frames", "/download.csv"])
    def test_one_that_reads_no_large_answer_is_dropped_too(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gate, "SEND_S", 0.5)
        live = live_of("a")
        for _ in range(200):
            live.take([sample("a", reading(name="x" * 20_000))])
        with WebServer(live, port=0) as server:
            assert len(ask(server, path).body) > 4_000_000
            with socket.socket() as lazy:
                lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                lazy.connect(("127.0.0.1", server.port))
                lazy.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                wait_until(lambda: server.counts.dropped == 1)

    def test_one_that_sends_no_request_is_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "REQUEST_S", 0.2)
        with WebServer(live_of("a"), port=0) as server:
            for sent in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
                with socket.create_connection(("127.0.0.1", server.port), 10) as lazy:
                    lazy.sendall(sent)
                    while lazy.recv(65536):
                        pass


class TestEnd:
    def test_it_ends_while_clients_listen(self) -> None:
        with WebServer(live_of("a"), port=0) as server:
            listeners = [Listener(server) for _ in range(3)]
        for listener in listeners:
            list(listener.events())
            listener.close()
        assert threads_of_servers() == []
        server.close()

    def test_one_that_was_never_started_gives_its_port_back(self) -> None:
        server = WebServer(live_of("a"), port=0)
        server.close()
        with WebServer(live_of("a"), port=server.port) as again:
            assert again.port == server.port

    def test_a_port_can_be_taken_again_at_once(self) -> None:
        with WebServer(live_of("a"), port=0) as server:
            ask(server, "/")
        with WebServer(live_of("a"), port=server.port) as again:
            assert ask(again, "/healthz").status == 200
