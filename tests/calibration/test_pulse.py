"""Coils that do not keep their 1: another master writes its image of them, or the analyser clears them itself.

A coil at 0 proves nothing then. What the group is on decides, and no gas is on that is not reported.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from servomex import Analyzer, CalPhase, ServomexCalibrationError, open_device
from servomex.calibration import stop as calibration_stop
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.calibrating import WRITE_1, coils, far_end, losing, other_master
from tests.helpers.hook_port import answering

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("quick")]

MODES = ["modbus_rtu", "modbus_ascii"]
STOP_1 = WRITE_1.replace(b"\x05\0\0", b"\x05\0\x08")


class ClearsItself(VirtualAnalyzer):
    """An analyser whose coils are 0 again as soon as it has answered the 1."""

    def coils(self, address: int, count: int) -> list[bool]:
        values = super().coils(address, count)
        for coil in range(address, address + count):  # the first look at a coil is for the reply to its 1
            self._coils[coil] = False
        return values


def ones(analyser: VirtualAnalyzer) -> list[int]:
    return [number for number, value in coils(analyser) if value]


def start_and_stop(analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
    assert analyzer.start_calibration(1, confirm=True, timeout=5).active
    analyzer.stop_calibration(confirm=True)
    assert analyser.cal_gas(1) == 0


def run_out_of_time(analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
    with pytest.raises(ServomexCalibrationError, match="it was stopped") as caught:
        analyzer.calibrate(1, confirm=True, timeout=0.3)
    assert caught.value.running is False
    assert analyser.cal_gas(1) == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use", [start_and_stop, run_out_of_time])
def test_no_gas_is_left_on_beside_a_master_that_writes_zeros(
    mode: str, use: Callable[[VirtualAnalyzer, Analyzer], None]
) -> None:
    analyser = VirtualAnalyzer(mode=mode)
    analyser.cal_phase_s = float("inf")
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=mode, gap=0.002) as analyzer:
        for every_s in (0.05, 0.0005):
            with other_master(analyser, every_s):
                for _ in range(5):
                    use(analyser, analyzer)


@pytest.fixture(params=MODES)
def cleared(request: pytest.FixtureRequest) -> Iterator[tuple[VirtualAnalyzer, Analyzer]]:
    analyser = ClearsItself(mode=request.param)
    analyser.cal_phase_s = float("inf")
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=request.param, gap=0.002) as analyzer:
        yield analyser, analyzer


class TestClearedAtOnce:
    def test_a_start_that_runs_has_succeeded_and_says_what_was_odd(
        self, cleared: tuple[VirtualAnalyzer, Analyzer], caplog: pytest.LogCaptureFixture
    ) -> None:
        analyser, analyzer = cleared
        progress = analyzer.start_calibration(1, confirm=True)
        assert progress.active
        assert "another master on this line writes to the coils" in progress.notes[0]
        assert progress.notes[0] in caplog.text
        assert ones(analyser) == [1]

    def test_a_calibration_is_followed_to_its_end(self, cleared: tuple[VirtualAnalyzer, Analyzer]) -> None:
        analyser, analyzer = cleared
        analyser.cal_phase_s = 0.15
        report = analyzer.calibrate(1, confirm=True, timeout=10)
        assert [phase.phase for phase in report.phases] == [CalPhase.CAL_GAS_1, CalPhase.CAL_GAS_2]
        assert "read back 0" in report.notes[0]
        assert ones(analyser) == [1]

    def test_one_stop_is_enough(self, cleared: tuple[VirtualAnalyzer, Analyzer]) -> None:
        analyser, analyzer = cleared
        analyzer.start_calibration(1, confirm=True)
        assert analyzer.stop_calibration(confirm=True) == ()
        assert analyser.cal_gas(1) == 0
        assert ones(analyser) == [1, 9]

    @pytest.mark.parametrize("verify", [True, False])
    def test_a_start_that_does_not_show_is_unknown(
        self, cleared: tuple[VirtualAnalyzer, Analyzer], verify: bool
    ) -> None:
        analyser, analyzer = cleared
        analyser.refuses_calibration = True
        with pytest.raises(ServomexCalibrationError, match="unknown whether it will begin") as caught:
            analyzer.start_calibration(1, confirm=True, verify=verify, timeout=1.5)
        assert caught.value.running is None

    def test_an_interrupt_stops_it(
        self, cleared: tuple[VirtualAnalyzer, Analyzer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The group shows its gas a little later, and Ctrl-C comes before."""
        analyser, analyzer = cleared
        looks = count()

        def cal_gas(group: int) -> int:
            if ones(analyser) and next(looks) == 0:
                raise KeyboardInterrupt
            return VirtualAnalyzer.cal_gas(analyser, group)

        monkeypatch.setattr(analyser, "cal_gas", cal_gas)
        with pytest.raises(KeyboardInterrupt) as caught:
            analyzer.start_calibration(1, confirm=True)
        assert "it was stopped" in caught.value.__notes__[0]
        assert analyser.cal_gas(1) == 0
        assert ones(analyser) == [1, 9]


def test_a_stop_that_is_lost_again_and_again_succeeds_when_all_is_on_sample() -> None:
    analyser = VirtualAnalyzer()
    port = far_end(analyser, losing("request lost", STOP_1, times=1000))
    with open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer:
        assert analyzer.stop_calibration(confirm=True, timeout=8) == ()
    assert sum(data[1:6] == STOP_1 for data in port.writes) == calibration_stop.STOP_TRIES


def test_a_stop_that_is_lost_again_and_again_while_gas_flows_is_an_error() -> None:
    analyser = VirtualAnalyzer()
    analyser.cal_phase_s = float("inf")
    analyser.write_coils(2, [True])
    port = far_end(analyser, losing("request lost", STOP_1, times=1000))
    with (
        open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
        pytest.raises(ServomexCalibrationError, match=r"may not have been heard.*group 3 is on cal") as caught,
    ):
        analyzer.stop_calibration(confirm=True, timeout=6)
    assert caught.value.running is True


def test_a_start_that_begins_after_the_stop_is_stopped_again() -> None:
    """It shows late, and the stop found nothing that ran."""
    analyser = VirtualAnalyzer()
    analyser.cal_phase_s = float("inf")
    answer = answering(analyser)
    began: list[float] = []

    def meddle(data: bytes) -> str:
        if data[1:6] == WRITE_1:
            return "request lost"
        if data[1:6] == STOP_1 and not began:
            began.append(time.monotonic() + 0.1)
        if began and began[0] and time.monotonic() > began[0]:
            began[0] = 0.0
            answer(b"")
            analyser.write_coils(0, [True])
            analyser.write_coils(0, [False])
        return ""

    with open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer:
        with pytest.raises(ServomexCalibrationError, match="it was stopped") as caught:
            analyzer.calibrate(1, confirm=True, timeout=10)
        assert caught.value.running is False
        assert analyser.cal_gas(1) == 0
    assert ones(analyser) == [9, 1, 9]


class HandlerError(Exception):
    """What a user's own signal handler raises."""


@pytest.mark.parametrize("error", [HandlerError(), SystemExit(3)])
def test_whatever_a_signal_handler_raises_before_it_is_known_to_run_stops_it(error: BaseException) -> None:
    analyser = VirtualAnalyzer()
    analyser.cal_phase_s = float("inf")
    left = [1]

    def meddle(data: bytes) -> str:
        if ones(analyser) and data[1] == 2 and left[0]:
            left[0] = 0
            raise error
        return ""

    with open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer:
        with pytest.raises(type(error)) as caught:
            analyzer.start_calibration(1, confirm=True, timeout=5)
        assert "it was stopped" in caught.value.__notes__[0]
        assert analyser.cal_gas(1) == 0
