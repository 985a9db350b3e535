"""Lines that behave worse than a simple fault: each of these once gave a wrong value, an old one, or no end."""

import threading
import time

import pytest

from servomex import (
    ChannelStatus,
    SerialLink,
    SerialSettings,
    ServomexConnectionError,
    ServomexError,
    ServomexIllegalDataAddressError,
    ServomexTimeoutError,
    open_device,
)
from servomex.modbus.line import ModbusLine
from servomex.port import connection
from servomex.port.connect import open_port
from servomex.simulator import Faults, TcpServer, VirtualAnalyzer, VirtualLine
from servomex.simulator.device import IllegalAddressError
from servomex.testing import ScriptedPort
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import rtu

pytestmark = pytest.mark.virtual_time

MODES = ["modbus_rtu", "modbus_ascii"]


@pytest.mark.parametrize(("mode", "glitch"), [("modbus_rtu", b"\0"), ("modbus_ascii", b"\xff\x00\x01")])
def test_a_glitch_before_the_echo_does_not_make_it_an_analyser(mode: str, glitch: bytes) -> None:
    """`01 02 03 E8 ...`: the request for the analyser's state is a valid reply with three bytes to itself."""
    port = HookPort(lambda port, data: port.at(0.001, glitch + data))
    with pytest.raises(ServomexTimeoutError, match="no analyser found"):
        open_device(port, listen=1.0)
    with pytest.raises(ServomexError):
        open_device(port, protocol=mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_echo_with_glitches_in_front_is_still_distinguished_from_the_reply(mode: str) -> None:
    analyser = VirtualAnalyzer(mode=mode)
    analyser.fault = True
    answer = answering(analyser)
    count = [0]

    def far_end(port: HookPort, data: bytes) -> None:
        count[0] += 1
        port.at(0.001, (b"\0" if count[0] % 3 == 0 else b"") + data)
        port.at(0.02, answer(data))

    with open_device(HookPort(far_end), protocol=mode, gap=0.01) as analyzer:
        for _ in range(10):
            frame = analyzer.poll(timeout=3)
            assert frame.analyser.fault is True
            assert frame["I1"].value == 20.376
        assert analyzer.link.state(ModbusLine).echo is True


@pytest.mark.parametrize("mode", MODES)
def test_a_fence_that_is_answered_twice_shows_an_echo(mode: str) -> None:
    """The echo of the first read was lost, so that the line seems to have none: the next would be believed."""
    answer = answering(VirtualAnalyzer(mode=mode))

    def far_end(port: HookPort, data: bytes) -> None:
        if len(port.writes) > 1:
            port.at(0.001, data)
        port.at(0.02, answer(data))

    with open_device(HookPort(far_end), protocol=mode, identify=False) as analyzer:
        assert analyzer.loopback(b"ab") == b"ab"
        assert analyzer.link.state(ModbusLine).echo is True


@pytest.mark.parametrize("data", [1, 3, 10])
def test_a_state_reply_of_another_length_is_refused(data: int) -> None:
    answer = answering(VirtualAnalyzer())
    wrong = rtu(f"01 02 {data:02X}" + "00" * data)
    port = HookPort(lambda port, sent: port.at(0.001, wrong if sent[3:6] == b"\xe8\0\x10" else answer(sent)))
    with open_device(port, protocol="modbus_rtu", identify=False) as analyzer, pytest.raises(ServomexError):
        analyzer.analyser_status(timeout=0.5)


def test_duplicated_replies_without_a_gap_never_answer_the_next_request() -> None:
    analyser = VirtualAnalyzer(faults=Faults(duplicate=0.4, seed=5))
    line = VirtualLine(analyser, pace=True)
    analyser["I2"].status = ChannelStatus(fault=True)
    with open_device(line.url, protocol="modbus_rtu", gap=0, identify=False) as analyzer:
        for turn in range(40):
            channel = ("I1", "I2")[turn % 2]
            try:
                status = analyzer.status(channel)
            except ServomexError:
                continue
            assert status.fault is (channel == "I2")


def test_a_refused_state_does_not_hide_a_populated_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    analyser = VirtualAnalyzer()
    line = VirtualLine(analyser)
    with open_device(line.url, protocol="modbus_rtu", gap=0) as analyzer:
        inputs = analyser.discrete_inputs

        def refusing(address: int, count: int) -> list[bool]:
            if address <= 8 < address + count:
                raise IllegalAddressError
            return inputs(address, count)

        monkeypatch.setattr(analyser, "discrete_inputs", refusing)
        with pytest.raises(ServomexIllegalDataAddressError):
            analyzer.poll(timeout=5)
        monkeypatch.undo()
        assert "I2" in analyzer.poll(timeout=5)


def test_a_sweep_that_had_to_wait_is_read_again_from_its_values() -> None:
    """The state must be of the same moment as the value: here calibration ends while a state read is repeated."""
    analyser = VirtualAnalyzer()
    analyser["I1"].status = ChannelStatus(calibrating=True)
    answer = answering(analyser)
    lost = [False]

    def far_end(port: HookPort, data: bytes) -> None:
        if lost[0] and data[1:4] == b"\x02\0\0":
            lost[0] = False
            analyser["I1"].status = ChannelStatus()
            analyser["I1"].signal = lambda _seconds: 5.0
            return
        port.at(0.001, answer(data))

    with open_device(HookPort(far_end), protocol="modbus_rtu", gap=0.005) as analyzer:
        lost[0] = True
        reading = analyzer.poll(timeout=5)["I1"]
    assert (reading.value, reading.status.words) == (5.0, ())


def test_a_reading_that_comes_long_after_its_deadline_is_refused() -> None:
    """The program stood still in the middle of a sweep: the values would look fresh, and are not."""
    answer = answering(VirtualAnalyzer())
    stall = [False]

    def far_end(port: HookPort, data: bytes) -> None:
        if stall[0] and data[1:4] == b"\x02\x03\xe8":
            threading.Event().wait(0.8)
        port.at(0.0, answer(data))

    with open_device(HookPort(far_end), protocol="modbus_rtu", gap=0.005) as analyzer:
        stall[0] = True
        with pytest.raises(ServomexTimeoutError):
            analyzer.poll(timeout=0.4)


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_a_reply_that_takes_longer_than_the_call_may_is_not_awaited(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode), baudrate=2400, pace=True)
    settings = SerialSettings(baudrate=2400)
    with open_device(line.url, protocol=mode, serial_settings=settings, retries=0) as analyzer:
        started = time.monotonic()
        with pytest.raises(ServomexTimeoutError, match="the time was up before the reading was complete"):
            analyzer.poll(timeout=0.3)
        assert time.monotonic() - started < 0.5
        assert analyzer.poll(timeout=20)["I1"].value == 20.376


def test_a_port_that_only_says_that_bytes_wait_delays_no_call() -> None:
    class Boastful(ScriptedPort):
        @property
        def in_waiting(self) -> int:
            return 5

    with SerialLink(Boastful()) as link:
        assert link.settle(0.0, time.monotonic()) == (b"", True)
        assert link.read(time.monotonic() + 0.1) == b""


def test_a_line_that_never_stops_does_not_hold_a_call() -> None:
    answer = answering(VirtualAnalyzer())
    babble = [False]

    def far_end(port: HookPort, data: bytes) -> None:
        if not babble[0]:
            port.at(0.0, answer(data))
            return
        for number in range(200):
            port.at(0.01 + 0.03 * number, b"U")

    with open_device(HookPort(far_end), protocol="modbus_rtu", gap=0.005) as analyzer:
        babble[0] = True
        started = time.monotonic()
        with pytest.raises(ServomexError):
            analyzer.poll(timeout=0.2)
        assert time.monotonic() - started < 0.35


@pytest.mark.real_time
@pytest.mark.alone
def test_a_late_reply_over_a_socket_is_dropped_at_once() -> None:
    """A socket shows its bytes one by one: dropping 145 of them must not take 145 silences."""
    analyser = VirtualAnalyzer()
    line = VirtualLine(analyser)
    with TcpServer(line) as server, open_device(server.port, protocol="modbus_rtu") as analyzer:
        analyser.faults.late = 0.4
        with pytest.raises(ServomexTimeoutError):
            analyzer.poll(timeout=0.2)
        analyser.faults.late = 0.0
        threading.Event().wait(0.4)
        assert analyzer.poll(timeout=1.5)["I1"].value == 20.376


@pytest.mark.parametrize("mode", MODES)
def test_a_glitch_behind_every_reply_is_harmless(mode: str) -> None:
    answer = answering(VirtualAnalyzer(mode=mode))
    port = HookPort(lambda port, data: port.at(0.001, answer(data) + b"\0"))
    with open_device(port, protocol=mode, gap=0.005) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376
        assert analyzer.dropped_frames == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_slow_analyser_on_an_echoing_line_is_read(mode: str) -> None:
    answer = answering(VirtualAnalyzer(mode=mode))

    def far_end(port: HookPort, data: bytes) -> None:
        port.at(0.001, data)
        port.at(0.3, answer(data))

    with open_device(HookPort(far_end), protocol=mode, gap=0.005) as analyzer:
        before = analyzer.dropped_frames
        assert analyzer.poll(timeout=3)["I1"].value == 20.376
        assert analyzer.dropped_frames == before


def test_after_close_nothing_is_read_on_a_shared_link() -> None:
    line = VirtualLine(VirtualAnalyzer())
    with SerialLink(line.url) as link:
        analyzer = open_device(link, protocol="modbus_rtu")
        analyzer.close()
        del line.heard[:]
        with pytest.raises(ServomexConnectionError, match="closed"):
            analyzer.poll()
        assert line.heard == []


def test_closing_wins_over_an_opening_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    line = VirtualLine(VirtualAnalyzer())
    link = SerialLink(line.url)
    connecting, go_on = threading.Event(), threading.Event()
    connect = link._connect

    def slow() -> None:
        connecting.set()
        go_on.wait(5)
        connect()

    monkeypatch.setattr(link, "_connect", slow)
    opener = threading.Thread(target=link.open)
    opener.start()
    connecting.wait(5)
    closer = threading.Thread(target=link.close)
    closer.start()
    go_on.set()
    opener.join(5)
    closer.join(5)
    assert link.is_closed
    assert not link.is_open


@pytest.mark.usefixtures("quick_reconnect")
@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
def test_a_port_that_takes_long_to_reopen_holds_no_call(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network address does whose host is off: it may take five seconds to fail."""
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.05))
    go_on = threading.Event()

    def slow(port: str, settings: SerialSettings) -> object:
        go_on.wait(10)
        return open_port(port, settings)

    with open_device(line.url, protocol=mode) as analyzer:
        monkeypatch.setattr(connection, "open_port", slow)
        line.unplug()
        line.plug()
        threading.Event().wait(0.2)
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(ServomexConnectionError):
                analyzer.poll(timeout=0.2)
            assert time.monotonic() - started < 0.35
        go_on.set()
        deadline = time.monotonic() + 5
        while not analyzer.link.is_open and time.monotonic() < deadline:
            with pytest.raises(ServomexError):
                analyzer.poll(timeout=0.001)
            threading.Event().wait(0.05)
        assert analyzer.poll(timeout=2)["I1"].value == 20.376
        line.unplug()
        line.plug()
        go_on.clear()
        threading.Event().wait(0.2)
        started = time.monotonic()
        analyzer.close()
        assert time.monotonic() - started < 1.0
    go_on.set()
