"""The options of the commands that write recordings, and checks of what they are written to."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from servomex.cli.errors import RequestError
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.output import note
from servomex.errors import ServomexSinkError
from servomex.errors.excerpts import without_password

if TYPE_CHECKING:
    from servomex.sinks.opening import SinkOptions

F = TypeVar("F", bound=Callable[..., Any])


def check_files(targets: Iterable[str], options: "SinkOptions") -> None:
    """Check what a recording is to be written to, before anything is opened.

    Raises:
        RequestError: It is no file, or cannot be written.
    """
    with interrupts_wait():
        from servomex.sinks.opening import check_targets
    for target in targets:
        if target.startswith("memory:"):
            raise RequestError(f"{target} is for programs: name a file or a table")
    try:
        check_targets(targets, **options)
    except ServomexSinkError as error:
        raise RequestError(str(error)) from error


def warn_of_passwords(names: Iterable[str]) -> None:
    """Warn of a password in a URL that was typed: a list of processes shows it to every user of this computer."""
    for name in names:
        if (shown := without_password(name)) != name:
            note(
                f"{shown}: every user of this computer can see the password of a command, with ps. Leave it to "
                "~/.pgpass, to the file that PGPASSFILE names, or to ?password_file=FILE"
            )


decimal_option: Callable[[F], F] = click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="Decimal sign of csv files, '.' by default; ',' also separates the cells by semicolons.",
)
"""How the numbers of csv files are written."""

format_option: Callable[[F], F] = click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "jsonl", "sqlite", "parquet"]),
    help="Format of files whose names do not say it by their suffix.",
)
"""What a file is written as when its name does not say it."""


def check_decimal(targets: Iterable[str], options: "SinkOptions") -> None:
    """Refuse a decimal sign when there is no csv file that it could be for.

    Raises:
        RequestError: None of the files has one.
    """
    csv = options.get("file_format") == "csv" or any(
        item.lower().endswith((".csv", ".csv.gz")) for item in targets
    )
    if options.get("decimal") and not csv:
        raise RequestError("--decimal is for csv files, and none is to be written")
