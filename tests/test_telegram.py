"""The continuous frame: what is read from it, what is refused, and the way back to bytes."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    ServomexChecksumError,
    ServomexFrameError,
    ServomexParseError,
    ServomexValidationError,
)
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus, Reading
from servomex.telegram import checksum, format_frame, format_value, frame_size, parse_frame
from servomex.units import Unit
from tests.helpers.frames import (
    EXTERNALS,
    GOOD_3,
    GOOD_10,
    MONOTONIC_NS,
    REAL,
    RECEIVED_AT,
    block,
    capture_frames,
    external,
    make,
    of_channels,
    resealed,
)

ON_SAMPLE = tuple(CalGroupState(group, False, 1) for group in (1, 2, 3, 4))
CAPTURED = [
    (datetime.fromisoformat("2020-10-06T02:54:12"), 0x2A1D),
    (datetime.fromisoformat("2020-10-06T02:54:14"), 0x2A1F),
    (datetime.fromisoformat("2020-10-06T02:54:16"), 0x2A21),
    (datetime.fromisoformat("2020-10-06T02:54:18"), 0x2A23),
    (datetime.fromisoformat("2020-10-06T02:54:21"), 0x2A1D),
    (datetime.fromisoformat("2020-10-06T02:54:23"), 0x2A1F),
]


def refuse(raw: bytes, match: str, kind: type[ServomexParseError] = ServomexFrameError) -> None:
    with pytest.raises(kind, match=match) as caught:
        parse_frame(raw)
    assert type(caught.value) is kind
    assert caught.value.context.response == raw


@pytest.mark.parametrize(("raw", "clock", "total"), [
    (raw, *rest) for raw, rest in zip(capture_frames(), CAPTURED, strict=True)
])  # fmt: skip
def test_every_captured_frame_reads_as_what_stands_in_it(raw: bytes, clock: datetime, total: int) -> None:
    frame = parse_frame(raw + b"\r\n", received_at=RECEIVED_AT, monotonic_ns=MONOTONIC_NS)

    assert [(r.channel, r.name, r.value, r.unit, r.unit_text) for r in frame] == [
        ("I1", "Oxygen", 20.376, Unit.PERCENT, "%"),
        ("I2", "CO", 0.084, Unit.PERCENT, "%"),
        ("I3", "CO2", 0.250, Unit.PERCENT, "%"),
        ("E1", None, 0.0, Unit.MILLIAMP, "mA"),
        ("E2", None, 0.0, Unit.MILLIAMP, "mA"),
    ]
    assert {r.status for r in frame} == {ChannelStatus()}
    assert {(r.protocol, r.received_at, r.monotonic_ns) for r in frame} == {
        (ProtocolKind.CONTINUOUS_ASCII, RECEIVED_AT, MONOTONIC_NS)
    }
    assert frame.analyser == AnalyserStatus(False, False, ON_SAMPLE, clock)
    assert (frame.protocol, frame.received_at, frame.monotonic_ns) == (
        ProtocolKind.CONTINUOUS_ASCII,
        RECEIVED_AT,
        MONOTONIC_NS,
    )
    assert (frame.requested_at, frame.latency_s) == (None, None)
    assert frame.raw == raw
    assert checksum(raw[1:-5]) == total == int(raw[-5:-1], 16)
    assert frame.ok


@pytest.mark.parametrize("raw", [*capture_frames(), GOOD_3, GOOD_10])
def test_a_frame_is_written_back_byte_for_byte(raw: bytes) -> None:
    assert format_frame(parse_frame(raw)) == raw + b"\r\n"


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n", b"\r", b"\n\r\n"])
def test_the_line_end_does_not_matter(end: bytes) -> None:
    assert parse_frame(REAL + end).raw == REAL


def test_arrival_is_now_unless_it_is_given() -> None:
    before = datetime.now(UTC)
    frame = parse_frame(REAL)
    assert before <= frame.received_at <= datetime.now(UTC)
    assert frame.received_at.utcoffset() == timedelta(0)
    assert 0 <= frame.age_s < 10
    assert parse_frame(REAL, monotonic_ns=0).monotonic_ns == 0


@pytest.mark.parametrize(("text", "value"), [
    (b"20.376", 20.376), (b" 0.084", 0.084), (b"-0.012", -0.012), (b"   0.0", 0.0), (b"  -1.5", -1.5),
    (b"100.00", 100.0), (b"  9999", 9999.0), (b"999999", 999999.0), (b"-99999", -99999.0), (b"     0", 0.0),
])  # fmt: skip
def test_a_number_is_a_value(text: bytes, value: float) -> None:
    assert parse_frame(make(block(value=text), *EXTERNALS))["I1"].value == value


# The over-range text is not documented, so whatever is no number is no value. Python's float() would take
# the last five, the underscore among them.
@pytest.mark.parametrize("text", [
    b"------", b" OVER ", b"      ", b" *****", b"UNDER ", b"20,376", b"0x1.37",
    b"   nan", b"   inf", b"  -inf", b"1_0.37", b"1.0e+1",
])  # fmt: skip
def test_what_is_no_number_is_no_value(text: bytes) -> None:
    reading = parse_frame(make(block(value=text), *EXTERNALS))["I1"]
    assert reading.value is None
    assert (reading.name, reading.unit, reading.status) == ("Oxygen", Unit.PERCENT, ChannelStatus())
    assert not reading.ok


@pytest.mark.parametrize("text", [
    b"2..376", b"02.376", b"20.37 ", b"2 .376", b"20.3-6", b"-00.12", b"20376.", b"  .376", b"--0.12",
    b"- 0.12", b"0.12  ", b"1.2.37",
])  # fmt: skip
def test_a_malformed_number_is_damage(text: bytes) -> None:
    refuse(make(block(value=text), *EXTERNALS), "of I1 is not a number", ServomexParseError)


def test_an_invalid_external_input_has_no_value() -> None:
    frame = parse_frame(
        make(block(flags=b"F "), external(b"E1", b"   4.0", b"F "), external(b"E2", b"   4.0", b" M"))
    )
    assert (frame["E1"].value, frame["E1"].status.fault) == (None, True)
    assert (frame["E2"].value, frame["E2"].status.fault) == (4.0, False)
    # A measured channel with a fault keeps its value: it has one, only it may be wrong.
    assert (frame["I1"].value, frame["I1"].status.fault) == (20.376, True)


@pytest.mark.parametrize(("fields", "status"), [
    ({"flags": b"F "}, ChannelStatus(fault=True)),
    ({"flags": b" M"}, ChannelStatus(maintenance=True)),
    ({"flags": b"FM"}, ChannelStatus(fault=True, maintenance=True)),
    ({"cal": b"C"}, ChannelStatus(calibrating=True)),
    ({"warm": b"W"}, ChannelStatus(warming_up=True)),
    ({"alarms": b"1   "}, ChannelStatus(alarms=(True, False, False, False))),
    ({"alarms": b" 2  "}, ChannelStatus(alarms=(False, True, False, False))),
    ({"alarms": b"  3 "}, ChannelStatus(alarms=(False, False, True, False))),
    ({"alarms": b"   4"}, ChannelStatus(alarms=(False, False, False, True))),
    ({"alarms": b"1234", "flags": b"FM", "cal": b"C", "warm": b"W"},
     ChannelStatus(True, True, True, True, (True, True, True, True))),
])  # fmt: skip
def test_channel_states_belong_to_their_channel(fields: dict[str, bytes], status: ChannelStatus) -> None:
    frame = parse_frame(make(block(), block(b"I2", **fields), *EXTERNALS))
    assert frame["I2"].status == status
    assert {frame[other].status for other in ("I1", "E1", "E2")} == {ChannelStatus()}


@pytest.mark.parametrize(("flags", "fault", "maintenance"), [
    (b"  ", False, False), (b"F ", True, False), (b" M", False, True), (b"FM", True, True),
])  # fmt: skip
def test_analyser_flags(flags: bytes, fault: bool, maintenance: bool) -> None:
    analyser = parse_frame(make(block(), *EXTERNALS, flags=flags)).analyser
    assert (analyser.fault, analyser.maintenance) == (fault, maintenance)


def test_calibration_groups() -> None:
    analyser = parse_frame(make(block(), *EXTERNALS, cal=b"S1C2S2C1")).analyser
    assert analyser.cal_groups == (
        CalGroupState(1, False, 1),
        CalGroupState(2, True, 2),
        CalGroupState(3, False, 2),
        CalGroupState(4, True, 1),
    )
    assert analyser.cal_text == "S1C2S2C1"


@pytest.mark.parametrize("clock", [
    b"00-00-00;00:00:00", b"31-02-20;00:00:00", b"06-10-20;24:00:00", b"--------;--------",
    b"        ;        ", b"06/10/20;02:54:12", b"6-10-20 ;02:54:12", b"06-10-20;02.54.12",
])  # fmt: skip
def test_a_clock_that_is_not_set_is_none_and_costs_nothing_else(clock: bytes) -> None:
    frame = parse_frame(make(block(), *EXTERNALS, clock=clock))
    assert frame.analyser.clock is None
    assert frame["I1"].value == 20.376


@pytest.mark.parametrize("channels", [
    ["I1"], ["E1"], ["I1", "E2"], ["E1", "E2"], ["I1", "E1", "E2"], ["D4", "E1", "E2"],
    ["I1", "I2", "I3", "I4", "D1", "E1", "E2"],
    ["I1", "I2", "I3", "I4", "D1", "D2", "D3", "D4", "E1", "E2"],
])  # fmt: skip
def test_one_to_ten_channels(channels: list[str]) -> None:
    raw = of_channels(*(channel.encode() for channel in channels))
    assert len(raw) == frame_size(len(channels)) == 39 + 33 * len(channels)
    assert parse_frame(raw).channels == tuple(ChannelId(channel) for channel in channels)


@pytest.mark.parametrize(("raw", "match"), [
    (make(count=b"00"), "header"),
    (make(block(), *EXTERNALS, count=b"00"), "header"),
    (make(block(), *EXTERNALS, *[block()] * 8), "header"),
    (make(block(), *EXTERNALS, count=b" 3"), "header"),
    (make(block(), *EXTERNALS, count=b"3 "), "header"),
    (make(block(), *EXTERNALS, count=b"02"), "bytes instead of 105"),
    (make(block(), *EXTERNALS, count=b"04"), "bytes instead of 171"),
    (of_channels(b"I1", b"I1", b"E1", b"E2"), "repeated or out of order"),
    (of_channels(b"I1", b"E1", b"E1"), "repeated or out of order"),
    (of_channels(b"I2", b"I1", b"E1", b"E2"), "repeated or out of order"),
    (of_channels(b"D1", b"I1", b"E1", b"E2"), "repeated or out of order"),
    (of_channels(b"I1", b"E2", b"E1"), "repeated or out of order"),
    (of_channels(b"I1", b"I2", b"I3"), "not E1 and E2"),
    (of_channels(b"I1", b"I2", b"E1"), "not E1 and E2"),
    (of_channels(b"I1", b"I2", b"E2"), "not E1 and E2"),
    *[(of_channels(odd, b"E1", b"E2"), "block 1") for odd in (b"I0", b"I5", b"E3", b"i1", b"X1", b"II")],
])  # fmt: skip
def test_impossible_channel_lists_are_refused(raw: bytes, match: str) -> None:
    refuse(raw, match)


@pytest.mark.parametrize(("raw", "match"), [
    (make(block(channel=b"I2", flags=b"f "), block(), *EXTERNALS), "block 1"),
    (make(block(channel=b"I2"), block(name=b"CO2;  "), *EXTERNALS), "block 2"),
    (make(block(value=b"2..376"), block(channel=b"I2", warm=b"V"), *EXTERNALS), "block 2"),
    (make(block(value=b"20.37\xb6"), block(), *EXTERNALS), "repeated or out of order"),
    (make(block(), block(channel=b"I2", value=b"20.37\xb6"), *EXTERNALS), "block 2"),
])  # fmt: skip
def test_of_several_damages_the_blocks_come_first_then_their_order_then_the_values(raw: bytes, match: str) -> None:
    for _ in range(2):  # what was refused once is refused again
        refuse(raw, match)


@pytest.mark.parametrize("fields", [
    {"name": b"CO2  "}, {"name": b"Oxygen "}, {"value": b"20.37"}, {"value": b" 20.376"}, {"unit": b"%"},
    {"alarms": b"   "}, {"flags": b" "}, {"cal": b""}, {"warm": b"  "}, {"channel": b"I"},
])  # fmt: skip
def test_a_field_of_another_width_is_refused(fields: dict[str, bytes]) -> None:
    refuse(make(block(**fields), *EXTERNALS), "bytes instead of 138")


@pytest.mark.parametrize("fields", [
    {"name": b"CO2  ", "value": b"  0.250"}, {"value": b"20.37", "unit": b"  % "}, {"name": b"CO2;  "},
    {"value": b"20;376"}, {"value": b"20.37\x00"}, {"value": b"20.37\xb6"}, {"unit": b" ;%"},
    {"unit": b"\x00% "}, {"unit": b"%\x7f "}, {"alarms": b"2   "}, {"alarms": b"   1"}, {"alarms": b"X   "},
    {"alarms": b"\x001  "}, {"alarms": b"\x00\x00\x00\x00"}, {"flags": b"MF"}, {"flags": b"f "},
    {"flags": b"\x00 "}, {"cal": b"S"}, {"cal": b"c"}, {"warm": b"V"}, {"warm": b"w"}, {"warm": b"\x00"},
    {"flags": b" m"}, {"alarms": b"\x00   "},
    {"name": b"\x1b[2J  "}, {"name": b"CO2\r\n "}, {"name": b"CO2\x00\x00\x00"}, {"name": b"CO\x7f   "},
])  # fmt: skip
def test_a_byte_outside_its_fields_alphabet_is_refused(fields: dict[str, bytes]) -> None:
    refuse(make(block(**fields), *EXTERNALS), "block 1")


@pytest.mark.parametrize("fields", [
    {"flags": b"X "}, {"flags": b" F"}, {"flags": b"f "}, {"cal": b"S1S1S1S3"}, {"cal": b"S1S1S1S0"},
    {"cal": b"s1S1S1S1"}, {"cal": b"S1S1S1M1"}, {"clock": b"06-10-2;02:54:12"}, {"clock": b"06-10-20:02:54:12"},
    {"clock": b"06-10-20;02:54\n12"}, {"clock": b"06-10-20;02:54:\x002"}, {"clock": b"06-10-20;02:54;12"},
])  # fmt: skip
def test_a_damaged_header_is_refused(fields: dict[str, bytes]) -> None:
    refuse(make(block(), *EXTERNALS, **fields), "header")


@pytest.mark.parametrize("raw", [b"", b"\r\n", b" ", REAL[1:], b"\n" + REAL, b"  " + REAL[1:], b"x" * 204])
def test_what_does_not_start_like_a_frame_is_refused(raw: bytes) -> None:
    refuse(raw, "header")


@pytest.mark.parametrize("raw", [REAL[:-1], REAL + b" ", REAL + b"\r\n ", REAL[:-5], REAL + REAL[1:]])
def test_a_frame_of_another_length_is_refused(raw: bytes) -> None:
    refuse(raw, "bytes instead of 204 for 5 channels")


@pytest.mark.parametrize("tail", [b"2a1d;", b"2A1D:", b" 2A1;", b"+A1D;", b"2A_1;", b"0x2A;", b"2A1\xc4;"])
def test_a_checksum_is_four_upper_case_digits(tail: bytes) -> None:
    refuse(REAL[:-5] + tail, "no checksum")


@pytest.mark.parametrize("tail", [b"2A1C;", b"2A1E;", b"0000;", b"FFFF;", b"D1A2;"])
def test_a_wrong_checksum_has_its_own_error(tail: bytes) -> None:
    with pytest.raises(ServomexChecksumError, match=f"checksum {tail[:4].decode()}, its bytes sum to 2A1D"):
        parse_frame(REAL[:-5] + tail)


def test_the_start_space_is_not_summed() -> None:
    assert checksum(REAL[1:-5]) == 0x2A1D
    assert checksum(b"\xff" * 300) == 300 * 255 - 65536


@pytest.mark.parametrize(("raw", "name"), [
    (b"Oxygen", "Oxygen"), (b"CO    ", "CO"), (b"  CO  ", "CO"), (b"C O   ", "C O"), (b"||||||", None),
    (b"      ", None), (b"  ||  ", None), (b"|CO|  ", "|CO|"), (b"CO\x82   ", "CO₂"),
    (b"\x9b2J   ", "�2J"), (b"\x8a\x8d\x90\x9f  ", "����"), (b"\xb5g/m\xb3 ", "µg/m³"),
])  # fmt: skip
def test_names_are_cleaned_but_never_refused_for_high_bytes(raw: bytes, name: str | None) -> None:
    assert parse_frame(make(block(name=raw), *EXTERNALS))["I1"].name == name


@pytest.mark.parametrize(("raw", "unit", "text"), [
    (b" % ", Unit.PERCENT, "%"), (b"vpm", Unit.VPM, "vpm"), (b"ppm", Unit.PPM, "ppm"),
    (b" mA", Unit.MILLIAMP, "mA"), (b"VPM", Unit.VPM, "VPM"), (b"%LE", Unit.UNKNOWN, "%LE"),
    (b"   ", Unit.UNKNOWN, ""), (b"\xb0C ", Unit.UNKNOWN, "°C"), (b"m\x82 ", Unit.UNKNOWN, "m₂"),
])  # fmt: skip
def test_the_text_of_any_unit_is_kept(raw: bytes, unit: Unit, text: str) -> None:
    reading = parse_frame(make(block(unit=raw), *EXTERNALS))["I1"]
    assert (reading.unit, reading.unit_text) == (unit, text)


@pytest.mark.parametrize(("value", "at_least", "text"), [
    (None, 3, "------"), (20.376, 3, "20.376"), (0.084, 3, " 0.084"), (-0.5, 3, "-0.500"), (100.0, 3, "100.00"),
    (1234.5, 3, "1234.5"), (12345.0, 3, " 12345"), (999999.0, 3, "999999"), (-99999.0, 3, "-99999"),
    (0.0, 1, "   0.0"), (4.0, 1, "   4.0"), (12.34, 1, " 12.34"), (12.345, 1, "12.345"), (0.0, 3, " 0.000"),
])  # fmt: skip
def test_values_are_written_as_the_analyser_writes_them(value: float | None, at_least: int, text: str) -> None:
    assert format_value(value, at_least=at_least) == text


@pytest.mark.parametrize("value", [1_000_000.0, -100_000.0, 999999.7, 1e22])
def test_a_value_of_more_than_six_characters_is_refused(value: float) -> None:
    with pytest.raises(ServomexValidationError, match="does not fit into 6"):
        format_value(value)


@pytest.mark.parametrize("change", [
    {"name": "Oxygen2"}, {"name": "O;2"}, {"name": "日本"}, {"name": "O�"}, {"value": 1e9},
    {"unit_text": "mg/m3"}, {"unit_text": "a;"}, {"unit": Unit.UNKNOWN, "unit_text": "日"},
])  # fmt: skip
def test_a_frame_that_does_not_fit_is_not_written(change: dict[str, Any]) -> None:
    frame = parse_frame(GOOD_3)
    first, *others = frame.readings
    with pytest.raises(ServomexValidationError):
        format_frame(attrs.evolve(frame, readings=(attrs.evolve(first, **change), *others)))


def test_a_subscript_is_written_as_a_plain_digit() -> None:
    """Continuous mode was seen to send ``CO2`` for what Modbus sends with 0x82."""
    frame = parse_frame(make(block(name=b"CO\x82   "), *EXTERNALS))
    assert format_frame(frame) == make(block(name=b"CO2   "), *EXTERNALS) + b"\r\n"


def test_every_subscript_is_written_so() -> None:
    frame = parse_frame(make(block(name=b"C\x82H\x84 \x89"), *EXTERNALS))
    assert format_frame(frame) == make(block(name=b"C2H4 9"), *EXTERNALS) + b"\r\n"


# What stands in a name or a unit as it is: Latin-1 without controls and the separator, the padding aside.
TEXT = st.text(
    "".join(map(chr, [*range(0x20, 0x3B), *range(0x3C, 0x7F), *range(0xA0, 0x100)])), max_size=6
).filter(lambda text: text == text.strip(" "))
NAMES = st.none() | TEXT.filter(lambda text: text.strip(" |"))
KNOWN = {unit.value: unit for unit in Unit if unit is not Unit.UNKNOWN}
UNITS = st.sampled_from([(unit, text) for text, unit in KNOWN.items()]) | TEXT.filter(
    lambda text: len(text) <= 3 and text.lower() not in map(str.lower, KNOWN)
).map(lambda text: (Unit.UNKNOWN, text))
# Whatever a six-character field can hold with 0 to 3 decimals.
VALUES = (
    st.none()
    | st.integers(-99_999, 999_999).map(float)
    | st.builds(lambda digits, places: digits / 10**places, st.integers(-9_999, 99_999), st.integers(1, 3))
)
FLAGS = st.booleans()
STATUSES = st.builds(ChannelStatus, FLAGS, FLAGS, FLAGS, FLAGS, st.tuples(FLAGS, FLAGS, FLAGS, FLAGS))
SECONDS = st.integers(0, 100 * 365 * 86_400)
CLOCKS = st.none() | SECONDS.map(lambda s: datetime.fromisoformat("2000-01-01") + timedelta(seconds=s))
GROUPS = st.tuples(*[st.tuples(FLAGS, st.integers(1, 2))] * 4).map(
    lambda groups: tuple(CalGroupState(number, *group) for number, group in enumerate(groups, 1))
)
ANALYSERS = st.builds(AnalyserStatus, FLAGS, FLAGS, GROUPS, CLOCKS)
ORDER = list(ChannelId)
CHANNELS = st.sets(st.sampled_from(ORDER[:8]), min_size=1).map(lambda some: sorted(some, key=ORDER.index))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    readings = []
    for channel in [*draw(CHANNELS), ChannelId.E1, ChannelId.E2]:
        value, status, (unit, text) = draw(VALUES), draw(STATUSES), draw(UNITS)
        if channel in ("E1", "E2") and status.fault:
            value = None
        readings.append(
            Reading(channel, draw(NAMES), value, unit, text, status, ProtocolKind.CONTINUOUS_ASCII, RECEIVED_AT, 7)
        )
    return Frame(ProtocolKind.CONTINUOUS_ASCII, tuple(readings), draw(ANALYSERS), RECEIVED_AT, 7)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(frames())
def test_any_frame_survives_the_way_over_the_wire(frame: Frame) -> None:
    raw = format_frame(frame)
    assert len(raw) == frame_size(len(frame)) + 2
    read = parse_frame(raw, received_at=RECEIVED_AT, monotonic_ns=7)
    assert read == attrs.evolve(frame, raw=raw[:-2])
    assert format_frame(read) == raw


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.binary(max_size=400)
    | st.builds(lambda body: resealed(REAL[:34] + body + REAL[-5:]), st.binary(min_size=165, max_size=165))
    | st.builds(
        lambda at, new: resealed(REAL[:at] + new + REAL[at + len(new) :]), st.integers(1, 190), st.binary()
    )
)
@example(b" ;" * 102)
def test_any_bytes_are_a_frame_or_a_parse_error(raw: bytes) -> None:
    with suppress(ServomexParseError):
        assert 1 <= len(parse_frame(raw)) <= 10
