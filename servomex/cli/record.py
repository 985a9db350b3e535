"""``servomex record``: write the readings of an analyser to files, for seconds or for weeks."""

import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import click

import servomex
from servomex.cli.connection import PORT, Connection, channels_option, line_options
from servomex.cli.errors import RequestError, stop_code
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.logs import warnings_on_stderr
from servomex.cli.options import (
    SECONDS,
    check_seconds,
    count_option,
    duration_option,
    naming_options,
    rate_of,
    rate_options,
)
from servomex.cli.output import note
from servomex.cli.program import Program, version_option
from servomex.cli.progress import show_progress
from servomex.cli.targets import check_decimal, check_files, decimal_option, format_option, warn_of_passwords
from servomex.errors import ServomexError, ServomexSinkError
from servomex.errors.excerpts import without_password

if TYPE_CHECKING:
    from servomex.recording.recorder import Recorder
    from servomex.sinks.opening import SinkOptions

_MORE = """\b
Examples:
  servomex record /dev/ttyUSB0 run.csv --rate 2 --duration 8h
  servomex record /dev/ttyUSB0 run.sqlite run.csv.gz --rotate 1d
  servomex record /dev/ttyUSB1 --protocol continuous burn.parquet
  servomex record /dev/ttyUSB0 log.2026-11 --format csv --every 1m
  servomex record /dev/ttyUSB0 postgresql://logger@db1/plant run.csv

\b
Formats, by suffix or --format:
  .csv .csv.gz .jsonl .ndjson .jsonl.gz .sqlite .sqlite3 .db .parquet
A postgresql:// URL names a table on a PostgreSQL server, influx+http:// a database of InfluxDB;
rows are always appended to them. mqtt:// and mqtts:// name a broker.
Ctrl-C and SIGTERM end a recording after everything has been written.
"""


@attrs.frozen(kw_only=True)
class _Request(Connection):
    """The request on the command line; the fields are its options."""

    channels: list[str] | None
    duration: float | None
    count: int | None
    append: bool
    overwrite: bool
    rotate: str | None
    keep: str | None
    min_free: str | None
    flush: float
    decimal: str | None
    file_format: str | None

    @property
    def sink_options(self) -> "SinkOptions":
        """The options of the files, as far as they are given."""
        options: SinkOptions = {"flush_s": self.flush}
        for name in ("append", "overwrite", "rotate", "keep", "min_free", "decimal", "file_format"):
            value = getattr(self, name)
            if value is not None and value is not False:
                options[name] = value
        return options


@click.command(cls=Program, short_help="Record an analyser to files.", epilog=_MORE)
@click.argument("port", type=PORT)
@line_options
@click.argument("targets", metavar="OUT...", nargs=-1)
@channels_option
@naming_options
@rate_options("If omitted, 1 over Modbus, and each broadcast in continuous mode.")
@duration_option
@count_option
@click.option("--append", is_flag=True, help="Append to files that exist.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--rotate", metavar="LIMIT", help="Start a new file at this size or time: 100MB, 1d, or both as 100MB,1d."
)
@click.option("--keep", metavar="LIMIT", help="Keep rotated files this long or this large: 90d, 20GB or 90d,20GB.")
@click.option(
    "--min-free", metavar="SIZE", help="Remove the oldest rotated files to keep this much of the disk free."
)
@click.option(
    "--flush",
    type=SECONDS,
    metavar="SECONDS",
    callback=check_seconds(zero=True),
    default=1.0,
    show_default=True,
    help="Lose at most this much if the program is killed; 0 for nothing.",
)
@decimal_option
@format_option
@version_option
def record(targets: tuple[str, ...], rate: float | None, every: float | None, **given: Any) -> None:
    """Record the analyser on PORT to the files OUT.

    A reading that fails becomes a row with its error, so that the gap is visible; a lost port is reopened. Lines
    on stderr report when readings start to fail and, once they succeed again, how long they had failed. PORT must
    be given even if SERVOMEX_PORT is set: otherwise an OUT could be taken for it.
    """
    _check_order(given["port"], targets)
    request, rate_hz = _Request(**given), rate_of(rate, every)
    options = request.sink_options
    check_decimal(targets, options)
    warn_of_passwords(targets)
    with interrupts_wait():
        from servomex.recording.recorder import Recorder
    check_files(targets, options)
    with request.logs(), request.open(request.channels) as analyzer, _warnings(request):
        if rate_hz is None:
            rate_hz = analyzer.mode.pace_hz(None)
        try:
            recorder = Recorder(
                analyzer,
                targets,
                sink_options=options,
                rate_hz=rate_hz,
                duration=request.duration,
                count=request.count,
            )
        except ServomexSinkError as error:  # nothing is begun
            raise RequestError(str(error)) from error
        code = _run(recorder, analyzer, request)
    raise click.exceptions.Exit(code)


def _check_order(port: str, targets: tuple[str, ...]) -> None:
    """Check that there is a port, and that it comes before the files.

    Raises:
        UsageError: The port or the files are missing, or they are in the wrong order.
    """
    if _is_recording(port) and (not targets or "://" in port):
        raise click.UsageError(f"PORT is missing: servomex record PORT {without_password(port)}")
    if not targets:
        raise click.UsageError(f"OUT is missing: name one or more files, as in servomex record {port} run.csv")
    if _is_recording(port) and not any(map(_is_recording, targets)):
        raise click.UsageError(f"PORT comes before OUT: servomex record {without_password(targets[0])} {port}")


def _is_recording(name: str) -> bool:
    """Return whether a name has the suffix of a file that can be written."""
    with interrupts_wait():
        from servomex.sinks.opening import sink_class
    try:
        sink_class(name)
    except ServomexError:
        return False
    return True


def _run(recorder: "Recorder", analyzer: "servomex.Analyzer", request: _Request) -> int:
    """Record until the end, report what was recorded, and return the exit code."""
    try:
        with recorder:
            try:
                show_progress(recorder, analyzer, request.port, quiet=request.quiet, verbose=bool(request.verbose))
            except KeyboardInterrupt as stop:  # the regular end: errors are shown as at any other
                return stop_code(stop)
    finally:
        if not request.quiet:
            note(str(recorder.summary))
    return 0


def _warnings(request: Connection) -> contextlib.AbstractContextManager[None]:
    """Show the warnings of the package, unless the whole log is shown, or nothing."""
    return contextlib.nullcontext() if request.quiet or request.verbose else warnings_on_stderr()
