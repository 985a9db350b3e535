"""Readings for people: lines and tables of plain text, the same wherever they are shown."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from servomex.enums import Quality

HEADINGS = ("channel", "name", "value", "unit", "state", "quality")
_LARGEST_PLAIN = 1e16

Paint = Callable[[str, Quality], str]
"""Marks a text according to a quality, for example with a colour."""


def unpainted(text: str, _quality: Quality) -> str:
    """Return a text as it is."""
    return text


def number_text(value: float | None) -> str:
    """Format a value as given by the analyser, without an exponent where that is readable; ``-`` for none."""
    if value is None:
        return "-"
    text = repr(value)
    if "e" not in text or abs(value) >= _LARGEST_PLAIN:
        return text
    from decimal import Decimal

    return format(Decimal(text), "f")


def aligned(rows: Iterable[tuple[str, ...]], *, numbers: int | None = None) -> list[str]:
    """Format rows with aligned columns; the first row has the headings.

    Args:
        rows: Rows with the same number of cells.
        numbers: A column that is aligned at the decimal point.
    """
    heading, *others = rows
    if numbers is not None:
        points = _at_the_point([row[numbers] for row in others])
        others = [(*row[:numbers], text, *row[numbers + 1 :]) for row, text in zip(others, points, strict=True)]
    table = [heading, *others]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]


def clock_text(moment: datetime) -> str:
    """Format a time of day in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration_text(seconds: float) -> str:
    """Format a duration to the second, such as ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _at_the_point(numbers: list[str]) -> list[str]:
    parts = [number.partition(".") for number in numbers]
    left = max((len(whole) for whole, _, _ in parts), default=0)
    right = max((len(point + rest) for _, point, rest in parts), default=0)
    return [f"{whole:>{left}}{point + rest:<{right}}" for whole, point, rest in parts]
