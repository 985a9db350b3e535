"""Whatever is lost around a start: the coil gets a 1 once at most, and a 0 as soon as that can be done."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from servomex import (
    Analyzer,
    ModbusClient,
    SerialLink,
    SerialSettings,
    ServomexCalibrationError,
    ServomexConfigurationError,
    ServomexError,
    ServomexTimeoutError,
    open_device,
)
from servomex.port.connect import open_port
from servomex.registers import START_COILS
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.calibrating import READ, WRITE_0, WRITE_1, coils, far_end, left_at_one, losing
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import Framing, ascii_, rtu

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("quick")]

MODES = ["modbus_rtu", "modbus_ascii"]
FRAMINGS: list[tuple[str, Framing]] = [("modbus_rtu", rtu), ("modbus_ascii", ascii_)]
ON, OFF = "FF00", "0000"


@pytest.fixture
def analyzer(line: VirtualLine) -> Iterator[Analyzer]:
    with open_device(line.url, protocol="modbus_rtu", gap=0.002) as opened_one:
        yield opened_one


class TestLoss:
    @pytest.mark.parametrize(
        ("meddle", "log"),
        [
            (losing("reply lost", WRITE_1), [True, False]),
            (losing("reply lost", WRITE_0), [True, False]),
            (losing("request lost", WRITE_0), [True, False]),
            (losing("reply lost", READ), [True, False]),
            (losing("reply lost", WRITE_1, READ, WRITE_0), [True, False]),
        ],
        ids=["reply to the 1", "reply to the 0", "the 0", "a reading back", "three replies"],
    )
    def test_a_loss_is_resolved_by_reading_back(self, meddle: Callable[[bytes], str], log: list[bool]) -> None:
        analyser = VirtualAnalyzer()
        with open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer:
            assert analyzer.start_calibration(1, confirm=True, timeout=8).active
        assert coils(analyser) == [(1, value) for value in log]

    def test_a_start_that_did_not_reach_the_analyser_is_not_repeated(self) -> None:
        analyser = VirtualAnalyzer()
        port = far_end(analyser, losing("request lost", WRITE_1))
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match=r"no reply.*its coil reads 0.*unknown") as caught,
        ):
            analyzer.start_calibration(1, confirm=True, timeout=1.5)
        assert caught.value.running is None
        assert sum(data[1:6] == WRITE_1 for data in port.writes) == 1
        assert coils(analyser) == [(1, False)]

    def test_a_refused_start_says_so(self) -> None:
        analyser = VirtualAnalyzer()
        answer = answering(analyser)
        port = HookPort(lambda port, data: port.at(0.001, rtu("01 85 03") if data[1] == 5 else answer(data)))
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match="exception 03") as caught,
        ):
            analyzer.start_calibration(1, confirm=True, timeout=8)
        assert caught.value.running is False

    def test_a_coil_that_does_not_take_the_one_and_a_group_that_stays_on_sample_are_an_error(self) -> None:
        answer = answering(VirtualAnalyzer())
        port = HookPort(lambda port, data: port.at(0.001, data if data[1] == 5 else answer(data)))
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match="acknowledged it; its coil reads 0") as caught,
        ):
            analyzer.start_calibration(1, confirm=True, timeout=1.5)
        assert caught.value.running is None

    def test_half_of_the_time_is_kept_for_the_way_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last repetition of a reading waits as long as it may: it must not use up the time for the 0."""
        monkeypatch.setattr(ModbusClient, "patience_s", 5.0)
        analyser = VirtualAnalyzer()
        lost_until = [0.0]

        def meddle(data: bytes) -> str:
            if data[1:6] == WRITE_1:
                lost_until[0] = time.monotonic() + 0.7
            return "reply lost" if data[1] in (1, 5) and time.monotonic() < lost_until[0] else ""

        with open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer:
            assert analyzer.start_calibration(1, confirm=True, timeout=1.2).active
        assert left_at_one(analyser) == []

    def test_an_echo_that_may_be_one_is_not_taken_for_the_reply_to_a_write(self) -> None:
        """As many bytes before every reply as could be a damaged echo hide whether the adapter echoes."""
        analyser = VirtualAnalyzer()
        answer = answering(analyser)
        port = HookPort(lambda port, data: port.at(0.001, data if data[1] == 5 else b"\0" * 7 + answer(data)))
        with open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer:
            client = ModbusClient(analyzer.link, 1, analyzer.protocol)
            with pytest.raises(ServomexError):
                client.write_coil(START_COILS[1], True, time.monotonic() + 2, confirm=True)

    def test_a_coil_that_stays_at_one_is_reported_plainly_and_in_time(self) -> None:
        analyser = VirtualAnalyzer()
        port = far_end(analyser, losing("request lost", WRITE_0, times=1000))
        with open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer:
            begun = time.monotonic()
            with pytest.raises(ServomexCalibrationError, match="could not be set back to 0") as caught:
                analyzer.start_calibration(1, confirm=True, timeout=0.8)
        assert time.monotonic() - begun < 1.8
        assert caught.value.running is None
        assert caught.value.cure == "Look at the panel"
        assert sum(data[1:6] == WRITE_0 for data in port.writes) > 2
        assert coils(analyser) == [(1, True)]

    def test_an_analyser_that_dies_after_the_one_is_reported_plainly(self) -> None:
        analyser = VirtualAnalyzer()
        dead = []

        def meddle(data: bytes) -> str:
            dead.extend([data] if data[1:6] == WRITE_1 else [])
            return "request lost" if dead and dead[0] is not data else ""

        with (
            open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match="could not be set back to 0"),
        ):
            analyzer.start_calibration(1, confirm=True, timeout=0.8)
        assert coils(analyser) == [(1, True)]

    def test_an_analyser_that_dies_before_the_one_was_not_asked(self) -> None:
        analyser = VirtualAnalyzer()
        dead = [False]
        with open_device(
            far_end(analyser, lambda _data: "request lost" if dead[0] else ""), protocol="modbus_rtu", gap=0.002
        ) as analyzer:
            dead[0] = True
            with pytest.raises(ServomexTimeoutError):
                analyzer.start_calibration(1, confirm=True, timeout=1)
        assert coils(analyser) == []

    def test_a_stop_that_did_not_reach_the_analyser_is_sent_again(self) -> None:
        analyser = VirtualAnalyzer()
        stop = WRITE_1.replace(b"\x05\0\0", b"\x05\0\x08")
        port = far_end(analyser, losing("request lost", stop, times=2))
        with open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer:
            analyzer.start_calibration(1, confirm=True, timeout=8)
            analyzer.stop_calibration(confirm=True, timeout=8)
        assert analyser.cal_gas(1) == 0
        assert coils(analyser).count((9, True)) == 1

    def test_a_coil_that_was_left_at_one_and_cannot_be_cleared_started_nothing(self) -> None:
        analyser = VirtualAnalyzer()
        analyser.refuses_calibration = True
        analyser.write_coils(0, [True])
        analyser.coil_log.clear()
        port = far_end(analyser, losing("request lost", WRITE_0, times=1000))
        with (
            open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer,
            pytest.raises(ServomexCalibrationError, match="was not sent: its coil was left at 1") as caught,
        ):
            analyzer.calibrate(1, confirm=True, timeout=1.5)
        assert caught.value.running is False
        assert coils(analyser) == []

    def test_the_neighbours_on_the_line_are_read_while_a_coil_cannot_be_set_back(self) -> None:
        """The analyser at address 1 dies after the 1; the one at address 2 still answers."""
        first, second = VirtualAnalyzer(address=1), VirtualAnalyzer(address=2)
        answers = {1: answering(first), 2: answering(second)}
        dead: list[bool] = []

        def end(port: HookPort, data: bytes) -> None:
            reply = answers[data[0]](data)
            dead.extend([True] if data[1:6] == WRITE_1 else [])
            if data[0] == 2 or not dead:
                port.at(0.001, reply)

        with (
            open_device(HookPort(end), protocol="modbus_rtu", gap=0.002) as analyzer,
            open_device(analyzer.link, protocol="modbus_rtu", address=2) as neighbour,
        ):
            failures: list[ServomexError] = []

            def start() -> None:
                try:
                    analyzer.start_calibration(1, confirm=True, timeout=4)
                except ServomexError as error:
                    failures.append(error)

            thread = threading.Thread(target=start)
            thread.start()
            waits = []
            while thread.is_alive():
                begun = time.monotonic()
                assert neighbour.poll(timeout=3)["I1"].value == 20.376
                waits.append(time.monotonic() - begun)
        assert len(failures) == 1
        assert max(waits) < 2.0
        assert len(waits) > 3


class TestUnplugged:
    def unplugging(
        self, line: VirtualLine, value: bool, monkeypatch: pytest.MonkeyPatch, back_after: float | None
    ) -> list[threading.Timer]:
        """Pull the cable when the analyser has heard this value; put it back later."""
        analyser = line.analysers[0]
        honest = analyser.write_coils
        timers: list[threading.Timer] = []

        def write(address: int, values: list[bool]) -> None:
            honest(address, values)
            if values == [value] and not timers:
                line.unplug()
                timers.append(threading.Timer(back_after or 0, line.plug))
                if back_after is not None:
                    timers[0].start()

        monkeypatch.setattr(analyser, "write_coils", write)
        return timers

    @pytest.mark.parametrize("value", [True, False])
    def test_the_zero_is_written_when_the_line_is_back(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        analyzer: Analyzer,
        monkeypatch: pytest.MonkeyPatch,
        value: bool,
    ) -> None:
        timers = self.unplugging(line, value, monkeypatch, back_after=0.3)
        with contextlib.suppress(ServomexCalibrationError):  # it is unknown whether the 1 was heard
            analyzer.start_calibration(1, confirm=True, timeout=6)
        timers[0].join()
        log = coils(analyser)
        assert log[0] == (1, True)
        assert set(log[1:]) == {(1, False)}
        assert left_at_one(analyser) == []

    def test_a_start_whose_reply_was_lost_with_the_line_is_seen_to_run(
        self, analyser: VirtualAnalyzer, line: VirtualLine, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        timers = self.unplugging(line, True, monkeypatch, back_after=0.05)
        assert analyzer.start_calibration(1, confirm=True, timeout=6).active
        timers[0].join()
        assert left_at_one(analyser) == []

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_an_interrupt_while_the_line_is_away_waits_for_the_zero(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        analyzer: Analyzer,
        monkeypatch: pytest.MonkeyPatch,
        interrupt: type[BaseException],
    ) -> None:
        timers = self.unplugging(line, True, monkeypatch, back_after=0.3)
        honest, left = SerialLink.pause, [2]

        def pause(link: SerialLink, seconds_s: float) -> None:
            if not line.plugged and left[0]:
                left[0] -= 1
                raise interrupt
            honest(link, seconds_s)

        monkeypatch.setattr(SerialLink, "pause", pause)
        with pytest.raises(interrupt):
            analyzer.start_calibration(1, confirm=True, timeout=6)
        timers[0].join()
        assert left == [0]
        assert left_at_one(analyser) == []
        assert analyser.cal_gas(1) == 0

    def test_an_error_of_another_kind_on_reopening_does_not_end_the_way_back(
        self, analyser: VirtualAnalyzer, line: VirtualLine, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        timers = self.unplugging(line, True, monkeypatch, back_after=0.05)
        honest, left = open_port, [1]

        def reopen(port: str, settings: SerialSettings) -> object:
            if left[0]:
                left[0] -= 1
                raise ServomexConfigurationError("two adapters have this serial number")
            return honest(port, settings)

        monkeypatch.setattr("servomex.port.connection.open_port", reopen)
        assert analyzer.start_calibration(1, confirm=True, timeout=6).active
        timers[0].join()
        assert left == [0]
        assert left_at_one(analyser) == []

    def test_a_line_that_stays_away_is_reported_plainly_within_the_deadline(
        self, analyser: VirtualAnalyzer, line: VirtualLine, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.unplugging(line, True, monkeypatch, back_after=None)
        begun = time.monotonic()
        with pytest.raises(ServomexCalibrationError, match="could not be set back to 0") as caught:
            analyzer.start_calibration(1, confirm=True, timeout=1)
        assert time.monotonic() - begun < 2
        assert caught.value.running is None
        line.plug()

    def test_the_next_start_clears_what_was_left(
        self, analyser: VirtualAnalyzer, line: VirtualLine, analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.unplugging(line, True, monkeypatch, back_after=None)
        analyser.cal_phase_s = 0.05
        with pytest.raises(ServomexCalibrationError):
            analyzer.start_calibration(1, confirm=True, timeout=0.5)
        assert left_at_one(analyser) == [1]
        line.plug()
        time.sleep(0.3)
        analyser.cal_phase_s = 5.0
        analyser.coil_log.clear()
        assert analyzer.start_calibration(1, confirm=True).active
        assert coils(analyser) == [(1, False), (1, True), (1, False)]


class TestInterrupt:
    @pytest.mark.parametrize("sign", [WRITE_1, READ, WRITE_0])
    @pytest.mark.parametrize("count", [1, 3])
    def test_an_interrupt_leaves_no_coil_at_one(self, sign: bytes, count: int) -> None:
        """Ctrl-C while the reply to one of the requests is waited for, and again while that is put right."""
        analyser = VirtualAnalyzer()
        left = [count]

        def meddle(data: bytes) -> str:
            if (data[1:6] == sign or left[0] < count) and left[0]:
                left[0] -= 1
                answering(analyser)(data)
                raise KeyboardInterrupt
            return ""

        with open_device(far_end(analyser, meddle), protocol="modbus_rtu", gap=0.002) as analyzer:
            with pytest.raises(KeyboardInterrupt):
                analyzer.start_calibration(1, confirm=True, timeout=8)
            assert left_at_one(analyser) == []
            assert coils(analyser).count((1, True)) <= 1
            assert analyser.cal_gas(1) == 0, "it was unknown whether it had started"
            left[0] = 0
            assert analyzer.poll(timeout=5)["I1"].value == 20.376

    def test_closing_from_another_thread_ends_the_attempts(
        self, line: VirtualLine, analyser: VirtualAnalyzer
    ) -> None:
        with open_device(line.url, protocol="modbus_rtu", gap=0.002) as analyzer:
            analyser.refuses_calibration = True
            thread = threading.Timer(0.3, analyzer.close)
            thread.start()
            begun = time.monotonic()
            with pytest.raises(ServomexError):
                analyzer.start_calibration(1, confirm=True, timeout=30)
            thread.join()
        assert time.monotonic() - begun < 3
