"""Alerts reach programs and web hooks, not too often, and the last state is never kept back."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest

from servomex.fleet.alerts import Alerts
from servomex.fleet.model import AlertEntry
from servomex.views.events import Event
from servomex.views.looks import Level
from tests.helpers.waiting import wait_until

SHORT_S = 0.4
ON = Event(1, datetime(2026, 1, 2, tzinfo=UTC), "a", "I1", "I1 Oxygen alarm 1 on", Level.ALARM, "alarm", "alarm 1")
OFF = attrs.evolve(ON, number=2, text="I1 Oxygen alarm 1 off after 2 s", level=Level.GOOD, over=True)
LOST = attrs.evolve(ON, number=3, channel=None, text="no readings: gone", kind="lost", state="lost")

APPEND = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def program(path: Path, **given: Any) -> AlertEntry:
    given = dict[str, Any](on=("alarm",), min_interval=SHORT_S) | given
    return AlertEntry(command=(sys.executable, "-S", "-c", APPEND, str(path)), **given)


def test_a_program_gets_the_event_as_json_on_its_stdin(tmp_path: Path) -> None:
    path = tmp_path / "told"
    with Alerts([program(path)]) as alerts:
        alerts.take([ON])
        wait_until(lambda: len(told(path)) == 1)
    assert told(path) == [ON.as_json()]


def test_only_the_kinds_that_are_asked_for_are_told(tmp_path: Path) -> None:
    path = tmp_path / "told"
    with Alerts([program(path, on=("lost",))]) as alerts:
        alerts.take([ON, OFF, LOST])
        wait_until(lambda: told(path) != [])
    assert [event["state"] for event in told(path)] == ["lost"]


def test_a_state_that_flickers_is_told_once_and_then_as_it_is_at_last(tmp_path: Path) -> None:
    path = tmp_path / "told"
    with Alerts([program(path)]) as alerts:
        alerts.take([ON, OFF, ON, OFF, ON, OFF])
        wait_until(lambda: len(told(path)) == 2)
    assert [event["over"] for event in told(path)] == [False, True]


def test_a_state_that_is_as_it_was_told_is_not_told_again(tmp_path: Path) -> None:
    path = tmp_path / "told"
    with Alerts([program(path), program(tmp_path / "later", on=("lost",))]) as alerts:
        alerts.take([ON, OFF, ON])
        wait_until(lambda: len(told(path)) == 1)
        time.sleep(2 * SHORT_S)
        alerts.take([LOST])
        wait_until(lambda: told(tmp_path / "later") != [])
    assert [event["over"] for event in told(path)] == [False]


def test_a_program_that_hangs_delays_neither_the_events_nor_the_end(tmp_path: Path) -> None:
    hangs = AlertEntry(on=("alarm",), command=(sys.executable, "-S", "-c", "import time; time.sleep(60)"))
    begun = time.monotonic()
    with Alerts([hangs]) as alerts:
        for _ in range(3000):
            alerts.take([ON, LOST])
        time.sleep(SHORT_S)
    assert time.monotonic() - begun < 5.0


@pytest.mark.parametrize(("command", "said"), [
    (("/nowhere/at/all",), "cannot be started"),
    ((sys.executable, "-S", "-c", "import sys; sys.exit('no such pager')"), "ended with 1: no such pager"),
])  # fmt: skip
def test_a_program_that_fails_is_told_in_the_log(
    command: tuple[str, ...], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Alerts([AlertEntry(on=("alarm",), command=command)]) as alerts:
        alerts.take([ON])
        wait_until(lambda: said in caplog.text)


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web server that keeps what is posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if "fail" in self.path else 204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://me:secret@127.0.0.1:{server.server_port}", posted
        server.shutdown()
        thread.join()


def test_a_web_hook_gets_the_event_as_json(hook: tuple[str, list[dict[str, Any]]]) -> None:
    url, posted = hook
    plain_url = url.replace("me:secret@", "")
    with Alerts([AlertEntry(on=("alarm",), webhook=f"{plain_url}/here")]) as alerts:
        alerts.take([ON])
        wait_until(lambda: posted != [])
    assert posted == [ON.as_json()]


def test_a_web_hook_that_fails_is_told_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    with Alerts([AlertEntry(on=("alarm",), webhook="http://me:secret@127.0.0.1:9/here")]) as alerts:
        alerts.take([ON])
        wait_until(lambda: "failed" in caplog.text)
    assert "secret" not in caplog.text
