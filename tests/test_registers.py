"""The Modbus map and the decoding of its words, against the numbers and bytes of the manual and the bench unit."""

import math
import struct
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servomex import registers
from servomex.enums import ChannelId, ProtocolKind, Quality
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.reading import ChannelStatus, Reading
from servomex.units import Unit

RECEIVED_AT = datetime(2026, 3, 1, 12, 30, 45, tzinfo=UTC)
MONOTONIC_NS = 5_000_000_000
VALUE_20_376 = "41A3 020C"
OXYGEN = "4F 78 79 67 65 6E"
PERCENT = "25 00 00 00"
ALL_CLEAR = [False] * 8
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
BITS = [[bool(number >> place & 1) for place in range(8)] for number in range(256)]
INTERNAL = [channel for channel in ChannelId if channel[0] != "E"]
EXTERNAL = [ChannelId.E1, ChannelId.E2]


def words(text: str) -> list[int]:
    raw = bytes.fromhex(text)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def packed(value: float) -> bytes:
    return struct.pack(">f", value)


def split(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(">2H", raw)


def decoded(
    channel: ChannelId = ChannelId.I1,
    value: str = VALUE_20_376,
    name: str = OXYGEN,
    unit: str = PERCENT,
    bits: list[bool] = ALL_CLEAR,
) -> Reading:
    return registers.decode_channel(
        channel, words(value + name + unit), bits, ProtocolKind.MODBUS_RTU, RECEIVED_AT, MONOTONIC_NS
    )


@pytest.mark.parametrize(
    ("channel", "register", "state"),
    [
        ("I1", 30001, 10001),
        ("I2", 30008, 10009),
        ("I3", 30015, 10017),
        ("I4", 30022, 10025),
        ("D1", 30029, 10033),
        ("D2", 30036, 10041),
        ("D3", 30043, 10049),
        ("D4", 30050, 10057),
        ("E1", 30057, 10065),
        ("E2", 30064, 10073),
    ],
)
def test_every_channel_is_at_the_numbers_of_the_manual(channel: str, register: int, state: int) -> None:
    block, bits = registers.REGISTERS[ChannelId(channel)], registers.STATES[ChannelId(channel)]
    assert (block.address + registers.REGISTER_NUMBER, block.count) == (register, 7)
    assert (bits.address + registers.INPUT_NUMBER, bits.count) == (state, 8)


def test_no_channel_is_missing_from_the_map_and_none_is_added() -> None:
    assert list(registers.REGISTERS) == list(registers.STATES) == list(ChannelId)
    assert (registers.REGISTER_NUMBER, registers.INPUT_NUMBER) == (30001, 10001)


def test_the_analyser_itself_is_at_11001_and_11009() -> None:
    flags, groups = registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS
    assert [10001 + address for address in flags.addresses] == [11001, 11002]
    assert [10001 + address for address in groups.addresses] == list(range(11009, 11017))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (VALUE_20_376, 20.376),
        ("C1A3 020C", -20.376),
        ("3DAC 0831", 0.084),
        ("3E80 0000", 0.25),
        ("3F80 0000", 1.0),
        ("0000 0000", 0.0),
        ("461C 4000", 10000.0),
        ("BDCC CCCD", -0.1),
        ("0080 0000", 1.1754944e-38),  # the smallest normal number
        ("7F7F FFFF", 3.4028235e38),  # the largest one
    ],
)
def test_a_value_reads_high_word_first_as_the_display_shows_it(text: str, value: float) -> None:
    assert registers.float_value(words(text)) == value
    reading = decoded(value=text)
    assert (reading.value, reading.quality) == (value, Quality.GOOD)


def test_the_low_word_does_not_come_first() -> None:
    assert registers.float_value(words("020C 41A3")) != 20.376


def test_minus_zero_is_zero_with_its_sign() -> None:
    value = registers.float_value(words("8000 0000"))
    assert value == 0.0
    assert math.copysign(1, value) == -1


@pytest.mark.parametrize("text", ["0000 0001", "8000 0001", "007F FFFF", "0000 1234"])
def test_a_denormal_is_a_value_like_any_other(text: str) -> None:
    value = registers.float_value(words(text))
    assert value is not None
    assert 0 < abs(value) < 1.18e-38
    assert packed(value) == bytes.fromhex(text)


@pytest.mark.parametrize(
    "text", ["7FC0 0000", "FFC0 0000", "7FA0 0000", "7F80 0001", "FFFF FFFF", "7F80 0000", "FF80 0000"]
)
@pytest.mark.parametrize("channel", [ChannelId.I1, ChannelId.D4, ChannelId.E1])
def test_not_a_number_and_the_infinities_are_no_value_and_bad(text: str, channel: ChannelId) -> None:
    assert registers.float_value(words(text)) is None
    reading = decoded(channel, value=text)
    assert (reading.value, reading.quality, reading.ok) == (None, Quality.BAD, False)


@given(FINITE)
@example(20.376)
@example(-0.0)
def test_the_decimal_that_is_read_means_the_very_bytes_that_came(value: float) -> None:
    raw = packed(value)
    found = registers.float_value(split(raw))
    assert found is not None
    assert packed(found) == raw


@given(st.integers(-999_999, 999_999), st.integers(-6, 6))
@example(859_040, 4)  # seven digits would end in another one
def test_six_digits_of_a_display_come_back_as_they_were(digits: int, exponent: int) -> None:
    shown = float(f"{digits}e{exponent}")
    assert registers.float_value(split(packed(shown))) == shown


def test_a_value_that_needs_nine_digits_gets_nine() -> None:
    assert registers.float_value(words("C2CE 6F44")) == -103.217316


def test_the_names_and_units_of_the_bench_unit() -> None:
    oxygen, dioxide = decoded(), decoded(ChannelId.I3, "3E80 0000", "43 4F 82 20 20 20")
    assert (oxygen.channel, oxygen.name, oxygen.unit, oxygen.unit_text) == ("I1", "Oxygen", Unit.PERCENT, "%")
    assert (dioxide.channel, dioxide.name, dioxide.value) == ("I3", "CO₂", 0.25)


def test_a_reading_carries_its_mode_and_the_time_of_its_arrival() -> None:
    reading = decoded()
    assert (reading.protocol, reading.received_at, reading.monotonic_ns) == (
        ProtocolKind.MODBUS_RTU,
        RECEIVED_AT,
        MONOTONIC_NS,
    )


@pytest.mark.parametrize(
    ("raw", "unit", "text"),
    [
        (PERCENT, Unit.PERCENT, "%"),
        ("20 25 20 00", Unit.PERCENT, "%"),
        ("76 70 6D 00", Unit.VPM, "vpm"),
        ("20 6D 41 00", Unit.MILLIAMP, "mA"),
        ("70 70 6D 00", Unit.PPM, "ppm"),
        ("6D 67 2F 00", Unit.UNKNOWN, "mg/"),
        ("00 00 00 00", Unit.UNKNOWN, ""),
        ("1B 5B 4A 00", Unit.UNKNOWN, "�[J"),
    ],
)
def test_a_unit_is_known_by_its_text_and_keeps_it(raw: str, unit: Unit, text: str) -> None:
    reading = decoded(unit=raw)
    assert (reading.unit, reading.unit_text) == (unit, text)


@pytest.mark.parametrize(
    "name",
    ["20 20 20 20 20 20", "00 00 00 00 00 00", "7C 7C 7C 7C 7C 7C", "20 00 7C 7C 00 20", "7C 20 20 20 20 00"],
)
def test_a_blank_name_means_that_the_channel_is_not_populated(name: str) -> None:
    assert not registers.is_named(words(VALUE_20_376 + name + PERCENT))
    assert decoded(name=name).name is None


@pytest.mark.parametrize("name", [OXYGEN, "43 4F 82 20 20 20", "7C 41 7C 7C 7C 7C", "00 00 00 00 00 41"])
def test_any_other_name_means_that_it_is(name: str) -> None:
    assert registers.is_named(words("7FC0 0000" + name + "00 00 00 00"))


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("1B 5B 32 4A 41 42", "�[2JAB"),  # ESC [ 2 J clears a terminal
        ("41 0A 42 0D 43 09", "A�B�C�"),
        ("41 3B 42 7C 43 3B", "A;B|C;"),
        ("E9 DF FF B5 B0 8A", "éßÿµ°�"),
        ("9B 32 4A 41 7F 42", "�2JA�B"),  # 0x9B is ESC [ in one byte
        ("41 00 42 00 00 00", "A�B"),
        ("82 82 41 20 20 20", "₂₂A"),
    ],
)
def test_a_hostile_name_is_text_without_control_characters(raw: str, name: str) -> None:
    assert decoded(name=raw).name == name


@given(st.binary(min_size=6, max_size=6), st.binary(min_size=4, max_size=4))
def test_decoding_never_fails_and_never_lets_a_control_character_through(name: bytes, unit: bytes) -> None:
    reading = decoded(name=name.hex(), unit=unit.hex())
    text = (reading.name or "") + reading.unit_text
    assert not [char for char in text if unicodedata.category(char) == "Cc"]


@pytest.mark.parametrize(
    ("place", "word"),
    [
        (0, "fault"),
        (1, "maintenance"),
        (2, "calibrating"),
        (3, "warming up"),
        (4, "alarm 1"),
        (5, "alarm 2"),
        (6, "alarm 3"),
        (7, "alarm 4"),
    ],
)
def test_each_state_bit_means_what_the_manual_says(place: int, word: str) -> None:
    bits = [number == place for number in range(8)]
    assert registers.decode_state(ChannelId.I1, bits).words == (word,)


@pytest.mark.parametrize("channel", INTERNAL)
def test_all_256_states_of_a_measured_or_derived_channel_come_back(channel: ChannelId) -> None:
    for bits in BITS:
        assert registers.encode_state(registers.decode_state(channel, bits)) == bits


@pytest.mark.parametrize("channel", EXTERNAL)
def test_of_an_external_input_only_the_reserved_bits_are_lost(channel: ChannelId) -> None:
    for bits in BITS:
        known = [bits[0], False, False, False, *bits[4:]]
        assert registers.encode_state(registers.decode_state(channel, bits)) == known


@pytest.mark.parametrize("channel", EXTERNAL)
def test_an_invalid_external_input_has_no_value(channel: ChannelId) -> None:
    reading = decoded(channel, bits=[True, *ALL_CLEAR[1:]])
    assert (reading.value, reading.quality, reading.status.words) == (None, Quality.BAD, ("fault",))


@pytest.mark.parametrize("channel", EXTERNAL)
def test_the_reserved_bits_of_an_external_input_do_not_touch_its_value(channel: ChannelId) -> None:
    reading = decoded(channel, bits=[False, True, True, True, False, False, False, False])
    assert (reading.value, reading.quality, reading.status) == (20.376, Quality.GOOD, ChannelStatus())


def test_a_measured_channel_with_a_fault_keeps_its_value_and_is_bad() -> None:
    reading = decoded(bits=[True, *ALL_CLEAR[1:]])
    assert (reading.value, reading.quality, reading.ok) == (20.376, Quality.BAD, False)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_maintenance_calibration_and_warm_up_make_a_value_uncertain(place: int) -> None:
    reading = decoded(bits=[number == place for number in range(8)])
    assert (reading.value, reading.quality, reading.ok) == (20.376, Quality.UNCERTAIN, True)


@pytest.mark.parametrize(
    ("flags", "groups", "status", "text"),
    [
        ("00", "00000000", (False, False), "S1S1S1S1"),
        ("10", "10000000", (True, False), "C1S1S1S1"),
        ("01", "01000000", (False, True), "S2S1S1S1"),
        ("11", "00110000", (True, True), "S1C2S1S1"),
        ("00", "00001000", (False, False), "S1S1C1S1"),
        ("00", "00000011", (False, False), "S1S1S1C2"),
        ("00", "11111111", (False, False), "C2C2C2C2"),
    ],
)
def test_the_state_of_the_analyser(flags: str, groups: str, status: tuple[bool, bool], text: str) -> None:
    found = registers.decode_analyser([bit == "1" for bit in flags], [bit == "1" for bit in groups])
    assert isinstance(found, AnalyserStatus)
    assert (found.fault, found.maintenance) == status
    assert [group.group for group in found.cal_groups] == [1, 2, 3, 4]
    assert found.cal_text == text
    assert found.clock is None


def test_all_256_states_of_the_calibration_groups_come_back() -> None:
    for bits in BITS:
        groups = registers.decode_analyser([False, False], bits).cal_groups
        assert registers.encode_groups(groups) == bits
    assert registers.encode_groups([CalGroupState(1, True, 2)]) == [True, True]


def test_a_channel_is_encoded_to_the_words_of_the_bench_unit() -> None:
    assert registers.encode_channel(20.376, b"Oxygen", b"%") == words(VALUE_20_376 + OXYGEN + PERCENT)
    assert registers.encode_channel(0.25, b"CO\x82", b" mA") == words(
        "3E80 0000" + "43 4F 82 20 20 20" + "20 6D 41 00"
    )


@given(st.none() | FINITE, st.binary(max_size=6), st.binary(max_size=4))
def test_what_is_encoded_is_decoded_again(value: float | None, name: bytes, unit: bytes) -> None:
    block = registers.encode_channel(value, name, unit)
    assert len(block) == 7
    assert all(0 <= word <= 0xFFFF for word in block)
    found = registers.float_value(block[:2])
    assert (found is None) if value is None else (found is not None and packed(found) == packed(value))
    text = struct.pack(">5H", *block[2:])
    assert (text[:6], text[6:]) == (name.ljust(6), unit.ljust(4, b"\0"))


@pytest.mark.parametrize(
    ("value", "name", "unit"),
    [(1.0, b"Oxygen2", b"%"), (1.0, b"O2", b"vpm.."), (1e39, b"O2", b"%"), (-1e39, b"O2", b"%")],
)
def test_what_does_not_fit_is_refused(value: float, name: bytes, unit: bytes) -> None:
    with pytest.raises(ValueError, match=r"too long|does not fit"):
        registers.encode_channel(value, name, unit)
