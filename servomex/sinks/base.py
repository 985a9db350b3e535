"""The base classes of all sinks, and the one policy of when rows are stored."""

import abc
import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self, cast

from servomex.durations import counted
from servomex.errors import (
    ServomexSinkError,
    ServomexSinkSchemaError,
    ServomexSinkSyncError,
    ServomexSinkWriteError,
)
from servomex.errors.validation import seconds
from servomex.models.sample import Sample
from servomex.rows.formats import PLAIN
from servomex.rows.pieces import RowFormat
from servomex.runtime.at_exit import at_exit
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound, keep_forever, let_go_after_fork
from servomex.sinks.counting import check_samples, counting, once

FLUSH_S = 1.0
FSYNC_S = 60.0
LOOK_S = 1.0
"""How often a sink checks that its file is still there, in addition to each flush."""
MOST_PENDING = 10_000
"""The most rows that wait for a flush; more are flushed at once."""


class _NameOfClass:
    """The name of a sink without a name of its own."""

    def __get__(self, _sink: object, kind: type) -> str:
        return kind.__name__


class Sink(ProcessBound, abc.ABC):
    """Where samples are written. A context manager; one thread at a time may use it, and no other process.

    A user's own sink needs only a :meth:`write`: samples that it accepts without an error are counted in
    ``rows``, and it is called only with samples and never after the end. ``flush``, ``sync`` and ``close`` may be
    defined if needed; ``close`` is called once.

    Attributes:
        name: What it writes to, for messages; the name of the class unless there is another.
        rows: Rows accepted so far.
        closed: Whether it was closed, or could never be opened.
        keeps_count: Whether the class itself counts its rows and knows when it is closed.
        is_left: Whether it was left open permanently, see :meth:`leave`.
        always_appends: Whether it always adds to existing rows, as a table of a database does.
    """

    name: str = cast("str", _NameOfClass())
    rows: int = 0
    closed: bool = False
    is_left: bool = False
    keeps_count = False
    always_appends = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        wraps: dict[str, Callable[[Any], Any]] = {"write": counting, "close": once}
        for name in wraps.keys() & vars(cls).keys():
            if not cls.keeps_count:
                setattr(cls, name, wraps[name](vars(cls)[name]))

    @property
    def removed(self) -> int:
        """Rows that were written, and that another program has removed since."""
        return 0

    @property
    def refused(self) -> int:
        """Accepted rows that the database refused when they were stored; the log says why."""
        return 0

    @property
    def unstored(self) -> int:
        """Accepted rows that would not yet survive the death of the process."""
        return 0

    @property
    def moved_at(self) -> float:
        """When a long call, such as :meth:`close`, last made progress, on the monotonic clock."""
        return 0.0

    @classmethod
    def place_of(cls, url: str) -> str:
        """Return the place that a URL leads to: the same text for all URLs to one place."""
        return url

    @classmethod
    def check_url(cls, url: str, *, table: str | None = None) -> None:
        """Check whether the place of a URL can be written, as far as possible without changing anything.

        Raises:
            ServomexError: It cannot; the errors are those of the constructor.
        """

    @abc.abstractmethod
    def write(self, samples: Sequence[Sample]) -> None:
        """Accept one batch, and flush and sync when that is due.

        After an error none of its rows are accepted, except after a ``ServomexSinkSyncError``.

        Raises:
            ServomexSinkSchemaError: A sample cannot be written, such as one whose value is not finite.
            ServomexSinkWriteError: It cannot be written at the moment; it may succeed later.
            ServomexSinkSyncError: It is written, but may not survive a loss of power.
            ServomexSinkError: The sink is closed or damaged; no more can be written to it.
        """

    def flush(self) -> None:
        """Write all rows so far, so that they survive the death of this process.

        Raises:
            ServomexSinkWriteError: They cannot be written; they wait for the next attempt.
        """

    def sync(self) -> None:
        """Flush, and wait until what is written survives a loss of power.

        Raises:
            ServomexSinkWriteError: They cannot be written; they wait for the next attempt.
            ServomexSinkSyncError: They are written, but may not survive a loss of power.
        """
        self.flush()

    def flush_if_due(self) -> None:
        """Flush and sync when their intervals have passed. Call it while there is nothing to write.

        Raises:
            ServomexSinkWriteError: That failed.
        """
        self.flush()

    def close(self) -> None:
        """Flush, sync and close. May be called twice.

        Raises:
            ServomexSinkWriteError: Something could not be written, or was removed by another program, and is lost.
        """
        if not self.closed and self.made_here:
            self.closed = True
            self.sync()

    def leave(self) -> None:
        """Leave it open permanently, even at the end of the program: its disk does not answer."""
        keep_forever(self)
        self.is_left = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except ServomexSinkError as second:
            if error is None:
                raise
            error.add_note(f"on closing {self.name}: {second}")

    def __del__(self) -> None:
        if self.made_here and not self.closed and (self.rows or self.keeps_count):
            warnings.warn(
                f"{self.name} was never closed: use 'with', or call close()", ResourceWarning, stacklevel=1
            )
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {'closed' if self.closed else 'open'}, {self.rows} rows>"


class BufferedSink(Sink):
    """A sink that collects rows and stores them at intervals.

    A subclass opens what it needs in :meth:`_open`, enters it into :attr:`_held` to be closed, and stores rows in
    :meth:`_store`: all of them, or none and an error. Before that, and when no rows arrive, it checks in
    :meth:`_check_place` that what it wrote is still there.

    Args:
        name: What it writes to, for messages.
        flush_s: Seconds until a row survives the death of the process, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once; ``None`` leaves that to the system.

    Raises:
        ServomexSinkError: It cannot be opened.
        ServomexValidationError: An argument is out of range.
    """

    most_pending = MOST_PENDING
    _format: RowFormat[Any] = PLAIN
    """What :meth:`_store` takes of each sample."""

    closed: bool = True
    keeps_count = True

    def __init__(self, name: str, *, flush_s: float = FLUSH_S, fsync_s: float | None = FSYNC_S) -> None:
        self.name = name
        self._flush_s = seconds(flush_s, "flush_s", zero=True)
        self._fsync_s = None if fsync_s is None else seconds(fsync_s, "fsync_s", zero=True)
        self._pending: list[Any] = []
        self._stored_since_sync = False
        self._removed = self._refused = self._stored = 0
        self._moved_at = 0.0
        self._is_ended = False
        self._is_anothers = False
        self._flushed_at = self._synced_at = self._looked_at = time.monotonic()
        self._held = contextlib.ExitStack()
        try:
            self._open()
        except BaseException:
            self._held.close()
            raise
        self.closed = False
        self.rows: int = 0
        let_go_after_fork(self)
        at_exit(self._close_forgotten)

    def _close_forgotten(self) -> None:
        """Close it at the end of the program, while everything it needs still works."""
        if not self.closed and not self.is_left:
            self.__del__()

    def _let_go(self) -> None:
        """Close the file in a forked child; rows that wait for the next flush belong to the parent."""
        self._pending, self.closed = [], True
        self._held.close()

    @property
    def pending(self) -> int:
        """Rows that wait for the next flush."""
        return len(self._pending)

    @property
    def unstored(self) -> int:
        """Accepted rows that wait for the next flush or are being written."""
        return max(0, self.rows - self._stored)

    @property
    def moved_at(self) -> float:
        """When a long call last made progress, on the monotonic clock."""
        return self._moved_at

    @property
    def removed(self) -> int:
        """Rows that were written, and that another program has removed since."""
        return self._removed

    @property
    def refused(self) -> int:
        """Accepted rows that the database refused when they were stored; the log says why."""
        return self._refused

    def write(self, samples: Sequence[Sample]) -> None:
        """Accept one batch, see :meth:`Sink.write`."""
        self.check_process()
        if self.closed:
            raise ServomexSinkError(f"{self.name} is closed: nothing more can be written to it")
        rows = self._prepared(samples)
        before = len(self._pending)
        self._pending += rows
        try:
            if self._flush_is_due() or self._sync_is_due():
                self.flush()
            else:
                self._look_if_due()
        except BaseException:
            del self._pending[before:]
            raise
        self.rows += len(rows)
        if self._sync_is_due():
            self.sync()

    def flush(self) -> None:
        """Store all rows so far."""
        self.check_process()
        if self._is_anothers:
            self._leave_to_another()
        self._look()
        rows = self._pending
        if rows:
            self._store(rows)
            self._pending = []
            self._stored += len(rows)
        self._flushed_at = time.monotonic()
        self._stored_since_sync |= bool(rows)

    def sync(self) -> None:
        """Store all rows so far so that they survive a loss of power."""
        self.flush()
        if self._stored_since_sync:
            self._sync_stored()
            self._stored_since_sync = False
        self._synced_at = time.monotonic()

    def _sync_stored(self) -> None:
        try:
            self._sync()
        except ServomexSinkWriteError as error:
            raise ServomexSinkSyncError(
                f"{error.message}. Its rows are written, but may not survive a loss of power", cure=error.cure
            ) from error

    def flush_if_due(self) -> None:
        """Flush and sync when their intervals have passed."""
        self.check_process()
        if self._flush_is_due():
            self.flush()
        else:
            self._look_if_due()
        if self._sync_is_due():
            self.sync()

    def _look_if_due(self) -> None:
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._look()

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        if not self._is_ended:
            self._check_place()

    def _flush_is_due(self) -> bool:
        late = time.monotonic() - self._flushed_at >= self._flush_s
        return bool(self._pending) and (late or len(self._pending) >= self.most_pending)

    def _sync_is_due(self) -> bool:
        if self._fsync_s is None or not (self._stored_since_sync or self._pending):
            return False
        return time.monotonic() - self._synced_at >= self._fsync_s

    def close(self) -> None:
        """Store what is left, finish, and release what is held."""
        if self.closed or not self.made_here:
            return
        self.closed = True
        try:
            with self._held:
                self._flush_last()
                if not self._is_anothers:
                    self._finish()
                    if self._fsync_s is not None:
                        self._sync_stored()
        finally:
            self._stored_since_sync, self._is_ended = False, True
        if self._removed:
            raise ServomexSinkWriteError(
                f"{self.name}: another program removed {counted(self._removed, 'row')} while it was written; "
                "later rows are in it"
            )
        if self._refused:
            raise ServomexSinkSchemaError(
                f"{self.name} did not accept {counted(self._refused, 'row')}; the others are in it, and "
                "the log says why"
            )

    def _flush_last(self) -> None:
        try:
            self.flush()
        except ServomexSinkError as error:
            lost, self._pending = len(self._pending), []
            self.rows -= lost
            raise ServomexSinkWriteError(
                f"{error.message}. The last {lost} rows are lost; those before them are in {self.name}",
                cure=error.cure,
            ) from error

    def _leave_to_another(self) -> NoReturn:
        """Stop writing: another program writes to the same place, and each row would disturb it."""
        self._is_anothers = True
        raise ServomexSinkError(
            f"{self.name} was written by another program meanwhile", cure="Choose another name"
        )

    def _prepared(self, samples: Sequence[Sample]) -> list[Any]:
        """Return samples as :meth:`_store` takes them.

        Raises:
            ServomexValidationError: They are not samples.
        """
        check_samples(samples)
        try:
            return self._format.rows(samples)
        except ValueError as error:
            raise ServomexSinkSchemaError(f"{self.name} cannot hold a sample: {error}") from error

    def _open(self) -> None:
        """Open what is needed to store rows."""

    def _check_place(self) -> None:
        """Check that stored rows are still there; if not, count them in ``_removed`` and start over."""

    @abc.abstractmethod
    def _store(self, rows: list[Any]) -> None:
        """Store rows so that they survive the death of the process; after an error, none of them."""

    def _sync(self) -> None:
        """Make what is stored survive a loss of power."""

    def _finish(self) -> None:
        """Convert the stored rows to their final form."""
