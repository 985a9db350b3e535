"""How the commands that read show frames on stdout, in the format that is asked for."""

from collections.abc import Callable

import attrs

import servomex
from servomex.cli import formats
from servomex.cli.common import colour_wanted, note, one_line, write_data, write_text
from servomex.durations import counted
from servomex.models.frame import Frame, frame_text
from servomex.models.texts import unpainted
from servomex.runtime.clock import time

FORMATS = ("table", "csv", "json", "influx")


@attrs.define
class Gap:
    """Readings that failed one after the other, and a line on stderr when they are over."""

    failures: int = 0
    _since: float = 0.0

    def note(self, *, failed: bool, quiet: bool) -> None:
        """Note what became of a reading; unless ``quiet``, report the good one that ends a gap."""
        if failed:
            self._since = self._since if self.failures else time.monotonic()
            self.failures += 1
        elif self.failures:
            if not quiet:
                gap_s = time.monotonic() - self._since
                note(f"Readings are back after {gap_s:.1f} s ({counted(self.failures, 'failed reading')})")
            self.failures = 0


def writer_for(
    output_format: str, analyzer: "servomex.Analyzer", name: str | None = None
) -> Callable[[Frame], None]:
    """Return what writes a frame to stdout in the format that is asked for.

    Args:
        output_format: One of :data:`FORMATS`.
        analyzer: Where the frames are from.
        name: Its name, if the user gave it one: a table then begins with it.
    """
    if output_format == "table":
        return _table_writer(analyzer, name)
    write = {"csv": formats.csv_rows, "json": formats.json_line, "influx": formats.influx_lines}[output_format]
    if output_format == "csv":
        write_data(formats.csv_header())
    return lambda frame: write_data(write(frame, analyzer.name, analyzer.tags))


def _table_writer(analyzer: "servomex.Analyzer", name: str | None) -> Callable[[Frame], None]:
    given = "" if name is None else f"{name}, "
    title = one_line(f"{given}{analyzer.link.port}, {analyzer.protocol}")
    if analyzer.client is not None:
        title += f", address {analyzer.client.address}"
    paint = formats.coloured if colour_wanted() else unpainted
    before = ""

    def write(frame: Frame) -> None:
        nonlocal before
        write_text(f"{before}{frame_text(frame, title, paint=paint)}\n")
        before = "\n"

    return write
