"""``servomex convert``: write recordings in another format, or several of them as one."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from servomex.cli.errors import RequestError, stop_code
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.logs import warnings_on_stderr
from servomex.cli.output import BAR, STDERR, note
from servomex.cli.program import Program, version_option
from servomex.cli.targets import check_decimal, check_files, decimal_option, format_option, warn_of_passwords
from servomex.durations import counted
from servomex.errors import ServomexSinkError
from servomex.errors.excerpts import without_password
from servomex.models.sample import Sample

STEPS = 200
"""Frames between two updates of the display."""

_MORE = """\b
Examples:
  servomex convert run.csv run.parquet
  servomex convert 'run-*.csv.gz' all.sqlite
  servomex convert monday.jsonl tuesday.jsonl week.csv --append
  servomex convert run.sqlite run.csv.gz --rotate 1d
  servomex convert --wide run.csv run.xlsx
  servomex convert --wide --decimal , --local-time run.sqlite excel.csv
  servomex convert run.sqlite postgresql://logger@db1/plant

\b
Formats, by suffix or --format:
  .csv .csv.gz .jsonl .ndjson .jsonl.gz .sqlite .sqlite3 .db .parquet
A postgresql:// URL names a table on a PostgreSQL server, as IN or as OUT; influx+http:// a database
of InfluxDB, as OUT.
"""


@click.command(cls=Program, short_help="Write recordings in another format.", epilog=_MORE)
@click.argument("sources", metavar="IN...", nargs=-1, required=True)
@click.argument("target", metavar="OUT")
@click.option("--append", is_flag=True, help="Append to OUT if it exists.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--rotate",
    metavar="LIMIT",
    help="Split OUT by size or by the time of the data: 100MB, 1d, 1h, 15m, or both as 100MB,1d. Each file has "
    "the time of its first row in its name.",
)
@click.option(
    "--wide",
    is_flag=True,
    help="Write one row per time, with a column of values and one of qualities for each channel, to .csv or "
    ".xlsx; only good values are included.",
)
@click.option(
    "--keep",
    type=click.Choice(["uncertain"]),
    help="With --wide, also include the values of maintenance, calibration and warm-up.",
)
@click.option(
    "--separator",
    type=click.Choice([",", ";", "tab"]),
    help="With --wide, the separator of csv cells: ',' by default, ';' with --decimal ','.",
)
@click.option(
    "--bom",
    is_flag=True,
    help="With --wide, begin csv with a byte order mark: Excel needs it for letters such as ü in names.",
)
@click.option(
    "--local-time",
    is_flag=True,
    help="With --wide, add a column with the time in the zone of this computer, as spreadsheets read it.",
)
@decimal_option
@format_option
@version_option
def convert(sources: tuple[str, ...], target: str, **options: Any) -> None:
    """Write the recordings IN, one after the other, to OUT.

    The format of OUT follows from its suffix or --format; that of an IN from its suffix or its content.

    IN may be a pattern in quotation marks, or a folder of Parquet parts. If an IN is damaged, what precedes the
    damage is written.
    """
    with warnings_on_stderr():
        try:
            _run(sources, target, options)
        except KeyboardInterrupt as stop:
            raise click.exceptions.Exit(stop_code(stop)) from stop


def _run(sources: tuple[str, ...], target: str, options: dict[str, Any]) -> None:
    with interrupts_wait():
        from servomex.sinks.opening import open_sink, options_of
    warn_of_passwords([*sources, target])
    chosen: Any = {name: value for name, value in options.items() if value}
    if chosen.pop("wide", False):
        with interrupts_wait():
            from servomex.cli.wide import write_wide
        rows = write_wide(lambda: _opened(sources, target)[0], target, chosen)
        note(f"{counted(rows, 'row')} written to {target}")
        return
    for option in ("keep", "separator", "bom", "local_time"):
        if option in chosen:
            raise RequestError(f"--{option.replace('_', '-')} is only for a wide table: add --wide")
    check_decimal([target], chosen)
    samples, metadata = _opened(sources, target)
    check_files([target], chosen)
    given: Any = {"metadata": metadata, **chosen}
    try:
        sink = open_sink(target, **options_of(target, given))
    except ServomexSinkError as error:
        raise RequestError(str(error)) from error
    try:
        with sink:
            for frame in _shown(_frames(samples)):
                with interrupts_wait():  # or the file could have rows that were not counted
                    sink.write(frame)
    finally:
        note(f"{counted(sink.rows, 'row')} written to {without_password(target)}")


def _opened(sources: tuple[str, ...], target: str) -> tuple[Iterator[Sample], dict[str, str]]:
    """Return the samples of the sources, and the metadata of the recordings.

    Raises:
        RequestError: A source is missing, or is the target.
    """
    with interrupts_wait():
        from servomex.recording.load import files_of, load, load_metadata
        from servomex.sinks.opening import is_same_place, place_of

    try:
        files = files_of(sources)
        for file in files:  # before OUT is touched
            next(iter(load(file)), None)
        samples = load(files)
    except ServomexSinkError as error:
        raise RequestError(str(error)) from error
    own = place_of(target)
    mine = [own, Path(f"{own}.parts")] if isinstance(own, Path) else [own]
    if any(is_same_place(item, its) for item in map(place_of, files) for its in mine):
        raise RequestError(
            f"{without_password(target)} cannot be written while it is read: choose another name for OUT"
        )
    metadata: dict[str, str] = {}
    for file in files:
        metadata |= load_metadata(file)
    return samples, metadata


def _frames(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Yield together what arrived at the same time, and so belongs in the same file."""
    frame: list[Sample] = []
    try:
        for sample in samples:
            if frame and sample.received_at != frame[0].received_at:
                yield frame
                frame = []
            frame.append(sample)
    except ServomexSinkError:
        yield frame
        raise
    yield frame


def _shown(frames: Iterable[list[Sample]]) -> Iterator[list[Sample]]:
    """Yield the frames; on a terminal, show how many rows there were so far."""
    if not STDERR.isatty():
        yield from frames
        return
    rows = 0

    def counting() -> Iterator[list[Sample]]:
        nonlocal rows
        for frame in frames:
            rows += len(frame)
            yield frame

    with click.progressbar(
        counting(),
        label="Converting",
        item_show_func=lambda _: counted(rows, "row"),
        update_min_steps=STEPS,
        file=BAR,
    ) as bar:
        yield from bar
