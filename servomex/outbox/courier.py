"""Courier: the delivery to one sink, for as long as it takes."""

import threading
from collections.abc import Callable, Sequence

from servomex.durations import counted
from servomex.errors import (
    ServomexError,
    ServomexSinkSchemaError,
    ServomexSinkSyncError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.models.sample import Sample
from servomex.outbox.batch import Batch
from servomex.outbox.outbox import Outbox
from servomex.outbox.repeats import Known, is_costly, known_rows
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log
from servomex.sinks.base import Sink

_log = package_log("servomex")

Opener = Callable[[], Sink]
"""Opens a sink; an existing file is appended to. It is called again after a failure."""

BATCH_S = 1.0
"""How long a few rows wait for more."""
TICK_S = 0.2
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""The pauses after failures; the last one is repeated."""
TRIES = 3
"""How many times a batch is refused before the row that causes it is searched for."""
MOST_SUSPECTS = 10
"""When so many rows in a row fail, and the sink does not say that it is them, it is the sink that fails."""
COSTLY_SYNC_S = 60.0
"""How often a sink is synced that makes a file for each sync."""
DRAIN_S = 5.0
"""How long the end waits for what can still be delivered."""


class _RefusedError(ServomexSinkSchemaError):
    """The database of a sink has refused a row, which its log describes."""


class Courier:
    """Delivers the rows of an outbox to one sink. One thread runs it; any may read its attributes.

    Args:
        outbox: The outbox.
        name: The name of the sink.
        opener: Opens the sink.
        batch_s: How long a few rows wait for more.
        pauses_s: The pauses after failures.
        tries: How many times a batch is refused before the row that causes it is searched for.

    Attributes:
        sink: The open sink; ``None`` when there is none.
        failures: How many attempts have failed since the last success.
        last_error: Why the last one did.
    """

    def __init__(
        self, outbox: Outbox, name: str, opener: Opener, *, batch_s: float, pauses_s: Sequence[float], tries: int
    ) -> None:
        self.sink: Sink | None = None
        self.failures: int = 0
        self.last_error: str | None = None
        self._outbox, self._name, self._opener = outbox, name, opener
        self._batch_s, self._pauses_s, self._tries = batch_s, tuple(pauses_s), tries
        self._batch: Batch | None = None
        self._is_written = False
        self._refusals = 0
        self._written: list[Batch] = []
        self._sync_s = 0.0
        self._known: Known | None = None
        self._sent_at = self._synced_at = self._moved_at = time.monotonic()
        self._stopping = threading.Event()

    @property
    def moved_at(self) -> float:
        """When it last made progress, on the monotonic clock."""
        sink = self.sink
        return max(self._moved_at, sink.moved_at if sink else 0.0)

    def run(self, stopping: threading.Event) -> None:
        """Deliver until the event is set, and then what can be delivered at once."""
        self._stopping = stopping
        try:
            while not stopping.is_set():
                self._wait(self._try_step())
            deadline = time.monotonic() + DRAIN_S
            while not self.failures and time.monotonic() < deadline and self._try_step(is_last=True) == 0.0:
                continue
        finally:
            self._close_sink()

    def _wait(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, TICK_S)):
            self._moved_at = time.monotonic()

    def _try_step(self, *, is_last: bool = False) -> float:
        """Do what is next; return the pause after it."""
        self._moved_at = time.monotonic()
        try:
            pause_s = self._step(is_last=is_last)
        except Exception as error:  # noqa: BLE001 (a sink of the user's own may raise anything)
            return self._fail(error)
        if pause_s is None:
            return TICK_S
        self._succeed()
        return 0.0

    def _step(self, *, is_last: bool) -> float | None:
        """Open the sink, deliver a batch, or look after the sink; return ``None`` when there was nothing to do."""
        sink = self.sink or self._open()
        if self._batch is None:
            if self._written and (is_last or time.monotonic() - self._synced_at >= self._sync_s):
                self._sync(sink)
                return 0.0
            if not (is_last or self._is_due()):
                sink.flush_if_due()
                self._outbox.tend()
                return None
            self._batch = self._outbox.take(self._name)
            if self._batch is None:
                return None
            self._is_written, self._refusals = False, 0
            self._sent_at = time.monotonic()
        self._deliver(sink, self._batch)
        return 0.0

    def _is_due(self) -> bool:
        waiting = self._outbox.waiting(self._name)
        return waiting >= 1_000 or (waiting > 0 and time.monotonic() - self._sent_at >= self._batch_s)

    def _open(self) -> Sink:
        sink = self._opener()
        self.sink, self._batch, self._written = sink, None, []
        self._known, self._sync_s = None, COSTLY_SYNC_S if is_costly(sink) else 0.0
        self._outbox.rewind(self._name)
        self._synced_at = time.monotonic()
        return sink

    def _deliver(self, sink: Sink, batch: Batch) -> None:
        """Store a batch; note it at once, or with the next sync."""
        if self._refusals >= self._tries:
            self._narrow(sink, batch)
        else:
            self._try_whole(sink, batch)
        self._batch = None
        if self._written and time.monotonic() - self._synced_at >= self._sync_s:
            self._sync(sink)

    def _try_whole(self, sink: Sink, batch: Batch) -> None:
        try:
            if not self._is_written:
                self._write(sink, self._unknown(sink, batch))
            sink.flush()
        except ServomexSinkWriteError:
            raise  # what it has accepted stays in it
        except Exception as error:
            self._is_written = False
            if not is_of_rows(error):
                self._close_sink()
                raise
            self._refusals = self._tries if isinstance(error, _RefusedError) else self._refusals + 1
            if not isinstance(error, ServomexSinkSchemaError):
                self._renew_sink()
            raise
        self._written.append(batch.receipt())

    def _write(self, sink: Sink, samples: Sequence[Sample]) -> None:
        """Hand rows to the sink.

        Raises:
            _RefusedError: Its database has refused some of them, or others before them.
            Exception: See :meth:`Sink.write`.
        """
        before = sink.refused
        try:
            if samples:
                sink.write(samples)
        except ServomexSinkSyncError:
            self._is_written = True
            raise
        self._is_written = True
        sink.flush()
        if sink.refused > before:
            raise _RefusedError("its database did not accept it; the log says why")

    def _unknown(self, sink: Sink, batch: Batch) -> Sequence[Sample]:
        """Return the rows of a batch that the sink does not have already, after an attempt that was cut off."""
        if not batch.stored_before:
            return batch.samples
        if self._known is None:
            self._known = known_rows(sink, batch.stored_before)
        left = self._known.without(batch.samples)
        if len(left) < len(batch.samples):
            _log.info("%s has %s already", self._name, counted(len(batch.samples) - len(left), "row"))
        return left

    def _sync(self, sink: Sink) -> None:
        """Make what was written survive a loss of power, and note that."""
        sink.sync()
        self._synced_at = time.monotonic()
        for batch in self._written:
            self._outbox.done(batch)
        self._written = []

    def _narrow(self, sink: Sink, batch: Batch) -> None:
        """Deliver a batch in ever smaller parts, and set aside the rows that are refused alone."""
        if self._written:
            self._sync(sink)
        parts, suspects = [(0, len(batch.samples))], []
        while parts:
            begin, end = parts.pop(0)
            self._moved_at = time.monotonic()
            try:
                self._write((self.sink or self._renew_sink()), batch.samples[begin:end])
                (self.sink or sink).sync()
            except Exception as error:
                if not is_of_rows(error):
                    self._close_sink()
                    raise
                if not isinstance(error, ServomexSinkSchemaError):
                    self._renew_sink()
                if end - begin > 1:
                    middle = (begin + end) // 2
                    parts[:0] = [(begin, middle), (middle, end)]
                    continue
                suspects.append((begin, _text(error)))
                if isinstance(error, ServomexSinkSchemaError):  # it says that the row is wrong
                    self._set_aside(batch, suspects)
                elif len(suspects) > MOST_SUSPECTS or not parts:
                    self._close_sink()
                    raise
                continue
            self._set_aside(batch, suspects)  # the sink takes others
            self._outbox.done(batch, end)

    def _set_aside(self, batch: Batch, suspects: list[tuple[int, str]]) -> None:
        """Set rows aside.

        Raises:
            ServomexSinkWriteError: The disk of the outbox does not take them.
        """
        while suspects:
            place, reason = suspects[0]
            if not self._outbox.set_aside(batch, place, tries=self._tries, reason=reason):
                self._close_sink()
                raise ServomexSinkWriteError("the outbox cannot set a row aside: its disk takes nothing")
            _log.warning("the sink %s refuses a row, which was set aside: %s", self._name, reason)
            del suspects[0]

    def _renew_sink(self) -> Sink:
        """Close the sink and open it again, without the rows that wait in it."""
        self._close_sink()
        self.sink = self._opener()
        return self.sink

    def _close_sink(self) -> None:
        sink, self.sink = self.sink, None
        if sink is not None:
            try:
                sink.close()
            except Exception as error:  # noqa: BLE001 (the rows are still in the outbox)
                _log.info("%s: on closing: %s", self._name, error)

    def _fail(self, error: Exception) -> float:
        self.failures += 1
        self.last_error = _text(error)
        pause_s = self._pauses_s[min(self.failures, len(self._pauses_s)) - 1]
        if self.failures == 1:
            _log.warning("the sink %s failed: %s. Its rows wait in the outbox", self._name, self.last_error)
        else:
            _log.debug("the sink %s failed again: %s", self._name, self.last_error)
        return pause_s

    def _succeed(self) -> None:
        if self.failures:
            _log.warning("the sink %s works again, after %s", self._name, counted(self.failures, "failure"))
        self.failures = 0


def is_of_rows(error: Exception) -> bool:
    """Return whether an error may be due to the rows, and not to the sink."""
    if isinstance(error, ServomexSinkSchemaError | ServomexValidationError):
        return True
    return not isinstance(error, ServomexError | OSError | MemoryError)


def _text(error: Exception) -> str:
    return error.text if isinstance(error, ServomexError) else f"{type(error).__name__}: {error}"
