"""``servomex watch``: live readings of one or several analysers, on one screen of a terminal."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import click

from servomex.cli.connection import PORT, Connection, channels_option, line_options
from servomex.cli.errors import PIPE_CLOSED, CommandError, Terminated, command_error, stop_code
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.options import checked, duration_option, rate_of, rate_options, tags_option
from servomex.cli.output import STDERR, note, write_text
from servomex.cli.program import Program, version_option
from servomex.errors import ServomexConnectionError, ServomexError, ServomexParseError
from servomex.errors.missing import how_to_get
from servomex.models.tags import name_of
from servomex.runtime.clock import time

if TYPE_CHECKING:
    from servomex.models.sample import Sample
    from servomex.views.board import Board
    from servomex.views.gathering import Gathering

TICK_S = 0.25
"""How often the screen is drawn."""
USUAL_HZ = 1.0

_MORE = """\b
Examples:
  servomex watch /dev/ttyUSB0
  servomex watch usb:A50285BI usb:A50285BK --name mill --name kiln --every 2s
  servomex watch sim://moving --once
  servomex watch /dev/ttyUSB0 --every 1m | tee -a watch.log

The screen needs a terminal and the package rich; without them it is a line for each reading. Ctrl-C ends it with
exit code 0.
"""


@attrs.define
class _Watched:
    """The analysers that are watched.

    Attributes:
        board: What they show.
        gathering: What reads them.
        errors: Why the last reading of each failed; ``None`` once one succeeded.
    """

    board: "Board"
    gathering: "Gathering"
    errors: dict[str, ServomexError | None]

    @property
    def tried(self) -> bool:
        """Whether each analyser gave a reading, or has no port, for which there is no waiting."""
        settled = (error is None or isinstance(error, ServomexConnectionError) for error in self.errors.values())
        return len(self.errors) == len(self.board.view()) and all(settled)


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(name_of, texts))


@click.command(cls=Program, short_help="Show readings on a screen.", epilog=_MORE)
@click.argument("ports", metavar="PORT...", nargs=-1, required=True, type=PORT)
@line_options
@channels_option
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    callback=checked(_names),
    show_default="the port",
    help="Name of the analyser; with several PORTs one for each, in their order.",
)
@tags_option
@rate_options(f"{USUAL_HZ:g} if omitted.")
@duration_option
@click.option("--once", is_flag=True, help="Show one picture when all have been read, and end.")
@version_option
def watch(
    ports: tuple[str, ...],
    names: tuple[str, ...],
    channels: list[str] | None,
    rate: float | None,
    every: float | None,
    duration: float | None,
    once: bool,
    **given: Any,
) -> None:
    """Show the readings of the analysers on each PORT, until Ctrl-C or --duration.

    On a terminal one screen is drawn in place: values with their age, quality and states, what is wrong first.
    Elsewhere each reading, and each thing that happens, is a line. An analyser that is missing is shown as such,
    and looked for until it is there.
    """
    rate_hz = rate_of(rate, every) or USUAL_HZ
    if len(set(ports)) < len(ports):
        raise click.UsageError("A port is given twice.")
    if names and (len(names) != len(ports) or len(set(names)) < len(names)):
        raise click.UsageError("Give a --name for each PORT, each another one, or none.")
    requests = [
        Connection(port=port, trace=None, name=name, **given)
        for port, name in zip(ports, names or ports, strict=True)
    ]
    first = requests[0]
    on_screen = _screen_wanted(verbose=bool(first.verbose), quiet=first.quiet)
    with first.logs():
        try:
            if once:
                _once(requests, channels, rate_hz, on_screen=on_screen)
            else:
                _watch(requests, channels, rate_hz, duration, on_screen=on_screen)
        except Terminated as stop:  # click would write to a terminal that may be gone
            raise click.exceptions.Exit(stop_code(stop)) from stop
        except KeyboardInterrupt:
            if not first.quiet:
                note("stopped")


watch.params = [item for item in watch.params if item.name != "trace"]  # a line that several share has none


def _screen_wanted(*, verbose: bool, quiet: bool) -> bool:
    """Return whether there is a terminal that can be drawn on, and what draws on it."""
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM", "") in ("dumb", "unknown"):
        return False
    if verbose and STDERR.isatty():
        return False  # the log would be drawn over
    with interrupts_wait():
        try:
            import servomex.views.terminal.screen  # noqa: F401
        except ImportError:
            if not quiet:
                note(f"the screen needs rich: {how_to_get('rich', 'tui')}. Here are lines instead")
            return False
    return True


@contextlib.contextmanager
def _reading(
    requests: list[Connection],
    channels: list[str] | None,
    rate_hz: float,
    through: "Callable[[Board], Callable[[list[Sample]], object]] | None" = None,
) -> Iterator[_Watched]:
    """Read the analysers to a board; what ``through`` makes of the board takes the readings in its place."""
    with interrupts_wait():
        from servomex.manager.manager import ServomexManager
        from servomex.views.board import Board
        from servomex.views.gathering import Gathering
    board = Board()
    take = through(board) if through else board.take
    errors: dict[str, ServomexError | None] = {}

    def taken(samples: "list[Sample]") -> None:
        for sample in samples:
            if sample.reading is not None:
                errors[sample.device] = None
            elif not isinstance(sample.error, ServomexParseError) and errors.get(sample.device, sample.error):
                errors[sample.device] = sample.error
        take(samples)

    with ServomexManager() as manager:
        for request in requests:
            request.add_to(manager, request.name or request.port, channels)
        gathering = Gathering(manager, rate_hz, taken)
        for name, request in zip(manager.names, requests, strict=True):
            board.add(name, request.port, lambda name=name: gathering.figures(name))  # type: ignore[misc]
        with gathering:
            yield _Watched(board, gathering, errors)


def _watch(
    requests: list[Connection],
    channels: list[str] | None,
    rate_hz: float,
    duration: float | None,
    *,
    on_screen: bool,
) -> None:
    until = None if duration is None else time.monotonic() + duration
    if not on_screen:
        _write_lines(requests, channels, rate_hz, until)
        return
    with interrupts_wait():
        from servomex.views.terminal.picture import Shown, picture
        from servomex.views.terminal.screen import Screen
    with _reading(requests, channels, rate_hz) as watched:
        board = watched.board
        screen = Screen(
            sys.stdout,
            lambda width, height: picture(
                Shown(views=board.view(), events=board.events(8), now=datetime.now(UTC), bars=screen.bars),
                width,
                height,
            ),
        )
        try:
            with screen:
                for _ in _ticks(until):
                    screen.draw()
        except OSError as error:
            raise click.exceptions.Exit(PIPE_CLOSED) from error


def _ticks(until: float | None) -> Iterator[None]:
    """Yield now and regularly, until a moment."""
    yield
    while until is None or time.monotonic() < until:
        time.sleep(TICK_S if until is None else max(0.0, min(TICK_S, until - time.monotonic())))
        yield


def _write_lines(
    requests: list[Connection], channels: list[str] | None, rate_hz: float, until: float | None
) -> None:
    with interrupts_wait():
        from servomex.views.terminal.lines import Lines
    made: list[Lines] = []

    def through(board: "Board") -> "Callable[[list[Sample]], object]":
        made.append(Lines(board))
        return made[0].take

    with _reading(requests, channels, rate_hz, through):
        for _ in _ticks(until):
            _write(made[0].waiting())


def _write(lines: list[str]) -> None:
    if lines:
        write_text("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()


def _once(requests: list[Connection], channels: list[str] | None, rate_hz: float, *, on_screen: bool) -> None:
    """Show one picture as soon as all have been read, or cannot be.

    Raises:
        CommandError: One of them gave no reading.
    """
    patience_s = max(max(item.listen, item.timeout or 0.0) for item in requests) + 1.0
    with _reading(requests, channels, max(rate_hz, 1 / TICK_S)) as watched:
        for _ in _ticks(time.monotonic() + patience_s):
            if watched.tried:
                break
        _show(watched.board, on_screen=on_screen)
        missing = [view for view in watched.board.view() if view.status is None]
        if missing:
            error = watched.errors.get(missing[0].name)
            kind = CommandError if error is None else type(command_error(error))
            raise kind(f"no reading from {', '.join(view.name for view in missing)}")


def _show(board: "Board", *, on_screen: bool) -> None:
    if not on_screen:
        from servomex.views.terminal.lines import reading_line

        _write([reading_line(view) for view in board.view()])
        return
    from servomex.views.terminal.picture import Shown, picture
    from servomex.views.terminal.screen import show_once

    show_once(
        sys.stdout,
        lambda width, bars: picture(
            Shown(views=board.view(), events=board.events(8), now=datetime.now(UTC), bars=bars), width
        ),
    )
