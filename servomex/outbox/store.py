"""The rules of an outbox: what is added, handed out, kept and dropped, whatever its disk does."""

import logging
from collections.abc import Callable, Iterable

import attrs

from servomex.durations import counted
from servomex.outbox.dropping import dropped_by
from servomex.outbox.ledger import Mark
from servomex.outbox.packing import Chunk, Gap
from servomex.outbox.state import State
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log

_log = package_log("servomex")

TEND_S = 1.0
"""How often what is due is done."""
PIECES = 200
"""The most chunks that are written or dropped in one transaction: no call takes long."""
FORGOTTEN = 2_000
"""The most chunks that are deleted at once when all sinks have them."""
PART = 1_000
"""The oldest rows go until the outbox is this part of its size below it."""
ROUNDS = 50
"""How many times rows are given up, at most, for the reserve on a full disk."""
UNUSED = 4_000_000
"""Bytes in the file that hold nothing, from which on space is given back to the system."""
SIZE = "the outbox had reached its size limit"
AGE = "the outbox had reached its age limit"
FULL = "the disk of the outbox was full"


@attrs.frozen
class Taken:
    """What a sink is handed.

    Attributes:
        row: The number of the first row.
        end: The number after the last.
        chunks: The chunks that have these rows, among others.
        gaps: The gaps that come first: number, gap, reason.
        stored_before: How many of the rows it may have been handed before.
    """

    row: int
    end: int
    chunks: list[Chunk]
    gaps: list[tuple[int, Gap, str]]
    stored_before: int


class Store(State):
    """An outbox without its lock: one thread at a time. See :class:`State`."""

    def add(self, pieces: Iterable[tuple[int, bytes]]) -> bool:
        """Add packed rows; return whether they are on disk."""
        now, wall = self._clock.now(), time.time()
        for rows, data in pieces:
            self._memory.add(Chunk(self._head, rows, now, wall, data))
            self._head += rows
        self._store_waiting()
        self.tend_if_due()
        return not self._memory

    def _store_waiting(self) -> None:
        """Write what is in memory to the disk."""
        while self._memory:
            chunks = self._memory.first(PIECES)
            if not self._write(lambda chunks=chunks: self._ledger.append(chunks)):  # type: ignore[misc]
                if self._relieve() or (self._memory.is_full and self._make_room()):
                    continue
                self._memory.give_up_oldest(self._is_handed)
                return
            self._memory.stored(len(chunks))
            self._disk_end = chunks[-1].end
            self._is_unsynced = True
        if self._disk.owes_reserve:
            self._restore_reserve()

    def _is_handed(self, row: int) -> bool:
        """Return whether a sink was handed rows from this one on."""
        return any(mark.cursor > row for mark in self._marks.values())

    def _relieve(self) -> bool:
        """On a full disk, delete what all sinks have; return whether there was any."""
        if not self._disk.is_full or not self._oldest(1, self._low):
            return False
        self._disk.use_reserve()
        return self._disk.do(self._ledger.shorten_log) and self._write(
            lambda: self._ledger.forget(self._low, FORGOTTEN)
        )

    def _make_room(self) -> bool:
        """On a full disk, give up the oldest rows for those in memory; return whether that was possible."""
        if not self._disk.is_full:
            return False
        self._disk.use_reserve()
        wanted, freed = 2 * self._memory.size, 0
        if not self._disk.do(self._ledger.shorten_log):
            return False
        while freed < wanted:
            chunks = self._oldest(PIECES)
            if not self._drop(chunks, FULL):
                break
            freed += sum(len(chunk.data) for chunk in chunks)
        return freed > 0

    def _restore_reserve(self) -> None:
        """Make the reserve again that was used on a full disk, and if need be, give up rows for it."""
        for _ in range(ROUNDS):
            if not self._disk.do(self._ledger.shorten_log) or self._disk.make_reserve(at_once=True):
                return
            if not self._drop(self._oldest(PIECES), FULL) or not self._disk.do(self._ledger.give_back):
                return

    def take(self, name: str, most: int) -> Taken | None:
        """Return what a sink gets next."""
        mark = self.mark(name)
        gaps = self._gaps_for(mark, most) if name in self._has_gaps else []
        row = end = mark.cursor
        chunks: list[Chunk] = []
        if row < self._disk_end:
            chunks = self._disk.read(lambda: self._ledger.chunks(row, most))
            end = chunks[-1].end if chunks else row
        if end >= self._disk_end and end - row < most:
            chunks = chunks + self._memory.after(end, most - (end - row))
            end = chunks[-1].end if chunks else row
        if not chunks and not gaps:
            return None
        before = max(0, min(end, mark.sent) - row)
        if end > row:
            mark.outstanding.append(end)
        mark.cursor = end
        mark.handed_gaps |= {number for number, _, _ in gaps}
        if end > mark.sent or gaps:
            mark.sent = max(mark.sent, end)
            self._dirty.add(name)
            self._write(lambda: self._ledger.take_gaps(number for number, _, _ in gaps))
        return Taken(row, end, chunks, gaps, before)

    def _gaps_for(self, mark: Mark, most: int) -> list[tuple[int, Gap, str]]:
        handed = mark.handed_gaps | self._ended
        found = self._disk.read(lambda: self._ledger.gaps(mark.name, most + len(handed)))
        if not found:
            self._has_gaps.discard(mark.name)
        return [gap for gap in found if gap[0] not in handed]

    def done(self, name: str, end: int, gaps: Iterable[int]) -> None:
        """Note that a sink has stored its rows up to ``end``, and these gaps."""
        mark = self._marks.get(name)
        if mark is None:
            return
        mark.delivered += max(0, end - mark.position)
        mark.is_behind = False
        self._move(mark, end, gaps)
        self._write(lambda: self._end(name, end))

    def _move(self, mark: Mark, end: int, gaps: Iterable[int]) -> None:
        mark.position = max(mark.position, end)
        mark.cursor = max(mark.cursor, end)
        mark.outstanding = [one for one in mark.outstanding if one > end]
        self._ended |= {*gaps}
        mark.handed_gaps -= self._ended
        self._dirty.add(mark.name)
        self._memory.forget(self._low)
        self._disk_end = max(self._disk_end, min(self._memory.begin(self._head), self._low))

    def _end(self, name: str, end: int) -> None:
        self._ledger.end_held_gaps(name, end)
        self._ledger.forget(self._low, FORGOTTEN)

    def rewind(self, name: str) -> None:
        """Let a sink begin again with the first row that is not done."""
        mark = self.mark(name)
        mark.cursor, mark.outstanding, mark.handed_gaps = mark.position, [], set()
        self._has_gaps.add(name)
        self._write(lambda: self._ledger.release_gaps(name))

    def set_aside(self, name: str, end: int, gaps: Iterable[int], tries: int, reason: str, data: bytes) -> bool:
        """Keep a row that a sink refuses; return whether the disk took it."""
        mark, number = self.mark(name), self._poison.get(name, 0) + 1

        def act() -> None:
            self._ledger.set_aside(name, end - 1, tries, time.time(), reason, data)
            self._ledger.keep(f"poison {name}", number)

        if not self._write(act):
            return False
        self._poison[name] = number
        self._move(mark, end, gaps)
        self._write(lambda: self._end(name, end))
        return True

    def empty(self, name: str) -> int:
        """Give up all rows of a sink on purpose; return how many."""
        mark = self.mark(name)
        rows = self._head - mark.position
        self._move(mark, self._head, ())
        self._write(lambda: self._ledger.drop_gaps(name))
        while self._write(lambda: self._ledger.forget(self._low, FORGOTTEN)) and self._oldest(1, self._low):
            continue
        return rows

    def _oldest(self, number: int, before: int | None = None) -> list[Chunk]:
        """Return the oldest chunks on disk, all or those that end before a row."""
        found = self._disk.read(lambda: self._ledger.oldest(number))
        return found if before is None else [chunk for chunk in found if chunk.end <= before]

    def tend_if_due(self) -> None:
        """Drop what is over the limits; now and then, do the rest that is due."""
        self._trim()
        if time.monotonic() >= self._tend_at:
            self.tend(patience=3)  # until then, a thread that delivers may sync

    def tend(self, patience: int = 1) -> None:
        """Try the disk again, drop what is over the limits, delete what all sinks have, sync, give back space.

        Args:
            patience: After how many times its interval a sync is due.
        """
        self._tend_at = time.monotonic() + TEND_S
        self._store_waiting()
        self._trim()
        if self._dirty or self._ended or self._oldest(1, self._low):
            self._write(lambda: self._ledger.forget(self._low, FORGOTTEN))
        if self._is_unsynced and time.monotonic() - self._synced_at >= patience * self._fsync_s:
            self.sync()
        if self._disk.error is None:
            self._disk.make_reserve()
            if self._disk.number(lambda: self._ledger.unused) > UNUSED:
                self._disk.do(self._ledger.give_back)

    def begin_sync(self) -> Callable[[], None] | None:
        """Return what to call without the lock to sync; ``None`` when that is not due."""
        is_due = self._is_unsynced and time.monotonic() - self._synced_at >= self._fsync_s
        if self._disk.error or not (is_due or self._ledger.log_size > self._log_bytes // 2):
            return None
        self._synced_at, self._is_unsynced = time.monotonic(), False
        return self._ledger.sync_beside

    def sync(self) -> None:
        """Make what is on disk survive a loss of power."""
        if self._disk.do(self._ledger.sync):
            self._synced_at, self._is_unsynced = time.monotonic(), False

    def _trim(self) -> None:
        """Drop the oldest rows while the outbox is over its limits; a few of them in each call."""
        excess = self._excess()
        if excess > 0 and self._ledger.log_size > self._max_size // 16:
            self._disk.do(self._ledger.shorten_log)
            excess = self._excess()
        if excess > 0:
            dropped, freed = [], 0
            for chunk in self._oldest(PIECES):
                if freed > excess + self._max_size // PART:
                    break
                dropped.append(chunk)
                freed += len(chunk.data)
            self._drop(dropped, SIZE)
        elif self._clock.now() >= self._old_at:
            old = self._clock.now() - self._max_age_s
            chunks = self._oldest(PIECES)
            self._drop([chunk for chunk in chunks if chunk.at < old], AGE)
            self._old_at = chunks[-1].at + self._max_age_s if chunks else 0.0
            self._old_at = max(self._old_at, self._clock.now() + TEND_S)

    def _excess(self) -> int:
        return self._disk.number(lambda: self._ledger.size) - self._max_size

    def _drop(self, chunks: list[Chunk], why: str) -> bool:
        """Delete the oldest chunks, and note for each sink that lacks some of their rows which these are."""
        if not chunks:
            return False
        end = chunks[-1].end
        behind = [mark for mark in self._marks.values() if mark.position < end]
        missing = dropped_by(behind, chunks)

        def act() -> None:
            for name, held_until, gaps in missing:
                self._ledger.note_gaps(name, gaps.values(), why, held_until)
            self._ledger.forget(end, len(chunks))
            self._ledger.save(attrs.evolve(mark, position=end, sent=max(mark.sent, end)) for mark in behind)

        if not self._write(act):
            return False
        for mark in behind:
            lost = end - mark.position
            mark.dropped += lost
            mark.position, mark.cursor = end, max(mark.cursor, end)
            mark.sent = max(mark.sent, end)
            self._dirty.add(mark.name)
            self._has_gaps.add(mark.name)
            level = logging.DEBUG if mark.is_behind else logging.WARNING
            _log.log(level, "the sink %s will miss rows, %s so far: %s", mark.name, counted(lost, "row"), why)
            mark.is_behind = True
        return True

    def close(self) -> None:
        """Write what waits, sync and close."""
        self._disk.try_at_once()
        self._store_waiting()
        self._write(lambda: self._ledger.forget(self._low, FORGOTTEN))
        self.sync()
        self._disk.close()
        if self._memory:
            _log.error("%s: %s in memory lost", self._path, counted(self._memory.rows, "row"))

    def let_go(self) -> None:
        """Leave the file to the process that this one was forked from."""
        self._disk.let_go()
