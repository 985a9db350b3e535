"""The package's log on stderr."""

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from traceback import format_exception_only

from servomex.cli.output import DEBUG, ERROR, INFO, STDERR, WARNING, one_line

_LEVELS = (("servomex.trace", logging.WARNING), ("servomex", logging.INFO), ("servomex", logging.DEBUG))


def _level_of(number: int) -> str:
    """Return the level of a line for a level of the log."""
    if number >= logging.ERROR:
        return ERROR
    return WARNING if number >= logging.WARNING else INFO if number >= logging.INFO else DEBUG


class _LineFormatter(logging.Formatter):
    """One line per record, with its time in UTC, and only the message of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += ": " + "".join(format_exception_only(record.exc_info[1]))
        return f"{moment} {one_line(text)}"


class _StderrHandler(logging.Handler):
    """Writes to stderr, as long as there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        STDERR.line(self.format(record), _level_of(record.levelno))


@contextlib.contextmanager
def log_on_stderr(verbosity: int | None, omitted: str = "") -> Iterator[None]:
    """Show the package's log on stderr.

    Args:
        verbosity: 1 for what is being done, 2 for every byte as well, 0 only for a trace that can no longer be
            written, ``None`` for nothing.
        omitted: The logger whose records are not shown, since the command itself reports the same.
    """
    if verbosity is None:
        yield
        return
    name, level = _LEVELS[min(verbosity, len(_LEVELS) - 1)]
    handler = _StderrHandler()
    handler.setLevel(level)
    handler.addFilter(lambda record: record.name != omitted)
    with _handled_by(logging.getLogger(name), handler, level):
        yield


@contextlib.contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Show the package's warnings on stderr; the command itself reports the error that ends it."""
    handler = _StderrHandler()
    handler.addFilter(lambda record: record.levelno < logging.ERROR)
    with _handled_by(logging.getLogger("servomex"), handler, logging.WARNING):
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
