"""Where the rows and the sinks of an outbox stand, in memory and on disk."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from servomex.durations import counted
from servomex.errors import ServomexValidationError
from servomex.outbox.database import explained, is_damage
from servomex.outbox.disk import Disk
from servomex.outbox.figures import OutboxFigures, SinkFigures
from servomex.outbox.ledger import Ledger, Mark
from servomex.outbox.limits import AgeClock, log_bytes
from servomex.outbox.packing import Gap, unknown_gap
from servomex.outbox.waiting import WaitingRows
from servomex.runtime.logs import package_log

_log = package_log("servomex")


class State:
    """The state of an outbox, in memory and in its file. Nothing here raises because the disk fails.

    Args:
        path: The file.
        names: The sinks.
        max_size: Bytes that it may hold.
        max_age_s: Seconds for which it keeps a row.
        fsync_s: Seconds until a row survives a loss of power.
        most_waiting: How many rows wait in memory.

    Raises:
        ServomexSinkError: It cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        names: tuple[str, ...],
        *,
        max_size: int,
        max_age_s: float,
        fsync_s: float,
        most_waiting: int,
    ) -> None:
        self._path = path
        self._max_size, self._max_age_s, self._fsync_s = max_size, max_age_s, fsync_s
        self._log_bytes = log_bytes(max_size)
        self._memory = WaitingRows(most_waiting)
        self._tend_at = self._synced_at = self._old_at = 0.0
        self._is_unsynced = False
        self._ended: set[int] = set()
        self._dirty: set[str] = set()
        self._pending_gaps: list[tuple[str, Gap]] = []
        self._marks: dict[str, Mark] = {}
        self._poison: dict[str, int] = {}
        self._disk_end = self._head = 1
        self.names: tuple[str, ...] = names
        self._disk = Disk(path, max_size=max_size, is_strict=not fsync_s)
        try:
            self._load()
        except BaseException:
            self._disk.close()
            raise
        self._disk.renewed = self._skip_lost
        if self._disk.put_aside:
            self._pending_gaps += [(name, unknown_gap(None)) for name in names]
        self.name_sinks(names)
        self._disk.make_reserve()

    @property
    def _ledger(self) -> Ledger:
        return self._disk.ledger

    def _load(self) -> None:
        """Read where everything stands."""
        try:
            self._read_marks()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise explained(self._path, error) from error
            self._disk.begin_anew(error)
            self._read_marks()
        self._has_gaps = {*self._marks, *self.names}

    def _read_marks(self) -> None:
        self._marks = self._ledger.marks()
        last = self._ledger.last_chunk()
        self._clock = AgeClock(last)
        self._disk_end = max([last.end if last else 1, *(mark.position for mark in self._marks.values())])
        self._head = self._disk_end
        self._poison = dict(self._ledger.poison())
        self._memory.lost = self._lost_kept = self._ledger.fact("lost")
        with self._ledger.transaction():
            self._ledger.release_gaps()

    def _skip_lost(self) -> None:
        """Go on in a new file: what was in the old one is missing, and each sink is told how much that is."""
        for mark in self._marks.values():
            lost = self._disk_end - mark.position
            mark.position, mark.cursor = max(mark.position, self._disk_end), max(mark.cursor, self._disk_end)
            mark.dropped += max(0, lost)
            mark.outstanding, mark.handed_gaps = [], set()
            if lost > 0:
                self._pending_gaps.append((mark.name, unknown_gap(lost)))
        self._ended, self._dirty, self._has_gaps = set(), {*self._marks}, {*self._marks}

    def _write(self, act: Callable[[], object]) -> bool:
        """Do something in a transaction, and write where sinks stand; return whether the disk took it."""

        def act_and_save() -> None:
            act()
            self._ledger.save(self._marks[name] for name in self._dirty if name in self._marks)
            self._ledger.end_gaps(self._ended)
            if self._memory.lost != self._lost_kept:
                self._ledger.keep("lost", self._memory.lost)
            for name, gap in self._pending_gaps:
                self._ledger.note_gaps(name, [gap], self._disk.why_aside)

        if not self._disk.write(act_and_save):
            return False
        self._dirty.clear()
        self._ended.clear()
        self._pending_gaps.clear()
        self._lost_kept = self._memory.lost
        return True

    def name_sinks(self, names: tuple[str, ...]) -> None:
        """Change which sinks there are."""
        for name in names:
            if name not in self._marks:
                self._marks[name] = Mark(name, self._head, self._head)
                self._dirty.add(name)
        self.names = names
        gone = []
        for name in [name for name in self._marks if name not in names]:
            waiting = self._head - self._marks[name].position
            if waiting:
                _log.warning(
                    "the outbox %s keeps %s for the sink %s, which is no longer named: name it again, or empty it "
                    "with 'servomex outbox'",
                    self._path,
                    counted(waiting, "row"),
                    name,
                )
            else:
                gone.append(name)
                del self._marks[name]
        self._has_gaps |= {*names}
        self._write(lambda: self._ledger.remove_sinks(gone))

    def mark(self, name: str) -> Mark:
        """Return where a sink stands.

        Raises:
            ServomexValidationError: There is no such sink.
        """
        if name not in self.names:
            raise ServomexValidationError(
                f"the outbox has no sink {name!r}; it has {', '.join(map(repr, self.names))}"
            )
        return self._marks[name]

    def ready(self, name: str) -> int:
        """Return how many rows can be handed to a sink, gaps included."""
        mark = self.mark(name)
        return self._head - mark.cursor + (name in self._has_gaps)

    @property
    def _low(self) -> int:
        """The number of the oldest row that any sink does not have."""
        return min((mark.position for mark in self._marks.values()), default=self._head)

    def figures(self) -> OutboxFigures:
        """Return how it fares."""
        low = self._low
        chunks = self._disk.read(lambda: self._ledger.chunks(low, 1)) if low < self._disk_end else []
        oldest = next(iter(chunks or self._memory.after(low, 1)), None)
        return OutboxFigures(
            path=self._path,
            rows=self._head - low,
            size=self._disk.number(lambda: self._ledger.size),
            oldest_age_s=None if oldest is None else max(0.0, self._clock.now() - oldest.at),
            sinks=tuple(map(self._figures_of, self._marks.values())),
            in_memory=self._memory.rows,
            lost=self._memory.lost,
            poison=sum(self._poison.values()),
            last_error=self._disk.error or self._disk.why_aside or None,
            put_aside=self._disk.put_aside,
        )

    def _figures_of(self, mark: Mark) -> SinkFigures:
        gaps = (
            self._disk.number(lambda: self._ledger.number_of_gaps(mark.name)) if mark.name in self._has_gaps else 0
        )
        return SinkFigures(
            name=mark.name,
            waiting=self._head - mark.position,
            gaps=gaps,
            delivered=mark.delivered,
            dropped=mark.dropped,
            poison=self._poison.get(mark.name, 0),
            is_named=mark.name in self.names,
        )
