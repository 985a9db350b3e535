"""The servers that let another program read a virtual analyser."""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest
import serial

from servomex.errors import ServomexConnectionError
from servomex.port.link import SerialLink
from servomex.simulator import PtyServer, TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.modbus_bytes import LOOPBACK, PROBE, STATE, rtu
from tests.helpers.platforms import needs_pty
from tests.helpers.waiting import wait_until

GENEROUS_S = 5.0


class Client:
    """A raw client of a server: it knows nothing of pyserial."""

    def __init__(self, port: str) -> None:
        if port.startswith("socket://"):
            host, _, number = port.removeprefix("socket://").partition(":")
            self._socket: socket.socket | None = socket.create_connection((host, int(number)), GENEROUS_S)
            self.fileno = self._socket.fileno()
        else:
            self._socket = None
            self.fileno = os.open(port, os.O_RDWR | os.O_NOCTTY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._socket is None:
            os.close(self.fileno)
        else:
            self._socket.close()

    def read(self, size: int) -> bytes:
        """Read until so many bytes are there; fewer when the other side hangs up."""
        data, deadline = b"", time.monotonic() + GENEROUS_S
        while len(data) < size:
            readable, _, _ = select.select([self.fileno], [], [], deadline - time.monotonic())
            assert readable, f"only {data!r} came"
            try:
                piece = os.read(self.fileno, size - len(data))
            except OSError:  # how a terminal, or a connection with unread bytes, says that the other side is gone
                piece = b""
            if not piece:
                return data
            data += piece
        return data

    def ask(self, request: bytes, size: int) -> bytes:
        os.write(self.fileno, request)
        return self.read(size)


@pytest.fixture(params=[pytest.param(PtyServer, marks=needs_pty), TcpServer], ids=["pty", "TCP"])
def server(request: pytest.FixtureRequest, line: VirtualLine) -> Iterator[PtyServer | TcpServer]:
    with request.param(line) as found:
        yield found


def test_a_client_in_another_program_is_answered(server: PtyServer | TcpServer) -> None:
    with Client(server.port) as client:
        for _ in range(3):
            assert client.ask(PROBE, len(STATE)) == STATE
        assert client.ask(LOOPBACK, len(LOOPBACK)) == LOOPBACK


def test_a_client_may_go_and_another_one_come(server: PtyServer | TcpServer) -> None:
    for _ in range(3):
        with Client(server.port) as client:
            assert client.ask(PROBE, len(STATE)) == STATE


def test_broadcasts_reach_a_client_that_sends_nothing(
    server: PtyServer | TcpServer, analyser: VirtualAnalyzer
) -> None:
    with Client(server.port) as client:
        analyser.period = 0.05
        assert client.ask(PROBE, len(STATE)) == STATE
        analyser.power_cycle("continuous")
        frames = client.read(2 * 206)
    assert frames.count(b";\r\n") == 2


def test_pulling_the_cable_hangs_up_and_putting_it_back_serves_again(
    server: PtyServer | TcpServer, line: VirtualLine
) -> None:
    with Client(server.port) as client:
        assert client.ask(PROBE, len(STATE)) == STATE
        before = server.port
        line.unplug()
        assert client.read(1) == b""
        line.plug()
        if isinstance(server, PtyServer):
            wait_until(lambda: server.port != before)  # the client still holds the old one
    with Client(server.port) as client:
        assert client.ask(PROBE, len(STATE)) == STATE


def test_a_request_that_pymodbus_cannot_decode_does_not_end_the_server(server: PtyServer | TcpServer) -> None:
    with Client(server.port) as client:
        assert client.ask(rtu("01 04 0000 0000"), 5) == rtu("01 84 03")
        assert client.ask(PROBE, len(STATE)) == STATE


@pytest.mark.parametrize("kind", [pytest.param(PtyServer, marks=needs_pty), TcpServer], ids=["pty", "TCP"])
def test_a_server_that_ends_leaves_no_thread_and_gives_the_line_back(
    kind: type[PtyServer] | type[TcpServer], line: VirtualLine
) -> None:
    threads = set(threading.enumerate())
    for _ in range(2):
        with kind(line) as server, Client(server.port) as client:
            assert client.ask(PROBE, len(STATE)) == STATE
            assert len(set(threading.enumerate()) - threads) == 1
        assert set(threading.enumerate()) == threads
        with pytest.raises(OSError):
            Client(server.port)
    with SerialLink(line.url) as link:
        assert link.is_open


def test_an_address_that_is_taken_is_a_connection_error(line: VirtualLine) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ServomexConnectionError, match=rf"cannot listen on 127\.0\.0\.1:{number}"):
            TcpServer(line, port=number)


def test_a_reader_that_lost_the_line_cannot_free_it_for_a_third(line: VirtualLine) -> None:
    first = serial.serial_for_url(line.url, timeout=0)
    line.unplug()
    with pytest.raises(serial.SerialException):
        first.read()
    line.plug()
    with contextlib.closing(serial.serial_for_url(line.url)):
        first.close()
        with pytest.raises(serial.SerialException, match="in use"):
            serial.serial_for_url(line.url).close()
