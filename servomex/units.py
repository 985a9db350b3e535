"""Units, and the text of the analyser's display."""

import math
import re
from enum import StrEnum
from functools import lru_cache

from servomex.errors import ServomexValidationError
from servomex.errors.validation import choice, number

VPM_PER_PERCENT = 10_000
"""One percent by volume is 10,000 volumes per million."""


class Unit(StrEnum):
    """A unit of measurement, as the analyser shows it."""

    PERCENT = "%"
    VPM = "vpm"
    PPM = "ppm"
    MILLIAMP = "mA"
    UNKNOWN = "?"

    @classmethod
    def coerce(cls, text: str) -> "Unit":
        """Return the unit that a text means, ignoring padding and case; ``UNKNOWN`` when it means none.

        ``Unit(text)`` takes the exact text only, and raises.

        Raises:
            ServomexValidationError: It is not a text.
        """
        if not isinstance(text, str):
            raise ServomexValidationError(f"the text of a unit must be a str, not {text!r}")
        return _BY_TEXT.get(text.strip(_PADDING).lower(), cls.UNKNOWN)

    @property
    def kind(self) -> "UnitKind":
        """The quantity that the unit measures."""
        return _KINDS[self]


class UnitKind(StrEnum):
    """The quantity that a unit measures. Values convert only within one kind."""

    CONCENTRATION = "concentration"
    CURRENT = "current"
    UNKNOWN = "unknown"


_KINDS = {
    Unit.PERCENT: UnitKind.CONCENTRATION,
    Unit.VPM: UnitKind.CONCENTRATION,
    Unit.PPM: UnitKind.CONCENTRATION,
    Unit.MILLIAMP: UnitKind.CURRENT,
    Unit.UNKNOWN: UnitKind.UNKNOWN,
}
_PADDING = " \t\r\n\0"
_BY_TEXT = {unit.value.lower(): unit for unit in Unit if unit is not Unit.UNKNOWN}
_PINT = {Unit.PERCENT: "percent", Unit.VPM: "ppm", Unit.PPM: "ppm", Unit.MILLIAMP: "milliampere"}
_PER_PERCENT = {Unit.PERCENT: 1, Unit.VPM: VPM_PER_PERCENT, Unit.PPM: VPM_PER_PERCENT}

SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"
"""Subscript digits, at 0x80 to 0x89. Only one was seen: CO2's name over Modbus is 43 4F 82 (bench 4100D).

That its neighbours are the others is a conjecture; without it SO2 and CH4 would not be treated alike.
"""
_GLYPHS = dict(enumerate(SUBSCRIPTS, 0x80))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@lru_cache(maxsize=256)
def display_text(raw: bytes) -> str:
    """Decode text in the analyser's display character set.

    Leading and trailing spaces and NULs are padding and are dropped. 0x82 is a subscript 2 (seen on a
    bench 4100D), and 0x80 to 0x89 are taken for :data:`SUBSCRIPTS`; other bytes above 0x7F are undocumented and
    read as Latin-1. Control characters become U+FFFD, so that text from the line can never drive a terminal.
    Decoding never raises.
    """
    text = "".join(_GLYPHS.get(byte, chr(byte)) for byte in raw.strip(b" \0"))
    return _CONTROL.sub("�", text)


@lru_cache(maxsize=256)
def unit_and_text(raw: bytes) -> tuple[Unit, str]:
    """Decode a unit field: the unit, :attr:`Unit.UNKNOWN` if unrecognised, and its text."""
    text = display_text(raw)
    return Unit.coerce(text), text


@lru_cache(maxsize=256)
def channel_name(raw: bytes) -> str | None:
    """Decode a channel name; one of spaces, NULs or ``|`` alone does not count as a name (``None``)."""
    return display_text(raw) if raw.strip(b" \0|") else None


def convert(value: float, source: Unit | str, target: Unit | str) -> float:
    """Convert a concentration between percent and volumes per million (vpm, ppm).

    Args:
        value: The value in ``source``.
        source: The unit it is in.
        target: The unit to convert to.

    Raises:
        ServomexValidationError: The units measure different quantities, one of them is unknown, or the value is
            not a number or too large.
    """
    value = number(value, "the value")
    source, target = choice(Unit, source, "unit"), choice(Unit, target, "unit")
    if source is target and source is not Unit.UNKNOWN:
        return value
    if source not in _PER_PERCENT or target not in _PER_PERCENT:
        raise ServomexValidationError(f"a value in {source.value!r} cannot be converted to {target.value!r}")
    converted = value * _PER_PERCENT[target] / _PER_PERCENT[source]
    if math.isinf(converted) and not math.isinf(value):
        raise ServomexValidationError(f"the value {value!r} is too large for {target.value!r}")
    return float(f"{converted:.12g}")  # 0.035 % is 350 vpm to the last digit


def percent_to_vpm(percent: float) -> float:
    """Convert a concentration from percent to volumes per million: 0.035 % is 350 vpm, to the last digit.

    Raises:
        ServomexValidationError: It is not a number, or too large.
    """
    return convert(percent, Unit.PERCENT, Unit.VPM)


def vpm_to_percent(vpm: float) -> float:
    """Convert a concentration from volumes per million to percent: 350 vpm is 0.035 %, to the last digit.

    Raises:
        ServomexValidationError: It is not a number, or too large.
    """
    return convert(vpm, Unit.VPM, Unit.PERCENT)


def to_pint(unit: Unit | str) -> str | None:
    """Return the name of a unit for pint, such as ``percent``: ``pint.Unit(to_pint(reading.unit))``.

    This package does not use pint, which has no vpm: it is the same as ppm for gases. ``None`` when the unit is
    unknown.

    Raises:
        ServomexValidationError: There is no such unit.
    """
    return _PINT.get(choice(Unit, unit, "unit"))
