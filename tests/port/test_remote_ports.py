"""Ports behind a network, ``socket://`` and ``rfc2217://``, with real servers: reading, settings, loss, return."""

import contextlib
import gc
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import servomex
from servomex.cli.read import read
from servomex.errors import (
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexTimeoutError,
)
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing
from servomex.port import connect as ports
from servomex.port.connect import open_port
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.runtime.worker import Worker
from servomex.settings import SerialSettings
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from tests.helpers.commands import VALUES, invoke
from tests.helpers.rfc2217_server import FarPort, Rfc2217Server
from tests.helpers.waiting import until_it_works

MODES = ("modbus_rtu", "modbus_ascii", "continuous")
GENEROUS_S = 5.0
HURRY_S = 0.002

Server = TcpServer | Rfc2217Server
Kind = type[TcpServer] | type[Rfc2217Server]

# pyserial names its thread in a way that Python 3.10 and newer warn of.
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")
both = pytest.mark.parametrize("kind", [TcpServer, Rfc2217Server], ids=["socket", "rfc2217"])


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what pyserial sleeps while it opens and closes, and what the driver waits for."""
    clock = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, HURRY_S)))
    monkeypatch.setattr("serial.rfc2217.time", clock)
    monkeypatch.setattr("serial.urlhandler.protocol_socket.time", clock)
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.02, 0.1))
    monkeypatch.setattr(ModbusLine, "timing", Timing(silence_s=0.02))
    monkeypatch.setattr(ports, "READ_TICK_S", 0.01)


def number_of(server: Server) -> int:
    return int(server.port.rpartition(":")[2])


def opened(port: Any, mode: str = "modbus_rtu", **options: Any) -> servomex.Analyzer:
    return servomex.open_device(port, protocol=mode, gap=0.005, **options)


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    """A virtual analyser that broadcasts often, once it is in continuous mode."""
    return VirtualAnalyzer(period=0.05)


def took(call: Callable[[], object], kind: type[ServomexError]) -> tuple[float, ServomexError]:
    """Give how long a call takes to fail, and its error."""
    begun = time.monotonic()
    with pytest.raises(kind) as caught:
        call()
    return time.monotonic() - begun, caught.value


@contextlib.contextmanager
def far_end(treat: Callable[[socket.socket], object]) -> Iterator[int]:
    """Serve a TCP port whose clients are treated in some way and then left alone: its number."""
    clients: list[socket.socket] = []

    def run(stopping: threading.Event) -> None:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                clients.append(listener.accept()[0])
                treat(clients[-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        worker = Worker("test-far-end", run)
        worker.start()
        try:
            yield listener.getsockname()[1]
        finally:
            worker.stop()
            for client in clients:
                client.close()
    assert worker.error is None


def reset(client: socket.socket) -> None:
    """Hang up without a farewell."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@both
def test_all_modes_are_read_with_the_right_values(
    kind: Kind, analyser: VirtualAnalyzer, line: VirtualLine
) -> None:
    with kind(line) as server:
        for mode in MODES:
            analyser.power_cycle(mode)
            with opened(server.port, "auto" if mode == "modbus_rtu" else mode) as analyzer:
                frame = analyzer.poll()
                assert {item.channel: item.value for item in frame} == VALUES
                assert (frame["I1"].name, frame.protocol) == ("Oxygen", mode)


def test_the_settings_of_the_line_arrive_at_the_far_port(analyser: VirtualAnalyzer) -> None:
    settings = SerialSettings(baudrate=9600, parity="E", stopbits=2)
    line = VirtualLine(analyser, baudrate=9600)
    server: Any
    with Rfc2217Server(line) as server:
        with opened(server.port, serial_settings=settings) as analyzer:
            far: Any = server.far
            assert (far.baudrate, far.bytesize, far.parity, far.stopbits) == (9600, 8, "E", 2)
            assert (far.rtscts, far.xonxoff) == (False, False)
            assert analyzer.poll()["I1"].value == 20.376
        with pytest.raises(ServomexTimeoutError):
            opened(server.port, "auto", listen=0.15).close()
        assert (server.far is far, server.far.baudrate) == (False, 19200)


def test_nothing_is_negotiated_while_it_is_read(line: VirtualLine) -> None:
    with Rfc2217Server(line) as server, opened(server.port) as analyzer:
        assert server.far is not None
        before = server.far.configured
        for timeout in (0.5, 1.0, 2.0):
            analyzer.poll(timeout=timeout)
        assert server.far.configured == before


def test_a_server_that_refuses_the_settings_is_a_configuration_error(
    line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FarPort, "baudrate", property(lambda _port: 19200, lambda _port, _rate: None))
    with Rfc2217Server(line) as server:
        seconds, error = took(
            lambda: opened(server.port, serial_settings=SerialSettings(baudrate=2400)), ServomexConfigurationError
        )
    assert "cannot be opened with these settings (2400 8N1): remote rejected value" in error.message
    assert seconds < GENEROUS_S


def test_a_raw_socket_takes_no_settings(line: VirtualLine) -> None:
    with TcpServer(line) as server:
        settings = SerialSettings(baudrate=2400, parity="E")
        with opened(server.port, serial_settings=settings) as analyzer:
            assert analyzer.poll()["I1"].value == 20.376


@both
def test_bytes_that_telnet_takes_for_commands_survive(kind: Kind) -> None:
    value = struct.unpack(">f", b"\x42\xff\xff\xf0")[0]
    line = VirtualLine(VirtualAnalyzer([VirtualChannel("I1", "Oxygen", "%", constant(value))]))
    with kind(line) as server, opened(server.port) as analyzer:
        frame = analyzer.poll()
        found = frame["I1"].value
        assert found is not None
        assert struct.pack(">f", found) == b"\x42\xff\xff\xf0"
        assert frame.raw is not None
        assert b"\x42\xff\xff\xf0" in frame.raw
        for payload in (b"\xff\xff", b"\xff\xf0", b"\xfb\xff", b"\r\0"):
            assert analyzer.loopback(payload) == payload


@both
@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
@pytest.mark.alone
def test_a_deadline_holds_while_the_far_end_is_silent(
    kind: Kind, mode: str, analyser: VirtualAnalyzer, line: VirtualLine
) -> None:
    analyser.power_cycle(mode)
    with kind(line) as server, opened(server.port, mode) as analyzer:
        analyser.faults.silent = True
        threading.Event().wait(0.5)  # a broadcast may be on its way
        seconds, error = took(lambda: analyzer.poll(timeout=0.2, max_age=0.0), ServomexTimeoutError)
        assert 0.19 < seconds < 1.0
        assert isinstance(error, servomex.ServomexStaleError) == (mode == "continuous")
        analyser.faults.silent = False
        assert analyzer.poll(timeout=GENEROUS_S)["I1"].value == 20.376


@both
@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
@pytest.mark.alone
def test_a_connection_that_dies_is_an_error_and_comes_back_by_itself(
    kind: Kind, mode: str, analyser: VirtualAnalyzer, line: VirtualLine
) -> None:
    analyser.power_cycle(mode)
    with contextlib.ExitStack() as first:
        server: Any = first.enter_context(kind(line))
        with opened(server.port, mode) as analyzer:
            assert analyzer.poll()["I1"].value == 20.376
            first.close()
            seconds, error = took(lambda: analyzer.poll(wait_fresh=True, timeout=1.0), ServomexConnectionError)
            assert seconds < GENEROUS_S
            assert error.context.port == server.port
            seconds, _ = took(lambda: analyzer.poll(wait_fresh=True, timeout=0.5), ServomexConnectionError)
            assert seconds < 2.0
            analyser["I1"].signal = constant(19.5)
            with kind(line, port=number_of(server)):
                assert until_it_works(lambda: analyzer.poll(timeout=1.0))["I1"].value == 19.5
                assert analyzer.link.generation == 2


@both
@pytest.mark.alone
def test_a_server_that_is_not_there_is_one_clear_error_in_bounded_time(kind: Kind, line: VirtualLine) -> None:
    with kind(line) as server:
        port = server.port
    for mode in ("auto", "modbus_rtu", "continuous"):
        seconds, error = took(lambda mode=mode: opened(port, mode), ServomexConnectionError)  # type: ignore[misc]
        assert type(error) is ServomexConnectionError
        assert f"{port} cannot be reached" in error.message
        assert error.text.endswith("Check the address and that its server runs")
        assert seconds < 2.0


@pytest.mark.parametrize("mode", ["auto", "continuous"])
def test_a_socket_that_accepts_and_says_nothing_is_no_answer(mode: str) -> None:
    with far_end(lambda client: None) as number:
        port = f"socket://127.0.0.1:{number}"
        seconds, _ = took(lambda: opened(port, mode, listen=0.15, retries=0), ServomexTimeoutError)
    assert seconds < GENEROUS_S + 1.0  # what the opening of an analyser may take


@pytest.mark.alone
def test_a_server_that_does_not_speak_rfc_2217_is_reported_in_bounded_time() -> None:
    with far_end(lambda client: None) as number:
        port = f"rfc2217://127.0.0.1:{number}?timeout=0.15"
        seconds, error = took(lambda: opened(port), ServomexConnectionError)
    assert "does not seem to support RFC2217" in error.message
    assert error.text.endswith("try socket:// in place of rfc2217://")
    assert seconds < 2.0


# pyserial itself forgets the socket of an rfc2217:// port that it could not open.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
@pytest.mark.parametrize("hang_up", [socket.socket.close, reset], ids=["closes", "resets"])
def test_a_server_that_hangs_up_at_once_is_a_connection_error(
    scheme: str, hang_up: Callable[[socket.socket], None]
) -> None:
    with far_end(hang_up) as number:
        port = f"{scheme}://127.0.0.1:{number}" + "?timeout=0.2" * (scheme == "rfc2217")
        for mode in ("auto", "continuous"):
            seconds, error = took(lambda mode=mode: opened(port, mode, listen=1.0), ServomexConnectionError)  # type: ignore[misc]
            assert type(error) is ServomexConnectionError
            assert seconds < GENEROUS_S


def test_a_connection_that_was_reset_leaves_no_socket_open() -> None:
    reset_it = threading.Event()

    def treat(client: socket.socket) -> None:
        assert reset_it.wait(GENEROUS_S)
        reset(client)

    with far_end(treat) as number, servomex.SerialLink(f"socket://127.0.0.1:{number}") as broken:
        reset_it.set()
        with pytest.raises(ServomexConnectionError, match="the port was lost"):
            broken.read(time.monotonic() + GENEROUS_S)
        gc.collect()  # an unclosed socket would warn now, and warnings are errors


@both
def test_the_system_is_asked_to_notice_a_server_that_vanishes(kind: Kind, line: VirtualLine) -> None:
    with kind(line) as server, contextlib.closing(open_port(server.port, SerialSettings())) as port:
        connection: socket.socket = port._socket
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15


def test_the_command_reads_a_remote_port(line: VirtualLine) -> None:
    with Rfc2217Server(line) as server:
        result = invoke(server.port, "--protocol", "modbus_rtu", "--format", "json", command=read)
        assert (result.exit_code, result.stderr) == (0, "")
        assert {row["channel"]: row["value"] for row in json.loads(result.stdout)["readings"]} == VALUES
    result = invoke(server.port, command=read)
    assert (result.exit_code, result.stdout) == (3, "")
    assert re.fullmatch(r"Error: \S+ cannot be reached: .*\n", result.stderr)
