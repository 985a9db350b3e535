"""When a request is repeated, how long its reply may pause, and what is said when it is given up."""

import time
from collections.abc import Callable

import pytest

from servomex import ServomexConfigurationError, ServomexModbusError, ServomexTimeoutError, open_device
from servomex.modbus.line import ModbusLine
from servomex.port.link import SerialLink
from servomex.registers import Span
from servomex.simulator import VirtualAnalyzer
from servomex.testing import ScriptedPort
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import ascii_, rtu

pytestmark = pytest.mark.virtual_time

MODES = {"modbus_rtu": rtu, "modbus_ascii": ascii_}
READ, WRITE = 4, 5


def function_of(data: bytes) -> int:
    return int(data[3:5], 16) if data[:1] == b":" else data[1]


def busy(mode: str, code: int, function: int, times: int) -> tuple[HookPort, VirtualAnalyzer, Callable[[], int]]:
    """A port whose far end refuses the first requests of a function with an exception; and how many there were."""
    analyser = VirtualAnalyzer(mode=mode)
    answer = answering(analyser)
    asked: list[bytes] = []

    def end(port: HookPort, data: bytes) -> None:
        asked.append(data)
        if function_of(data) == function and count() <= times:
            port.at(0.01, MODES[mode](f"01 {function | 0x80:02X} {code:02X}"))
        else:
            port.at(0.01, answer(data))

    def count() -> int:
        return sum(function_of(data) == function for data in asked)

    return HookPort(end), analyser, count


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [0x05, 0x06, 0x0A, 0x0B])
def test_a_read_that_found_the_analyser_busy_is_repeated(mode: str, code: int) -> None:
    port, _, count = busy(mode, code, READ, 1)
    with open_device(port, protocol=mode, identify=False) as analyzer:
        assert analyzer.poll(timeout=5).ok
        assert count() > 1


@pytest.mark.parametrize("mode", MODES)
def test_a_device_failure_is_not_repeated(mode: str) -> None:
    port, _, count = busy(mode, 0x04, READ, 1)
    with open_device(port, protocol=mode, identify=False) as analyzer:
        with pytest.raises(ServomexModbusError, match="exception 04"):
            analyzer.poll(timeout=5)
        assert count() == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [0x05, 0x06])
def test_a_write_that_found_the_analyser_busy_is_not_repeated(mode: str, code: int) -> None:
    port, analyser, count = busy(mode, code, WRITE, 1)
    with open_device(port, protocol=mode, identify=False) as analyzer:
        analyzer.poll(timeout=5)
        assert analyzer.client is not None
        with pytest.raises(ServomexModbusError, match=f"exception {code:02X}"):
            analyzer.client.write_coil(Span(0, 1), True, time.monotonic() + 5, confirm=True)
        assert count() == 1
        assert not analyser.coil_log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pause_s", [0.3, 0.6, 1.5])
def test_a_reply_may_pause_where_there_is_time_for_it(mode: str, pause_s: float) -> None:
    """As through a radio modem or a loaded network; the second call knows of the pauses."""
    answer = answering(VirtualAnalyzer(mode=mode))
    free_at = 0.0

    def end(port: HookPort, data: bytes) -> None:
        """Answer in order: a reply begins when the one before it has ended."""
        nonlocal free_at
        reply = answer(data)
        begins_s = max(0.0, free_at - time.monotonic()) + 0.01
        free_at = time.monotonic() + begins_s + pause_s
        port.schedule([reply[:5]], interval=begins_s)
        port.schedule([reply[5:]], interval=begins_s + pause_s)

    with open_device(HookPort(end), protocol=mode, identify=False) as analyzer:
        assert analyzer.poll(timeout=60).ok
        before = analyzer.dropped_frames
        assert analyzer.poll(timeout=60).ok
        assert analyzer.dropped_frames == before


@pytest.mark.parametrize(("timeout", "said"), [(40, True), (0.3, False)])
def test_given_up_before_the_deadline_it_names_the_retries(timeout: float, said: bool) -> None:
    port = HookPort(lambda _port, _data: None)
    with open_device(port, protocol="modbus_rtu", identify=False, retries=2) as analyzer:
        with pytest.raises(ServomexTimeoutError, match="no reply from address 1") as caught:
            analyzer.poll(timeout=timeout)
        assert ("it was given up after 2 repetitions" in caught.value.message) is said
        assert ("Allow more retries" in caught.value.cure) is said


class TestSharedLine:
    @pytest.mark.parametrize("shared", [True, False, None])
    def test_it_reaches_the_line(self, shared: bool | None) -> None:
        with open_device(ScriptedPort(), protocol="modbus_rtu", identify=False, shared_line=shared) as analyzer:
            assert analyzer.link.state(ModbusLine).others.shared is bool(shared)

    def test_an_open_link_has_its_own(self) -> None:
        with (
            SerialLink(ScriptedPort()) as link,
            pytest.raises(ServomexConfigurationError, match="shared_line belongs to the SerialLink"),
        ):
            open_device(link, protocol="modbus_rtu", identify=False, shared_line=True)
