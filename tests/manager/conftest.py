"""A manager with short waits, for the tests of a manager."""

from collections.abc import Iterator

import attrs
import pytest

from servomex import ServomexManager
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServomexManager]:
    monkeypatch.setattr(ModbusLine, "timing", Timing(silence_s=0.02))
    monkeypatch.setattr("servomex.port.connect.READ_TICK_S", 0.01)
    with ServomexManager(error_policy="return") as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what failed be tried again soon."""
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))
    monkeypatch.setattr("servomex.manager.member.PAUSES_S", (0.02, 0.02))
    monkeypatch.setattr("servomex.manager.member.PROBE_S", 0.05)
    monkeypatch.setattr(ModbusLine, "timing", attrs.evolve(ModbusLine.timing, quiet_s=0.05))
