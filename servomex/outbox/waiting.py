"""Rows that wait in memory until the disk takes them: a bounded number, and the oldest are given up first."""

from collections import deque
from collections.abc import Callable

from servomex.outbox.packing import MOST_ROWS, Chunk, Gap, gaps_of, packed, samples_in

WHY = "the disk of the outbox took no rows, and there were too many for the memory"


class WaitingRows:
    """The newest rows of an outbox, as long as they are not on disk.

    Args:
        most: How many there may be.

    Attributes:
        rows: How many there are.
        lost: How many were given up.
    """

    def __init__(self, most: int) -> None:
        self.rows: int = 0
        self.lost: int = 0
        self._most = most
        self._chunks: deque[Chunk] = deque()
        self._gaps: dict[str, Gap] = {}

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def is_full(self) -> bool:
        """Whether there are too many rows."""
        return self.rows > self._most

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(len(chunk.data) for chunk in self._chunks)

    def begin(self, otherwise: int) -> int:
        """Return the number of the first row; another one when there is none."""
        return self._chunks[0].first if self._chunks else otherwise

    def add(self, chunk: Chunk) -> None:
        """Add a chunk."""
        self._chunks.append(chunk)
        self.rows += chunk.rows

    def first(self, most: int) -> list[Chunk]:
        """Return the oldest chunks."""
        return [chunk for chunk, _ in zip(self._chunks, range(most), strict=False)]

    def stored(self, number: int) -> None:
        """Remove the oldest chunks, which are on disk now."""
        for _ in range(number):
            chunk = self._chunks.popleft()
            self.rows -= 0 if chunk.is_marker else chunk.rows
        if not (self._chunks and self._chunks[0].is_marker):
            self._gaps = {}

    def after(self, row: int, most: int) -> list[Chunk]:
        """Return the chunk with a row and those after it, up to ``most`` rows, but at least one chunk."""
        found: list[Chunk] = []
        for chunk in self._chunks:
            if chunk.end > row:
                if found and chunk.end - row > most:
                    break
                found.append(chunk)
        return found

    def forget(self, row: int) -> None:
        """Remove chunks all of whose rows come before a row."""
        number = 0
        for chunk in self._chunks:
            if chunk.end > row:
                break
            number += 1
        if number:
            self.stored(number)

    def give_up_oldest(self, is_taken: Callable[[int], bool]) -> int:
        """Give up rows until there are not too many, and put a row in their place that says so.

        Args:
            is_taken: Whether a sink has any row from this one on already; such a marker is not extended.

        Returns:
            How many were given up.
        """
        before = self.lost
        while self.is_full:
            place = next(place for place, chunk in enumerate(self._chunks) if not chunk.is_marker)
            chunk = self._chunks[place]
            marker = self._chunks[place - 1] if place else None
            if marker is None or is_taken(marker.first):
                marker, self._gaps = None, {}
            self._gaps = gaps_of(samples_in(chunk), self._gaps)
            first = chunk.first if marker is None else marker.first
            ((_, data),) = packed([gap.sample(WHY) for gap in self._gaps.values()][:MOST_ROWS])
            merged = Chunk(first, chunk.end - first, chunk.at, chunk.wall, data, is_marker=True)
            self._chunks[place] = merged
            if marker is not None:
                del self._chunks[place - 1]
            self.rows -= chunk.rows
            self.lost += chunk.rows
        return self.lost - before
