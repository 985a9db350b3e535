"""What the commands write to stderr. A terminal or a pipe that is gone ends none of them."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

_PASSING = {errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT}
"""Errors after which a later write may succeed. After any other, stderr is gone."""


class Stderr:
    """Stderr as it is at the moment. What cannot be written is given up: a command has more to do than that."""

    def __init__(self) -> None:
        self._within_line = False

    def write(self, text: str) -> int:
        """Write a text, or give it up."""
        with _surviving():
            if sys.stderr is not None:
                sys.stderr.write(text)
        self._within_line = bool(text) and not text.endswith("\n")
        return len(text)

    def flush(self) -> None:
        """Write what waits in the buffer, or give it up."""
        with _surviving():
            if sys.stderr is not None:
                sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal that is still there."""
        try:
            return sys.stderr is not None and sys.stderr.isatty()
        except (OSError, ValueError):
            return False

    def line(self, text: str) -> None:
        """Write a line of its own, below what shows how far a command is."""
        self.write("\n" * self._within_line + f"{text}\n")
        self.flush()


STDERR = Stderr()
BAR = cast("TextIO", STDERR)
"""The same, as click's progress bar wants its file."""


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
    """Let what is in a stream's buffer go nowhere: Python would try to write it again when it ends, and fail."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def end_stderr() -> None:
    """Give up what could not be written, or Python would end with another exit code than the command's."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        forget(sys.stderr)
