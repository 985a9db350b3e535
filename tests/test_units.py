"""Units, and text from the analyser's display."""

import math

import pint
import pytest

from servomex.errors import ServomexValidationError
from servomex.units import (
    Unit,
    UnitKind,
    channel_name,
    convert,
    display_text,
    percent_to_vpm,
    to_pint,
    unit_and_text,
    vpm_to_percent,
)

KINDS = {
    Unit.PERCENT: UnitKind.CONCENTRATION,
    Unit.VPM: UnitKind.CONCENTRATION,
    Unit.PPM: UnitKind.CONCENTRATION,
    Unit.MILLIAMP: UnitKind.CURRENT,
    Unit.UNKNOWN: UnitKind.UNKNOWN,
}


def test_units_are_written_as_the_analyser_shows_them() -> None:
    assert {unit.name: unit.value for unit in Unit} == {
        "PERCENT": "%",
        "VPM": "vpm",
        "PPM": "ppm",
        "MILLIAMP": "mA",
        "UNKNOWN": "?",
    }


@pytest.mark.parametrize("unit", Unit)
def test_every_unit_measures_something(unit: Unit) -> None:
    assert unit.kind is KINDS[unit]


@pytest.mark.parametrize(("raw", "unit", "text"), [
    (b" % ", Unit.PERCENT, "%"), (b"%  ", Unit.PERCENT, "%"), (b"%\0\0\0", Unit.PERCENT, "%"),
    (b"vpm", Unit.VPM, "vpm"), (b"vpm\0", Unit.VPM, "vpm"), (b"Vpm", Unit.VPM, "Vpm"), (b"PPM", Unit.PPM, "PPM"),
    (b" mA", Unit.MILLIAMP, "mA"), (b"mA \0", Unit.MILLIAMP, "mA"), (b"MA ", Unit.MILLIAMP, "MA"),
    (b"", Unit.UNKNOWN, ""), (b"   ", Unit.UNKNOWN, ""), (b"?  ", Unit.UNKNOWN, "?"),
    (b"%%%", Unit.UNKNOWN, "%%%"), (b"v m", Unit.UNKNOWN, "v m"), (b"mg\xb3", Unit.UNKNOWN, "mg³"),
    (b"\x1b[m", Unit.UNKNOWN, "�[m"),
])  # fmt: skip
def test_a_unit_is_recognised_and_its_text_kept(raw: bytes, unit: Unit, text: str) -> None:
    assert unit_and_text(raw) == (unit, text)


@pytest.mark.parametrize(("raw", "text"), [
    (b"Oxygen", "Oxygen"), (b"CO2   ", "CO2"), (b"CO\x82   ", "CO₂"), (b"\0\0CO\0\0", "CO"), (b"A\0B", "A�B"),
    (b"\x01\x1b\n\r\t\x7f", "�" * 6),
    (b"\x80\x82\x84\x89\x8a\x9f", "₀₂₄₉��"), (b"\xa0\xb0\xff", "\xa0°ÿ"), (b"", ""),
])  # fmt: skip
def test_display_text(raw: bytes, text: str) -> None:
    assert display_text(raw) == text


@pytest.mark.parametrize("byte", range(256))
def test_no_byte_can_drive_a_terminal(byte: int) -> None:
    text = display_text(b"a" + bytes([byte]) + b"z")
    assert len(text) == 3
    assert all(ord(letter) >= 0x20 and not 0x7F <= ord(letter) <= 0x9F for letter in text)


@pytest.mark.parametrize(("raw", "name"), [
    (b"||||||", None), (b"      ", None), (b"\0\0\0\0\0\0", None), (b" |\0| \0", None), (b"", None),
    (b"|CO|  ", "|CO|"), (b"CO\x82   ", "CO₂"), (b"  CO  ", "CO"), (b"\x01     ", "�"),
])  # fmt: skip
def test_a_name_of_padding_alone_is_no_name(raw: bytes, name: str | None) -> None:
    assert channel_name(raw) == name


@pytest.mark.parametrize(("value", "source", "target", "expected"), [
    (20.376, "%", "vpm", 203760.0), (20.376, "%", "ppm", 203760.0), (203760.0, "vpm", "%", 20.376),
    (203760.0, "ppm", "%", 20.376), (12.0, "vpm", "ppm", 12.0), (12.0, "ppm", "vpm", 12.0),
    (1.0, "%", "vpm", 10000.0), (-0.5, "%", "vpm", -5000.0), (0.0, "vpm", "%", 0.0),
    (4.0, "mA", "mA", 4.0), (0.1, "%", "%", 0.1),
])  # fmt: skip
def test_concentrations_convert(value: float, source: str, target: str, expected: float) -> None:
    assert convert(value, source, target) == expected
    assert convert(value, Unit(source), Unit(target)) == expected


def test_percent_to_vpm_and_back_gives_the_same_number_for_all_the_analyser_can_show() -> None:
    for digits in range(100_001):
        percent = digits / 1000
        vpm = convert(percent, Unit.PERCENT, Unit.VPM)
        assert convert(vpm, Unit.VPM, Unit.PERCENT) == percent
        # Within one step of a float of the decimal that is meant.
        assert abs(vpm - digits * 10) <= math.ulp(vpm)


def test_vpm_to_percent_gives_the_decimal_that_is_meant() -> None:
    assert all(convert(float(vpm), "vpm", "%") == vpm / 10_000 for vpm in range(100_000))


@pytest.mark.parametrize(("source", "target"), [
    ("mA", "%"), ("%", "mA"), ("vpm", "mA"), ("mA", "ppm"), ("?", "%"), ("%", "?"), ("?", "?"), ("?", "mA"),
])  # fmt: skip
def test_what_measures_something_else_does_not_convert(source: str, target: str) -> None:
    with pytest.raises(ServomexValidationError) as caught:
        convert(4.0, source, target)
    assert repr(source) in str(caught.value)
    assert repr(target) in str(caught.value)


@pytest.mark.parametrize(("source", "target"), [("bar", "%"), ("%", "bar"), ("%", ""), ("VPM", "%")])
def test_an_unknown_unit_is_refused_and_the_known_ones_listed(source: str, target: str) -> None:
    with pytest.raises(ServomexValidationError, match=r"unknown unit .*; known are %, vpm, ppm, mA"):
        convert(4.0, source, target)


@pytest.mark.parametrize(("text", "unit"), [
    ("%", Unit.PERCENT), (" % ", Unit.PERCENT), ("VPM", Unit.VPM), ("ppm\0", Unit.PPM),
    ("\tma\r\n", Unit.MILLIAMP), ("", Unit.UNKNOWN), ("?", Unit.UNKNOWN), ("%vol", Unit.UNKNOWN),
    ("v p m", Unit.UNKNOWN), ("µA", Unit.UNKNOWN),
])  # fmt: skip
def test_a_text_is_coerced_to_a_unit_and_never_refused(text: str, unit: Unit) -> None:
    assert Unit.coerce(text) is unit


def test_percent_and_vpm_convert_by_name() -> None:
    assert (percent_to_vpm(0.035), vpm_to_percent(350.0)) == (350.0, 0.035)
    for digits in range(-1000, 100_001, 7):
        assert vpm_to_percent(percent_to_vpm(digits / 1000)) == digits / 1000


@pytest.mark.parametrize("unit", Unit)
def test_pint_knows_each_unit_by_the_name_for_it(unit: Unit) -> None:
    name = to_pint(unit)
    assert to_pint(unit.value) == name
    if name is None:
        assert unit is Unit.UNKNOWN
        return
    one = pint.Quantity(1, pint.Unit(name))
    if unit.kind is UnitKind.CONCENTRATION:
        assert one.to("ppm").magnitude == pytest.approx(convert(1, unit, Unit.PPM))
    else:
        assert one.to("ampere").magnitude == pytest.approx(0.001)


def test_pint_has_no_name_for_a_unit_that_does_not_exist() -> None:
    with pytest.raises(ServomexValidationError, match="unknown unit 'bar'"):
        to_pint("bar")
