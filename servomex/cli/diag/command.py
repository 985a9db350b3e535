"""``servomex diag``: find out what is wrong with a line: its losses, its traffic, its regularity."""

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

import servomex
from servomex.checkup.tally import Tally
from servomex.cli.connection import Connection, connection_options, load
from servomex.cli.diag import listen, report
from servomex.cli.diag.figures import Cadence, smallest_safe_gap
from servomex.cli.diag.report import Source
from servomex.cli.errors import NoAnswerError, stop_code
from servomex.cli.hextext import bytes_of
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.options import duration_option, format_settings, rate_of, rate_options, whole_settings
from servomex.cli.output import BAR, STDERR, note, write_data, write_text
from servomex.cli.program import ProgramGroup, version_option
from servomex.durations import counted
from servomex.enums import ProtocolKind
from servomex.errors import ErrorContext, ServomexProtocolUnsupportedError
from servomex.runtime.clock import time

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_GAP_S = 10.0
LOOPBACKS = 20
"""How many requests are sent without ``--count``."""
PAYLOAD_BYTES = 2
_FRAMINGS = (ProtocolKind.MODBUS_RTU, ProtocolKind.MODBUS_ASCII)

_MORE = """\b
Examples:
  servomex diag echo /dev/ttyUSB0
  servomex diag tap /dev/ttyUSB0 --duration 60s
  servomex diag loopback /dev/ttyUSB0 --protocol modbus_rtu --count 100
  servomex diag loopback /dev/ttyUSB0 --payload A55A
  servomex diag gap /dev/ttyUSB0 --gaps 0,0.02,0.05,0.1
  servomex diag jitter /dev/ttyUSB0 --protocol continuous
  servomex diag jitter /dev/ttyUSB0 --rate 2 --count 100
"""


@click.group(cls=ProgramGroup, invoke_without_command=True, epilog=_MORE)
@version_option
@click.pass_context
def diag(ctx: click.Context) -> None:
    """Find out what is wrong with a line.

    No command of this group changes anything in an analyser.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _diagnosis(command: F) -> F:
    """Add the common parts of these commands: the port, the options of a connection, the format."""
    decorations: Sequence[Callable[[F], F]] = (
        connection_options,
        click.option(
            "--format",
            "output_format",
            **format_settings(
                ["table", "json"],
                "How results are written to stdout: for people, or as a JSON object on one line.",
            ),
        ),
        version_option,
    )
    for decorate in reversed(decorations):
        command = decorate(command)
    return command


def _count(usual: int | None, what: str, shown: str | bool = True) -> Callable[[F], F]:
    """Declare the option for how often something is done."""
    return click.option(
        "--count",
        type=click.IntRange(1, 1_000_000),
        metavar="N",
        default=usual,
        show_default=shown,
        help=what,
    )


def _check_payload(_ctx: click.Context, _option: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    payload = b"".join(bytes_of([value.encode("utf-8", "replace")]))
    if len(payload) != PAYLOAD_BYTES:
        raise click.BadParameter(f"a loopback carries {PAYLOAD_BYTES} bytes, as in 'A5 5A', not {len(payload)}.")
    return payload


def _check_gaps(_ctx: click.Context, _option: click.Parameter, value: str) -> list[float]:
    try:
        gaps = [float(text) for text in value.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a list of seconds without units, such as 0,0.02,0.05."
        ) from None
    if not all(0 <= gap <= LONGEST_GAP_S for gap in gaps):
        raise click.BadParameter(f"a gap is 0 to {LONGEST_GAP_S:g} seconds.")
    return sorted(set(gaps))


@diag.command
@_diagnosis
@_count(None, "How many loopbacks to send.", str(LOOPBACKS))
@click.option(
    "--payload",
    metavar="HEX",
    callback=_check_payload,
    help="Send these two bytes once instead, such as A55A, repeat them if lost, and show what comes back.",
)
def loopback(count: int | None, payload: bytes | None, output_format: str, **given: Any) -> None:
    """Count lost, damaged and late replies.

    Loopbacks (function 08) are sent to the analyser on PORT, which returns them and changes nothing. Each carries
    two random bytes and is sent once. Modbus only.
    """
    if payload is not None and count is not None:
        raise click.UsageError("--payload sends one loopback: omit --count.")
    count = LOOPBACKS if count is None else count
    request, tally = Connection(**given), Tally()
    with interrupts_wait():
        from servomex.checkup import losses
    with _session(request), _modbus(request, "a loopback") as analyzer:
        if payload is not None:
            received = analyzer.loopback(payload, timeout=request.timeout)
            _show(report.payload, output_format, _source(analyzer), payload, received)
            return
        client = losses.single_attempts(analyzer.link, request.address, analyzer.protocol)
        try:
            _advance(losses.loopbacks(client, count, tally, request.timeout), count, request.quiet)
        finally:
            if tally.sent:
                _show(report.loopbacks, output_format, _source(analyzer), tally)


@diag.command
@_diagnosis
@duration_option
@_count(None, "Stop after this many messages; a burst of noise counts as one.")
@click.option(
    "--hex", "with_hex", is_flag=True, help="Also show the bytes of each message; json always includes them."
)
def tap(duration: float | None, count: int | None, with_hex: bool, output_format: str, **given: Any) -> None:
    """Show each message on the line, until Ctrl-C, --duration or --count.

    Nothing is sent on PORT. Broadcasts, Modbus RTU and ASCII messages are shown in words, with their time in UTC;
    anything else is noise. Of the connection options, only those of the port matter.
    """
    request = Connection(**given)
    counts: collections.Counter[str] = collections.Counter()
    with _session(request), _port(request) as link:
        begun = time.monotonic()
        try:
            heard = listen.messages(link, None if duration is None else begun + duration)
            for arrived_at, message in itertools.islice(heard, count):
                counts[message.kind] += 1
                if output_format == "json":
                    write_data(report.message_json(arrived_at, message))
                else:
                    write_text(report.message_line(arrived_at, message, with_bytes=with_hex))
        finally:
            if not request.quiet:
                note(f"{_counted(counts)} in {time.monotonic() - begun:.1f} s")


_KINDS = {"ascii": "ASCII message", "broadcast": "broadcast", "noise": "noise burst", "rtu": "RTU message"}
"""The names of the kinds of messages in a summary."""


def _counted(counts: collections.Counter[str]) -> str:
    kinds = ", ".join(counted(number, _KINDS[kind]) for kind, number in sorted(counts.items()))
    return f"heard {kinds}" if kinds else "heard nothing"


@diag.command
@_diagnosis
@_count(20, "How many readings to take.")
@rate_options("Over Modbus, one right after the other if omitted. Not in continuous mode.")
def jitter(count: int, rate: float | None, every: float | None, output_format: str, **given: Any) -> None:
    """Show how regularly readings arrive.

    In continuous mode that is the time between the broadcasts of the analyser on PORT. Over Modbus it is the time
    that a reading takes or, at a rate, the time from one reading to the next.
    """
    rate_hz = rate_of(rate, every)
    request, cadence = Connection(**given), Cadence()
    with interrupts_wait():
        from servomex.cli.diag import measure
    with _session(request), request.open() as analyzer:
        analyzer.mode.pace_hz(rate_hz)  # an analyser in continuous mode sets its own
        if rate_hz is not None:
            what = f"time between readings at {rate_hz:g} a second"
            steps = measure.paced(analyzer, count, rate_hz, cadence, request.timeout)
        elif analyzer.mode.broadcasts:
            what = "time between broadcasts"
            steps = measure.intervals(analyzer, count, cadence, request.timeout or request.listen)
        else:
            what = "time of a reading"
            steps = measure.sweeps(analyzer, count, cadence, request.timeout)
        try:
            _advance(steps, count, request.quiet)
        finally:
            cadence.dropped = analyzer.dropped_frames
            if cadence.seconds:
                _show(report.cadence, output_format, _source(analyzer), what, cadence)


@diag.command
@_diagnosis
@click.option(
    "--gaps",
    metavar="SECONDS,...",
    default="0,0.01,0.02,0.05,0.1",
    show_default=True,
    callback=_check_gaps,
    help="The gaps to try; with 0 there are still 3.5 characters of silence.",
)
@_count(20, "How many requests to send with each gap.")
@click.option(
    "--further",
    **whole_settings(0, 1_000_000, 200, "How many more requests a gap must pass before it is recommended."),
)
def gap(gaps: list[float], count: int, further: int, output_format: str, **given: Any) -> None:
    """Find the silence that the analyser needs before a request.

    With each of the gaps, reads are sent to the analyser on PORT, each right after the previous exchange and
    without retries; then more with the shortest gap that lost none. Modbus only.
    """
    request, tallies = Connection(**given), {seconds: Tally() for seconds in gaps}
    with interrupts_wait():
        from servomex.checkup import losses
    with _session(request), _modbus(request, "the gap") as analyzer:
        client = losses.single_attempts(analyzer.link, request.address, analyzer.protocol)
        complete = False
        try:
            _advance(losses.gaps(client, count, tallies, request.timeout), count * len(gaps), request.quiet)
            while (safe := smallest_safe_gap(tallies)) is not None and tallies[safe].sent < count + further:
                only = {safe: tallies[safe]}
                _advance(losses.gaps(client, further, only, request.timeout), further, request.quiet)
            complete = True
        finally:
            done = {seconds: tally for seconds, tally in tallies.items() if tally.sent}
            if done:
                _show(report.gaps, output_format, _source(analyzer), done, complete)


@diag.command
@_diagnosis
def echo(output_format: str, **given: Any) -> None:
    """Find out whether the adapter echoes.

    An adapter that echoes returns whatever is written to PORT, with or without an analyser. A read is sent, in
    both Modbus framings unless --protocol names one, and what comes back is compared with it.
    """
    request = Connection(**given)
    framings = [framing for framing in _FRAMINGS if request.protocol == framing] or _FRAMINGS
    with _session(request), _port(request) as link:
        found = listen.echo(link, request.address, framings, request.timeout or listen.ECHO_WAIT_S)
    _show(report.echo, output_format, request.port, found)
    if found.verdict == "cannot tell":
        raise click.exceptions.Exit(NoAnswerError.exit_code)


@contextlib.contextmanager
def _session(request: Connection) -> Iterator[None]:
    """Show the logs, and end quietly on Ctrl-C and SIGTERM."""
    try:
        with request.logs():
            yield
    except KeyboardInterrupt as stop:
        raise click.exceptions.Exit(stop_code(stop)) from stop


@contextlib.contextmanager
def _port(request: Connection) -> "Iterator[servomex.SerialLink]":
    """Open the port without an analyser."""
    load(request.port, ProtocolKind.CONTINUOUS_ASCII)
    link = servomex.SerialLink(request.port, request.settings, gap=request.gap, trace=request.trace)
    with link, link.lock_held():
        yield link


@contextlib.contextmanager
def _modbus(request: Connection, what: str) -> "Iterator[servomex.Analyzer]":
    """Open an analyser that must be in a Modbus mode.

    Raises:
        ServomexProtocolUnsupportedError: It is in continuous mode.
    """
    if request.protocol == ProtocolKind.CONTINUOUS_ASCII:
        raise _unsupported(request, what)
    with request.open() as analyzer:
        if analyzer.mode.broadcasts:
            raise _unsupported(request, what)
        yield analyzer


def _source(analyzer: "servomex.Analyzer") -> Source:
    return Source(analyzer.link.port, analyzer.protocol, analyzer.mode.address)


def _show(write: Callable[..., str], output_format: str, *found: Any) -> None:
    """Write results in the chosen format."""
    if output_format == "json":
        write_data(write(*found, as_json=True))
    else:
        write_text(write(*found, as_json=False))


def _unsupported(request: Connection, what: str) -> ServomexProtocolUnsupportedError:
    return ServomexProtocolUnsupportedError(
        f"{what} cannot be measured in continuous mode, in which an analyser does not answer",
        ErrorContext(request.port, ProtocolKind.CONTINUOUS_ASCII),
        cure="Set it to Modbus on its panel, or look at its broadcasts with 'jitter' and 'tap'",
    )


def _advance(steps: Iterator[None], count: int, quiet: bool) -> None:
    """Run the steps; on a terminal, show a bar on stderr."""
    if quiet or not STDERR.isatty():
        collections.deque(steps, maxlen=0)
        return
    with click.progressbar(steps, length=count, file=BAR) as bar:
        collections.deque(bar, maxlen=0)
