"""The virtual analyser: literal requests and replies, the calibration cycle, and the broadcast."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servomex.enums import ProtocolKind
from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer, VirtualLine, constant, noise, ramp, sine
from servomex.simulator.line import RX_BUFFER
from tests.helpers.bench import Bench, Clock
from tests.helpers.frames import REAL
from tests.helpers.modbus_bytes import LOOPBACK, OXYGEN, PROBE, STATE, VALUE_OF_I1, Framing, ascii_, rtu

START_GROUP_1, END_OF_START = bytes.fromhex("01 05 00 00 FF 00 8C 3A"), bytes.fromhex("01 05 00 00 00 00 CD CA")
STOP_ALL, END_OF_STOP = bytes.fromhex("01 05 00 08 FF 00 0D F8"), bytes.fromhex("01 05 00 08 00 00 4C 08")


@pytest.fixture
def bench() -> Bench:
    return Bench()


FRAMINGS = pytest.mark.parametrize(
    ("mode", "framed"), [("modbus_rtu", rtu), ("modbus_ascii", ascii_)], ids=["RTU", "ASCII"]
)


@pytest.mark.parametrize(
    ("mode", "request_", "reply"),
    [
        ("modbus_rtu", PROBE, STATE),
        ("modbus_rtu", LOOPBACK, LOOPBACK),
        ("modbus_rtu", VALUE_OF_I1, OXYGEN + b"\xa5\xcd"),
        ("modbus_rtu", START_GROUP_1, START_GROUP_1),
        ("modbus_ascii", b":010203E8001002\r\n", b":0102020000FB\r\n"),
        ("modbus_ascii", b":01080000A5371B\r\n", b":01080000A5371B\r\n"),
        ("modbus_ascii", b":010400000007F4\r\n", b":" + OXYGEN.hex().upper().encode() + b"5C\r\n"),
    ],
)
def test_the_literal_bytes_of_requests_and_replies(mode: str, request_: bytes, reply: bytes) -> None:
    assert Bench(mode).ask(request_).hex(" ") == reply.hex(" ")


@FRAMINGS
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("01 03 0000 0001", "83 01"),
        ("01 06 0000 0001", "86 01"),
        ("01 08 0003 3B00", "88 01"),
        ("01 04 0040 0007", "84 02"),
        ("01 04 0000 0047", "84 02"),
        ("01 02 0000 0051", "82 02"),
        ("01 02 03E8 0011", "82 02"),
        ("01 01 0000 000A", "81 02"),
        ("01 05 0004 FF00", "85 02"),
        ("01 0F 0000 0005 01 1F", "8F 02"),
    ],
)
def test_what_the_instrument_does_not_have_is_refused(
    mode: str, framed: Framing, request_: str, code: str
) -> None:
    bench = Bench(mode)
    assert bench.ask(framed(request_)) == framed("01 " + code)
    assert bench.analyser.coil_log == []


@pytest.mark.parametrize(
    "mode",
    [
        "modbus_rtu",
        "modbus_ascii",
    ],
)
def test_a_function_that_is_unknown_is_refused(mode: str) -> None:
    framed = ascii_ if mode == "modbus_ascii" else rtu
    assert Bench(mode).ask(framed("01 41")) == framed("01 C1 01")


@FRAMINGS
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("01 04 0000 0000", "84 03"),
        ("01 04 0000 007E", "84 03"),
        ("01 02 0000 0000", "82 03"),
        ("01 0F 0000 0000 00", "8F 03"),
    ],
)
def test_a_count_that_cannot_be_is_refused_as_invalid_data(
    mode: str, framed: Framing, request_: str, code: str
) -> None:
    assert Bench(mode).ask(framed(request_)) == framed("01 " + code)


@FRAMINGS
def test_a_coil_takes_only_the_two_values_of_the_specification(mode: str, framed: Framing) -> None:
    bench = Bench(mode)
    assert bench.ask(framed("01 05 0000 1234")) == framed("01 85 03")
    assert bench.analyser.coil_log == []


@FRAMINGS
@given(body=st.binary(min_size=1, max_size=20), noise=st.binary(max_size=20))
@example(body=bytes.fromhex("01 0F 0000 0004 02 0F"), noise=b":GG0203E8001002\r\n")
@example(body=bytes.fromhex("01 08 0000"), noise=b":zz\r\n")
def test_nothing_that_is_written_can_break_it(mode: str, framed: Framing, body: bytes, noise: bytes) -> None:
    bench = Bench(mode)
    for data in (noise, framed(body.hex()), framed("01" + body.hex()), framed("01 0F" + body.hex())):
        bench.ask(data)
    assert bench.ask(framed("01 02 03E8 0002")) == framed("01 02 01 00")


def test_a_refused_loopback_does_not_change_the_delimiter_of_modbus_ascii() -> None:
    bench = Bench("modbus_ascii")
    assert bench.ask(ascii_("01 08 0003 3B00")) == ascii_("01 88 01")
    for fresh in (bench, Bench("modbus_ascii")):
        assert fresh.ask(ascii_("01 08 0000 A537")) == b":01080000A5371B\r\n"


@FRAMINGS
def test_requests_for_others_and_damaged_ones_are_ignored(mode: str, framed: Framing) -> None:
    bench, good = Bench(mode), framed("01 02 03E8 0010")
    assert bench.ask(framed("02 02 03E8 0010")) == b""
    assert bench.ask(framed("00 05 0000 FF00")) == b""
    for place in range(len(good)):
        assert bench.ask(good[:place] + bytes([good[place] ^ 0x04]) + good[place + 1 :]) == b"", place
    assert bench.ask(good) == framed("01 02 02 0000")
    assert bench.analyser.coil_log == []


@FRAMINGS
def test_a_request_may_come_in_pieces_but_not_with_a_pause_between(mode: str, framed: Framing) -> None:
    bench, good = Bench(mode), framed("01 02 03E8 0010")
    for cut in range(1, len(good)):
        bench.ask(good[:cut])
        bench.pass_(0.04)
        bench.line.write(good[cut:])
        assert bench.take() == framed("01 02 02 0000"), cut
    bench.ask(good[:4])
    assert bench.ask(good[4:]) == b""
    assert bench.ask(good) == framed("01 02 02 0000")


def test_only_the_analyser_that_is_asked_answers() -> None:
    clock = Clock()
    analysers = [VirtualAnalyzer(address=number, clock=clock) for number in (1, 7, 247)]
    line = VirtualLine(*analysers, clock=clock)
    line.open(19200)
    for number in (1, 7, 247):
        line.write(rtu(f"{number:02X} 02 03E8 0010"))
        assert line.take(100) == rtu(f"{number:02X} 02 02 0000")


def test_every_analyser_forgets_an_incomplete_request_after_a_silence() -> None:
    clock = Clock()
    line = VirtualLine(VirtualAnalyzer(clock=clock), VirtualAnalyzer(address=2, clock=clock), clock=clock)
    line.open(19200)
    line.write(b"\x02\x04\x00")
    clock.now += 1.0
    line.write(rtu("02 02 03E8 0010"))
    assert line.take(100) == rtu("02 02 02 0000")


def test_values_names_and_units_are_those_of_the_moment(bench: Bench) -> None:
    bench.analyser["I1"].signal = constant(None)
    bench.analyser["I1"].name = "CO₂"
    bench.analyser["I1"].unit = "vpm"
    assert bench.ask(VALUE_OF_I1)[:-2].hex(" ") == "01 04 0e 7f c0 00 00 43 4f 82 20 20 20 76 70 6d 00"


def test_a_block_of_a_channel_that_is_not_there_has_no_name(bench: Bench) -> None:
    assert bench.ask(rtu("01 04 0015 0007"))[3:-2] == bytes(4) + b"      " + bytes(4)


def test_a_device_may_refuse_gaps_and_long_reads(bench: Bench) -> None:
    bench.analyser.refuses_gaps = True
    assert bench.ask(rtu("01 04 0000 0046")) == rtu("01 84 02")
    assert bench.ask(rtu("01 02 03E8 0010")) == rtu("01 82 02")
    assert bench.ask(rtu("01 04 0000 0015"))[2] == 42
    bench.analyser.largest_read = 2
    assert bench.ask(rtu("01 04 0000 0015")) == rtu("01 84 02")
    assert bench.ask(rtu("01 04 0000 000E"))[2] == 28


def state_bits(bench: Bench) -> str:
    """Group bits 11009 and 11010 of group 1, then the calibration bit of I1."""
    groups, channel = bench.ask(rtu("01 02 03F0 0008"))[3], bench.ask(rtu("01 02 0000 0008"))[3]
    return f"{groups & 1}{groups >> 1 & 1}{channel >> 2 & 1}"


def test_a_start_runs_both_gases_and_ends_on_sample(bench: Bench) -> None:
    bench.analyser.cal_phase_s = 100.0
    assert state_bits(bench) == "000"
    assert bench.ask(START_GROUP_1) == START_GROUP_1
    assert state_bits(bench) == "101"
    assert bench.analyser.analyser_status().cal_text == "C1S1S1S1"
    assert bench.analyser.status("I2") == ChannelStatus()
    bench.pass_(100.0)
    assert state_bits(bench) == "111"
    bench.pass_(100.0)
    assert state_bits(bench) == "000"
    assert bench.ask(rtu("01 01 0000 0009")) == rtu("01 01 02 01 00"), "the coil must stay as it was written"


def test_a_coil_that_stayed_at_1_swallows_the_next_start(bench: Bench) -> None:
    bench.ask(START_GROUP_1)
    bench.pass_(60.0)
    bench.ask(START_GROUP_1)
    assert bench.analyser.cal_gas(1) == 0
    bench.ask(END_OF_START)
    bench.ask(START_GROUP_1)
    assert bench.analyser.cal_gas(1) == 1


def test_the_stop_coil_stops_every_group_on_its_change_to_1_only(bench: Bench) -> None:
    assert bench.ask(rtu("01 0F 0000 0004 01 0A")) == rtu("01 0F 0000 0004")
    assert [bench.analyser.cal_gas(group) for group in (1, 2, 3, 4)] == [0, 1, 0, 1]
    assert bench.ask(STOP_ALL) == STOP_ALL
    assert [bench.analyser.cal_gas(group) for group in (1, 2, 3, 4)] == [0, 0, 0, 0]
    bench.ask(START_GROUP_1)
    bench.ask(STOP_ALL)
    assert bench.analyser.cal_gas(1) == 1, "it was 1 already"
    bench.ask(END_OF_STOP)
    bench.ask(STOP_ALL)
    assert bench.analyser.cal_gas(1) == 0


def test_a_refused_calibration_answers_as_if_it_had_started(bench: Bench) -> None:
    bench.analyser.refuses_calibration = True
    assert bench.ask(START_GROUP_1) == START_GROUP_1
    assert bench.analyser.cal_gas(1) == 0
    assert bench.ask(rtu("01 01 0000 0004")) == rtu("01 01 01 01")


def test_every_write_to_a_coil_is_logged_with_its_time(bench: Bench) -> None:
    for request in (START_GROUP_1, END_OF_START, rtu("01 0F 0002 0002 01 02")):
        bench.ask(request)
    assert bench.analyser.coil_log == [
        (1001.0, 0, True),
        (1002.0, 0, False),
        (1003.0, 2, False),
        (1003.0, 3, True),
    ]


def test_a_power_cycle_resets_coils_and_calibrations_and_may_change_the_mode(bench: Bench) -> None:
    bench.ask(START_GROUP_1)
    bench.analyser.power_cycle("modbus_ascii")
    assert bench.analyser.cal_gas(1) == 0
    assert bench.ask(b":010100000004FA\r\n") == ascii_("01 01 01 00")
    bench.analyser.power_cycle("continuous")
    assert bench.ask(PROBE) == b""
    bench.pass_(2.0)
    assert bench.take().endswith(b";\r\n")
    bench.analyser.power_cycle(ProtocolKind.MODBUS_RTU)
    bench.take()
    assert bench.ask(PROBE) == STATE


def test_the_broadcast_is_the_captured_frame_apart_from_the_clock_and_the_checksum() -> None:
    sent = Bench("continuous").analyser.broadcast()
    assert len(sent) == 206
    assert sent[18:-7] == REAL[18:-5]
    assert (sent[:1], sent[-2:]) == (b" ", b"\r\n")
    assert int(sent[-7:-3], 16) == sum(sent[1:-7])


def test_a_broadcast_comes_at_every_period_and_never_when_it_is_0() -> None:
    bench = Bench("continuous")
    for _ in range(3):
        bench.pass_(1.999)
        assert bench.take() == b""
        bench.pass_(0.001)
        assert bench.take().count(b"\r\n") == 1
    bench.analyser.period = 0.0
    bench.pass_(100.0)
    assert bench.take() == b""


def test_nothing_that_is_written_in_continuous_mode_is_heard() -> None:
    bench = Bench("continuous")
    bench.analyser.period = 0.0
    assert bench.ask(PROBE) == bench.ask(START_GROUP_1) == b""
    assert (bench.line.heard, bench.analyser.coil_log) == ([], [])


def test_what_is_never_read_is_bounded() -> None:
    bench = Bench("continuous")
    bench.pass_(100_000.0)
    assert RX_BUFFER - 206 < bench.line.waiting() <= RX_BUFFER
    asked = Bench()
    for _ in range(1000):
        asked.line.write(VALUE_OF_I1)
    assert asked.line.waiting() <= RX_BUFFER


def test_signals_follow_the_time_since_the_analyser_was_switched_on() -> None:
    assert [sine(20.0, 2.0, 4.0)(time) for time in (0.0, 1.0, 3.0)] == pytest.approx([20.0, 22.0, 18.0])
    assert [ramp(0.0, 10.0, 4.0)(time) for time in (0.0, 1.0, 5.0)] == pytest.approx([0.0, 2.5, 2.5])
    assert noise(5.0, 1.0, seed=1)(0.5) == noise(5.0, 1.0, seed=1)(0.55) != noise(5.0, 1.0, seed=2)(0.5)
    bench = Bench()
    bench.analyser["I1"].signal = ramp(0.0, 10.0, 10.0)
    bench.pass_(5.0)
    assert bench.analyser.value("I1") == 5.0
    bench.analyser.power_cycle()
    assert bench.analyser.value("I1") == 0.0
