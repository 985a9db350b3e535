"""A sink that cannot be written, as on a full disk, is retried, and its samples wait meanwhile."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import attrs

from servomex.durations import counted
from servomex.errors import (
    ServomexSinkError,
    ServomexSinkSchemaError,
    ServomexSinkSyncError,
    ServomexSinkWriteError,
)
from servomex.models.sample import Sample
from servomex.runtime.clock import time
from servomex.runtime.locks import Signal
from servomex.runtime.logs import package_log
from servomex.sinks.base import Sink

_log = package_log("servomex")

PATIENCE_S = 30.0
"""How long a sink that cannot be written is retried before it is dropped."""
RETRY_S = 1.0
LAST_S = 5.0
"""How long it is retried at the end."""
AGAIN_S = 0.25
LONG_S = 2.0
"""A write that takes longer than this without progress is reported when it returns."""
MOST_WAITING = 100_000
"""The most samples that wait for a sink that cannot be written."""


@attrs.frozen(kw_only=True)
class SinkState:
    """A sink of a recording, as it is now.

    Attributes:
        name: Its name.
        rows: How many rows it was given.
        waiting: How many samples wait to be written.
        standing_s: For how many seconds a write has made no progress; 0.0 when none is under way.
        failure: Why it cannot be written at the moment, or why it was dropped; ``None`` when it is fine.
        dropped: Whether it was given up.
    """

    name: str
    rows: int
    waiting: int
    standing_s: float
    failure: ServomexSinkError | None
    dropped: bool


class RetryingSink:
    """One sink of a recording, and the samples waiting for it: a failed write is retried for a limited time.

    Args:
        sink: The sink.
        stays_open: Whether its user closes it.

    Attributes:
        failure: Why samples are lost, the first reason of several; ``None`` as long as none are.
        lost: Samples that are not in the sink and never will be.
        dropped: Whether it was given up.
    """

    def __init__(self, sink: Sink, *, stays_open: bool = False) -> None:
        self.failure: ServomexSinkError | None = None
        self.lost: int = 0
        self.dropped: bool = False
        self._sink = sink
        self._stays_open = stays_open
        self._rows_before, self._removed_before = sink.rows, sink.removed + sink.refused
        self._waiting: list[Sample] = []
        self._failing: ServomexSinkError | None = None
        self._failing_since = self._retry_at = 0.0
        self._called_at: float | None = None

    @property
    def name(self) -> str:
        """The name of the sink."""
        return self._sink.name

    @property
    def standing_since(self) -> float | None:
        """Since when a call of the sink has made no progress; ``None`` when no call is under way."""
        called_at = self._called_at
        return None if called_at is None else max(called_at, self._sink.moved_at)

    @property
    def state(self) -> SinkState:
        """What it is doing now."""
        since = self.standing_since
        return SinkState(
            name=self.name,
            rows=self._sink.rows - self._rows_before,
            waiting=len(self._waiting),
            standing_s=0.0 if since is None else max(0.0, time.monotonic() - since),
            failure=self._failing or self.failure,
            dropped=self.dropped,
        )

    @property
    def unstored(self) -> int:
        """Samples that wait for the sink, or in it."""
        return len(self._waiting) + self._sink.unstored

    def keep(self) -> None:
        """Keep the sink from being closed at the end of the program, which would hang too."""
        self._sink.leave()

    @property
    def removed(self) -> int:
        """Samples that the sink accepted, but another program removed since or its database did not take."""
        return self._sink.removed + self._sink.refused - self._removed_before

    def add(self, samples: Sequence[Sample]) -> None:
        """Add samples that are to be written."""
        if self.dropped:
            self.lost += len(samples)
        else:
            self._waiting += samples

    def write(self) -> None:
        """Write what is waiting, now or when the sink can be written again."""
        if not self.dropped:
            self._try(self._write_waiting)

    def flush_if_due(self) -> None:
        """Flush if that is due, and write what is waiting."""
        if not self.dropped:
            self._try(self._write_waiting if self._waiting else self._sink.flush_if_due)

    def close(self) -> None:
        """Write what is waiting, for the last time, and close the sink unless it stays open."""
        deadline = time.monotonic() + LAST_S
        while not self.dropped:
            self._retry_at = 0.0
            self._try(self._write_and_flush)
            if self._failing is None or time.monotonic() >= deadline:
                break
            Signal().wait(AGAIN_S)
        if not self.dropped:
            self._drop(self._failing)

    def _try(self, act: Callable[[], None]) -> None:
        """Do it, unless the sink failed a moment ago."""
        now = time.monotonic()
        if now < self._retry_at:
            return
        try:
            with self._called():
                act()
        except ServomexSinkWriteError as error:
            self._wait(error, now)
        except Exception as error:  # noqa: BLE001 (a sink of the user's own may raise anything)
            self._give_up(_sink_error(self._sink, error))
        else:
            self._recover(now)

    @contextlib.contextmanager
    def _called(self) -> Iterator[None]:
        """Note when a call of the sink began, and log a warning after a very long one."""
        self._called_at = begun = time.monotonic()
        try:
            yield
        finally:
            stood_s = time.monotonic() - (self.standing_since or begun)
            self._called_at = None
            if stood_s >= LONG_S:
                _log.warning("%s: the write returned after %.0f s", self._sink.name, stood_s)

    def _write_waiting(self) -> None:
        try:
            if self._waiting:
                self._write_first(len(self._waiting))
        except ServomexSinkSchemaError:
            while self._waiting:
                self._write_or_refuse()

    def _write_and_flush(self) -> None:
        """Write what is waiting here and in the sink; at the end, try once more."""
        self._write_waiting()
        if self._stays_open:
            self._sink.sync()
        else:
            self._sink.flush()

    def _write_or_refuse(self) -> None:
        try:
            self._write_first(1)
        except ServomexSinkSchemaError as error:
            _log.warning("%s: a sample was not written: %s", self._sink.name, error.message)
            self._lose(1, error)
            del self._waiting[0]

    def _write_first(self, number: int) -> None:
        """Write some of what is waiting; after an error it stays waiting."""
        try:
            self._sink.write(self._waiting[:number])
        except ServomexSinkSyncError:
            del self._waiting[:number]
            raise
        del self._waiting[:number]

    def _wait(self, error: ServomexSinkError, now: float) -> None:
        """Retry in a moment, unless that has gone on for too long."""
        self._retry_at = now + RETRY_S
        if self._failing is None:
            self._failing_since = now
            _log.warning("%s. Retrying for %g s", error.text, PATIENCE_S)
        elif now - self._failing_since > PATIENCE_S or len(self._waiting) > MOST_WAITING:
            self._give_up(error)
        self._failing = error

    def _recover(self, now: float) -> None:
        if self._failing is not None:
            _log.warning("%s can be written again, after %.0f s", self._sink.name, now - self._failing_since)
        self._failing = None

    def _give_up(self, error: ServomexSinkError) -> None:
        _log.warning("%s is dropped from now on: %s", self._sink.name, error)
        self._drop(error)

    def _drop(self, error: ServomexSinkError | None) -> None:
        """Close the sink unless it stays open, and count what it did not receive because of an error."""
        self.dropped = True
        if error is not None and self._waiting:
            self._lose(len(self._waiting), error)
        self._waiting = []
        if self._stays_open:
            if error is not None:  # its user may still write what is waiting in it
                self._lose(min(self._sink.unstored, self._sink.rows - self._rows_before), error)
            elif self.removed:  # its own end will report that too
                were = f"{counted(self.removed, 'row')} of this recording {'was' if self.removed == 1 else 'were'}"
                self._lose(0, ServomexSinkWriteError(f"{self._sink.name}: {were} refused or removed"))
            return
        before = self._sink.rows
        try:
            with self._called():
                self._sink.close()
        except Exception as failed:  # noqa: BLE001 (the others must be closed as well)
            self._lose(before - self._sink.rows, _sink_error(self._sink, failed))

    def _lose(self, number: int, error: ServomexSinkError) -> None:
        self.lost += number
        self.failure = self.failure or error


def _sink_error(sink: Sink, error: Exception) -> ServomexSinkError:
    if isinstance(error, ServomexSinkError):
        return error
    wrapped = ServomexSinkWriteError(f"{sink.name} failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
