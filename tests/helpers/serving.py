"""The page and its server, as tests use them: virtual analysers that are read, and a server on a free port."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import attrs

from servomex import ServomexManager
from servomex.enums import ChannelId, ProtocolKind
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.recording.summary import AcquisitionSummary
from servomex.runtime.clock import time
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.units import Unit
from servomex.views import Figures, Gathering
from servomex.views.web import Live, WebServer
from tests.helpers.managing import RTU

OK = AnalyserStatus(False, False, tuple(CalGroupState(number, False, 0) for number in range(1, 5)), None)
TOKEN = "correct-horse-battery-staple"


@attrs.frozen
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    server: WebServer, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Ask a server, with a connection of its own; a ``Host`` among the headers replaces the usual one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        is_stream = found.get("content-type", "").startswith("text/event-stream") and method == "GET"
        return Answer(answer.status, found, b"" if is_stream else answer.read())


def raw(server: WebServer, sent: bytes, limit_s: float = 20.0) -> bytes:
    """Send bytes, and return what comes until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), limit_s) as connection:
        connection.sendall(sent)
        found = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                found += part
        return found


class Listener:
    """A client of the stream of events, which reads line by line."""

    def __init__(self, server: WebServer, query: str = "", headers: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), 20)
        request = f"GET /events{query} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n"
        self._socket.sendall(request.encode())
        self._file = self._socket.makefile("rb")
        self.head = b"".join(iter(lambda: self._file.readline(), b"\r\n"))

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    def events(self) -> Iterator[dict[str, str]]:
        """Yield the events as they come: their fields."""
        event: dict[str, str] = {}
        for line in self._file:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                event[name] = value
            elif event:
                yield event
                event = {}

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def reading(
    value: float | None = 20.9,
    *,
    channel: str = "I1",
    name: str = "Oxygen",
    unit: str = "%",
    status: ChannelStatus | None = None,
    at_s: float | None = None,
) -> Reading:
    """A reading of this moment, or of a time in seconds since 1970."""
    now = time.time() if at_s is None else at_s
    return Reading(
        ChannelId(channel),
        name,
        value,
        Unit.coerce(unit),
        unit,
        status or ChannelStatus(),
        ProtocolKind.MODBUS_RTU,
        datetime.fromtimestamp(now, UTC),
        time.monotonic_ns() - round((time.time() - now) * 1e9),
    )


def sample(device: str, read: Reading, analyser: AnalyserStatus = OK) -> Sample:
    """A reading as a row."""
    return Sample(device, read.protocol, read.received_at, read.monotonic_ns, read, analyser)


def figures(fresh_s: float = 5.0) -> Figures:
    """How an analyser is read that nobody reads."""
    summary = AcquisitionSummary()
    return Figures(mode="modbus_rtu, address 1", fresh_s=fresh_s, rate_hz=1.0, period_s=None, summary=summary)


def live_of(*devices: str, hold: int = 1000, fresh_s: float = 5.0) -> Live:
    """What a page shows, of analysers that only the test reads."""
    live = Live(hold)
    for device in devices:
        live.add(device, "nowhere", lambda: figures(fresh_s))
    return live


@contextlib.contextmanager
def served(
    analysers: Mapping[str, VirtualAnalyzer] | Sequence[str],
    rate_hz: float = 5.0,
    *,
    hold: int = 100_000,
    **server: Any,
) -> Iterator[tuple[WebServer, Live, dict[str, VirtualLine]]]:
    """Read virtual analysers, and serve the page of their readings."""
    if not isinstance(analysers, Mapping):
        analysers = {name: VirtualAnalyzer() for name in analysers}
    lines = {name: VirtualLine(analyser) for name, analyser in analysers.items()}
    live = Live(hold)
    with ServomexManager() as manager:
        for name, line in lines.items():
            manager.add(name, line.url, wait=False, address=line.analysers[0].address, **RTU)
        gathering = Gathering(manager, rate_hz, live.take)
        for name, line in lines.items():
            live.add(name, line.url, lambda name=name: gathering.figures(name))  # type: ignore[misc]
        with gathering, WebServer(live, port=0, **server) as running:
            yield running, live, lines


def threads_of_servers() -> list[str]:
    """The names of the threads of servers."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("servomex-web")]
