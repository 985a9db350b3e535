"""Stray bytes before each reply, as where an RS485 driver switches, are no echo; an echo is still recognised."""

import pytest

from servomex import ServomexError, open_device
from servomex.modbus.line import ModbusLine
from servomex.modbus.replies import is_glitch
from servomex.simulator import VirtualAnalyzer
from tests.helpers.calibrating import coils, shorten_waits
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import Framing, ascii_, rtu

FRAMINGS: list[tuple[str, Framing]] = [("modbus_rtu", rtu), ("modbus_ascii", ascii_)]
GLITCHES = [b"\0", b"\xff", b"\xfe", b"\0\0", b"\xff\0\xff"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


@pytest.mark.parametrize("glitch", GLITCHES, ids=[glitch.hex() for glitch in GLITCHES])
@pytest.mark.parametrize(("mode", "frame"), FRAMINGS)
def test_a_calibration_starts_though_a_glitch_comes_before_each_reply(
    mode: str, frame: Framing, glitch: bytes
) -> None:
    analyser = VirtualAnalyzer(mode=mode)
    answer = answering(analyser)
    port = HookPort(lambda port, data: port.at(0.001, glitch + answer(data)))
    with open_device(port, protocol=mode, gap=0.002) as analyzer:
        assert analyzer.link.state(ModbusLine).echo is False
        assert analyzer.start_calibration(1, confirm=True).active
    writes = [data for data in port.writes if data in (frame("01 05 0000 FF00"), frame("01 05 0000 0000"))]
    assert writes == [frame("01 05 0000 FF00"), frame("01 05 0000 0000")]
    assert coils(analyser) == [(1, True), (1, False)]


@pytest.mark.parametrize("glitch", [b"", *GLITCHES], ids=["none", *(glitch.hex() for glitch in GLITCHES)])
@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_an_echo_behind_a_glitch_is_never_taken_for_the_reply_to_a_write(mode: str, glitch: bytes) -> None:
    """The analyser answers reads, and hears no write."""
    analyser = VirtualAnalyzer(mode=mode)
    answer = answering(analyser)

    def far_end(port: HookPort, data: bytes) -> None:
        port.at(0.001, glitch + data)
        writes = (data[3:5] == b"05") if mode == "modbus_ascii" else data[1] == 5
        if not writes:
            port.at(0.01, answer(data))

    with open_device(HookPort(far_end), protocol=mode, gap=0.002) as analyzer:
        assert analyzer.link.state(ModbusLine).echo is True
        with pytest.raises(ServomexError) as caught:
            analyzer.start_calibration(1, confirm=True, timeout=1.5)
    assert "acknowledged" not in str(caught.value)
    assert coils(analyser) == []


REQUEST = bytes.fromhex("01 02 03 E8 00 02 79 BB")


@pytest.mark.parametrize(
    ("front", "glitch"),
    [
        (b"", True),
        (b"\0", True),
        (b"\xff\xff\xff", True),
        (b"\xff" * 4, False),
        (REQUEST[-1:], False),
        (REQUEST[-3:], False),
        (REQUEST[:2], False),
        (REQUEST[1:], False),
        (b"\0" + REQUEST[1:], False),
    ],
)
def test_what_may_be_part_of_an_echo_is_no_glitch(front: bytes, glitch: bool) -> None:
    assert is_glitch(front, REQUEST) is glitch
