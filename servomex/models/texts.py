"""Readings as people read them: lines and tables of plain text, the same wherever they are shown."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from servomex.enums import Quality

if TYPE_CHECKING:
    from servomex.models.models import AnalyserStatus, ChannelInfo, Frame, Reading

HEADINGS = ("channel", "name", "value", "unit", "state", "quality")
_LARGEST_PLAIN = 1e16

Paint = Callable[[str, Quality], str]
"""Marks a text by a quality, as with a colour."""


def unpainted(text: str, _quality: Quality) -> str:
    """Return a text as it is."""
    return text


def number_text(value: float | None) -> str:
    """Write a value as the analyser gives it, without an exponent as far as that is readable; ``-`` for none."""
    if value is None:
        return "-"
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text and abs(value) < _LARGEST_PLAIN else text


def value_text(reading: "Reading") -> str:
    """Write a value with its unit."""
    return "no value" if reading.value is None else f"{number_text(reading.value)} {reading.unit_text}".rstrip()


def state_text(reading: "Reading") -> str:
    """Write in words what is raised; ``ok`` when nothing is."""
    missing = ("no value",) if reading.value is None else ()
    return ", ".join((*missing, *reading.status.words)) or "ok"


def reading_text(reading: "Reading") -> str:
    """Write a reading on one line, such as ``I1 Oxygen 20.376 %, good``."""
    label = " ".join(filter(None, (str(reading.channel), reading.name, value_text(reading))))
    return ", ".join((label, reading.quality.value, *reading.status.words))


def channel_text(info: "ChannelInfo") -> str:
    """Write a channel with its name and unit, such as ``I1 Oxygen (%)``."""
    unit = f"({info.unit_text})" if info.unit_text else ""
    return " ".join(filter(None, (str(info.channel), info.name, unit)))


def analyser_text(analyser: "AnalyserStatus", paint: Paint = unpainted) -> str:
    """Write the state of the analyser, such as ``analyser ok, its clock 2020-10-06 02:54:12``."""
    flags = ((analyser.fault, "analyser fault"), (analyser.maintenance, "maintenance required"))
    words = [*(word for raised, word in flags if raised), *analyser.cal_words]
    state = ", ".join(words) or "analyser ok"
    if words:
        state = paint(state, Quality.BAD if analyser.fault else Quality.UNCERTAIN)
    return state + (f", its clock {analyser.clock}" if analyser.clock else "")


def frame_text(frame: "Frame", title: str, *, arrived: bool = True, paint: Paint = unpainted) -> str:
    """Write a table, with one line for the analyser above it and one for the time of the data.

    Args:
        frame: What to write.
        title: Names the analyser: its port, and how it is reached.
        arrived: Whether to write when the data came and how old it is; it is unknown of a capture.
        paint: Marks what is bad or uncertain.
    """
    lines = [f"{title}: {analyser_text(frame.analyser, paint)}"]
    if arrived:
        lines.append(_time_line(frame))
    texts = aligned([HEADINGS, *(cells(reading) for reading in frame)], numbers=HEADINGS.index("value"))
    lines.append(texts[0])
    for reading, text in zip(frame, texts[1:], strict=True):
        lines.append(text if reading.quality is Quality.GOOD else paint(text, reading.quality))
    return "\n".join(lines)


def cells(reading: "Reading") -> tuple[str, ...]:
    """Return the cells of a reading, in the order of :data:`HEADINGS`."""
    return (
        str(reading.channel),
        reading.name or "",
        number_text(reading.value),
        reading.unit_text,
        state_text(reading),
        reading.quality.value,
    )


def aligned(rows: Iterable[tuple[str, ...]], *, numbers: int | None = None) -> list[str]:
    """Write rows with their columns below each other; the first row has the headings.

    Args:
        rows: Rows of as many cells each.
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
    """Write a time of day in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration_text(seconds: float) -> str:
    """Write a duration to the second, such as ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _at_the_point(numbers: list[str]) -> list[str]:
    parts = [number.partition(".") for number in numbers]
    left = max((len(whole) for whole, _, _ in parts), default=0)
    right = max((len(point + rest) for _, point, rest in parts), default=0)
    return [f"{whole:>{left}}{point + rest:<{right}}" for whole, point, rest in parts]


def _time_line(frame: "Frame") -> str:
    latency = "" if frame.latency_s is None else f", read in {frame.latency_s:.2f} s"
    return f"received {clock_text(frame.received_at)}, {frame.age_s:.1f} s ago{latency}"
