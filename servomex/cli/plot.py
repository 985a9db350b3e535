"""``servomex plot``: recordings as a picture, or as a page with everything in it."""

import re
from typing import Any

import click

from servomex.cli.errors import CommandError, RequestError, stop_code
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.logs import warnings_on_stderr
from servomex.cli.options import checked
from servomex.cli.output import note
from servomex.cli.program import Program, version_option
from servomex.cli.targets import warn_of_passwords
from servomex.errors import ServomexSinkError
from servomex.models.naming import asked_channels

_MORE = """\b
Examples:
  servomex plot run.csv -o run.png
  servomex plot 'run-*.csv.gz' -o week.html
  servomex plot run.sqlite -o hour.svg --last 1h --channels Oxygen,I2
  servomex plot run.csv -o noon.pdf --start '2026-03-01 11:30' --end '2026-03-01 12:30'
  servomex plot a.csv b.csv -o both.png --by channel --size 1600x900
"""


class _Size(click.types.StringParamType):
    """Width and height, written as ``1600x900``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return width and height."""
        found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(value).strip(), re.ASCII)
        if not found:
            self.fail(f"{value!r} is not a size: write width and height in pixels, as in 1600x900", param, ctx)
        return int(found[1]), int(found[2])


@click.command(cls=Program, short_help="Plot recordings.", epilog=_MORE)
@click.argument("sources", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUT",
    help="The file to write: .png, .svg, .pdf, or .html, a page that needs nothing else. When omitted, a window.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--channels", metavar="I1,CO2,...", callback=checked(lambda text: asked_channels(text.split(","))),
    show_default="all", help="Plot only these channels, named by id or gas.",
)  # fmt: skip
@click.option("--start", metavar="TIME", help="Plot from this time: '2026-03-01 12:30', local or with +01:00.")
@click.option("--end", metavar="TIME", help="Plot until this time.")
@click.option("--last", metavar="TIME", help="Plot only the end of the recording, such as 1h or 2d.")
@click.option(
    "--by", type=click.Choice(["unit", "channel"]), default="unit", show_default=True,
    help="A panel for each unit, or for each channel.",
)  # fmt: skip
@click.option("--good-only", is_flag=True, help="Leave out uncertain values, which are dashed otherwise.")
@click.option("--title", metavar="TITLE", show_default="the analysers and the day", help="The title.")
@click.option("--size", type=_Size(), metavar="WxH", help="Width and height of a picture in pixels.")
@version_option
def plot(sources: tuple[str, ...], output: str | None, overwrite: bool, **options: Any) -> None:
    """Plot the recordings FILE, which may be of several analysers.

    A panel for each unit shows the values and, below them, when which state and which alarm was raised. Failed
    readings, bad values and pauses are gaps. Uncertain values are dashed.

    FILE may be a pattern in quotation marks.
    """
    with warnings_on_stderr():
        try:
            _run(sources, output, overwrite, options)
        except KeyboardInterrupt as stop:
            raise click.exceptions.Exit(stop_code(stop)) from stop


def _run(sources: tuple[str, ...], output: str | None, overwrite: bool, options: dict[str, Any]) -> None:
    with interrupts_wait():
        from servomex.recording.load import files_of, load
        from servomex.views.plot.plotting import check_output, plot_to, shown
    warn_of_passwords(sources)
    try:
        if output is not None:
            check_output(output, overwrite=overwrite)
        for file in files_of(sources):
            next(iter(load(file)), None)
    except ServomexSinkError as error:
        raise RequestError(str(error)) from error
    if output is not None:
        readings = plot_to(sources, output, overwrite=overwrite, **options)
        note(f"{readings:,} readings plotted in {output}")
    elif not shown(sources, **options):
        raise CommandError("there is no display for a window: name a file to write with -o, such as run.png")
