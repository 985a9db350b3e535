"""The tables of an outbox, read and written: rows in chunks, positions of sinks, gaps, rows set aside."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import attrs

from servomex.enums import ProtocolKind
from servomex.models.plain import time_text
from servomex.outbox.database import PAGE, connected, ended, size_of
from servomex.outbox.packing import Chunk, Gap

MOST_POISON = 10_000
"""The most rows that are kept after they were set aside; the oldest go."""
_CHUNK = "first, rows, at, wall, data, is_marker"


@attrs.define
class Mark:
    """Where a sink stands.

    Attributes:
        name: Its name.
        position: The number of the first row that it may not have stored.
        sent: The number after the last row that was ever handed to it.
        delivered: How many rows it has stored.
        dropped: How many rows were dropped before it had them.
        cursor: The number of the row that it gets next.
        outstanding: The ends of the batches that it has, and that are not done.
        handed_gaps: The gaps in these batches.
        is_behind: Whether rows were dropped since it last stored some.
    """

    name: str
    position: int
    sent: int
    delivered: int = 0
    dropped: int = 0
    cursor: int = attrs.field(init=False)
    outstanding: list[int] = attrs.field(init=False, factory=list)
    handed_gaps: set[int] = attrs.field(init=False, factory=set)
    is_behind: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.cursor = self.position


class Ledger:
    """An open outbox file. Its owner has a lock: one thread at a time.

    Every method may raise an ``sqlite3.Error``; then nothing of the transaction is kept.

    Args:
        path: The file.
        autocheckpoint: After how many pages in the log it is written back.
        is_strict: Whether each transaction waits until it survives a loss of power.
    """

    def __init__(self, path: Path, *, autocheckpoint: int, is_strict: bool = False) -> None:
        self._log = path.with_name(f"{path.name}-wal")
        self._path, self._autocheckpoint = path, autocheckpoint
        self._second: sqlite3.Connection | None = None
        self._connection = connected(path, autocheckpoint=autocheckpoint)
        if is_strict:
            self._connection.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close it."""
        if self._second is not None:
            self._second.close()
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write what the block does, all or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        with ended(self._connection):
            yield

    def sync(self) -> None:
        """Make what is written survive a loss of power."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def sync_beside(self) -> None:
        """Do the same while another thread writes; this is for one thread at a time as well."""
        if self._second is None:
            self._second = connected(self._path, autocheckpoint=self._autocheckpoint)
        self._second.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def shorten_log(self) -> None:
        """Write the log back and make it empty, if no other program reads it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def give_back(self) -> None:
        """Return some of the unused space to the system."""
        self._connection.execute("PRAGMA incremental_vacuum(256)").fetchall()

    @property
    def unused(self) -> int:
        """Bytes in the file that hold nothing."""
        (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return int(pages) * PAGE

    @property
    def size(self) -> int:
        """Bytes in use, the log included."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return int(pages) * PAGE - self.unused + size_of(self._log)

    @property
    def log_size(self) -> int:
        """Bytes of the log."""
        return size_of(self._log)

    def append(self, chunks: Iterable[Chunk]) -> None:
        """Add chunks."""
        self._connection.executemany(
            "INSERT INTO chunks (first, rows, at, wall, is_marker, data) VALUES (?, ?, ?, ?, ?, ?)",
            ((one.first, one.rows, one.at, one.wall, one.is_marker, one.data) for one in chunks),
        )

    def chunks(self, row: int, most: int) -> list[Chunk]:
        """Return the chunk with a row and those after it, up to ``most`` rows; at least one chunk."""
        found: list[Chunk] = []
        query = (
            f"SELECT {_CHUNK} FROM chunks WHERE first >= "  # noqa: S608
            "coalesce((SELECT max(first) FROM chunks WHERE first <= ?), 0) ORDER BY first"
        )
        for item in self._connection.execute(query, (row,)):
            chunk = _chunk(item)
            if chunk.end <= row:
                continue
            if found and chunk.end - row > most:
                break
            found.append(chunk)
        return found

    def oldest(self, number: int) -> list[Chunk]:
        """Return the oldest chunks."""
        found = self._connection.execute(f"SELECT {_CHUNK} FROM chunks ORDER BY first LIMIT ?", (number,))  # noqa: S608
        return [_chunk(item) for item in found.fetchall()]

    def last_chunk(self) -> Chunk | None:
        """Return the newest chunk."""
        row = self._connection.execute(f"SELECT {_CHUNK} FROM chunks ORDER BY first DESC LIMIT 1").fetchone()  # noqa: S608
        return row and _chunk(row)

    def forget(self, row: int, most: int) -> None:
        """Delete chunks all of whose rows come before a row, the oldest first, ``most`` at once."""
        self._connection.execute(
            "DELETE FROM chunks WHERE first IN (SELECT first FROM chunks WHERE first + rows <= ? "
            "AND first < ? ORDER BY first LIMIT ?)",
            (row, row, most),
        )

    def marks(self) -> dict[str, Mark]:
        """Return where each sink stands."""
        found = self._connection.execute("SELECT name, position, sent, delivered, dropped FROM sinks")
        return {row[0]: Mark(*row) for row in found.fetchall()}

    def save(self, marks: Iterable[Mark]) -> None:
        """Write where sinks stand."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO sinks (name, position, sent, delivered, dropped) VALUES (?, ?, ?, ?, ?)",
            ((one.name, one.position, one.sent, one.delivered, one.dropped) for one in marks),
        )

    def remove_sinks(self, names: Iterable[str]) -> None:
        """Forget sinks."""
        for name in names:
            self._connection.execute("DELETE FROM sinks WHERE name = ?", (name,))
            self._connection.execute("DELETE FROM gaps WHERE sink = ?", (name,))

    def note_gaps(self, sink: str, gaps: Iterable[Gap], why: str, held_until: int | None = None) -> None:
        """Note that a sink will miss rows.

        Args:
            sink: The sink.
            gaps: What is missing.
            why: Why.
            held_until: The end of the batch that these rows are in, if the sink has them just now: should it
                store them, they are not missing after all.
        """
        for gap in gaps:
            last = (time_text(gap.last_at), gap.monotonic_ns)
            if held_until is None:
                changed = self._connection.execute(
                    "UPDATE gaps SET last_at = ?, monotonic_ns = ?, rows = rows + ? WHERE id = (SELECT max(id) "
                    "FROM gaps WHERE sink = ? AND device = ? AND why = ? AND NOT is_taken AND held_until IS NULL)",
                    (*last, gap.rows, sink, gap.device, why),
                )
                if changed.rowcount:
                    continue
            self._connection.execute(
                "INSERT INTO gaps (sink, device, protocol, first_at, last_at, monotonic_ns, rows, why, is_taken, "
                "held_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
                (sink, gap.device, gap.protocol.value, time_text(gap.first_at), *last, gap.rows, why, held_until),
            )

    def gaps(self, sink: str, most: int) -> list[tuple[int, Gap, str]]:
        """Return the gaps that a sink is to be sent, each with its number and its reason."""
        found = self._connection.execute(
            "SELECT id, why, device, protocol, first_at, last_at, monotonic_ns, rows FROM gaps "
            "WHERE sink = ? AND held_until IS NULL ORDER BY id LIMIT ?",
            (sink, most),
        )
        return [(row[0], _gap(row[2:]), row[1]) for row in found.fetchall()]

    def number_of_gaps(self, sink: str) -> int:
        """Return how many gaps a sink has not been sent."""
        (number,) = self._connection.execute(
            "SELECT count(*) FROM gaps WHERE sink = ? AND held_until IS NULL", (sink,)
        ).fetchone()
        return int(number)

    def take_gaps(self, numbers: Iterable[int]) -> None:
        """Keep gaps as they are from now on: they are being sent."""
        self._connection.executemany(
            "UPDATE gaps SET is_taken = 1 WHERE id = ?", ((number,) for number in numbers)
        )

    def end_gaps(self, numbers: Iterable[int]) -> None:
        """Forget gaps that were sent."""
        self._connection.executemany("DELETE FROM gaps WHERE id = ?", ((number,) for number in numbers))

    def end_held_gaps(self, sink: str, end: int) -> None:
        """Forget gaps of rows before ``end`` that a sink has stored after all."""
        self._connection.execute("DELETE FROM gaps WHERE sink = ? AND held_until <= ?", (sink, end))

    def release_gaps(self, sink: str | None = None) -> None:
        """Make gaps true whose rows a sink, or any, had and did not store."""
        if sink is None:
            self._connection.execute("UPDATE gaps SET held_until = NULL WHERE held_until IS NOT NULL")
        else:
            self._connection.execute(
                "UPDATE gaps SET held_until = NULL WHERE sink = ? AND held_until IS NOT NULL", (sink,)
            )

    def drop_gaps(self, sink: str) -> None:
        """Forget all gaps of a sink."""
        self._connection.execute("DELETE FROM gaps WHERE sink = ?", (sink,))

    def set_aside(self, sink: str, row: int, tries: int, wall: float, reason: str, data: bytes) -> None:
        """Keep a row that a sink refuses."""
        self._connection.execute(
            "INSERT INTO poison (sink, row, tries, wall, reason, data) VALUES (?, ?, ?, ?, ?, ?)",
            (sink, row, tries, wall, reason, data),
        )
        self._connection.execute("DELETE FROM poison WHERE id <= (SELECT max(id) FROM poison) - ?", (MOST_POISON,))

    def poison(self) -> Mapping[str, int]:
        """Return how many rows of each sink were set aside, since the outbox was made."""
        found = self._connection.execute("SELECT key, value FROM facts WHERE key LIKE 'poison %'")
        return {key.removeprefix("poison "): int(value) for key, value in found.fetchall()}

    def fact(self, key: str) -> int:
        """Return a number that is kept; 0 when there is none."""
        found = self._connection.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return int(found[0]) if found else 0

    def keep(self, key: str, number: int) -> None:
        """Keep a number."""
        self._connection.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, str(number)))


def _chunk(row: tuple[int, int, float, float, bytes, int]) -> Chunk:
    first, rows, at, wall, data, is_marker = row
    return Chunk(first, rows, at, wall, data, bool(is_marker))


def _gap(row: Sequence[str | int | None]) -> Gap:
    device, protocol, first_at, last_at, monotonic_ns, rows = row
    return Gap(
        str(device),
        ProtocolKind(str(protocol)),
        datetime.fromisoformat(str(first_at)),
        datetime.fromisoformat(str(last_at)),
        int(monotonic_ns or 0),
        None if rows is None else int(rows),
    )
