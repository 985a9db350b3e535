"""The formats in which frames are written: functions from a frame to text, line ends included.

``device`` names the analyser in the data. ``None`` means a capture: it has neither a device nor an arrival time,
and the columns for these stay empty.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from servomex.columns import ROW_COLUMNS
from servomex.enums import Quality
from servomex.models import Frame
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
_COLOURS = {Quality.BAD: "red", Quality.UNCERTAIN: "yellow"}


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
    return json_text(json_record(frame, device))


def json_text(record: dict[str, Any]) -> str:
    """Write an object on one line."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, default=json_value) + "\n"


def json_record(frame: Frame, device: str | None) -> dict[str, Any]:
    """Return the object of a frame."""
    arrived = device is not None
    analyser = frame.analyser
    return {
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


def coloured(text: str, quality: Quality) -> str:
    """Mark what is bad in red and what is uncertain in yellow."""
    return click.style(text, fg=_COLOURS[quality])
