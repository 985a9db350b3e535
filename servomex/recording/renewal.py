"""Renewal: replaces a source of the user's own when its connection was lost."""

from collections.abc import Callable, Sequence

from servomex.errors import ServomexConfigurationError, ServomexConnectionError, ServomexError
from servomex.models.sample import Sample
from servomex.recording.polling import PollSource, check_source
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log

_log = package_log("servomex")

ReconnectFactory = Callable[[], PollSource]
"""Reopens a source, and returns it."""

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds from a loss to the first attempt to reopen the source, and from each failed attempt to the next."""


class Renewal:
    """A source that is replaced by a new one when its connection is lost. One thread may use it.

    It never waits: between two attempts each reading fails at once, with the error of the last attempt.

    Args:
        source: What is read first. Its user closes it.
        factory: Makes the source that is read from then on. If it has a ``close``, it is closed here when it is
            lost and at the end.
    """

    def __init__(self, source: PollSource, factory: ReconnectFactory) -> None:
        self._first = self._source = source
        self._factory = factory
        self._error: ServomexError | None = None
        self._tries = 0
        self._retry_at = 0.0

    def poll_samples(
        self, *, names: Sequence[str] | None = None, timeout: float | None = None
    ) -> Sequence[Sample]:
        """Return the samples of the source, or of its replacement when it is lost and an attempt is due.

        Raises:
            ServomexError: The reading failed, or the source is lost and could not be reopened.
            ServomexConfigurationError: The factory did not return a source.
        """
        if self._error is not None:
            self._renew(self._error)
        try:
            samples = self._source.poll_samples(names=names, timeout=timeout)
        except ServomexConnectionError as error:
            self._lose(error)
            self.close()
            raise
        self._tries = 0
        return samples

    def close(self) -> None:
        """Close the source, if it was made here and can be closed."""
        source, self._source = self._source, self._first
        close = None if source is self._first else getattr(source, "close", None)
        if callable(close):
            try:
                close()
            except Exception as error:  # noqa: BLE001 (it is lost, or the recording ends, whatever it raises)
                _log.warning("a source could not be closed: %s: %s", type(error).__name__, error)

    def _renew(self, error: ServomexError) -> None:
        """Reopen the source.

        Raises:
            ServomexError: It is too early for that, or it failed.
        """
        if time.monotonic() < self._retry_at:
            raise error.with_traceback(None)  # or it would grow with each reading
        try:
            source = self._factory()
        except ServomexConfigurationError:
            raise
        except ServomexError as failed:
            self._lose(failed)
            raise
        except OSError as failed:
            lost = ServomexConnectionError(f"the source could not be opened again: {failed}")
            self._lose(lost)
            raise lost from failed
        self._source, self._error = source, None
        check_source(source)

    def _lose(self, error: ServomexError) -> None:
        self._error = error
        self._retry_at = time.monotonic() + PAUSES_S[min(self._tries, len(PAUSES_S) - 1)]
        self._tries += 1
