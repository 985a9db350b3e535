"""``servomex read`` and ``servomex-read``: read an analyser once, several times, or until stopped."""

import logging
from collections.abc import Iterator
from typing import Any

import attrs
import click

import servomex
from servomex.cli.connection import Connection, channels_option, connection_options
from servomex.cli.errors import INTERRUPTED, stop_code
from servomex.cli.options import FRAME_FORMAT, naming_options, option, seconds_option
from servomex.cli.output import note
from servomex.cli.program import Program, version_option
from servomex.cli.tally import Gap, Tally
from servomex.errors import ServomexConfigurationError, ServomexError
from servomex.runtime.clock import time
from servomex.runtime.locks import pause

_log = logging.getLogger("servomex.cli")

ALARM = 5
"""Exit code of --check."""
FAILURE_PAUSE_S = 0.5
"""The shortest wait after a failed reading, so that a lost port is not tried without a pause."""

FASTEST_S = 0.001
"""A shorter interval of --watch counts as 0."""

_MORE = """\b
Examples:
  servomex-read /dev/ttyUSB0
  servomex-read COM11 --protocol modbus_rtu --address 3 --channels I1,I2
  servomex-read /dev/ttyUSB0 --watch 10 --format csv > log.csv
  servomex-read socket://192.168.0.7:4001 --count 100 --format json
  servomex-read /dev/ttyUSB0 --check --quiet > /dev/null || echo alarm
  servomex-read sim://4100

\b
Environment:
  SERVOMEX_PORT replaces PORT; SERVOMEX_PROTOCOL, SERVOMEX_ADDRESS and so on
  replace the options, as listed with each. The command line takes precedence.
  NO_COLOR=1 disables colours.

\b
Shell completion (bash; zsh and fish likewise), in ~/.bashrc:
  eval "$(_SERVOMEX_READ_COMPLETE=bash_source servomex-read)"
"""


@attrs.frozen(kw_only=True)
class _Request(Connection):
    """The request on the command line; the fields are its options."""

    channels: list[str] | None
    output_format: str
    watch: float | None
    count: int | None
    check: bool

    @property
    def repeats(self) -> bool:
        """Whether there may be more than one reading."""
        return self.watch is not None or (self.count or 1) > 1


@click.command(cls=Program, short_help="Read an analyser.", epilog=_MORE)
@connection_options
@channels_option
@naming_options
@option("--format", "output_format", **FRAME_FORMAT)
@seconds_option(
    "--watch",
    zero=True,
    help="Repeat the reading every SECONDS, until Ctrl-C or --count; 0 for as fast as possible. In continuous "
    "mode the last broadcast is shown while it is current; with 0, each broadcast once.",
)
@option(
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help="Stop after this many readings, including failed ones; without --watch as fast as possible.",
)
@option(
    "--check",
    is_flag=True,
    help="Exit with 5 if the last reading failed, or shows a fault, an alarm or no value.",
)
@version_option
def read(**given: Any) -> None:
    """Read the analyser on PORT: all channels with their states.

    PORT is a device such as /dev/ttyUSB0 or COM11, usb:SERIAL for the USB adapter with this serial number, a URL
    such as socket://HOST:PORT or rfc2217://HOST:PORT, or sim://4100 for a virtual analyser.
    """
    request = _Request(**given)
    tally = Tally()
    code = 0
    with request.logs():
        try:
            code = _run(request, tally)
        except KeyboardInterrupt as stop:
            code = stop_code(stop)
    if (request.repeats or code >= INTERRUPTED) and not request.quiet:
        note(str(tally))
    raise click.exceptions.Exit(code)


def _run(request: _Request, tally: Tally) -> int:
    """Read as often as requested, and return the exit code."""
    from servomex.cli.formats import writer_for

    with request.open(request.channels) as analyzer:
        _log.info("found %s in mode %s; timeout %.1f s", analyzer.name, analyzer.protocol, analyzer.timeout_s)
        show = writer_for(request.output_format, analyzer, request.name)
        frame = None
        try:
            for frame in _readings(request, analyzer, tally):
                tally.readings += 1
                show(frame)
                if not request.repeats or tally.attempts == request.count:
                    break
        finally:
            tally.dropped = analyzer.dropped_frames
    if not request.check or frame is None or (frame.ok and not tally.failed_last):
        return 0
    if not request.quiet:
        note(f"check failed: {'the last reading failed' if tally.failed_last else '; '.join(_complaints(frame))}")
    return ALARM


def _readings(request: _Request, analyzer: "servomex.Analyzer", tally: Tally) -> "Iterator[servomex.Frame]":
    """Yield the reading that was made on opening, then one at each deadline; report the failed ones."""
    started = time.monotonic()
    yield analyzer.snapshot()
    gap = Gap()
    interval = request.watch or 0.0
    interval = interval if interval >= FASTEST_S else 0.0
    turn = 0
    while True:
        # A reading that took longer than an interval is followed by the next at once; missed ones are not made up.
        turn = max(turn + 1, int((time.monotonic() - started) / interval)) if interval else 0
        pause(max(0.0, started + turn * interval - time.monotonic()))
        try:
            frame = analyzer.poll(wait_fresh=not interval, timeout=_patience(request, analyzer))
        except ServomexConfigurationError:
            raise
        except ServomexError as error:
            tally.failures += 1
            tally.failed_last = True
            gap.note(failed=True, quiet=request.quiet)
            if not request.quiet:
                note(f"Failed: {error}")
            if tally.attempts == request.count:
                return
            pause(FAILURE_PAUSE_S)
        else:
            tally.failed_last = False
            gap.note(failed=False, quiet=request.quiet)
            yield frame


def _patience(request: _Request, analyzer: "servomex.Analyzer") -> float | None:
    """Return the timeout of a reading: until the period of broadcasts is known, that of the first one."""
    unknown = analyzer.mode.broadcasts and analyzer.period_s is None
    return request.listen if unknown and request.timeout is None else None


def _complaints(frame: "servomex.Frame") -> Iterator[str]:
    from servomex.models.reading import state_text

    if frame.analyser.fault:
        yield "analyser fault"
    yield from (f"{item.channel} {state_text(item)}" for item in frame if not item.ok)
