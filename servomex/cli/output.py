"""The output of commands: lines on stderr, which may be gone, and data or text on stdout."""

import contextlib
import errno
import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import click

from servomex.cli.errors import PIPE_CLOSED, CommandError
from servomex.durations import counted

_PASSING = {errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT}
"""Errors after which a later write may succeed. After any other, stderr is gone."""


HELD = 1000
"""How many lines are kept while a screen covers stderr."""

ERROR, WARNING, INFO, DEBUG = "E", "W", "I", "D"
"""The levels of lines on stderr."""


class Held:
    """The latest lines that are kept for later. Any thread may add one."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=HELD)
        self._added = 0

    def add(self, line: str) -> None:
        """Add a line, in place of the oldest if there are too many."""
        self._lines.append(line)
        self._added += 1

    @property
    def texts(self) -> list[str]:
        """The lines; the first says how many were dropped, if any."""
        lines = list(self._lines)
        dropped = self._added - len(lines)
        return [f"... {counted(dropped, 'earlier line')} dropped"] * (dropped > 0) + lines


class Stderr:
    """The current stderr. Text that cannot be written is dropped: a command does not end because of it."""

    def __init__(self) -> None:
        self._within_line = False
        self._has_levels = False
        self._held: Held | None = None

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        with _surviving():
            if sys.stderr is not None:
                sys.stderr.write(text)
        self._within_line = bool(text) and not text.endswith("\n")
        return len(text)

    def flush(self) -> None:
        """Write the contents of the buffer, or drop them."""
        with _surviving():
            if sys.stderr is not None:
                sys.stderr.flush()

    def isatty(self) -> bool:
        """Return whether it is a terminal that still exists."""
        try:
            return sys.stderr is not None and sys.stderr.isatty()
        except (OSError, ValueError):
            return False

    def line(self, text: str, level: str = ERROR) -> None:
        """Write a line of its own, below a display of progress.

        Args:
            text: What it says.
            level: One of :data:`ERROR`, :data:`WARNING`, :data:`INFO` and :data:`DEBUG`.
        """
        prefix = f"{level}! " if self._has_levels else ""
        if (held := self._held) is not None:
            held.add(f"{prefix}{text}")
            return
        self.write("\n" * self._within_line + f"{prefix}{text}\n")
        self.flush()

    @contextlib.contextmanager
    def held(self) -> "Iterator[Held]":
        """Keep the lines of this block, and write them at its end: a screen would cover them."""
        self._held = Held()
        try:
            yield self._held
        finally:
            held, self._held = self._held, None
            self.write("".join(f"{text}\n" for text in held.texts))
            self.flush()

    def show_levels(self) -> None:
        """Begin each line of this command with its level, as Telegraf's execd reads it."""
        self._has_levels = True

    @contextlib.contextmanager
    def without_levels(self) -> Iterator[None]:
        """Begin without levels, and end so."""
        self._has_levels = False
        try:
            yield
        finally:
            self._has_levels = False


STDERR = Stderr()
BAR = cast("TextIO", STDERR)
"""The same, typed as click's progress bar wants its file."""


@contextlib.contextmanager
def _surviving() -> Iterator[None]:
    try:
        yield
    except ValueError:  # it was closed
        return
    except OSError as error:
        if error.errno not in _PASSING:
            forget(sys.stderr)


def forget(stream: Any) -> None:
    """Discard a stream's buffer: Python would try to write it again at exit, and fail."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def end_stderr() -> None:
    """Drop text that could not be written, or Python would end with another exit code than the command's."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        forget(sys.stderr)


def one_line(text: str) -> str:
    """Return a text as one line, without characters that could break out of it."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def note(text: str, level: str = INFO) -> None:
    """Print a line on stderr, if there is one."""
    STDERR.line(one_line(text), level)


def colour_wanted() -> bool:
    """Return whether stdout is a terminal and NO_COLOR does not ask for plain text."""
    return not os.environ.get("NO_COLOR") and sys.stdout is not None and sys.stdout.isatty()


def write_data(text: str) -> None:
    """Write data for a program to stdout: UTF-8 and LF whatever the locale, and at once."""
    with _output() as stdout:
        stdout.buffer.write(text.encode("utf-8", "replace"))
        stdout.buffer.flush()


def write_text(text: str) -> None:
    """Write text for people to stdout; characters that it cannot show are replaced."""
    with _output() as stdout:
        encoding = stdout.encoding or "utf-8"
        click.echo(text.encode(encoding, "replace").decode(encoding), nl=False)


@contextlib.contextmanager
def _output() -> Iterator[Any]:
    """Yield stdout. When its reader has gone, as ``head`` does, the command ends quietly."""
    if sys.stdout is None:
        raise CommandError("there is no stdout to write to")
    try:
        yield sys.stdout
    except OSError as error:
        forget(sys.stdout)
        if error.errno == errno.EPIPE or (os.name == "nt" and error.errno == errno.EINVAL):
            raise click.exceptions.Exit(PIPE_CLOSED) from error
        raise CommandError(f"cannot write to stdout: {error.strerror or error}") from error
