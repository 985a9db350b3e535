"""The formats in which frames are written: functions from a frame to text, line ends included.

``device`` names the analyser in the data. ``None`` means a capture: it has neither a device nor an arrival time,
and the columns for these stay empty.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import click

from servomex.columns import ROW_COLUMNS
from servomex.enums import Quality
from servomex.models import AnalyserStatus, Frame, Reading
from servomex.plain import json_value
from servomex.rows import FLAGS, csv_text, plain_row

MEASUREMENT = "servomex"
"""The measurement of every line of the influx format."""

_ARRIVAL = ("received_at", "monotonic_ns", "device", "requested_at", "latency_s")
_TAGS = ("device", "protocol", "channel", "kind", "name", "unit")
_TAG_ESCAPES = str.maketrans(
    {"\\": "\\\\", ",": "\\,", "=": "\\=", " ": "\\ ", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)
_STRING_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEADINGS = ("channel", "name", "value", "unit", "state", "quality")
_COLOURS = {Quality.BAD: "red", Quality.UNCERTAIN: "yellow"}
_LARGEST_PLAIN = 1e16


def rows(frame: Frame, device: str | None) -> list[dict[str, Any]]:
    """Give one row a channel, with the keys of :data:`ROW_COLUMNS`."""
    samples = frame.as_samples(device=device or "")
    found = [dict(zip(ROW_COLUMNS, plain_row(sample), strict=True)) for sample in samples]
    if device is None:
        for row in found:
            row |= dict.fromkeys(_ARRIVAL)
    return found


def csv_header() -> str:
    """Write the names of the columns."""
    return ",".join(ROW_COLUMNS) + "\n"


def csv_rows(frame: Frame, device: str | None) -> str:
    """Write one line a channel, as :func:`csv_text` does."""
    return csv_text([[*row.values()] for row in rows(frame, device)])


def json_line(frame: Frame, device: str | None) -> str:
    """Write one object on one line."""
    arrived = device is not None
    analyser = frame.analyser
    record = {
        "device": device,
        "protocol": frame.protocol.value,
        "received_at": frame.received_at if arrived else None,
        "requested_at": frame.requested_at if arrived else None,
        "latency_s": frame.latency_s if arrived else None,
        "analyser": {
            "fault": analyser.fault,
            "maintenance": analyser.maintenance,
            "cal_groups": analyser.cal_text,
            "clock": analyser.clock,
        },
        "readings": rows(frame, device),
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False, default=json_value) + "\n"


def influx_lines(frame: Frame, device: str) -> str:
    """Write one line a channel in InfluxDB's line protocol, with times in nanoseconds."""
    timestamp = (frame.received_at - _EPOCH) // timedelta(microseconds=1) * 1000
    lines = []
    for row in rows(frame, device):
        own = {key: row[key] for key in _TAGS if row[key]}
        tags = ",".join(f"{key}={_tag(text)}" for key, text in (own | row["tags"].plain()).items())
        fields = [] if row["value"] is None else [f"value={row['value']!r}"]
        fields.append(f"quality={_string(row['quality'])}")
        fields += [f"{key}={str(row[key]).lower()}" for key in FLAGS]
        fields.append(f"cal_groups={_string(row['cal_groups'])}")
        lines.append(f"{MEASUREMENT},{tags} {','.join(fields)} {timestamp}\n")
    return "".join(lines)


def _tag(text: str) -> str:
    """Escape a tag's value. No parser of InfluxDB takes one that ends with a backslash, escaped or not."""
    return (f"{text} " if text.endswith("\\") else text).translate(_TAG_ESCAPES)


def _string(text: str) -> str:
    return f'"{text.translate(_STRING_ESCAPES)}"'


def table(frame: Frame, title: str, *, arrived: bool = True, colour: bool = False) -> str:
    """Write a table for people, with one line for the analyser above it and one for the time of the data.

    Args:
        frame: What to write.
        title: Names the analyser: its port, and how it is reached.
        arrived: Whether to tell when the data came and how old it is; it is unknown of a capture.
        colour: Mark what is bad in red and what is uncertain in yellow.
    """
    lines = [_analyser_line(frame.analyser, title, colour)]
    if arrived:
        lines.append(_time_line(frame))
    values = _aligned([value_text(reading.value) for reading in frame])
    cells = [_HEADINGS, *(_reading_cells(*pair) for pair in zip(frame, values, strict=True))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    texts = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    lines.append(texts[0])
    for reading, text in zip(frame, texts[1:], strict=True):
        shade = _COLOURS.get(reading.quality) if colour else None
        lines.append(click.style(text, fg=shade) if shade else text)
    return "\n".join(lines) + "\n"


def value_text(value: float | None) -> str:
    """Write a value as the analyser gives it, without an exponent as far as that is readable; ``-`` for none."""
    if value is None:
        return "-"
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text and abs(value) < _LARGEST_PLAIN else text


def state_text(reading: Reading) -> str:
    """Say in words what is raised; ``ok`` when nothing is."""
    missing = ("no value",) if reading.value is None else ()
    return ", ".join((*missing, *reading.status.words)) or "ok"


def _reading_cells(reading: Reading, value: str) -> tuple[str, ...]:
    return (
        reading.channel.value,
        reading.name or "",
        value,
        reading.unit_text,
        state_text(reading),
        reading.quality.value,
    )


def _aligned(numbers: list[str]) -> list[str]:
    """Put the decimal points of numbers below each other."""
    parts = [number.partition(".") for number in numbers]
    left = max((len(whole) for whole, _, _ in parts), default=0)
    right = max((len(point + rest) for _, point, rest in parts), default=0)
    return [f"{whole:>{left}}{point + rest:<{right}}" for whole, point, rest in parts]


def _analyser_line(analyser: AnalyserStatus, title: str, colour: bool) -> str:
    words = [
        word
        for raised, word in ((analyser.fault, "analyser fault"), (analyser.maintenance, "maintenance required"))
        if raised
    ]
    words += analyser.cal_words
    state = ", ".join(words) or "analyser ok"
    if colour and words:
        state = click.style(state, fg="red" if analyser.fault else "yellow")
    return f"{title}: {state}" + (f", its clock {analyser.clock}" if analyser.clock else "")


def _time_line(frame: Frame) -> str:
    received = frame.received_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    latency = "" if frame.latency_s is None else f", read in {frame.latency_s:.2f} s"
    return f"received {received} UTC, {frame.age_s:.1f} s ago{latency}"
