"""When a calibration has ended: its group was on sample for long enough, and the report says what was seen."""

import threading
import time
from collections.abc import Iterator

import pytest

from servomex import (
    Analyzer,
    CalibrationProgress,
    CalPhase,
    ServomexCalibrationError,
    ServomexValidationError,
    open_device,
)
from servomex.calibration import procedure as calibration
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.calibrating import coils
from tests.helpers.scripts import opened

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("quick")]

PAUSE_S = 0.5


class Pausing(VirtualAnalyzer):
    """An analyser whose group 1 shows sample for a while between its gases."""

    def cal_gas(self, group: int) -> int:
        gas = super().cal_gas(group)
        cycle = self._cycles.get(group)
        if gas == 2 and cycle and self.clock() - cycle.started < self.cal_phase_s + PAUSE_S:
            return 0
        return gas


@pytest.fixture(params=["modbus_rtu", "modbus_ascii"])
def pausing(request: pytest.FixtureRequest) -> Iterator[tuple[Pausing, Analyzer]]:
    analyser = Pausing(mode=request.param)
    analyser.cal_phase_s = 2 * PAUSE_S
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=request.param, gap=0.002) as analyzer:
        yield analyser, analyzer


def test_sample_between_the_gases_is_not_the_end(pausing: tuple[Pausing, Analyzer]) -> None:
    analyser, analyzer = pausing
    report = analyzer.calibrate(1, confirm=True, timeout=20, settle=1.5 * PAUSE_S)
    assert [phase.phase for phase in report.phases] == [CalPhase.CAL_GAS_1, CalPhase.SAMPLING, CalPhase.CAL_GAS_2]
    assert report.returns == (report.phases[1],)
    assert report.returns[0].duration_s == pytest.approx(PAUSE_S, abs=0.4)
    assert report.settled_s >= 1.5 * PAUSE_S
    assert report.ended_at > report.phases[2].started_at
    assert coils(analyser) == [(1, True), (1, False)], "nothing was stopped"
    assert analyser.cal_gas(1) == 0


def test_the_status_of_a_started_one_is_sampling_between_its_gases_until_it_has_settled(
    pausing: tuple[Pausing, Analyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, analyzer = pausing
    monkeypatch.setattr(calibration, "SETTLE_S", 1.5 * PAUSE_S)
    analyzer.start_calibration(1, confirm=True)
    seen: list[CalPhase] = []
    while CalPhase.IDLE not in seen:
        progress = analyzer.calibration_status(1)
        assert progress.active is (progress.phase.value in ("cal_gas_1", "cal_gas_2"))
        seen += [progress.phase] * (seen[-1:] != [progress.phase])
        time.sleep(0.02)
    gas_1, gas_2, sampling = CalPhase.CAL_GAS_1, CalPhase.CAL_GAS_2, CalPhase.SAMPLING
    assert seen == [gas_1, sampling, gas_2, sampling, CalPhase.IDLE]
    assert analyzer.calibration_status(1).phase is CalPhase.IDLE


def test_the_status_of_one_that_was_started_elsewhere_is_never_sampling(
    pausing: tuple[Pausing, Analyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyser, analyzer = pausing
    monkeypatch.setattr(calibration, "SETTLE_S", 1.5 * PAUSE_S)
    analyser.write_coils(0, [True])
    seen: set[CalPhase] = set()
    while not {CalPhase.CAL_GAS_2, CalPhase.IDLE} <= seen:
        seen.add(analyzer.calibration_status(1).phase)
        time.sleep(0.02)
    assert CalPhase.SAMPLING not in seen


def test_one_that_was_stopped_is_not_sampling(
    pausing: tuple[Pausing, Analyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, analyzer = pausing
    monkeypatch.setattr(calibration, "SETTLE_S", 60.0)
    analyzer.start_calibration(1, confirm=True)
    analyzer.stop_calibration(confirm=True)
    assert analyzer.calibration_status(1).phase is CalPhase.IDLE


def test_another_thread_sees_that_a_watched_one_goes_on(pausing: tuple[Pausing, Analyzer]) -> None:
    _, analyzer = pausing
    seen: list[tuple[CalPhase, CalPhase]] = []

    def look(progress: CalibrationProgress) -> None:
        seen.append((progress.phase, analyzer.calibration_status(1).phase))

    analyzer.calibrate(1, confirm=True, timeout=20, settle=1.5 * PAUSE_S, on_progress=look)
    assert (CalPhase.SAMPLING, CalPhase.SAMPLING) in seen
    assert seen[-1] == (CalPhase.IDLE, CalPhase.IDLE)


def test_a_time_that_is_up_while_it_is_on_sample_says_so(pausing: tuple[Pausing, Analyzer]) -> None:
    analyser, analyzer = pausing
    analyser.cal_phase_s = 0.1
    words = r"on sample for the last \d s, and counts as ended"
    with pytest.raises(ServomexCalibrationError, match=words) as caught:
        analyzer.calibrate(1, confirm=True, timeout=2.5, settle=2.4)
    assert caught.value.running is False
    assert "it was stopped" in caught.value.message


@pytest.mark.parametrize("settle", [-1, float("nan"), "1", 5, 6])
def test_a_time_to_settle_that_cannot_be_is_refused_before_any_byte(settle: float) -> None:
    port = ScriptedPort()
    with opened(port) as analyzer, pytest.raises(ServomexValidationError, match="settle"):
        analyzer.calibrate(1, confirm=True, timeout=5, settle=settle)
    assert port.writes == ()


def test_a_long_time_without_a_look_begins_the_wait_again(
    pausing: tuple[Pausing, Analyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gas could have come and gone meanwhile."""
    analyser, analyzer = pausing
    analyser.cal_phase_s = 0.1
    assert analyzer.client is not None
    monkeypatch.setattr(type(analyzer.client), "patience_s", 0.1)
    back: list[float] = []

    def come_back() -> None:
        back.append(time.monotonic())
        analyser.faults.silent = False

    timer = threading.Timer(1.0, come_back)

    def fall_silent(progress: CalibrationProgress) -> None:
        if not progress.active and not timer.ident:
            analyser.faults.silent = True
            timer.start()

    report = analyzer.calibrate(1, confirm=True, timeout=20, settle=1.5, on_progress=fall_silent)
    timer.join()
    assert report.failed_looks > 0
    assert report.settled_s >= 1.5
    assert time.monotonic() - back[0] >= 1.5, "the look before the silence counted"
