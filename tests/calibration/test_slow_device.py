"""Analysers that act on their coils late: one looks at them now and then, one takes its time to begin.

A 1 that was acknowledged may be missed, and a stop does not take back a start that is still to be carried out.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from servomex import Analyzer, ServomexCalibrationError, open_device
from servomex.runtime.clock import time
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.simulator.device import STOP_COIL
from tests.helpers.background import repeating
from tests.helpers.calibrating import coils, other_master

pytestmark = pytest.mark.virtual_time

MODES = ["modbus_rtu", "modbus_ascii"]
SCAN_S = 0.1


class Slow(VirtualAnalyzer):
    """An analyser whose coils only hold what is written, until :meth:`act` is called for one."""

    def act(self, coil: int) -> None:
        """Do what the change of a coil from 0 to 1 asks for."""
        held, self._coils = self._coils, dict.fromkeys(self._coils, False)
        log, self.coil_log = self.coil_log, []
        VirtualAnalyzer.write_coils(self, coil, [True])
        self._coils, self.coil_log = held, log

    def hold(self, address: int, values: list[bool]) -> list[int]:
        """Keep what was written, and return the coils that have changed from 0 to 1."""
        risen = []
        for coil, value in enumerate(values, address):
            self.coil_log.append((self.clock(), coil, value))
            risen += [coil] if value and not self._coils[coil] else []
            self._coils[coil] = value
        return risen


class Scanning(Slow):
    """An analyser that looks at its coils every 100 ms: a 1 that comes and goes in between is missed."""

    def write_coils(self, address: int, values: list[bool]) -> None:
        with self._lock:
            self.hold(address, values)

    def scanning(self) -> contextlib.AbstractContextManager[None]:
        """Look at the coils until the block ends."""
        seen = dict(self._coils)

        def scan() -> None:
            with self._lock:
                for coil in [coil for coil, value in self._coils.items() if value and not seen[coil]]:
                    self.act(coil)
                seen.update(self._coils)

        return repeating(scan, SCAN_S)


class Missing(Slow):
    """An analyser that acknowledges some stops without hearing them."""

    misses = 0

    def write_coils(self, address: int, values: list[bool]) -> None:
        with self._lock:
            for coil in self.hold(address, values):
                if coil == STOP_COIL and self.misses:
                    self.misses -= 1
                else:
                    self.act(coil)


class Delayed(Slow):
    """An analyser that begins a while after its start coil, whatever is stopped until then."""

    delay_s = 0.0
    due: float | None = None

    def write_coils(self, address: int, values: list[bool]) -> None:
        with self._lock:
            for coil in self.hold(address, values):
                if coil == STOP_COIL:
                    self.act(coil)
                else:
                    self.due = self.clock() + self.delay_s

    def cal_gas(self, group: int) -> int:
        with self._lock:
            if self.due is not None and self.clock() >= self.due:
                self.due = None
                self.act(0)
        return super().cal_gas(group)


@contextlib.contextmanager
def opened(analyser: VirtualAnalyzer) -> Iterator[Analyzer]:
    analyser.cal_phase_s = float("inf")
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=analyser.mode.value, gap=0.002) as analyzer:
        yield analyzer


def stops(analyser: VirtualAnalyzer) -> int:
    return coils(analyser).count((STOP_COIL + 1, True))


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_that_was_acknowledged_and_missed_is_given_again(mode: str) -> None:
    for _ in range(8):
        analyser = Scanning(mode=mode)
        with opened(analyser) as analyzer, analyser.scanning(), other_master(analyser, 0.05):
            analyser.act(0)
            analyzer.stop_calibration(confirm=True, timeout=60)
            assert analyser.cal_gas(1) == 0


def stop(analyzer: Analyzer) -> None:
    analyzer.start_calibration(1, confirm=True)
    analyzer.stop_calibration(confirm=True)


def run_out_of_time(analyzer: Analyzer) -> None:
    with pytest.raises(ServomexCalibrationError, match="it was stopped") as caught:
        analyzer.calibrate(1, confirm=True, timeout=5)
    assert caught.value.running is False


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use", [stop, run_out_of_time])
@pytest.mark.parametrize("times", [1, 3, 5])
def test_stops_are_given_until_one_works(mode: str, use: Callable[[Analyzer], None], times: int) -> None:
    analyser = Missing(mode=mode)
    analyser.misses = times
    with opened(analyser) as analyzer:
        use(analyzer)
    assert analyser.cal_gas(1) == 0
    assert stops(analyser) == times + 1, "and no more than it takes"


def test_an_analyser_that_ignores_every_stop_is_reported_within_the_deadline() -> None:
    analyser = Missing()
    analyser.misses = 1000
    with opened(analyser) as analyzer:
        analyzer.start_calibration(1, confirm=True)
        begun = time.monotonic()
        with pytest.raises(ServomexCalibrationError, match=r"ignored the stop.*group 1 is on") as caught:
            analyzer.stop_calibration(confirm=True, timeout=8)
        assert time.monotonic() - begun < 9
    assert caught.value.running is True
    assert stops(analyser) > 2
    assert coils(analyser)[-1] == (STOP_COIL + 1, False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("timeout", [2, 5, 9])
@pytest.mark.parametrize("delay_s", [6.0, 8.6, 9.3, 9.9])
def test_a_start_that_begins_within_the_watch_is_stopped_however_short_the_time(
    mode: str, timeout: float, delay_s: float
) -> None:
    analyser = Delayed(mode=mode)
    analyser.delay_s = delay_s
    with opened(analyser) as analyzer:
        with pytest.raises(ServomexCalibrationError) as caught:
            analyzer.calibrate(1, confirm=True, timeout=timeout)
        assert caught.value.running is False
        assert analyser.due is None, "it has begun"
        assert analyser.cal_gas(1) == 0
        assert coils(analyser)[-1] == (STOP_COIL + 1, False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay_s", [9.5, 11.9, 12.6])
def test_an_interrupt_waits_for_a_start_that_may_still_begin(
    delay_s: float, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyser = Delayed(mode=mode)
    analyser.delay_s = delay_s
    left = [1]

    def cal_gas(group: int) -> int:
        if analyser.due is not None and left[0]:
            left[0] = 0
            raise KeyboardInterrupt
        return Delayed.cal_gas(analyser, group)

    monkeypatch.setattr(analyser, "cal_gas", cal_gas)
    with opened(analyser) as analyzer:
        with pytest.raises(KeyboardInterrupt) as caught:
            analyzer.start_calibration(1, confirm=True)
        assert "it was stopped" in caught.value.__notes__[0]
        assert analyser.due is None
        assert analyser.cal_gas(1) == 0


def test_a_watch_that_is_cut_short_says_that_it_may_still_begin() -> None:
    """Another thread closes the port after the stop, before the start would have shown."""
    analyser = Delayed()
    analyser.delay_s = 9.5
    with opened(analyser) as analyzer:
        timer = threading.Timer(6, analyzer.close)
        timer.start()
        with pytest.raises(ServomexCalibrationError, match="it may still begin: look at the panel") as caught:
            analyzer.calibrate(1, confirm=True, timeout=2)
        timer.join()
    assert caught.value.running is None
    assert stops(analyser) == 1
