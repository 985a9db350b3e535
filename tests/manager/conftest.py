"""A manager, and short waits, for the tests of a manager."""

from collections.abc import Iterator

import attrs
import pytest

from servomex import ServomexManager
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing


@pytest.fixture
def manager() -> Iterator[ServomexManager]:
    with ServomexManager(error_policy="return") as made:
        yield made


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """End a reply after a short silence, and look often for what comes."""
    monkeypatch.setattr(ModbusLine, "timing", Timing(silence_s=0.02))
    monkeypatch.setattr("servomex.port.connect.READ_TICK_S", 0.01)


@pytest.fixture
def short_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask what did not answer for as short a time as its line allows."""
    monkeypatch.setattr("servomex.manager.member.PROBE_S", 0.05)
    monkeypatch.setattr(ModbusLine, "timing", attrs.evolve(ModbusLine.timing, quiet_s=0.05))
