"""The output formats of frames: functions from a frame to text, line ends included.

``device`` names the analyser in the data. ``None`` means a capture: it has neither a device nor an arrival time,
and the columns for these stay empty.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from servomex.cli.output import colour_wanted, one_line, write_data, write_text
from servomex.enums import Quality
from servomex.models.columns import ROW_COLUMNS
from servomex.models.frame import Frame, frame_text
from servomex.models.plain import json_text
from servomex.models.tags import NO_TAGS
from servomex.models.texts import unpainted
from servomex.rows.formats import csv_text
from servomex.rows.influx import influx_line
from servomex.rows.pieces import plain_row

if TYPE_CHECKING:
    import servomex

_ARRIVAL = ("received_at", "monotonic_ns", "device", "requested_at", "latency_s")
_COLOURS = {Quality.BAD: "red", Quality.UNCERTAIN: "yellow"}


def rows(frame: Frame, device: str | None, tags: Mapping[str, str] = NO_TAGS) -> list[dict[str, Any]]:
    """Return one row per channel, with the keys of :data:`ROW_COLUMNS`."""
    samples = frame.as_samples(device=device or "", metadata=tags)
    found = [dict(zip(ROW_COLUMNS, plain_row(sample), strict=True)) for sample in samples]
    if device is None:
        for row in found:
            row |= dict.fromkeys(_ARRIVAL)
    return found


def csv_header() -> str:
    """Return the line with the names of the columns."""
    return ",".join(ROW_COLUMNS) + "\n"


def csv_rows(frame: Frame, device: str | None, tags: Mapping[str, str] = NO_TAGS) -> str:
    """Return one line per channel, as :func:`csv_text` does."""
    return csv_text([[*row.values()] for row in rows(frame, device, tags)])


def json_line(frame: Frame, device: str | None, tags: Mapping[str, str] = NO_TAGS) -> str:
    """Return one object on one line."""
    return json_text(json_record(frame, device, tags))


def json_record(frame: Frame, device: str | None, tags: Mapping[str, str] = NO_TAGS) -> dict[str, Any]:
    """Return the object of a frame."""
    record = frame.as_json(device=device or "", metadata=tags)
    if device is None:
        for item in (record, *record["readings"]):
            item |= dict.fromkeys(_ARRIVAL & item.keys())
    return record


def influx_lines(frame: Frame, device: str, tags: Mapping[str, str] = NO_TAGS) -> str:
    """Return one line per channel in InfluxDB's line protocol, with times in nanoseconds."""
    return "".join(influx_line([*row.values()]) for row in rows(frame, device, tags))


def coloured(text: str, quality: Quality) -> str:
    """Return a text in the colour of its quality: bad in red, uncertain in yellow."""
    return click.style(text, fg=_COLOURS[quality])


def writer_for(
    output_format: str, analyzer: "servomex.Analyzer", name: str | None = None
) -> Callable[[Frame], None]:
    """Return a function that writes a frame to stdout in a format.

    Args:
        output_format: One of those in :data:`FRAME_FORMAT`.
        analyzer: The source of the frames.
        name: Its name, if the user gave it one: a table then begins with it.
    """
    if output_format == "table":
        return _table_writer(analyzer, name)
    write = {"csv": csv_rows, "json": json_line, "influx": influx_lines}[output_format]
    if output_format == "csv":
        write_data(csv_header())
    return lambda frame: write_data(write(frame, analyzer.name, analyzer.tags))


def _table_writer(analyzer: "servomex.Analyzer", name: str | None) -> Callable[[Frame], None]:
    given = "" if name is None else f"{name}, "
    title = one_line(f"{given}{analyzer.link.port}, {analyzer.protocol}")
    if analyzer.mode.address is not None:
        title += f", address {analyzer.mode.address}"
    paint = coloured if colour_wanted() else unpainted
    before = ""

    def write(frame: Frame) -> None:
        nonlocal before
        write_text(f"{before}{frame_text(frame, title, paint=paint)}\n")
        before = "\n"

    return write
