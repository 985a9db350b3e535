"""``servomex outbox``: look at an outbox while a program uses it, and empty it on purpose."""

from collections.abc import Iterator

import click

from servomex.cli.errors import RequestError
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.logs import warnings_on_stderr
from servomex.cli.options import format_settings
from servomex.cli.output import note, one_line, write_data, write_text
from servomex.cli.program import Program, version_option
from servomex.durations import SECONDS, counted
from servomex.models.plain import json_text
from servomex.outbox.figures import OutboxFigures

_MORE = """\b
Examples:
  servomex outbox /var/lib/servomex/outbox.sqlite
  servomex outbox outbox.sqlite --format json | jq .sinks[].waiting
  servomex outbox outbox.sqlite --poison
  servomex outbox outbox.sqlite --empty old-database --yes
"""
_HEADS = ("sink", "waiting", "delivered", "dropped", "gaps", "poison")


@click.command(cls=Program, short_help="Show what waits in an outbox.", epilog=_MORE)
@click.argument("path", metavar="FILE")
@click.option(
    "--format",
    "output_format",
    **format_settings(["table", "json"], "How figures, or rows with --poison, are written to stdout."),
)
@click.option("--poison", is_flag=True, help="Show the rows that sinks refused and that were set aside.")
@click.option(
    "--empty", "sink", metavar="SINK", help="Give up all rows that wait for SINK; no program may use the outbox."
)
@click.option("--yes", is_flag=True, help="Confirm --empty; nothing is given up without it.")
@version_option
def outbox(path: str, output_format: str, poison: bool, sink: str | None, yes: bool) -> None:
    """Show what waits in the outbox FILE, for which sinks and how long, also while a program uses it."""
    with interrupts_wait():
        from servomex.outbox.looking import empty, look
    if yes and sink is None:
        raise RequestError("--yes confirms --empty SINK")
    if poison and sink is not None:
        raise RequestError("--poison cannot be combined with --empty")
    with warnings_on_stderr():
        if sink is not None:
            if not yes:
                raise RequestError(_without_yes(look(path), sink))
            with interrupts_wait():
                number = empty(path, sink)
            note(f"{counted(number, 'row')} for {sink} given up")
        elif poison:
            _write_lines(_poison_lines(path, output_format))
        elif output_format == "json":
            write_data(json_text(look(path)))
        else:
            write_text(table(look(path)))


def _without_yes(found: OutboxFigures, sink: str) -> str:
    waiting = {item.name: item.waiting for item in found.sinks}
    if sink not in waiting:
        return f"there is no sink {sink!r}; there is {', '.join(map(repr, waiting)) or 'none'}"
    return f"{counted(waiting[sink], 'row')} would be given up: add --yes to confirm"


def _poison_lines(path: str, output_format: str) -> Iterator[str]:
    from servomex.outbox.looking import poison_in

    for item in poison_in(path):
        if output_format == "json":
            yield json_text(item)
        else:
            sample = item.sample
            where = f"{sample.device} {sample.channel or ''} of {sample.received_at:%Y-%m-%d %H:%M:%S} UTC"
            when = f"{item.set_aside_at:%Y-%m-%d %H:%M:%S} UTC"
            yield one_line(f"{when}  {item.sink}  {where}: {item.reason}") + "\n"


def _write_lines(lines: Iterator[str]) -> None:
    for line in lines:
        write_data(line)


def table(found: OutboxFigures) -> str:
    """Return figures as a table."""
    age = "" if found.oldest_age_s is None else f", the oldest {_age(found.oldest_age_s)} old"
    lines = [f"{one_line(str(found.path))}: {counted(found.rows, 'row')}{age}, {found.size / 1e6:.1f} MB"]
    if found.lost:
        lines.append(f"{counted(found.lost, 'row')} lost, since the disk took nothing and the memory was full")
    rows = [
        _HEADS,
        *(
            (one_line(one.name), *map(str, (one.waiting, one.delivered, one.dropped, one.gaps, one.poison)))
            for one in found.sinks
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines) + "\n"


def _age(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= 2 * SECONDS[unit]:
            return f"{seconds / SECONDS[unit]:.1f} {'min' if unit == 'm' else unit}"
    return f"{seconds:.1f} s"
