"""``servomex record``: write the readings of an analyser to files, for seconds or for weeks."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

import servomex
from servomex.cli.common import (
    EXIT_CODES,
    Program,
    check_files,
    check_rate,
    check_seconds,
    interrupts_wait,
    note,
    one_line,
    stop_code,
)
from servomex.cli.connection import PORT, Connection, channels_option, line_options
from servomex.cli.logs import warnings_on_stderr
from servomex.clock import time
from servomex.durations import parse_duration
from servomex.errors import ServomexError, ServomexValidationError

if TYPE_CHECKING:
    from servomex.recorder import Recorder

TICK_S = 0.5
"""How often what is shown on a terminal is brought up to date."""

_MORE = """\b
Examples:
  servomex record /dev/ttyUSB0 run.csv --rate 2 --duration 8h
  servomex record /dev/ttyUSB0 run.sqlite run.csv.gz --rotate 1d
  servomex record /dev/ttyUSB1 --protocol continuous burn.parquet

\b
Formats, by suffix:
  .csv .csv.gz .jsonl .ndjson .jsonl.gz .sqlite .sqlite3 .db .parquet
Ctrl-C and SIGTERM end a recording with everything written.
"""


def _check_duration(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_duration(value)
    except ServomexValidationError as error:
        raise click.BadParameter(error.message) from error


@click.command(cls=Program, short_help="Record an analyser to files.", epilog=f"{_MORE}\n{EXIT_CODES}")
@click.argument("port", type=PORT)
@line_options
@click.argument("targets", metavar="OUT...", nargs=-1, required=True)
@channels_option
@click.option(
    "--rate",
    type=float,
    metavar="HZ",
    callback=check_rate,
    help="Readings per second, up to 1000. Over Modbus 1 when left out; in continuous mode each broadcast.",
)
@click.option("--duration", metavar="TIME", callback=_check_duration, help="End after 90s, 15m, 8h or 2d.")
@click.option("--count", type=click.IntRange(1), help="End after so many readings.")
@click.option("--append", is_flag=True, help="Go on with files that exist.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--rotate", metavar="LIMIT", help="Begin new files by size or time: 100MB, 1d, or both as 100MB,1d.")
@click.option(
    "--flush",
    type=float,
    metavar="SECONDS",
    callback=check_seconds(zero=True),
    default=1.0,
    show_default=True,
    help="What is lost at most when the program is killed; 0 for nothing.",
)
@click.version_option(servomex.__version__, prog_name="servomex")
def record(
    targets: tuple[str, ...],
    channels: list[str] | None,
    rate: float | None,
    duration: float | None,
    count: int | None,
    append: bool,
    overwrite: bool,
    rotate: str | None,
    flush: float,
    **given: Any,
) -> None:
    """Record the analyser on PORT to the files OUT.

    A reading that fails is a row with its error, so that the gap shows; a port that is lost is opened again. PORT
    must be named here, whatever SERVOMEX_PORT says: an OUT could be taken for it.
    """
    request, code = Connection(**given), 0
    options: dict[str, Any] = {"append": append, "overwrite": overwrite, "flush_s": flush}
    if rotate is not None:
        options["rotate"] = rotate
    with interrupts_wait():
        from servomex.recorder import Recorder
        from servomex.subscription import USUAL_HZ
    check_files(targets, options)
    with request.logs(), request.open(channels) as analyzer, _warnings(request):
        recorder = Recorder(
            analyzer,
            targets,
            sink_options=options,
            rate_hz=USUAL_HZ if rate is None and not analyzer.reader else rate,
            duration=duration,
            count=count,
        )
        try:
            with recorder:
                try:
                    _show(recorder, analyzer, duration, quiet=request.quiet)
                except KeyboardInterrupt as stop:  # the regular end: what failed is told as at any other
                    code = stop_code(stop)
        finally:
            if not request.quiet:
                note(str(recorder.summary))
    raise click.exceptions.Exit(code)


def _warnings(request: Connection) -> contextlib.AbstractContextManager[None]:
    """Show what the package warns of, unless the whole log is shown or nothing is to be."""
    return contextlib.nullcontext() if request.quiet or request.verbose else warnings_on_stderr()


def _show(recorder: "Recorder", analyzer: "servomex.Analyzer", duration: float | None, *, quiet: bool) -> None:
    """Wait for the end; on a terminal, show how far it is."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        while not recorder.join(TICK_S):
            pass
    elif (expected := recorder.recording.expected) is not None:
        _show_bar(recorder, expected, lambda: recorder.summary.slots)
    elif duration is not None:
        started = time.monotonic()
        _show_bar(recorder, round(duration), lambda: min(round(time.monotonic() - started), round(duration)))
    else:
        _show_line(recorder, analyzer)


def _show_bar(recorder: "Recorder", length: int, reached: Callable[[], int]) -> None:
    with click.progressbar(length=max(1, length), label="Recording", file=sys.stderr) as bar:
        for _ in _ticks(recorder):
            bar.update(reached() - bar.pos)


def _show_line(recorder: "Recorder", analyzer: "servomex.Analyzer") -> None:
    width = 0
    try:
        for _ in _ticks(recorder):
            line = one_line(f"{recorder.summary.counts}{_values(analyzer, recorder)}")
            click.echo(f"\r{line:<{width}}", err=True, nl=False)
            width = len(line)
    finally:
        click.echo(err=True)


def _ticks(recorder: "Recorder") -> Iterator[None]:
    """Come now and then until the end, and once more then."""
    ended = False
    while not ended:
        ended = recorder.join(TICK_S)
        yield


def _values(analyzer: "servomex.Analyzer", recorder: "Recorder") -> str:
    """Give the newest values, or for how long there were none."""
    try:
        frame = analyzer.snapshot()
    except ServomexError:
        return ""
    if frame.age_s > analyzer.fresh_for_s(recorder.recording.rate_hz):
        return f"; no reading for {frame.age_s:.0f} s"
    return "".join(f"; {item.channel} {item.value} {item.unit_text}" for item in frame)
