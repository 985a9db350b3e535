"""How the commands that read show frames on stdout, in the format that is asked for."""

from collections.abc import Callable

import servomex
from servomex.cli import formats
from servomex.cli.common import colour_wanted, one_line, write_data, write_text
from servomex.models import Frame

FORMATS = ("table", "csv", "json", "influx")


def writer_for(output_format: str, analyzer: "servomex.Analyzer") -> Callable[[Frame], None]:
    """Give what writes a frame to stdout in the format that is asked for."""
    if output_format == "table":
        return _table_writer(analyzer)
    write = {"csv": formats.csv_rows, "json": formats.json_line, "influx": formats.influx_lines}[output_format]
    if output_format == "csv":
        write_data(formats.csv_header())
    return lambda frame: write_data(write(frame, analyzer.name))


def _table_writer(analyzer: "servomex.Analyzer") -> Callable[[Frame], None]:
    title = one_line(f"{analyzer.link.port}, {analyzer.protocol}")
    if analyzer.client is not None:
        title += f", address {analyzer.client.address}"
    colour = colour_wanted()
    before = ""

    def write(frame: Frame) -> None:
        nonlocal before
        write_text(before + formats.table(frame, title, colour=colour))
        before = "\n"

    return write
