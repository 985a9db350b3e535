"""Looking at an outbox without disturbing the program that uses it, and emptying it on purpose."""

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs

from servomex.errors import ServomexSinkSchemaError, ServomexValidationError
from servomex.errors.validation import path_text
from servomex.models.sample import Sample
from servomex.outbox.database import APPLICATION, PAGE, check_version, size_of
from servomex.outbox.figures import OutboxFigures, SinkFigures
from servomex.outbox.outbox import Outbox
from servomex.outbox.packing import unpacked
from servomex.runtime.clock import time
from servomex.sinks.sqlite_database import connected

_GAPS = "SELECT sink, count(*) FROM gaps WHERE held_until IS NULL"


@attrs.frozen
class Poison:
    """A row that a sink refused, and that was set aside.

    Attributes:
        sink: The sink.
        set_aside_at: When it was set aside, UTC.
        tries: How many times its batch was tried.
        reason: Why the sink refused it.
        sample: The row.
    """

    sink: str
    set_aside_at: datetime
    tries: int
    reason: str
    sample: Sample


def look(path: str | os.PathLike[str]) -> OutboxFigures:
    """Return what an outbox holds, while another program may use it.

    Raises:
        ServomexSinkReadError: It cannot be read.
        ServomexSinkSchemaError: It is not an outbox, of another version, or damaged.
    """
    place = Path(path_text(path, "path"))
    with connected(place) as db:
        _check(db, place)
        db.execute("BEGIN")
        marks = db.execute("SELECT name, position, delivered, dropped FROM sinks ORDER BY name").fetchall()
        facts = dict(db.execute("SELECT key, value FROM facts").fetchall())
        gaps = dict(
            db.execute("SELECT sink, count(*) FROM gaps WHERE held_until IS NULL GROUP BY sink").fetchall()
        )
        last = db.execute("SELECT first + rows, at, wall FROM chunks ORDER BY first DESC LIMIT 1").fetchone()
        head = max([last[0] if last else 1, *(mark[1] for mark in marks)])
        low = min((mark[1] for mark in marks), default=head)
        oldest = db.execute(
            "SELECT at FROM chunks WHERE first >= coalesce((SELECT max(first) FROM chunks WHERE first <= ?), 0) "
            "AND first + rows > ? ORDER BY first LIMIT 1",
            (low, low),
        ).fetchone()
        (pages,), (free,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count"))
    now = last[1] + max(0.0, time.time() - last[2]) if last else 0.0
    poison = {key.removeprefix("poison "): int(value) for key, value in facts.items() if key.startswith("poison ")}
    return OutboxFigures(
        path=place,
        rows=head - low,
        size=(pages - free) * PAGE + size_of(place.with_name(f"{place.name}-wal")),
        oldest_age_s=None if oldest is None or head == low else max(0.0, now - oldest[0]),
        sinks=tuple(
            SinkFigures(
                name=name,
                waiting=head - position,
                gaps=gaps.get(name, 0),
                delivered=delivered,
                dropped=dropped,
                poison=poison.get(name, 0),
            )
            for name, position, delivered, dropped in marks
        ),
        lost=int(facts.get("lost", 0)),
        poison=sum(poison.values()),
    )


def poison_in(path: str | os.PathLike[str], sink: str | None = None) -> Iterator[Poison]:
    """Yield the rows of an outbox that were set aside, the oldest first; those of one sink, or all.

    Raises:
        ServomexSinkReadError: It cannot be read.
        ServomexSinkSchemaError: It is not an outbox, of another version, or damaged.
    """
    place = Path(path_text(path, "path"))
    with connected(place) as db:
        _check(db, place)
        query = "SELECT sink, wall, tries, reason, data FROM poison WHERE ? IS NULL OR sink = ? ORDER BY id"
        for name, wall, tries, reason, data in db.execute(query, (sink, sink)):
            try:
                (sample,) = unpacked(data)
            except ValueError as error:
                raise ServomexSinkSchemaError(f"{place} is damaged: {error}") from error
            yield Poison(name, datetime.fromtimestamp(wall, UTC), tries, reason, sample)


def empty(path: str | os.PathLike[str], sink: str) -> int:
    """Give up all rows that wait for a sink; return how many.

    Raises:
        ServomexSinkReadError: There is no such file.
        ServomexSinkWriteError: A program uses it.
        ServomexValidationError: It has no such sink.
    """
    found = look(path)
    names = [item.name for item in found.sinks]
    if sink not in names:
        raise ServomexValidationError(
            f"{found.path} has no sink {sink!r}; it has {', '.join(map(repr, names)) or 'none'}"
        )
    with Outbox(path, names) as outbox:
        return outbox.empty(sink)


def _check(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
        raise ServomexSinkSchemaError(f"{path} is not an outbox", cure="Choose another file")
    check_version(db.execute("PRAGMA user_version").fetchone()[0], path)
