"""What the commands share: exit codes, errors as a line or two, options from the environment, and output."""

import contextlib
import difflib
import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import IO, Any, NoReturn, TypeVar

import click

from servomex.cli.console import end_with_console
from servomex.cli.stderr import STDERR, end_stderr, forget
from servomex.errors import (
    Argument,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexNotFoundError,
    ServomexProtocolError,
    ServomexSinkError,
    ServomexTransportError,
    spelling,
)
from servomex.runtime.clock import time

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130
TWICE_S = 0.2
"""A one-file program of PyInstaller gets each Ctrl-C twice: from the terminal, and from what unpacked it."""
SIGNALLED = 128
"""What is added to the number of a signal for the exit code."""
PIPE_CLOSED = 141

EXIT_CODES = """\b
Exit codes:
  0    all went well
  1    another error, such as a file that cannot be written
  2    usage error: invalid option or argument
  3    the port: missing, busy, forbidden or lost
  4    no answer, or no valid one
  5    read --check: a fault, an alarm, no value, or a failed reading
  129  ended by SIGHUP, the end of its terminal
  130  ended by Ctrl-C
  141  the reader of the output has gone
  143  ended by SIGTERM
  149  ended by Ctrl-Break, or with its console (Windows)
"""


class CommandError(click.ClickException):
    """An error that ends a command with one line on stderr and the exit code of its kind."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 (click passes it)
        """Print the error on stderr."""
        note(f"Error: {self.message}")


class RequestError(CommandError):
    """What was asked for cannot be."""

    exit_code = 2


class PortError(CommandError):
    """The port is missing, busy, forbidden or lost."""

    exit_code = 3


class NoAnswerError(CommandError):
    """No answer came, or no valid one."""

    exit_code = 4


class Terminated(KeyboardInterrupt):
    """What ends a command as Ctrl-C does: SIGTERM, SIGHUP of a terminal that is gone, or Ctrl-Break on Windows.

    Args:
        exit_code: The exit code that belongs to it.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


_KINDS: tuple[tuple[type[ServomexError], type[CommandError]], ...] = (
    (ServomexSinkError, CommandError),
    (ServomexNotFoundError, NoAnswerError),
    (ServomexConfigurationError, RequestError),
    (ServomexConnectionError, PortError),
    (ServomexTransportError, NoAnswerError),
    (ServomexProtocolError, NoAnswerError),
    (ServomexError, CommandError),
)


class Program(click.Command):
    """A command that ends with this package's exit codes, and never with a traceback."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Give the arguments and options; what all commands have comes last."""
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
        """Run the command and exit; with ``standalone_mode=False`` return, or let errors out."""
        run = functools.partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        with spelling(as_option):
            if not standalone_mode:
                return run()
            with _signals_interrupt():
                code = _exit_code(run)
                end_stderr()
        sys.exit(code)


_OPTIONS = {"file_format": "format", "rate_hz": "rate", "confirm": "yes", "protocols": "protocol"}
"""The options that have another name than the argument that they are for."""


def as_option(argument: Argument) -> str:
    """Spell an argument as it is typed."""
    option = f"--{_OPTIONS.get(argument.name, argument.name)}"
    return option if argument.value is None or argument.value is True else f"{option} {argument.value}"


class ProgramGroup(Program, click.Group):
    """A group whose commands are such, and which knows what a misspelt one was meant to be."""

    command_class: type[click.Command] | None = Program

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named first."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            meant = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            there = f"Did you mean {meant[0]!r}?" if meant else f"There are {', '.join(self.list_commands(ctx))}."
            raise click.UsageError(f"No such command {name!r}. {there}", ctx)
        return super().resolve_command(ctx, args)


def _exit_code(run: Callable[[], Any]) -> int:
    """Run a command, show the error that ends it, and give its exit code."""
    stdout = sys.stdout
    try:
        code = run()
    except click.UsageError as error:
        note(f"Error: {error.format_message()}")
        if error.ctx is not None:
            note(f"Try '{error.ctx.command_path} --help'.")
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SystemExit:
        if sys.stdout is stdout:
            raise
        return PIPE_CLOSED  # click has put another in its place, since the reader of a help text has gone
    except (click.Abort, KeyboardInterrupt) as stop:
        for text in getattr(stop, "__notes__", ()):  # what failed at the end that it made
            note(f"Error: {text}")
        return stop_code(stop.__cause__ if isinstance(stop, click.Abort) else stop)
    except Exception as error:  # noqa: BLE001 (a user is told in one line what went wrong, whatever it is)
        if isinstance(error, RuntimeError) and isinstance(error.__context__, KeyboardInterrupt):
            return stop_code(error.__context__)  # in the wait of a lock that Python then fails to give back
        failure = command_error(error)
        failure.show()
        return failure.exit_code
    return code if isinstance(code, int) else 0


def command_error(error: Exception) -> CommandError:
    """Give the error that ends a command for an error that a command did not expect."""
    for kind, failure in _KINDS:
        if isinstance(error, kind):
            return failure(str(error))
    return CommandError(f"unexpected {type(error).__name__}: {error}")


def stop_code(stop: BaseException | None) -> int:
    """Return the exit code after Ctrl-C, or a signal that ends a command."""
    return stop.exit_code if isinstance(stop, Terminated) else INTERRUPTED


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, _frame: object) -> NoReturn:
        raise Terminated(SIGNALLED + number)

    interrupts = [-TWICE_S]

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(time.monotonic())
        if interrupts[-1] - interrupts[-2] > TWICE_S:
            signal.default_int_handler(number, frame)

    end_with_console()
    numbers = _signals("SIGTERM", "SIGHUP", "SIGBREAK")
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
    previous = [(number, signal.signal(number, terminate)) for number in wanted]
    if getattr(sys, "frozen", False) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        previous.append((signal.SIGINT, signal.signal(signal.SIGINT, interrupt)))
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)


def _signals(*names: str) -> list[signal.Signals]:
    """Return those of the signals that the system has: Windows has no SIGHUP, and it alone has SIGBREAK."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextlib.contextmanager
def without_late_interrupts() -> Iterator[None]:
    """End the program by the end of the block; a Ctrl-C that comes once more meanwhile has nothing left to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        sys.exit(SIGNALLED + signal.SIGINT)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let what ends a command wait until the end of what must not be torn, such as an import or a write."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = _signals("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    previous = [(number, signal.signal(number, lambda number, _: came.append(number))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def one_line(text: str) -> str:
    """Put a text on one line that no character of it can break out of."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def note(text: str) -> None:
    """Print a line on stderr; without one it is given up."""
    STDERR.line(one_line(text))


def colour_wanted() -> bool:
    """Whether stdout is a terminal, and NO_COLOR does not ask for plain text."""
    return not os.environ.get("NO_COLOR") and sys.stdout is not None and sys.stdout.isatty()


def write_data(text: str) -> None:
    """Write data for a program on stdout: UTF-8 and LF whatever the locale, and at once."""
    with _output() as stdout:
        stdout.buffer.write(text.encode("utf-8", "replace"))
        stdout.buffer.flush()


def write_text(text: str) -> None:
    """Write text for people on stdout; characters that it cannot show are replaced."""
    with _output() as stdout:
        encoding = stdout.encoding or "utf-8"
        click.echo(text.encode(encoding, "replace").decode(encoding), nl=False)


@contextlib.contextmanager
def _output() -> Iterator[Any]:
    """Give stdout. A reader that has gone, as ``head`` does, ends the command quietly."""
    if sys.stdout is None:
        raise CommandError("there is no stdout to write to")
    try:
        yield sys.stdout
    except OSError as error:
        forget(sys.stdout)
        if error.errno == errno.EPIPE or (os.name == "nt" and error.errno == errno.EINVAL):
            raise click.exceptions.Exit(PIPE_CLOSED) from error
        raise CommandError(f"cannot write to stdout: {error.strerror or error}") from error
