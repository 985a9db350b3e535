"""A network connection that its server closes while nothing is said is reopened without an error."""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

import servomex
from servomex.errors import ServomexConnectionError
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.registers import Span
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.rfc2217_server import Rfc2217Server
from tests.helpers.waiting import until_it_works, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")

GENEROUS_S = 5.0


class ImpatientServer:
    """Serves a line by TCP as some serial servers do: it hangs up, at a moment of the test's choice.

    Attributes:
        connections: How many there were.
        requests: What was asked on them.
        pause_s: How long each reply pauses after its first bytes.
        hang_up_at: Hang up instead of passing on the request with this number, and those behind it up to
            ``hang_ups`` of them.
    """

    def __init__(self, line: VirtualLine) -> None:
        self.line = line
        self.connections = 0
        self.requests: list[bytes] = []
        self.pause_s = 0.0
        self.hang_up_at, self.hang_ups = 0, 1
        self.reset = False
        self._hang_up = threading.Event()
        self._end = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = f"socket://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def hang_up(self) -> None:
        """Close the connection, and wait until that has happened."""
        self._hang_up.set()
        wait_until(lambda: not self._hang_up.is_set())
        time.sleep(0.02)

    def refuse(self) -> None:
        """Hang up, and take no connection any more."""
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._socket.settimeout(0.05)
        while not self._end.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.connections += 1
            with client:
                reader = self.line.open(self.line.baudrate)
                try:
                    self._serve(client)
                finally:
                    self.line.close(reader)
                    if self.reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._hang_up.clear()

    def _serve(self, client: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            while not self._end.is_set() and not self._hang_up.is_set():
                if selector.select(0.005):
                    data = client.recv(4096)
                    if not data:
                        return
                    self.requests.append(data)
                    if self.hang_up_at and len(self.requests) >= self.hang_up_at and self.hang_ups:
                        self.hang_ups -= 1
                        return
                    self.line.write(data)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    reply = self.line.take(4096)
                    client.sendall(reply[:5])
                    self._end.wait(self.pause_s if reply else 0)
                    client.sendall(reply[5:])


@pytest.fixture
def server() -> Iterator[ImpatientServer]:
    with ImpatientServer(VirtualLine(VirtualAnalyzer())) as server:
        yield server


def opened(server: ImpatientServer, **options: object) -> servomex.Analyzer:
    return servomex.open_device(server.port, protocol="modbus_rtu", timeout=GENEROUS_S, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_every_reading_after_a_hang_up_succeeds(server: ImpatientServer, reset: bool) -> None:
    server.reset = reset
    with opened(server) as analyzer:
        for number in range(1, 5):
            server.hang_up()
            assert analyzer.poll().ok
            assert server.connections == 1 + number
        assert analyzer.dropped_frames == 0
        assert analyzer.link.generation == 5


@pytest.mark.parametrize("request_number", [1, 2, 3])
def test_a_read_is_sent_again_when_the_hang_up_crosses_it(server: ImpatientServer, request_number: int) -> None:
    """The server closes in the moment in which a request is on its way."""
    with opened(server) as analyzer:
        before = analyzer.poll()
        server.hang_up_at = len(server.requests) + request_number
        frame = analyzer.poll()
        assert [(item.channel, item.value) for item in frame] == [(item.channel, item.value) for item in before]
        assert server.connections == 2
        assert analyzer.dropped_frames == 0


def test_a_server_that_hangs_up_again_at_once_is_lost(server: ImpatientServer) -> None:
    with opened(server) as analyzer:
        server.hang_up_at, server.hang_ups = len(server.requests) + 1, 1000
        with pytest.raises(ServomexConnectionError, match="the port was lost"):
            analyzer.poll()
        assert server.connections == 2
        server.hang_ups = 0
        assert until_it_works(analyzer.poll, every_s=0.05).ok


def test_a_server_that_always_hangs_up_is_tried_less_and_less_often(
    server: ImpatientServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.02, 30.0))
    with opened(server) as analyzer:
        server.hang_up_at, server.hang_ups = 1, 1000
        pauses = []
        for _ in range(3):
            with pytest.raises(ServomexConnectionError):
                analyzer.poll()
            pauses.append(analyzer.link.retry_in_s)
            wait_until(lambda: not analyzer.link.retry_in_s)
        assert pauses[2] > 4 * pauses[0]


def test_a_write_is_not_sent_again(server: ImpatientServer) -> None:
    with opened(server) as analyzer:
        analyzer.poll()
        server.hang_up_at = len(server.requests) + 1
        assert analyzer.client is not None
        with pytest.raises(ServomexConnectionError, match="the port was lost"):
            analyzer.client.write_coil(Span(0, 1), True, time.monotonic() + GENEROUS_S, confirm=True)
        assert sum(data[1:2] == b"\x05" for data in server.requests) == 1
        assert not server.line.analysers[0].coil_log


def test_a_reply_that_a_network_holds_back_is_waited_for(server: ImpatientServer) -> None:
    with opened(server) as analyzer:
        server.pause_s = 0.4
        asked = len(server.requests)
        assert analyzer.poll(timeout=15).ok
        assert len(server.requests) - asked < 8
        assert analyzer.dropped_frames == 0


def test_a_server_that_is_gone_is_lost_in_time(server: ImpatientServer) -> None:
    with opened(server) as analyzer:
        server.refuse()
        with pytest.raises(ServomexConnectionError, match=r"cannot be reached|port was lost"):
            analyzer.poll(timeout=0.5)


def test_without_reconnecting_the_loss_is_an_error(server: ImpatientServer) -> None:
    with opened(server, auto_reconnect=False) as analyzer:
        server.hang_up()
        with pytest.raises(ServomexConnectionError, match=r"the port was lost.*open it again"):
            analyzer.poll()
        assert server.connections == 1


def test_a_recording_of_rare_readings_has_no_gap(server: ImpatientServer) -> None:
    with opened(server) as analyzer, servomex.record(analyzer, rate_hz=4, count=6) as recording:
        batches = []
        for batch in recording:
            batches.append(batch)
            if len(batches) < 6:
                server.hang_up()
        assert not [sample.error for batch in batches for sample in batch if sample.error]
        assert recording.summary.disconnects == 0
    assert server.connections >= len(batches) > 2


def test_in_continuous_mode_it_is_an_ordinary_loss(
    server: ImpatientServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.02, 0.1))
    server.line.analysers[0].mode = servomex.ProtocolKind.CONTINUOUS_ASCII
    server.line.analysers[0].period = 0.1
    with (
        servomex.open_device(server.port, protocol="continuous") as analyzer,
        servomex.record(analyzer) as recording,
    ):
        samples = recording.get(GENEROUS_S)
        assert samples
        server.hang_up()
        while not samples[-1].error:
            samples += recording.get(GENEROUS_S)
        while recording.summary.samples_emitted <= 5 or samples[-1].error:
            samples += recording.get(GENEROUS_S)
        errors = [sample.error for sample in samples if sample.error]
        assert len(errors) == 1
        assert "the port was lost" in str(errors[0])
        assert recording.summary.disconnects == 1


def test_an_rfc2217_server_that_hangs_up() -> None:
    line = VirtualLine(VirtualAnalyzer())
    with contextlib.ExitStack() as servers:
        first = Rfc2217Server(line)
        with first:
            analyzer = servers.enter_context(
                servomex.open_device(first.port, protocol="modbus_rtu", timeout=2 * GENEROUS_S)
            )
            assert analyzer.poll().ok
        servers.enter_context(Rfc2217Server(line, int(first.port.rpartition(":")[2])))
        assert analyzer.poll().ok
        assert analyzer.link.generation == 2
        analyzer.close()
