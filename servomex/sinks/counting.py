"""Wrappers for the ``write`` and ``close`` of a user's own sink, which check and count."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from servomex.errors import ServomexSinkError, ServomexSinkSyncError, ServomexValidationError
from servomex.models.sample import Sample

Write = Callable[[Any, Sequence[Sample]], None]
Close = Callable[[Any], None]


def counting(write: Write) -> Write:
    """Return a ``write`` that refuses calls without samples or after the end, and counts the rows it accepted.

    One that counts by itself, or calls another that is wrapped like this, is not counted twice.
    """

    @functools.wraps(write)
    def wrapped(sink: Any, samples: Sequence[Sample]) -> None:
        sink.check_process()
        if sink.closed:
            raise ServomexSinkError(f"{sink.name} is closed: nothing more can be written to it")
        check_samples(samples)
        before = sink.rows
        try:
            write(sink, samples)
        except ServomexSinkSyncError:  # they are written
            _count(sink, before, samples)
            raise
        _count(sink, before, samples)

    return wrapped


def _count(sink: Any, before: int, samples: Sequence[Sample]) -> None:
    if sink.rows == before:
        sink.rows += len(samples)


def once(close: Close) -> Close:
    """Return a ``close`` that is carried out only once, whatever its outcome."""

    @functools.wraps(close)
    def wrapped(sink: Any) -> None:
        if not sink.closed and sink.made_here:
            sink.closed = True
            close(sink)

    return wrapped


def check_samples(samples: Sequence[Sample]) -> None:
    """Check that a sink gets samples.

    Raises:
        ServomexValidationError: They are something else.
    """
    for sample in samples if isinstance(samples, Sequence) else (samples,):
        if not isinstance(sample, Sample):
            raise ServomexValidationError(
                f"a sink takes a list of samples, but this has a {type(sample).__name__}",
                cure="Write frame.as_samples() instead of the frame",
            )
