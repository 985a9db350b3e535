"""What a command tells beside its data: the package's log on stderr, and the wire trace in a file."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from traceback import format_exception_only

from servomex.cli.common import CommandError, note, one_line

_LEVELS = (logging.INFO, logging.DEBUG)


class _LineFormatter(logging.Formatter):
    """One line a record, with its time in UTC, and of an exception only what it says."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += ": " + "".join(format_exception_only(record.exc_info[1]))
        return f"{moment} {one_line(text)}"


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr; when that is closed there is nobody to tell."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Do nothing."""


class _TraceHandler(logging.FileHandler):
    """Writes to a file; when the disk is full, says so once and lets the reading go on."""

    def __init__(self, path: str, quiet: bool) -> None:
        super().__init__(path, encoding="utf-8")
        self._silent = quiet

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002
        """Tell the user that the file lacks something."""
        if not self._silent:
            self._silent = True
            note(f"the trace {self.baseFilename} is not complete: {sys.exc_info()[1]}")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # handleError has told it
            super().close()


@contextlib.contextmanager
def log_on_stderr(verbosity: int) -> Iterator[None]:
    """Show the package's log on stderr: nothing at 0, what is being done at 1, every byte as well at 2."""
    if not verbosity:
        yield
        return
    handler = _StderrHandler(sys.stderr)
    level = _LEVELS[min(verbosity, len(_LEVELS)) - 1]
    handler.setLevel(level)
    with _handled_by(logging.getLogger("servomex"), handler, level):
        yield


@contextlib.contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Show on stderr what the package warns of."""
    with _handled_by(logging.getLogger("servomex"), _StderrHandler(sys.stderr), logging.WARNING):
        yield


@contextlib.contextmanager
def wire_trace(path: str | None, *, quiet: bool = False) -> Iterator[None]:
    """Append every byte of both directions to a file, with the time.

    Raises:
        CommandError: The file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        handler = _TraceHandler(path, quiet)
    except OSError as error:
        raise CommandError(f"cannot write the trace {path}: {error.strerror or error}") from error
    with _handled_by(logging.getLogger("servomex.wire"), handler, logging.DEBUG):
        yield


@contextlib.contextmanager
def _handled_by(logger: logging.Logger, handler: logging.Handler, level: int) -> Iterator[None]:
    handler.setFormatter(_LineFormatter())
    previous = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(previous)
        logger.removeHandler(handler)
        handler.close()
