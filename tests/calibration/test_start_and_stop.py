"""Start, stop and state of an autocalibration: the coil is pulsed exactly once, and never left at 1."""

import pickle
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from servomex import (
    Analyzer,
    CalPhase,
    Capability,
    ServomexCalibrationError,
    ServomexConfirmationRequiredError,
    ServomexConnectionError,
    ServomexError,
    ServomexProtocolUnsupportedError,
    ServomexTimeoutError,
    ServomexValidationError,
    open_continuous,
    open_device,
)
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.calibrating import WRITE_0, coils, far_end, losing
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import Framing, ascii_, rtu
from tests.helpers.scripts import Fence, opened

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("quick")]

MODES = ["modbus_rtu", "modbus_ascii"]
FRAMINGS: list[tuple[str, Framing]] = [("modbus_rtu", rtu), ("modbus_ascii", ascii_)]
ON, OFF = "FF00", "0000"


@pytest.fixture
def analyzer(line: VirtualLine) -> Iterator[Analyzer]:
    with open_device(line.url, protocol="modbus_rtu", gap=0.002) as opened_one:
        yield opened_one


class TestGates:
    @pytest.mark.parametrize("confirm", [False, 1, "yes", None])
    def test_without_confirmation_no_byte_is_sent(self, confirm: bool) -> None:
        port = ScriptedPort()
        with opened(port) as analyzer:
            calls: list[Callable[[], object]] = [
                lambda: analyzer.start_calibration(1, confirm=confirm),
                lambda: analyzer.stop_calibration(confirm=confirm),
                lambda: analyzer.calibrate(1, confirm=confirm, timeout=1),
            ]
            for call in calls:
                with pytest.raises(ServomexConfirmationRequiredError, match="confirm=True"):
                    call()
        assert port.writes == ()

    @pytest.mark.parametrize("group", [0, 5, -1, "1", True, 1.0, None])
    def test_a_group_that_does_not_exist_is_refused_before_any_byte(self, group: int) -> None:
        port = ScriptedPort()
        with opened(port) as analyzer:
            calls: list[Callable[[], object]] = [
                lambda: analyzer.start_calibration(group, confirm=True),
                lambda: analyzer.calibrate(group, confirm=True, timeout=1),
                lambda: analyzer.calibration_status(group),
            ]
            for call in calls:
                with pytest.raises(ServomexValidationError, match="group must be a whole number from 1 to 4"):
                    call()
        assert port.writes == ()

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5"])
    def test_a_timeout_that_cannot_be_is_refused_before_any_byte(self, timeout: float) -> None:
        port = ScriptedPort()
        with opened(port) as analyzer:
            for call in (analyzer.start_calibration, analyzer.calibrate):
                with pytest.raises(ServomexValidationError):
                    call(1, confirm=True, timeout=timeout)
        assert port.writes == ()

    def test_in_continuous_mode_nothing_can_be_started(self) -> None:
        port = ScriptedPort()
        with open_continuous(port, identify=False) as analyzer:
            assert Capability.AUTOCAL not in analyzer.capabilities
            with pytest.raises(ServomexProtocolUnsupportedError, match="continuous mode"):
                analyzer.start_calibration(1, confirm=True)
            with pytest.raises(ServomexProtocolUnsupportedError, match="continuous mode"):
                analyzer.stop_calibration(confirm=True)
            with pytest.raises(ServomexProtocolUnsupportedError, match="continuous mode"):
                analyzer.calibrate(1, confirm=True, timeout=1)
        assert port.writes == ()

    def test_a_closed_analyser_says_so(self, line: VirtualLine) -> None:
        with open_device(line.url, protocol="modbus_rtu", gap=0) as analyzer:
            assert Capability.AUTOCAL in analyzer.capabilities
        with pytest.raises(ServomexConnectionError, match="closed"):
            analyzer.start_calibration(1, confirm=True)


class TestBytes:
    """From the manual: coils 00001 to 00004 start, 00009 stops; discrete inputs 11009 to 11016 show the state."""

    PROBE = ("01 02 03E8 0002", "01 02 01 00")
    E2 = ("01 04 003F 0007", "01 04 0E 00000000 202020202020 206D4100")
    IDLE = ("01 02 03E8 0010", "01 02 02 00 00")

    def dialogue(self, coil: int, *middle: tuple[str, str]) -> list[tuple[str, str]]:
        read, on, off = f"01 01 {coil:04X} 0001", f"01 05 {coil:04X} {ON}", f"01 05 {coil:04X} {OFF}"
        return [(read, "01 01 01 00"), (on, on), (read, "01 01 01 01"), (off, off), (read, "01 01 01 00"), *middle]

    @pytest.mark.parametrize(("mode", "frame"), FRAMINGS)
    @pytest.mark.parametrize("group", [1, 2, 3, 4])
    def test_a_start_byte_by_byte(self, mode: str, frame: Framing, group: int) -> None:
        state = 1 << (2 * group - 2)
        shown = ("01 02 03E8 0010", f"01 02 02 00 {state:02X}")
        # A state that is new or has changed is read twice before it is believed.
        script = [self.PROBE, self.E2, self.E2, self.IDLE, self.IDLE]
        script += self.dialogue(group - 1, self.IDLE, shown, shown)
        port = Fence([(frame(request), frame(reply)) for request, reply in script])
        with opened(port, mode) as analyzer:
            progress = analyzer.start_calibration(group, confirm=True)
        port.check()
        assert (progress.group, progress.phase, progress.active) == (group, CalPhase.CAL_GAS_1, True)

    @pytest.mark.parametrize(("mode", "frame"), FRAMINGS)
    def test_a_stop_byte_by_byte(self, mode: str, frame: Framing) -> None:
        running = ("01 02 03E8 0010", "01 02 02 00 C0")
        start_coils = ("01 01 0000 0004", "01 01 01 00")
        looks = (running, running, *[self.IDLE] * 3)  # each change is read twice
        script = [self.PROBE, self.E2, self.E2, *self.dialogue(8, *looks, start_coils)]
        port = Fence([(frame(request), frame(reply)) for request, reply in script])
        with opened(port, mode) as analyzer:
            analyzer.stop_calibration(confirm=True)
        port.check()

    def test_the_bytes_of_the_start_as_the_specification_writes_them(self) -> None:
        assert rtu(f"01 05 0000 {ON}") == bytes.fromhex("01 05 00 00 FF 00 8C 3A")
        assert ascii_(f"01 05 0008 {OFF}") == b":010500080000F2\r\n"


class TestStart:
    def test_it_is_one_pulse_and_is_verified(self, analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
        progress = analyzer.start_calibration(2, confirm=True)
        assert progress.phase is CalPhase.CAL_GAS_1
        assert coils(analyser) == [(2, True), (2, False)]
        assert analyser.cal_gas(2) == 1

    def test_a_stale_one_is_cleared_first(self, analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
        analyser.refuses_calibration = True
        analyser.write_coils(0, [True])
        analyser.refuses_calibration = False
        analyser.coil_log.clear()
        assert analyzer.start_calibration(1, confirm=True).active
        assert coils(analyser) == [(1, False), (1, True), (1, False)]

    def test_a_refused_start_is_an_error_with_the_likely_reasons(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        analyser.refuses_calibration = True
        analyser.fault = True
        with pytest.raises(ServomexCalibrationError) as caught:
            analyzer.start_calibration(1, confirm=True, timeout=0.8)
        for words in ("ignored the start of group 1", "reports a fault", "not set up", "warming up", "panel"):
            assert words in caught.value.message
        assert (caught.value.running, caught.value.context.address) == (False, 1)
        assert coils(analyser) == [(1, True), (1, False)]

    def test_a_group_that_shows_its_state_late_is_waited_for(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = time.monotonic()
        honest = analyser.cal_gas
        monkeypatch.setattr(
            analyser, "cal_gas", lambda group: honest(group) if time.monotonic() > begun + 0.5 else 0
        )
        assert analyzer.start_calibration(1, confirm=True, timeout=5).active

    def test_unverified_it_reports_what_it_sees(self, analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
        analyser.refuses_calibration = True
        assert analyzer.start_calibration(1, confirm=True, verify=False).phase is CalPhase.IDLE
        assert coils(analyser) == [(1, True), (1, False)]

    @pytest.mark.parametrize("group", [1, 2])
    def test_a_second_one_is_refused_while_one_runs(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer, group: int
    ) -> None:
        analyzer.start_calibration(1, confirm=True)
        with pytest.raises(ServomexCalibrationError, match="group 1 is on calibration gas 1 already") as caught:
            analyzer.start_calibration(group, confirm=True)
        assert caught.value.running is False
        assert coils(analyser) == [(1, True), (1, False)]

    def test_of_two_callers_at_once_one_starts(self, analyser: VirtualAnalyzer, line: VirtualLine) -> None:
        """Also with two objects for one address, and while the analyser has not shown yet that it started."""
        analyser.refuses_calibration = True
        outcomes: list[str] = []

        def try_it(analyzer: Analyzer) -> None:
            try:
                analyzer.start_calibration(1, confirm=True, timeout=1.0)
            except ServomexCalibrationError as error:
                outcomes.append(error.message)

        with (
            open_device(line.url, protocol="modbus_rtu", gap=0.002) as one,
            open_device(one.link, protocol="modbus_rtu") as other,
        ):
            threads = [threading.Thread(target=try_it, args=(item,)) for item in (one, other, one)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted("another caller" in outcome for outcome in outcomes) == [False, True, True]
        assert coils(analyser) == [(1, True), (1, False)]

    def test_it_can_be_started_again_after_it_ended(self, analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
        analyser.cal_phase_s = 0.05
        for _ in range(2):
            analyzer.start_calibration(1, confirm=True, verify=False)
            time.sleep(0.15)
        assert coils(analyser) == [(1, True), (1, False)] * 2

    @pytest.mark.parametrize("mode", MODES)
    def test_it_works_on_a_line_that_echoes(self, mode: str) -> None:
        analyser = VirtualAnalyzer(mode=mode)
        line = VirtualLine(analyser, echo=True)
        with open_device(line.url, protocol=mode, gap=0.002) as analyzer:
            assert analyzer.start_calibration(1, confirm=True).active
        assert coils(analyser) == [(1, True), (1, False)]

    def test_an_echo_alone_is_never_taken_for_the_analyser(self) -> None:
        analyser = VirtualAnalyzer()
        line = VirtualLine(analyser, echo=True)
        with open_device(line.url, protocol="modbus_rtu", gap=0.002) as analyzer:
            analyser.faults.silent = True
            with pytest.raises(ServomexTimeoutError):
                analyzer.start_calibration(1, confirm=True, timeout=0.5)
        assert coils(analyser) == []


class TestStop:
    def test_it_stops_every_group(self, analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
        analyser.write_coils(0, [True, False, True])
        analyser.write_coils(0, [False, False, False])
        analyser.coil_log.clear()
        assert analyzer.stop_calibration(confirm=True) == ()
        assert [analyser.cal_gas(group) for group in (1, 2, 3, 4)] == [0, 0, 0, 0]
        assert coils(analyser) == [(9, True), (9, False)]

    def test_start_coils_that_were_left_at_one_are_set_back(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        """As a program that was killed in the middle of its start leaves them."""
        analyser.write_coils(0, [True, False, True])
        analyser.coil_log.clear()
        assert analyzer.stop_calibration(confirm=True) == (1, 3)
        assert coils(analyser) == [(9, True), (9, False), (1, False), (3, False)]
        assert analyzer.start_calibration(3, confirm=True).active

    def test_a_start_coil_that_stays_at_one_is_an_error_though_the_groups_are_on_sample(self) -> None:
        analyser = VirtualAnalyzer()
        analyser.write_coils(0, [True])
        port = far_end(analyser, losing("request lost", WRITE_0, times=1000))
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match=r"on sample, but.*left at 1") as caught,
        ):
            analyzer.stop_calibration(confirm=True, timeout=1.5)
        assert caught.value.running is False
        assert analyser.cal_gas(1) == 0

    @pytest.mark.parametrize(("mode", "frame"), FRAMINGS)
    def test_start_coils_that_a_gateway_does_not_give_are_an_error(self, mode: str, frame: Framing) -> None:
        analyser = VirtualAnalyzer(mode=mode)
        analyser.write_coils(0, [True])
        answer, looks = answering(analyser), frame("01 01 00 00 00 04")

        def end(port: HookPort, data: bytes) -> None:
            port.at(0.005, frame("01 81 0B") if data == looks else answer(data))

        with (
            open_device(HookPort(end), protocol=mode, gap=0.002, identify=False) as analyzer,
            pytest.raises(ServomexCalibrationError, match="start coils could not be checked") as caught,
        ):
            analyzer.stop_calibration(confirm=True, timeout=5)
        assert caught.value.running is False
        assert analyser.cal_gas(1) == 0

    def test_one_that_is_ignored_is_an_error(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(analyser, "cal_gas", lambda group: 2 if group == 3 else 0)
        with pytest.raises(ServomexCalibrationError, match="group 3 is on calibration gas 2") as caught:
            analyzer.stop_calibration(confirm=True, timeout=1)
        assert caught.value.running is True

    def test_a_stop_may_come_while_another_thread_still_waits_for_the_start(
        self, analyser: VirtualAnalyzer, analyzer: Analyzer
    ) -> None:
        analyser.refuses_calibration = True
        failures: list[ServomexError] = []

        def start() -> None:
            try:
                analyzer.start_calibration(1, confirm=True, timeout=0.8)
            except ServomexError as error:
                failures.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        while not analyser.coil_log:
            time.sleep(0.01)
        begun = time.monotonic()
        analyzer.stop_calibration(confirm=True)
        assert time.monotonic() - begun < 1
        thread.join()
        assert len(failures) == 1


class TestStatus:
    @pytest.mark.parametrize("mode", [*MODES, "continuous"])
    def test_every_mode_reports_what_a_group_is_on(self, mode: str) -> None:
        now = [0.0]
        analyser = VirtualAnalyzer(mode=mode, period=0.05)
        analyser.clock = lambda: now[0]
        line = VirtualLine(analyser)
        with open_device(line.url, protocol=mode, gap=0.002) as analyzer:
            analyser.write_coils(1, [True])
            seen = []
            for now[0] in (0.0, 5.0, 10.0):
                if mode == "continuous":
                    analyzer.poll(wait_fresh=True)
                    analyzer.poll(wait_fresh=True)
                seen.append((analyzer.calibration_status().phase, analyzer.calibration_status(2).phase))
        assert seen == [("idle", "cal_gas_1"), ("idle", "cal_gas_2"), ("idle", "idle")]


@pytest.mark.parametrize("mode", MODES)
def test_the_status_shows_a_start_coil_that_was_left_at_one(mode: str) -> None:
    analyser = VirtualAnalyzer(mode=mode)
    analyser.refuses_calibration = True
    analyser.write_coils(1, [True])
    analyser.coil_log.clear()
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=mode, gap=0.002) as analyzer:
        assert [analyzer.calibration_status(group).start_coil for group in (1, 2)] == [False, True]
    assert coils(analyser) == [], "looking writes nothing"


def test_the_status_does_without_the_coils_of_a_device_that_does_not_show_them() -> None:
    answer = answering(VirtualAnalyzer())
    port = HookPort(lambda port, data: port.at(0.001, rtu("01 81 01") if data[1] == 1 else answer(data)))
    with open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer:
        progress = analyzer.calibration_status(1)
    assert (progress.phase, progress.start_coil) == (CalPhase.IDLE, None)


def test_in_continuous_mode_the_status_knows_no_coils() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with open_device(line.url, protocol="continuous") as analyzer:
        assert analyzer.calibration_status(1).start_coil is None


def test_its_error_can_be_pickled() -> None:
    error = ServomexCalibrationError("no", running=True)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.message, copy.running) == ("no", True)
