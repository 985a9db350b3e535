"""The errors that end a command, and its exit codes."""

import click

from servomex.errors import (
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexNotFoundError,
    ServomexProtocolError,
    ServomexSinkError,
    ServomexTransportError,
)

INTERRUPTED = 130
SIGNALLED = 128
"""The exit code after a signal is this plus the number of the signal."""
PIPE_CLOSED = 141

EXIT_CODES = """\b
Exit codes:
  0    success
  1    another error, such as a file that cannot be written
  2    usage error: invalid option or argument
  3    port error: missing, busy, forbidden or lost
  4    no answer, or no valid answer
  5    read --check: a fault, an alarm, no value, or a failed reading
  129  ended by SIGHUP: its terminal was closed
  130  ended by Ctrl-C
  141  the program that read the output has ended
  143  ended by SIGTERM
  149  ended by Ctrl-Break, or with its console (Windows)
"""


class CommandError(click.ClickException):
    """An error that ends a command with one line on stderr and the exit code of its kind."""

    exit_code = 1


class RequestError(CommandError):
    """The command cannot do what was requested."""

    exit_code = 2


class PortError(CommandError):
    """The port is missing, busy, forbidden or lost."""

    exit_code = 3


class NoAnswerError(CommandError):
    """There was no answer, or no valid one."""

    exit_code = 4


class Terminated(KeyboardInterrupt):
    """Ends a command like Ctrl-C: SIGTERM, SIGHUP when the terminal is gone, or Ctrl-Break on Windows.

    Args:
        exit_code: The exit code of the command.
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


def command_error(error: Exception) -> CommandError:
    """Return the error that ends a command for an error that the command did not expect."""
    for kind, failure in _KINDS:
        if isinstance(error, kind):
            return failure(str(error))
    return CommandError(f"unexpected {type(error).__name__}: {error}")


def stop_code(stop: BaseException | None) -> int:
    """Return the exit code after Ctrl-C, or a signal that ends a command."""
    return stop.exit_code if isinstance(stop, Terminated) else INTERRUPTED
