"""Which rows each sink misses when chunks are dropped."""

import bisect
from collections.abc import Iterable, Sequence

from servomex.outbox.ledger import Mark
from servomex.outbox.packing import Chunk, Gap, gaps_of, samples_in

Missing = tuple[str, int | None, dict[str, Gap]]
"""A sink; the end of the batch that these rows are in, if it has them just now; the gap of each analyser."""


def dropped_by(marks: Iterable[Mark], chunks: Sequence[Chunk]) -> list[Missing]:
    """Return what each sink misses when chunks are dropped."""
    marks = list(marks)
    found: dict[tuple[str, int | None], dict[str, Gap]] = {}
    if not marks:
        return []
    for chunk in chunks:
        samples = samples_in(chunk)
        is_whole = chunk.is_marker or len(samples) != chunk.rows
        for mark in marks:
            for place, sample in enumerate(samples):
                row = chunk.first if is_whole else chunk.first + place
                if row >= mark.position or (is_whole and chunk.end > mark.position):
                    key = mark.name, _held_until(mark, row)
                    found[key] = gaps_of([sample], found.get(key))
    return [(name, held_until, gaps) for (name, held_until), gaps in found.items()]


def _held_until(mark: Mark, row: int) -> int | None:
    """Return the end of the batch that a row is in, if the sink has it and it is not done."""
    place = bisect.bisect_right(mark.outstanding, row)
    return mark.outstanding[place] if place < len(mark.outstanding) else None
