"""How a command runs: its help, its errors as a line on stderr, its exit code."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

import servomex
from servomex.cli.errors import EXIT_CODES, PIPE_CLOSED, command_error, stop_code
from servomex.cli.interrupts import signals_interrupt
from servomex.cli.output import ERROR, STDERR, end_stderr, note
from servomex.errors import Argument
from servomex.errors.arguments import spelling

F = TypeVar("F", bound=Callable[..., Any])

version_option: Callable[[F], F] = click.version_option(servomex.__version__, prog_name="servomex")
"""The option of every command that shows the version."""


class Program(click.Command):
    """A command that ends with this package's exit codes, and never with a traceback.

    Args:
        epilog: The end of its help; the exit codes are added.
        settings: The arguments of :class:`click.Command`.
    """

    def __init__(self, *, epilog: str = "", **settings: Any) -> None:
        super().__init__(epilog=f"{epilog}\n{EXIT_CODES}".lstrip("\n"), **settings)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the arguments and options, those common to all commands last."""
        return sorted(
            super().get_params(ctx), key=lambda item: ("--version" in item.opts) + 2 * ("--help" in item.opts)
        )

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click passes it)
        """Return the names of the option that shows the help."""
        return ["-h", "--help"]

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command and exit; with ``standalone_mode=False`` return, or raise its errors."""
        run = functools.partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        with spelling(as_option), STDERR.without_levels():
            if not standalone_mode:
                return run()
            with signals_interrupt():
                code = _exit_code(run)
                end_stderr()
        sys.exit(code)


_OPTIONS = {"file_format": "format", "rate_hz": "rate", "confirm": "yes", "protocols": "protocol"}
"""The options that are not named after their argument."""


def as_option(argument: Argument) -> str:
    """Return an argument as it is typed on the command line."""
    option = f"--{_OPTIONS.get(argument.name, argument.name)}"
    return option if argument.value is None or argument.value is True else f"{option} {argument.value}"


class ProgramGroup(Program, click.Group):
    """A group of such commands, which suggests the right name for a misspelt one."""

    command_class: type[click.Command] | None = Program

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named first."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            import difflib

            meant = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            there = (
                f"Did you mean {meant[0]!r}?"
                if meant
                else f"The commands are {', '.join(self.list_commands(ctx))}."
            )
            raise click.UsageError(f"No such command {name!r}. {there}", ctx)
        return super().resolve_command(ctx, args)


def _exit_code(run: Callable[[], Any]) -> int:
    """Run a command, show the error that ends it, and return its exit code."""
    stdout = sys.stdout
    try:
        code = run()
    except click.UsageError as error:
        note(f"Error: {error.format_message()}", ERROR)
        if error.ctx is not None:
            note(f"Try '{error.ctx.command_path} --help'.")
        return error.exit_code
    except click.ClickException as error:
        note(f"Error: {error.format_message()}", ERROR)
        return error.exit_code
    except SystemExit:
        if sys.stdout is stdout:
            raise
        return PIPE_CLOSED  # click has replaced it, since the reader of a help text is gone
    except (click.Abort, KeyboardInterrupt) as stop:
        for text in getattr(stop, "__notes__", ()):  # a failure while it ended
            note(f"Error: {text}", ERROR)
        return stop_code(stop.__cause__ if isinstance(stop, click.Abort) else stop)
    except Exception as error:  # noqa: BLE001 (any error is shown to the user in one line)
        if isinstance(error, RuntimeError) and isinstance(error.__context__, KeyboardInterrupt):
            return stop_code(error.__context__)  # while waiting for a lock that Python then fails to release
        failure = command_error(error)
        note(f"Error: {failure.message}", ERROR)
        return failure.exit_code
    return code if isinstance(code, int) else 0
