"""What goes over the wire in the Modbus modes, byte by byte, from the manual and the Modbus specification.

The virtual analyser shares pymodbus's codec with the driver, so agreeing with it would prove little.
"""

import logging
from collections.abc import Iterable

import pytest

from servomex import (
    ServomexFrameError,
    ServomexIllegalDataAddressError,
    ServomexIllegalDataValueError,
    ServomexIllegalFunctionError,
    ServomexModbusError,
    ServomexTimeoutError,
)
from tests.helpers.modbus_bytes import Framing, ascii_, rtu
from tests.helpers.scripts import Fence, opened

pytestmark = pytest.mark.virtual_time


def block(value: str, name: bytes, unit: bytes) -> str:
    return value + name.ljust(6).hex() + unit.ljust(4, b"\0").hex()


EMPTY = block("00000000", b"", b"")
REGISTERS = (
    block("41A3020C", b"Oxygen", b"%")  # 20.376
    + block("3DAC0831", b"CO", b"%")  # 0.084
    + block("3E800000", b"CO\x82", b"%")  # 0.25
    + EMPTY * 5
    + block("40800000", b"", b" mA") * 2  # 4 mA
)
ANALYSER = (
    "01 02 03E8 0010",
    "01 02 02 02 24",
)  # maintenance; group 2 on calibration gas 1, group 3 would use gas 2
PROBE = ("01 02 03E8 0002", "01 02 01 02")
VALUES = ("01 04 0000 0046", "01 04 8C" + REGISTERS)
STATES = ("01 02 0000 0050", "01 02 0A 01 02 84 00 00 00 00 00 00 11")
FIRST_SWEEP = (PROBE, VALUES, STATES, ANALYSER, ANALYSER)
"""Another read could bring two bytes as well, so the analyser's state is read twice when it is new."""


def framed(frame: Framing, dialogue: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(frame(request), frame(reply)) for request, reply in dialogue]


@pytest.mark.parametrize(("protocol", "frame"), [("modbus_rtu", rtu), ("modbus_ascii", ascii_)])
def test_a_sweep_byte_by_byte(protocol: str, frame: Framing) -> None:
    port = Fence(framed(frame, FIRST_SWEEP))
    with opened(port, protocol) as analyzer:
        swept = analyzer.poll()
    port.check()
    assert swept.channels == ("I1", "I2", "I3", "E1", "E2")
    assert [reading.name for reading in swept] == ["Oxygen", "CO", "CO₂", None, None]
    assert [reading.value for reading in swept] == [20.376, 0.084, 0.25, 4.0, None]
    assert [reading.unit_text for reading in swept] == ["%", "%", "%", "mA", "mA"]
    assert swept["I1"].status.words == ("fault",)
    assert swept["I2"].status.words == ("maintenance",)
    assert swept["I3"].status.words == ("calibrating", "alarm 4")
    assert swept["E2"].status.words == ("fault", "alarm 1")
    assert (swept.analyser.fault, swept.analyser.maintenance) == (False, True)
    assert swept.analyser.cal_text == "S1C1S2S1"
    assert swept.raw == b"".join(frame(reply) for _, reply in (VALUES, STATES, ANALYSER))


def test_the_literal_bytes_of_the_requests() -> None:
    """From the specification's own examples of the CRC and LRC, so that the helpers above are pinned as well."""
    assert rtu("01 02 03E8 0010") == bytes.fromhex("01 02 03 E8 00 10 F9 B6")
    assert rtu("01 04 0000 0046") == bytes.fromhex("01 04 00 00 00 46 71 F8")
    assert ascii_("01 02 0000 0050") == b":010200000050AD\r\n"


def test_loopback_byte_by_byte() -> None:
    port = Fence([(rtu(PROBE[0]), rtu(PROBE[1]))])
    with opened(port) as analyzer:
        assert analyzer.loopback(b"\xa5\x37") == b"\xa5\x37"
    assert port.writes[-1] == bytes.fromhex("01 08 00 00 A5 37 DA 8D")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, ServomexIllegalFunctionError),
        (2, ServomexIllegalDataAddressError),
        (3, ServomexIllegalDataValueError),
        (4, ServomexModbusError),
    ],
)
@pytest.mark.parametrize(("protocol", "frame"), [("modbus_rtu", rtu), ("modbus_ascii", ascii_)])
def test_exceptions_are_errors_of_their_own_and_are_not_repeated(
    protocol: str, frame: Framing, code: int, error: type[ServomexModbusError]
) -> None:
    refusal = frame(f"01 84 {code:02X}")
    dialogue = [*framed(frame, FIRST_SWEEP), (frame("01 04 0007 0007"), refusal)]
    if code == 2:  # it may be another instrument: E2 shows whether it is
        dialogue.append((frame("01 04 003F 0007"), frame("01 04 0E" + block("40800000", b"", b" mA"))))
    port = Fence(dialogue)
    with opened(port, protocol) as analyzer:
        analyzer.poll()
        with pytest.raises(error) as caught:
            analyzer.read_channel("I2")
    port.check()
    assert type(caught.value) is error
    assert f"exception {code:02d}" in str(caught.value)
    assert caught.value.context.function_code == 4
    assert caught.value.context.register == 30008
    assert caught.value.context.response == refusal


WRONG_REPLIES = {
    "another function": "01 02 0E" + "00" * 14,
    "another address": "02 04 0E" + "00" * 14,
    "a block too many": "01 04 1C" + block("41A3020C", b"Oxygen", b"%") * 2,
    "a register too few": "01 04 0C" + "00" * 12,
    "another exception": "01 82 02",
}


@pytest.mark.parametrize(("protocol", "frame"), [("modbus_rtu", rtu), ("modbus_ascii", ascii_)])
@pytest.mark.parametrize("reply", WRONG_REPLIES.values(), ids=WRONG_REPLIES)
def test_a_reply_to_something_else_is_refused(protocol: str, frame: Framing, reply: str) -> None:
    port = Fence([*framed(frame, FIRST_SWEEP), (frame("01 04 0000 0007"), frame(reply))])
    with opened(port, protocol, retries=0) as analyzer:
        analyzer.poll()
        with pytest.raises((ServomexFrameError, ServomexTimeoutError)):
            analyzer.read_channel("I1", timeout=0.3)


def test_every_single_byte_error_of_a_reply_is_refused() -> None:
    good = rtu("01 04 0E" + block("41A3020C", b"Oxygen", b"%"))
    ask = rtu("01 04 0000 0007")
    first, states = framed(rtu, FIRST_SWEEP), framed(rtu, [STATES])
    for place in range(len(good)):
        damaged = good[:place] + bytes([good[place] ^ 0x11]) + good[place + 1 :]
        port = Fence([*first, (ask, damaged), (ask, good), *states])
        with opened(port, retries=1) as analyzer:
            analyzer.poll()
            assert analyzer.read_channel("I1", timeout=2.0).value == 20.376
        port.check()


def test_noise_before_and_bytes_after_a_reply_are_not_part_of_it() -> None:
    good = rtu("01 04 0E" + block("41A3020C", b"Oxygen", b"%"))
    noisy = (rtu("01 04 0000 0007"), b"\x00\xff\x02" + good)
    port = Fence([*framed(rtu, FIRST_SWEEP), noisy, *framed(rtu, [STATES])])
    with opened(port) as analyzer:
        analyzer.poll()
        assert analyzer.read_channel("I1").value == 20.376
    port.check()


def test_surplus_bytes_behind_a_reply_are_followed_by_a_fence() -> None:
    """A second reply right behind the first may be followed by more: nothing is believed until that is settled.

    From then on the line counts as one that doubles replies: one that came before is asked for again, and the last
    is followed by a fence as well.
    """
    good = rtu("01 04 0E" + block("41A3020C", b"Oxygen", b"%"))
    doubled = (rtu("01 04 0000 0007"), good + good)
    port = Fence([*framed(rtu, FIRST_SWEEP), doubled, *framed(rtu, [STATES, STATES])])
    with opened(port) as analyzer:
        analyzer.poll()
        before = len(port.writes)
        assert analyzer.read_channel("I1").value == 20.376
    port.check()
    assert [sent[1] for sent in port.writes[before:]] == [4, 8, 2, 2, 8]


def test_every_byte_is_traced_once_in_both_directions(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "servomex.wire")
    port = Fence([(rtu(PROBE[0]), rtu(PROBE[1]))])
    with opened(port) as analyzer:
        analyzer.loopback(b"\xa5\x37")
    traced = [record.getMessage() for record in caplog.records if record.name == "servomex.wire"]
    assert traced[0] == "scripted > 01 02 03 e8 00 02 79 bb"
    assert traced[1] == "scripted < " + rtu(PROBE[1]).hex(" ")
    assert traced[-2:] == ["scripted > 01 08 00 00 a5 37 da 8d", "scripted < 01 08 00 00 a5 37 da 8d"]
    assert len(traced) == 6
