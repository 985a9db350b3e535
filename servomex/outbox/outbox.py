"""Outbox: rows on disk until every sink has them."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from servomex.errors import ServomexSinkError, ServomexValidationError
from servomex.errors.validation import path_text, seconds, whole
from servomex.models.sample import Sample
from servomex.models.tags import name_of
from servomex.outbox.batch import Batch
from servomex.outbox.figures import OutboxFigures
from servomex.outbox.limits import age_limit, size_limit
from servomex.outbox.packing import MOST_ROWS, Chunk, packed, samples_in
from servomex.outbox.store import Store
from servomex.runtime.forks import ProcessBound, let_go_after_fork
from servomex.sinks.counting import check_samples

MAX_SIZE = 2_000_000_000
MAX_AGE_S = 14 * 86_400.0
SYNC_S = 10.0
MOST_WAITING = 100_000


class Outbox(ProcessBound):
    """A queue on disk between those who take readings and the sinks that they are for.

    :meth:`add` returns once the samples are in the file, which the death of the process does not harm. Each sink
    reads them in order, at its own pace, and they are deleted when every sink has them. A :class:`Delivery` does
    that with threads; :meth:`take` and :meth:`done` are for programs that do it themselves.

    Over its limits, the oldest rows go. Each sink that did not have them gets a row for each analyser in their
    place: a sample whose error is a :class:`ServomexGapError`, with their number, and the times of the first and
    the last.

    Any thread may use it, but one process at a time. A context manager.

    Args:
        path: Its file, made when there is none; ``-wal``, ``-shm``, ``-lock`` and ``-reserve`` are beside it.
        sinks: The names of the sinks. A new one gets what is added from now on. The rows of one that is no longer
            named stay, within the limits, until it is named again or emptied with ``servomex outbox``.
        max_size: How much it may hold, in bytes or as ``"2GB"``, the log of SQLite included.
        max_age: For how long it keeps a row, in seconds or as ``"14d"``.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once.
        most_waiting: How many rows wait in memory while the disk takes none.

    Raises:
        ServomexValidationError: An argument is out of range.
        ServomexSinkWriteError: Another process has it open, or it cannot be written.
        ServomexSinkSchemaError: The file is not an outbox, or of another version. A damaged one is put aside
            instead, and a new one made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sinks: Iterable[str],
        *,
        max_size: int | str = MAX_SIZE,
        max_age: float | str = MAX_AGE_S,
        fsync_s: float = SYNC_S,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.closed: bool = True
        self.path: Path = Path(path_text(path, "path")).absolute()
        self.name: str = str(path)
        self._lock = threading.RLock()
        self._syncing = threading.Lock()
        self._store = Store(
            self.path,
            _names(sinks),
            max_size=size_limit(max_size),
            max_age_s=age_limit(max_age),
            fsync_s=seconds(fsync_s, "fsync_s", zero=True),
            most_waiting=whole(most_waiting, "most_waiting", 1_000, 100_000_000),
        )
        self.closed = False
        let_go_after_fork(self)

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names of the sinks."""
        with self._lock:
            return self._store.names

    def name_sinks(self, sinks: Iterable[str]) -> None:
        """Change which sinks there are, see the argument ``sinks``.

        Raises:
            ServomexValidationError: A name cannot be one, or occurs twice.
        """
        names = _names(sinks)
        with self._lock:
            self._check_open()
            self._store.name_sinks(names)

    def add(self, samples: Sequence[Sample]) -> bool:
        """Add samples, those of one analyser in their order.

        Args:
            samples: A sample that no file could hold, such as one with a tag that is not valid, is replaced by one
                whose error says so.

        Returns:
            Whether they are on disk. When the disk takes none, they wait in memory for it, and may be delivered
            meanwhile. When too many wait, the oldest rows are given up, and every sink gets a row that says so.

        Raises:
            ServomexValidationError: They are not samples.
            ServomexSinkError: The outbox is closed.
        """
        self.check_process()
        check_samples(samples)
        pieces = list(packed(samples))
        with self._lock:
            self._check_open()
            return self._store.add(pieces)

    def waiting(self, sink: str) -> int:
        """Return how many rows :meth:`take` can hand to a sink, gaps included.

        Raises:
            ServomexValidationError: There is no such sink.
        """
        with self._lock:
            self._check_open()
            return self._store.ready(sink)

    def take(self, sink: str, most: int = MOST_ROWS) -> Batch | None:
        """Return the oldest rows that a sink was not handed since the start or :meth:`rewind`.

        Args:
            sink: The name of the sink.
            most: About how many rows to return.

        Returns:
            ``None`` when there are none.

        Raises:
            ServomexValidationError: There is no such sink.
        """
        self.check_process()
        with self._lock:
            self._check_open()
            taken = self._store.take(sink, most)
        if taken is None:
            return None
        samples = [gap.sample(why) for _, gap, why in taken.gaps]
        ends = [taken.row] * len(samples)
        for chunk in taken.chunks:
            _unpack(chunk, taken.row, samples, ends)
        numbers = tuple(number for number, _, _ in taken.gaps)
        before = taken.stored_before
        return Batch(sink, tuple(samples), taken.row, tuple(ends), numbers, before + len(numbers) * bool(before))

    def done(self, batch: Batch, number: int | None = None) -> None:
        """Note that a sink has stored a batch, and all those before it.

        Args:
            batch: The batch.
            number: How many of its samples it has stored; all when ``None``.
        """
        self.check_process()
        number = len(batch.ends) if number is None else number
        with self._lock:
            self._check_open()
            if number:
                self._store.done(batch.sink, batch.ends[number - 1], batch.gaps[:number])

    def rewind(self, sink: str) -> None:
        """Let :meth:`take` begin again with the first row that is not :meth:`done`."""
        with self._lock:
            self._check_open()
            self._store.rewind(sink)

    def set_aside(self, batch: Batch, place: int, *, tries: int, reason: str) -> bool:
        """Keep a row that a sink refuses apart from the others, so that those after it can be delivered.

        All before it must be :meth:`done`.

        Args:
            batch: Its batch.
            place: Its place there.
            tries: How many times it was tried.
            reason: Why the sink refuses it.

        Returns:
            Whether it is on disk. When it is not, it still waits for the sink.
        """
        self.check_process()
        ((_, data),) = packed(batch.samples[place : place + 1])
        with self._lock:
            self._check_open()
            end, gaps = batch.ends[place], batch.gaps[place : place + 1]
            return self._store.set_aside(batch.sink, end, gaps, tries, reason, data)

    def empty(self, sink: str) -> int:
        """Give up all rows that wait for a sink, on purpose; return how many.

        Raises:
            ServomexValidationError: There is no such sink.
        """
        self.check_process()
        with self._lock:
            self._check_open()
            return self._store.empty(sink)

    def tend(self) -> None:
        """Do what is due: try the disk again, drop what is too old, sync. A :class:`Delivery` calls it."""
        self.check_process()
        with self._lock:
            self._check_open()
            sync = self._store.begin_sync()
            self._store.tend()
        if sync is not None:
            with self._syncing, contextlib.suppress(sqlite3.Error):  # the next call tries again, or an add()
                sync()

    def sync(self) -> None:
        """Make all rows so far survive a loss of power, as far as the disk takes them."""
        with self._lock:
            self._check_open()
            self._store.sync()

    def figures(self) -> OutboxFigures:
        """Return how it fares."""
        with self._lock:
            self._check_open()
            return self._store.figures()

    def close(self) -> None:
        """Sync and close it. May be called twice. Rows that are only in memory are lost, and are logged."""
        if self.closed or not self.made_here:
            return
        with self._syncing, self._lock:
            self.closed = True
            self._store.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ServomexSinkError(f"the outbox {self.name} is closed")

    def _let_go(self) -> None:
        """Leave the file to the process that this one was forked from."""
        self.closed = True
        self._store.let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Outbox {self.name} {'closed' if self.closed else 'open'}>"


def _names(sinks: Iterable[str]) -> tuple[str, ...]:
    names = (sinks,) if isinstance(sinks, str) else tuple(sinks)
    for name in names:
        name_of(name)
    if not names:
        raise ServomexValidationError("an outbox is for one or more sinks", cure="Name them, as in sinks=['db']")
    if len({*names}) < len(names):
        raise ServomexValidationError("two sinks of an outbox have the same name")
    return names


def _unpack(chunk: Chunk, row: int, samples: list[Sample], ends: list[int]) -> None:
    """Add the samples of a chunk from a row on, and for each the number of the row after it."""
    found = samples_in(chunk)
    if chunk.is_marker or len(found) != chunk.rows:
        samples += found
        ends += [chunk.first] * (len(found) - 1) + [chunk.end]
        return
    begin = max(row, chunk.first)
    samples += found[begin - chunk.first :]
    ends += range(begin + 1, chunk.end + 1)
