"""A Ctrl-C at any moment of a start, or of a calibration, leaves no gas on and no coil at 1."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from servomex import Analyzer, open_device
from servomex.calibration import procedure as calibration
from servomex.calibration import pulse as coils
from servomex.calibration import stop as calibration_stop
from servomex.calibration.cycles import underway
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.calibrating import coils as writes
from tests.helpers.calibrating import left_at_one, shorten_waits
from tests.helpers.injecting import Injector

INSIDE = frozenset({calibration.__file__, calibration_stop.__file__, coils.__file__})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)
    monkeypatch.setattr(calibration_stop, "LATE_START_S", 0.05)


def start(analyzer: Analyzer) -> None:
    analyzer.start_calibration(1, confirm=True)


PHASE_S = 0.3 if sys.platform == "win32" else 0.03
"""Seconds on each gas: many ticks of the clock, or the driver never sees that the group runs."""


def calibrate(analyzer: Analyzer) -> None:
    analyzer.calibrate(1, confirm=True, timeout=10)


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize(("use", "phase_s"), [(start, float("inf")), (calibrate, PHASE_S)])
def test_an_interrupt_anywhere_stops_what_was_started(
    use: Callable[[Analyzer], None], phase_s: float, part: int
) -> None:
    analyser = VirtualAnalyzer()
    line = VirtualLine(analyser)
    with open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer:
        for moment in range(part, 1000, 4):
            analyser.power_cycle()
            analyser.coil_log.clear()
            analyser.cal_phase_s = phase_s
            injector = Injector(moment, INSIDE)
            if not injector.run(lambda: use(analyzer)):
                break
            assert analyser.cal_gas(1) == 0, injector.hit
            assert left_at_one(analyser) == [], injector.hit
            assert writes(analyser).count((1, True)) <= 1, injector.hit
            assert analyzer.client is not None
            assert not underway(analyzer.client).start_lock.is_mine, injector.hit
    assert moment > (30 if sys.platform == "win32" else 40), "few moments were tried"


PROGRAM = """
import logging, sys, threading, servomex
logging.basicConfig()
analyzer = servomex.open_device(sys.argv[1], protocol="modbus_rtu")
on_gas = threading.Event()
options = dict(confirm=True, timeout=600, on_progress=lambda progress: on_gas.set())
threading.Thread(target=analyzer.calibrate, args=(1,), kwargs=options, daemon=True).start()
assert on_gas.wait(20)
"""


def test_a_program_that_ends_stops_what_its_daemon_thread_watches() -> None:
    """As when the window of a program is closed whose calibration runs in a thread."""
    analyser = VirtualAnalyzer()
    analyser.cal_phase_s = float("inf")
    with TcpServer(VirtualLine(analyser)) as server:
        command = [sys.executable, "-c", PROGRAM, server.port]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert writes(analyser) == [(1, True), (1, False), (9, True), (9, False)], result.stderr
    assert analyser.cal_gas(1) == 0
    assert result.returncode == 0
    assert "the program ended during the autocalibration of group 1: it was stopped" in result.stderr
