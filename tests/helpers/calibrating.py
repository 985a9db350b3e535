"""What the tests of autocalibration share: short waits, the log of the coils, lines that lose messages."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from servomex.calibration import procedure as calibration
from servomex.calibration import stop as calibration_stop
from servomex.modbus.client import ModbusClient
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualAnalyzer
from tests.helpers.background import repeating
from tests.helpers.hook_port import HookPort, answering

PATIENCE_S = 0.6


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits that are made for a real analyser."""
    quick = Timing(quiet_s=0.02, usual_wait_s=(0.03, 0.1), first_guess_s=0.01)
    monkeypatch.setattr(ModbusLine, "timing", quick)
    monkeypatch.setattr(ModbusClient, "patience_s", PATIENCE_S)
    monkeypatch.setattr(calibration_stop, "WATCH_S", 0.6)
    monkeypatch.setattr(calibration_stop, "LOOK_S", 0.02)
    monkeypatch.setattr(calibration, "FOLLOW_S", 0.05)
    monkeypatch.setattr(calibration, "SETTLE_S", 0.0)
    monkeypatch.setattr(calibration_stop, "LATE_START_S", 0.2)
    monkeypatch.setattr(calibration_stop, "STOP_AGAIN_S", 0.2)
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.2))


def coils(analyser: VirtualAnalyzer) -> list[tuple[int, bool]]:
    """The writes to coils so far, by the maker's number of the coil."""
    return [(coil + 1, value) for _, coil, value in analyser.coil_log]


def left_at_one(analyser: VirtualAnalyzer) -> list[int]:
    return [number for number, value in enumerate(analyser.coils(0, 9), 1) if value]


def far_end(analyser: VirtualAnalyzer, meddle: Callable[[bytes], str]) -> HookPort:
    """A port to an analyser that hears a request or not, and whose replies come or not, as ``meddle`` says."""
    answer = answering(analyser)

    def end(port: HookPort, data: bytes) -> None:
        what = meddle(data)
        if what == "request lost":
            return
        reply = answer(data)
        if what != "reply lost":
            port.at(0.001, reply)

    return HookPort(end)


def other_master(analyser: VirtualAnalyzer, every_s: float) -> AbstractContextManager[None]:
    """Let another master write its image of the coils, all zeros, over and over."""

    def write() -> None:
        analyser.write_coils(0, [False] * 4)
        analyser.write_coils(8, [False])

    return repeating(write, every_s)


def losing(what: str, *signs: bytes, times: int = 1) -> Callable[[bytes], str]:
    """Lose the first requests of each kind, or the replies to them."""
    left = dict.fromkeys(signs, times)

    def meddle(data: bytes) -> str:
        if not left.get(data[1:6]):
            return ""
        left[data[1:6]] -= 1
        return what

    return meddle


WRITE_1, WRITE_0, READ = b"\x05\0\0\xff\0", b"\x05\0\0\0\0", b"\x01\0\0\0\x01"
