"""An autocalibration from its start to its end: the report, and that it is stopped whatever ends it early."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from servomex import (
    Analyzer,
    CalibrationProgress,
    CalPhase,
    ChannelId,
    ChannelStatus,
    ServomexCalibrationError,
    ServomexConnectionError,
    ServomexTimeoutError,
    ServomexValidationError,
    open_device,
)
from servomex.calibration import stop as calibration_stop
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.calibrating import (
    PATIENCE_S,
    WRITE_0,
    WRITE_1,
    coils,
    far_end,
    left_at_one,
    losing,
    shorten_waits,
)
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import rtu
from tests.helpers.scripts import opened

pytestmark = pytest.mark.virtual_time

START_AND_STOP = [(1, True), (1, False), (9, True), (9, False)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, analyser: VirtualAnalyzer) -> None:
    shorten_waits(monkeypatch)
    analyser.cal_phase_s = 0.3


@pytest.fixture
def analyzer(line: VirtualLine) -> Iterator[Analyzer]:
    with open_device(line.url, protocol="modbus_rtu", gap=0.002) as opened_one:
        yield opened_one


def never_ending(analyser: VirtualAnalyzer) -> None:
    analyser.cal_phase_s = float("inf")


class TestReport:
    def test_it_reports_the_phases_the_readings_and_the_states(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        analyser["I1"].signal = lambda _seconds: 5.0 if analyser.cal_gas(1) else 20.9
        seen: list[CalibrationProgress] = []
        report = analyzer.calibrate(1, confirm=True, timeout=10, on_progress=seen.append)
        assert [phase.phase for phase in report.phases] == [CalPhase.CAL_GAS_1, CalPhase.CAL_GAS_2]
        assert [round(phase.duration_s, 1) for phase in report.phases] == [0.3, 0.3]
        assert report.started_at <= report.phases[0].started_at < report.phases[1].started_at < report.ended_at
        assert report.ended_at - report.started_at < timedelta(seconds=2)
        assert report.channels == ("I1",)
        assert [item.value for item in report.readings_before] == [20.9]
        assert [item.value for item in report.readings_after] == [20.9]
        assert report.states[ChannelId.I1] == (ChannelStatus(calibrating=True), ChannelStatus())
        assert report.states[ChannelId.I2] == (ChannelStatus(),)
        assert report.failed_looks == 0
        assert coils(analyser) == START_AND_STOP[:2]
        assert {item.phase for item in seen} == {*CalPhase}
        assert [item.elapsed_s for item in seen] == sorted(item.elapsed_s or 0 for item in seen)
        assert {item.frame["I1"].value for item in seen if item.frame and item.active} == {5.0}

    def test_one_glimpse_of_sample_between_the_gases_is_not_its_end(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = iter([1, 1, 0, 2, 2, 0, 0, 0])
        gases = [0]

        def turn(_progress: CalibrationProgress) -> None:
            gases[0] = next(script)

        monkeypatch.setattr(analyser, "cal_gas", lambda group: gases[0] if group == 1 else 0)
        honest = analyser.write_coils

        def write(address: int, values: list[bool]) -> None:
            honest(address, values)
            gases[0] = 1

        monkeypatch.setattr(analyser, "write_coils", write)
        report = analyzer.calibrate(1, confirm=True, timeout=10, on_progress=turn)
        assert [phase.phase for phase in report.phases] == ["cal_gas_1", "sampling", "cal_gas_2"]

    def test_a_line_that_is_lost_for_a_while_does_not_end_it(
        self, analyser: VirtualAnalyzer, line: VirtualLine, analyzer: Analyzer
    ) -> None:
        analyser.cal_phase_s = 0.6
        timer = threading.Timer(0.3, line.plug)

        def pull(_progress: CalibrationProgress) -> None:
            if not timer.ident:
                line.unplug()
                timer.start()

        report = analyzer.calibrate(1, confirm=True, timeout=10, on_progress=pull)
        timer.join()
        assert report.failed_looks > 0
        assert report.phases[-1].phase is CalPhase.CAL_GAS_2
        assert coils(analyser) == START_AND_STOP[:2]


class TestEarlyEnd:
    def test_one_that_never_ends_is_stopped_at_the_timeout(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        never_ending(analyser)
        begun = time.monotonic()
        with pytest.raises(ServomexCalibrationError, match=r"did not end within 0\.5 s: it was stopped") as caught:
            analyzer.calibrate(1, confirm=True, timeout=0.5)
        assert time.monotonic() - begun < 3
        assert caught.value.running is False
        assert coils(analyser) == START_AND_STOP
        assert analyzer.calibration_status(1).phase is CalPhase.IDLE

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError("in the caller's own code")])
    def test_whatever_interrupts_it_stops_it(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer, error: BaseException
    ) -> None:
        never_ending(analyser)

        def interrupt(_progress: CalibrationProgress) -> None:
            raise error

        with pytest.raises((KeyboardInterrupt, SystemExit, ValueError)) as caught:
            analyzer.calibrate(1, confirm=True, timeout=10, on_progress=interrupt)
        assert caught.value.__notes__ == [
            "autocalibration of group 1: it was stopped, and the analyser is on sample again"
        ]
        assert coils(analyser) == START_AND_STOP
        assert analyser.cal_gas(1) == 0

    def test_a_start_that_is_ignored_is_stopped_since_it_could_still_begin(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        analyser.refuses_calibration = True
        with pytest.raises(ServomexCalibrationError, match=r"ignored the start.*it was stopped") as caught:
            analyzer.calibrate(1, confirm=True, timeout=10)
        assert caught.value.running is False
        assert coils(analyser) == START_AND_STOP

    def test_a_start_that_may_not_have_reached_the_analyser_is_stopped_since_it_could_begin(self) -> None:
        """A coil at 0 does not show that the 1 was lost: the analyser or another master may have cleared it."""
        analyser = VirtualAnalyzer()
        port = far_end(analyser, losing("request lost", WRITE_1))
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match=r"its coil reads 0.*: it was stopped") as caught,
        ):
            analyzer.calibrate(1, confirm=True, timeout=10)
        assert caught.value.running is False
        assert coils(analyser) == [(1, False), (9, True), (9, False)]

    def test_a_start_that_was_refused_stops_nothing(self) -> None:
        """A stop would end what was started at the panel."""
        analyser = VirtualAnalyzer()
        answer = answering(analyser)
        port = HookPort(lambda port, data: port.at(0.001, rtu("01 85 03") if data[1] == 5 else answer(data)))
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match="exception 03"),
        ):
            analyzer.calibrate(1, confirm=True, timeout=10)
        assert all(data[1:4] != b"\x05\0\x08" for data in port.writes)

    def test_whoever_interrupts_again_waits_for_the_stop(self) -> None:
        """People press Ctrl-C twice. Here each of the next requests is interrupted."""
        analyser = VirtualAnalyzer()
        never_ending(analyser)
        left = [0]

        def meddle(_data: bytes) -> str:
            if left[0]:
                left[0] -= 1
                raise KeyboardInterrupt
            return ""

        def interrupt(_progress: CalibrationProgress) -> None:
            left[0] = 6
            raise KeyboardInterrupt

        with open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer:
            with pytest.raises(KeyboardInterrupt) as caught:
                analyzer.calibrate(1, confirm=True, timeout=10, on_progress=interrupt)
            assert analyser.cal_gas(1) == 0
        assert "it was stopped" in caught.value.__notes__[0]
        assert left_at_one(analyser) == []

    def test_that_another_caller_stopped_it_is_not_its_end(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        never_ending(analyser)
        timer = threading.Timer(0.3, lambda: analyzer.stop_calibration(confirm=True))
        timer.start()
        with pytest.raises(ServomexCalibrationError, match="another caller stopped") as caught:
            analyzer.calibrate(1, confirm=True, timeout=10)
        timer.join()
        assert caught.value.running is False

    def test_a_line_that_falls_silent_is_not_kept_from_others_for_the_whole_time(self) -> None:
        analyser = VirtualAnalyzer()
        dead: list[bool] = []
        port = far_end(analyser, lambda data: "request lost" if dead and data[1] in (2, 8) else "")
        with open_device(port, protocol="modbus_rtu", gap=0.002, retries=0) as analyzer:
            dead.append(True)
            begun = time.monotonic()
            with pytest.raises(ServomexTimeoutError):
                analyzer.calibrate(1, confirm=True, timeout=40)
        assert time.monotonic() - begun < 5

    @pytest.mark.parametrize("arguments", [{"timeout": None}, {"timeout": 0}, {"timeout": 1, "on_progress": "x"}])
    def test_what_cannot_be_is_refused_before_any_byte(self, arguments: dict[str, float]) -> None:
        port = ScriptedPort()
        with opened(port) as analyzer, pytest.raises(ServomexValidationError):
            analyzer.calibrate(1, confirm=True, **arguments)  # type: ignore[arg-type]
        assert port.writes == ()

    def test_another_calibration_is_left_alone(self, analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
        never_ending(analyser)
        analyser.write_coils(2, [True])
        analyser.coil_log.clear()
        with pytest.raises(ServomexCalibrationError, match="group 3 is on calibration gas 1 already"):
            analyzer.calibrate(1, confirm=True, timeout=10)
        assert coils(analyser) == []
        assert analyser.cal_gas(3) == 1

    def test_while_one_is_watched_no_other_caller_starts(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        refusals: list[str] = []

        def start_another(_progress: CalibrationProgress) -> None:
            with pytest.raises(ServomexCalibrationError) as caught:
                analyzer.start_calibration(2, confirm=True)
            refusals.append(caught.value.message)

        analyzer.calibrate(1, confirm=True, timeout=10, on_progress=start_another)
        assert all("another caller" in text for text in refusals)
        assert analyzer.start_calibration(2, confirm=True).active

    def test_a_start_that_is_not_known_of_is_stopped(self) -> None:
        """All that comes back after the 1 is lost, then the line is well again: gas may be flowing."""
        analyser = VirtualAnalyzer()
        never_ending(analyser)
        lost_until = [0.0]

        def meddle(data: bytes) -> str:
            if data[1:6] == WRITE_1:
                lost_until[0] = time.monotonic() + calibration_stop.WATCH_S + PATIENCE_S + 0.1
            return "reply lost" if time.monotonic() < lost_until[0] else ""

        with open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer:
            with pytest.raises(ServomexCalibrationError, match="it was stopped") as caught:
                analyzer.calibrate(1, confirm=True, timeout=10)
            assert analyser.cal_gas(1) == 0
        assert caught.value.running is False
        assert left_at_one(analyser) == []
        assert [item for item in coils(analyser) if item[1]] == [(1, True), (9, True)]

    def test_one_that_cannot_be_stopped_says_so_plainly(self) -> None:
        analyser = VirtualAnalyzer()
        never_ending(analyser)
        dead: list[bool] = []
        port = far_end(analyser, lambda _data: "request lost" if dead else "")
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match="did not end") as caught,
        ):
            analyzer.calibrate(1, confirm=True, timeout=0.7, on_progress=lambda _progress: dead.append(True))
        assert caught.value.running is None
        assert "could not be stopped" in caught.value.message
        assert "stop it on the analyser's panel" in caught.value.message

    def test_a_stop_whose_coil_is_stuck_is_reported(self) -> None:
        analyser = VirtualAnalyzer()
        never_ending(analyser)
        stuck = losing("request lost", WRITE_0.replace(b"\x05\0\0", b"\x05\0\x08"), times=1000)
        with (
            open_device(far_end(analyser, stuck), protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match="could not be set back to 0"),
        ):
            analyzer.calibrate(1, confirm=True, timeout=0.4)
        assert analyser.cal_gas(1) == 0

    def test_a_line_that_fails_before_the_start_leaves_all_as_it_was(self) -> None:
        analyser = VirtualAnalyzer()
        dead: list[bool] = []
        port = far_end(analyser, lambda data: "request lost" if dead and data[1] == 1 else "")
        with open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer:
            dead.append(True)
            begun = time.monotonic()
            with pytest.raises(ServomexTimeoutError) as caught:
                analyzer.calibrate(1, confirm=True, timeout=10)
        assert time.monotonic() - begun < 4
        assert coils(analyser) == []
        assert not hasattr(caught.value, "__notes__"), "there was nothing to stop"

    def test_closing_it_from_another_thread_ends_it_with_the_truth(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        never_ending(analyser)
        timer = threading.Timer(0.3, analyzer.close)
        timer.start()
        with pytest.raises(ServomexConnectionError) as caught:
            analyzer.calibrate(1, confirm=True, timeout=30)
        timer.join()
        assert "could not be stopped" in caught.value.__notes__[0]
