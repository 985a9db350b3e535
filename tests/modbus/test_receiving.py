"""When a reply is looked for, and when it is returned."""

import time
from pathlib import Path

import pytest

from servomex import open_device
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.trace import read_trace

pytestmark = pytest.mark.virtual_time

TURNAROUND_S = 0.03
STATE_SIZE = {"modbus_rtu": 7, "modbus_ascii": 15}
"""Bytes of the reply that ends a sweep: two bytes of the analyser's state."""


def paced(mode: str, baudrate: int) -> VirtualLine:
    return VirtualLine(VirtualAnalyzer(mode=mode), baudrate=baudrate, pace=True, turnaround=TURNAROUND_S)


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
@pytest.mark.parametrize("baudrate", [1200, 2400, 9600, 19200])
def test_a_call_returns_with_the_last_character_of_its_reply(mode: str, baudrate: int) -> None:
    line, char_s = paced(mode, baudrate), 10 / baudrate
    with open_device(line.url, protocol=mode, baudrate=baudrate) as analyzer:
        for _ in range(5):
            analyzer.poll()
            passed = time.monotonic() - line.heard[-1][0]
            assert passed == pytest.approx(TURNAROUND_S + STATE_SIZE[mode] * char_s, abs=0.1 * char_s)


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_a_reply_that_arrives_character_by_character_is_read_in_a_few_pieces(mode: str, tmp_path: Path) -> None:
    line, trace = paced(mode, 19200), tmp_path / "trace.txt"
    with open_device(line.url, protocol=mode, trace=trace) as analyzer:
        analyzer.poll()
    pieces: list[int] = []
    for event in read_trace(trace):
        if event.kind == "sent":
            pieces.append(0)
        elif event.kind == "came":
            pieces[-1] += 1
    assert max(pieces) <= 12
