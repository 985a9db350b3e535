"""Searching virtual lines without waiting long, and a line that notes what happens on it."""

from typing import Any

import pytest

from servomex import DiscoveryResult, SerialLink, ServomexError, discover_port
from servomex.discovery import survey
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing
from servomex.port import connect as ports
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.simulator import line as simulated_line

LISTEN_S = 0.1


def wait_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search be quick: a virtual analyser that is not paced answers at once, and needs no gap."""
    monkeypatch.setattr(survey, "WAIT_S", 0.05)
    monkeypatch.setattr(survey, "LATE_WAIT_S", 0.2)
    monkeypatch.setattr(survey, "RESTLESS_S", 0.06)
    monkeypatch.setattr(ModbusLine, "timing", Timing(quiet_s=0.03, usual_wait_s=(0.05, 0.12), silence_s=0.02))
    monkeypatch.setattr(ports, "READ_TICK_S", 0.005)
    monkeypatch.setattr(simulated_line, "MESSAGE_SILENCE_S", 0.003)
    defaults = SerialLink.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "gap", 0.005)


class Damaged(VirtualAnalyzer):
    """All of its broadcasts have a wrong checksum."""

    def broadcast(self) -> bytes:
        return super().broadcast().replace(b"20.376", b"20.377")


class Recorder(VirtualLine):
    """A line that notes what is written to it and at which baud rates it is opened."""

    def __init__(self, *analysers: VirtualAnalyzer, **options: Any) -> None:
        super().__init__(*analysers, **options)
        self.written: list[bytes] = []
        self.baudrates: list[int] = []

    def open(self, baudrate: int) -> int:
        self.baudrates.append(baudrate)
        return super().open(baudrate)

    def write(self, data: bytes) -> None:
        self.written.append(data)
        super().write(data)

    @property
    def requests(self) -> list[tuple[int, int]]:
        """Address and function of everything that was written."""
        messages = [bytes.fromhex(data[1:-2].decode()) if data[:1] == b":" else data for data in self.written]
        return [(message[0], message[1]) for message in messages]


def search(line: VirtualLine, **options: Any) -> list[DiscoveryResult]:
    """Search a line, and do not listen for long."""
    return discover_port(line.url, **{"listen": LISTEN_S, **options})


def failure(results: list[DiscoveryResult]) -> ServomexError:
    """Give the error of the only result."""
    (result,) = results
    assert result.error is not None
    assert not result.ok
    return result.error
