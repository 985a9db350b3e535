"""A program that does not run for a moment while it writes is not taken for a line that takes no bytes."""

import socket
import time
from typing import Any

import pytest

import servomex
from servomex import ports
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine


def test_a_busy_computer_is_no_blocked_line(monkeypatch: pytest.MonkeyPatch) -> None:
    send = socket.socket.send

    def late(self: socket.socket, data: Any) -> int:
        sent = send(self, data)
        time.sleep(0.05)
        return sent

    monkeypatch.setattr(ports, "PROMPT_WRITE_S", 0.0)
    with (
        TcpServer(VirtualLine(VirtualAnalyzer())) as server,
        servomex.open_device(server.port, protocol="modbus_rtu", identify=False, timeout=5) as analyzer,
    ):
        monkeypatch.setattr(socket.socket, "send", late)
        assert analyzer.poll()["I1"].value == 20.376
