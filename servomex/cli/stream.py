"""``servomex stream``: readings as they arrive, at a rate or each broadcast once."""

from typing import Any

import click

from servomex.cli.connection import Connection, channels_option, connection_options
from servomex.cli.errors import stop_code
from servomex.cli.formats import writer_for
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.options import (
    FRAME_FORMAT,
    count_option,
    duration_option,
    naming_options,
    option,
    rate_of,
    rate_options,
)
from servomex.cli.output import STDERR, WARNING, note
from servomex.cli.program import Program, version_option
from servomex.cli.tally import Gap
from servomex.durations import counted
from servomex.models.frame import Frame
from servomex.runtime.queues import Closed

_MORE = """\b
Examples:
  servomex stream /dev/ttyUSB0 --rate 5 --format csv
  servomex stream /dev/ttyUSB1 --protocol continuous --format json | jq .readings[0].value
"""


@click.command(cls=Program, short_help="Write readings as they arrive.", epilog=_MORE)
@connection_options
@channels_option
@naming_options
@rate_options("Over Modbus, 1 if omitted. Not in continuous mode, where each broadcast is written.")
@duration_option
@count_option
@option("--format", "output_format", **FRAME_FORMAT)
@option(
    "--log-format",
    type=click.Choice(["text", "telegraf"]),
    metavar="FORM",
    default="text",
    show_default=True,
    help="Form of the lines on stderr: text, or telegraf, with the levels that its execd reads.",
)
@version_option
def stream(
    channels: list[str] | None,
    rate: float | None,
    every: float | None,
    duration: float | None,
    count: int | None,
    output_format: str,
    log_format: str,
    **given: Any,
) -> None:
    """Write the readings of the analyser on PORT as they arrive, until Ctrl-C, --duration or --count.

    A reading that fails is reported on stderr, and so is the first good one after it. If the output is read too
    slowly, the oldest readings are dropped and counted.
    """
    request = Connection(**given)
    if log_format == "telegraf":
        STDERR.show_levels()
    code = _run(request, channels, rate_of(rate, every), duration, count, output_format)
    raise click.exceptions.Exit(code)


def _run(
    request: Connection,
    channels: list[str] | None,
    rate_hz: float | None,
    duration: float | None,
    count: int | None,
    output_format: str,
) -> int:
    """Write the readings until the end, report how many there were, and return the exit code."""
    code, taken, failed, gap = 0, 0, 0, Gap()
    with interrupts_wait():
        from servomex.recording.outages import OUTAGES
        from servomex.recording.subscription import frames_of
        from servomex.runtime.queues import BUFFER
    with request.logs(omitted=OUTAGES), request.open(channels) as analyzer:
        show = writer_for(output_format, analyzer, request.name)
        with frames_of(analyzer, analyzer.mode.pace_hz(rate_hz), BUFFER, duration_s=duration) as frames:
            try:
                while taken != count:
                    item = frames.get()
                    taken += 1
                    gap.note(failed=not isinstance(item, Frame), quiet=request.quiet)
                    if isinstance(item, Frame):
                        show(item)
                        continue
                    failed += 1
                    if not request.quiet:
                        note(f"Failed: {item}", WARNING)
            except Closed:
                pass  # the end of --duration
            except KeyboardInterrupt as stop:
                code = stop_code(stop)
    if not request.quiet:
        summary = frames.summary
        good = counted(taken - failed, "reading")
        note(f"{good}, {failed} failed, {summary.samples_late} late, {summary.dropped} dropped")
    return code
