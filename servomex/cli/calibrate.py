"""``servomex calibrate``: show autocalibrations, start one and watch it, stop all."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

import servomex
from servomex.calibration.pulse import left_at_one, start_coils_of
from servomex.calibration.report import PHASE_WORDS, CalibrationProgress
from servomex.cli.connection import Connection, connection_options
from servomex.cli.errors import RequestError, stop_code
from servomex.cli.options import SECONDS, check_seconds, format_settings
from servomex.cli.output import STDERR, note, one_line, write_data, write_text
from servomex.cli.program import ProgramGroup, version_option
from servomex.models.analyser import CAL_GROUPS
from servomex.models.plain import json_text
from servomex.models.reading import value_text
from servomex.models.texts import duration_text

F = TypeVar("F", bound=Callable[..., Any])

_MORE = """\b
Examples:
  servomex calibrate status /dev/ttyUSB0
  servomex calibrate start /dev/ttyUSB0 1 --yes --wait --within 1800
  servomex calibrate stop /dev/ttyUSB0 --yes

\b
An autocalibration moves calibration gas and takes its group off sample.
Nothing is sent without --yes. Ctrl-C during 'start' asks the analyser to stop.
A start coil that a program left at 1, because it was killed during a start, is
shown by 'status' and 'doctor', and set back to 0 by 'stop'.
"""


@click.group(cls=ProgramGroup, invoke_without_command=True, epilog=_MORE)
@version_option
@click.pass_context
def calibrate(ctx: click.Context) -> None:
    """Show autocalibrations, start one, stop all.

    Starting and stopping need a Modbus mode; the state can be read in any mode.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _command(*, writes: bool) -> Callable[[F], F]:
    """Return a decorator that adds the port, the options of a connection, and ``--yes`` if it writes."""

    def decorate(command: F) -> F:
        if writes:
            # Not from the environment: a confirmation applies to one command.
            command = click.option("--yes", is_flag=True, help="Confirm; nothing is sent without it.")(command)
        return connection_options(version_option(command))

    return decorate


_group = click.IntRange(1, CAL_GROUPS)
_format = click.option(
    "--format", "output_format", **format_settings(["text", "json"], "How the result is written to stdout.")
)


@calibrate.command(short_help="Show which gas each group is on.")
@_command(writes=False)
@click.argument("group", type=_group, required=False)
@_format
def status(group: int | None, output_format: str, **given: Any) -> None:
    """Show whether GROUP, or each group, is on sample or on calibration gas 1 or 2. Only reads are sent."""
    request = Connection(**given)
    with request.logs(), request.open() as analyzer:
        wanted = range(1, CAL_GROUPS + 1) if group is None else [group]
        seen = [analyzer.calibration_status(number) for number in wanted]
    _write_progress(seen, output_format)
    if left := [item.group for item in seen if item.start_coil]:
        note(f"{left_at_one(left)}. 'servomex calibrate stop' sets {'it' if len(left) == 1 else 'them'} back to 0")


def _write_progress(seen: Sequence[CalibrationProgress], output_format: str) -> None:
    if output_format == "json":
        write_data(json_text({str(item.group): item for item in seen}))
        return
    coil = "; its start coil is at 1"
    write_text(
        "".join(f"group {item.group}: {PHASE_WORDS[item.phase]}{coil * bool(item.start_coil)}\n" for item in seen)
    )


@calibrate.command(short_help="Start the autocalibration of a group.", epilog=_MORE)
@_command(writes=True)
@click.argument("group", type=_group)
@click.option("--wait", is_flag=True, help="Wait until it ends, then report.")
@click.option(
    "--within",
    type=SECONDS,
    metavar="SECONDS",
    callback=check_seconds(),
    default=3600.0,
    show_default=True,
    help="With --wait: stop it if it takes longer.",
)
@click.option(
    "--settle",
    type=SECONDS,
    metavar="SECONDS",
    callback=check_seconds(zero=True),
    show_default="10",
    help="With --wait: how long the group must be back on sample before it counts as ended.",
)
@_format
def start(
    group: int, yes: bool, wait: bool, within: float, settle: float | None, output_format: str, **given: Any
) -> None:
    """Start the autocalibration of GROUP, 1 to 4, and check that it runs."""
    _require(yes, "this moves calibration gas and takes the group off sample")
    source = click.get_current_context().get_parameter_source
    for name in ("within", "settle"):
        if not wait and source(name) is ParameterSource.COMMANDLINE:
            raise RequestError(f"--{name} needs --wait")
    if settle is not None and settle >= within:
        raise RequestError(f"--settle must be shorter than --within: {settle:g} s is not less than {within:g} s")
    request = Connection(**given)
    with request.logs(), request.open() as analyzer:
        try:
            if wait:
                _watch(analyzer, group, within, settle, output_format, quiet=request.quiet)
            else:
                _start(analyzer, group, output_format, quiet=request.quiet)
        except KeyboardInterrupt as stopped:
            for text in getattr(stopped, "__notes__", ()):
                note(text)
            raise click.exceptions.Exit(stop_code(stopped)) from stopped


@calibrate.command(short_help="Stop all autocalibrations.", epilog=_MORE)
@_command(writes=True)
def stop(yes: bool, **given: Any) -> None:
    """Stop all autocalibrations, however they were started, and check that every group is on sample.

    Start coils that were left at 1 are set back to 0.
    """
    _require(yes, "this stops every autocalibration, even one that was started at the panel")
    request = Connection(**given)
    with request.logs(), request.open() as analyzer:
        cleared = analyzer.stop_calibration(confirm=True)
    write_text("all groups are on sample\n")
    if cleared:
        note(f"{start_coils_of(cleared)} had been left at 1: set back to 0")


def _require(yes: bool, why: str) -> None:
    if not yes:
        raise RequestError(f"{why}: add --yes to confirm. Nothing was sent.")


def _start(analyzer: "servomex.Analyzer", group: int, output_format: str, *, quiet: bool) -> None:
    """Start without waiting for the end."""
    progress = analyzer.start_calibration(group, confirm=True)
    try:
        _write_progress([progress], output_format)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"the calibration of group {group} has started and continues")
        raise
    for text in progress.notes:
        note(text)
    if not quiet:
        note("it continues on its own; 'servomex calibrate status' shows its progress")


def _watch(
    analyzer: "servomex.Analyzer",
    group: int,
    within: float,
    settle: float | None,
    output_format: str,
    *,
    quiet: bool,
) -> None:
    """Start, show the progress on stderr, and write the report."""
    show = _Progress()
    try:
        report = analyzer.calibrate(
            group, confirm=True, timeout=within, settle=settle, on_progress=None if quiet else show.update
        )
    finally:
        show.end()
    for text in report.notes:
        note(text)
    if output_format == "json":
        write_data(json_text(report))
    else:
        write_text("".join(f"{one_line(line)}\n" for line in str(report).splitlines()))


class _Progress:
    """Shows the progress of a calibration on stderr: one updated line, or without a terminal each change."""

    def __init__(self) -> None:
        self._live = STDERR.isatty()
        self._words = ""
        self._width = 0

    def update(self, progress: CalibrationProgress) -> None:
        """Show one more reading."""
        text = f"group {progress.group}: {PHASE_WORDS[progress.phase]}, {duration_text(progress.elapsed_s or 0.0)}"
        if self._live:
            text = one_line(f"{text}{_values(progress)}")
            STDERR.write(f"\r{text:<{self._width}}")
            STDERR.flush()
            self._width = len(text)
        elif PHASE_WORDS[progress.phase] != self._words:
            note(text)
        self._words = PHASE_WORDS[progress.phase]

    def end(self) -> None:
        """Leave the line."""
        if self._width:
            STDERR.write("\n")


def _values(progress: CalibrationProgress) -> str:
    shown = [item for item in progress.frame or () if item.status.calibrating]
    return "".join(f"; {item.channel} {item.name or ''} {value_text(item)}" for item in shown)
