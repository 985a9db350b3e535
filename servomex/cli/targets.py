"""The options of the commands that write recordings, and checks of their targets."""

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
    """Check the targets of a recording before anything is opened.

    Raises:
        RequestError: It is not a file, or cannot be written.
    """
    with interrupts_wait():
        from servomex.sinks.opening import check_targets
    for target in targets:
        if target.startswith("memory:"):
            raise RequestError(f"{target} can only be used in a program: name a file or a table")
    try:
        check_targets(targets, **options)
    except ServomexSinkError as error:
        raise RequestError(str(error)) from error


def warn_of_passwords(names: Iterable[str]) -> None:
    """Warn about a password in a typed URL: the process list shows it to every user of this computer."""
    for name in names:
        if (shown := without_password(name)) != name:
            files = "~/.pgpass, the file that PGPASSFILE names, or that of " if name.startswith("postgres") else ""
            note(
                f"{shown}: every user of this computer can see a password on the command line, with ps. Put it "
                f"into {files or 'the file of '}?password_file=FILE"
            )


decimal_option: Callable[[F], F] = click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="Decimal sign of csv files, '.' by default; with ',' the cells are separated by semicolons.",
)
"""How the numbers of csv files are written."""

format_option: Callable[[F], F] = click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "jsonl", "sqlite", "parquet"]),
    help="Format of files whose suffix does not show it.",
)
"""The format of a file whose name does not show it."""


def check_decimal(targets: Iterable[str], options: "SinkOptions") -> None:
    """Check that there is a csv file for the decimal sign.

    Raises:
        RequestError: There is none.
    """
    csv = options.get("file_format") == "csv" or any(
        item.lower().endswith((".csv", ".csv.gz")) for item in targets
    )
    if options.get("decimal") and not csv:
        raise RequestError("--decimal is for csv files, and no output is a csv file")
