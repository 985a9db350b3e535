"""What the terminal shows, as plain text: courses of values, ages, numbers with their points below each other."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from servomex.errors.excerpts import plain
from servomex.models.reading import Reading
from servomex.views.plot.zone import local

BARS = "▁▂▃▄▅▆▇█"
"""The heights of a course of values."""
ASCII_BARS = "_.-=*#"
"""The same where there are no others."""
_AGES = ((100, 1, "s"), (6_000, 60, "min"), (172_800, 3_600, "h"))


def course(values: Sequence[float | None], width: int, bars: str = BARS) -> str:
    """Return the latest values as bars between the lowest and the highest; a space for each that is missing."""
    shown = list(values[-width:]) if width > 0 else []
    known = [value for value in shown if value is not None]
    if not known:
        return " " * width
    lowest, span = min(known), max(known) - min(known)
    top = len(bars) - 1
    line = "".join(
        " " if value is None else bars[round(top * (value - lowest) / span) if span else top // 2]
        for value in shown
    )
    return line.rjust(width)


def age_text(seconds: float) -> str:
    """Return an age in at most seven characters: ``0.3 s``, ``45 s``, ``12 min``, ``5 h``, ``3 d``."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for below, unit_s, unit in _AGES:
        if seconds < below:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def pace_text(rate_hz: float | None, period_s: float | None) -> str:
    """Return how often an analyser is read, in words."""
    if period_s is not None:
        return f"broadcast every {period_s:.3g} s"
    if rate_hz is None:
        return "each broadcast"
    return f"{rate_hz:g} a second" if rate_hz > 1 else f"every {1 / rate_hz:.3g} s"


def at_the_point(numbers: Iterable[str], least: int = 1) -> list[str]:
    """Return numbers of the same width, their decimal points below each other; one that is not a number too.

    Args:
        numbers: As texts.
        least: The least characters before the point, so that few changes of the value move the column.
    """
    parts = [number.partition(".") for number in numbers]
    left = max([least, *(len(whole) for whole, _, _ in parts)])
    right = max((len(point + rest) for _, point, rest in parts), default=0)
    return [f"{whole:>{left}}{point + rest:<{right}}" for whole, point, rest in parts]


def label(reading: Reading) -> tuple[str, str, str]:
    """Return channel, name and unit of a reading, without characters that could control a terminal."""
    return plain(str(reading.channel)), plain(reading.name or ""), plain(reading.unit_text)


def clock(moment: datetime) -> str:
    """Return the local time of day, to the second."""
    return f"{local(moment):%H:%M:%S}"
