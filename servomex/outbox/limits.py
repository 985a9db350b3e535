"""What an outbox may hold: its size, its age on a clock that is never set, and a reserve on the disk."""

import contextlib
import os
from pathlib import Path

from servomex.durations import parse_duration, parse_size
from servomex.errors import ServomexValidationError
from servomex.errors.validation import seconds
from servomex.outbox.database import PAGE, size_of
from servomex.outbox.packing import Chunk
from servomex.runtime import suspend
from servomex.runtime.clock import time

SMALLEST = 1_000_000
"""Bytes: less would hold little more than the log of SQLite."""
LONGEST_S = 3650 * 86_400.0
_PART = 8
"""The log, and the reserve, may each take this part of the size."""
_MOST_LOG = 4_000_000


def size_limit(size: int | str) -> int:
    """Return a size in bytes.

    Raises:
        ServomexValidationError: It is not one, or less than 1 MB.
    """
    found = parse_size(size) if isinstance(size, str) else size
    if isinstance(found, bool) or not isinstance(found, int) or found < SMALLEST:
        raise ServomexValidationError(f"max_size must be 1MB or more, not {size!r}")
    return found


def age_limit(age: float | str) -> float:
    """Return an age in seconds.

    Raises:
        ServomexValidationError: It is not one.
    """
    found = parse_duration(age) if isinstance(age, str) else age
    return seconds(found, "max_age", longest=LONGEST_S)


def log_bytes(max_size: int) -> int:
    """Return how long the log of SQLite may become before it is written back."""
    return max(16 * PAGE, min(_MOST_LOG, max_size // _PART) // PAGE * PAGE)


class AgeClock:
    """The clock by which rows grow old. It goes on from where it was when the outbox was closed.

    While the outbox is open it is a steady clock, so that a wall clock that is set makes no row older or younger.
    In between only the wall clock can tell how much time has passed; one that was set back counts as no time.

    Args:
        last: The newest row.
    """

    def __init__(self, last: Chunk | None) -> None:
        wall = time.time()
        start = wall if last is None else last.at + max(0.0, wall - last.wall)
        self._ahead = start - suspend.now().lasting_s

    def now(self) -> float:
        """Return the present time, in seconds."""
        return self._ahead + suspend.now().lasting_s


class Reserve:
    """A file that is removed when the disk is full, so that SQLite has the space that it needs to remove rows.

    Args:
        path: The outbox.
        size: Its bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path.with_name(f"{path.name}-reserve")
        self._size = size
        self._retry_at = 0.0
        self.is_there: bool = size_of(self._path) == size

    def make(self, *, at_once: bool = False) -> None:
        """Make it, if that is possible.

        Args:
            at_once: Whether to try although it failed a moment ago.
        """
        if self.is_there or (time.monotonic() < self._retry_at and not at_once):
            return
        self._retry_at = time.monotonic() + 10.0
        try:
            with self._path.open("wb") as file:
                file.write(b"\1" * self._size)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.remove()
        else:
            self.is_there = True

    def remove(self) -> None:
        """Remove it."""
        self.is_there = False
        with contextlib.suppress(OSError):
            self._path.unlink()
