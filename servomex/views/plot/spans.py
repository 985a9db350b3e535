"""Spans: when a state was raised, in a bounded number of intervals."""

import itertools
from collections.abc import Iterator

Span = tuple[float, float]
"""When it began and when it ended, in seconds since 1970."""

MOST_SPANS = 2_000
"""How many intervals of one state are kept. Beyond, those with the smallest distances become one."""


class Spans:
    """The intervals of one state, in the order in which they are added."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, begin: float, end: float) -> None:
        """Add an interval; one that begins where the last one ended continues it."""
        if self._spans and self._spans[-1][1] == begin:
            self._spans[-1] = (self._spans[-1][0], end)
            return
        self._spans.append((begin, end))
        if len(self._spans) > 2 * MOST_SPANS:
            self._spans = merged(self._spans, MOST_SPANS)

    def __iter__(self) -> Iterator[Span]:
        return iter(merged(self._spans, MOST_SPANS))

    def __bool__(self) -> bool:
        return bool(self._spans)


def merged(spans: list[Span], most: int) -> list[Span]:
    """Return intervals in order; overlapping ones, and when there are too many the closest, become one."""
    joined = _joined(sorted(spans), 0.0)
    if len(joined) <= most:
        return joined
    distances = sorted(later[0] - span[1] for span, later in itertools.pairwise(joined))
    return _joined(joined, distances[len(joined) - most - 1])


def _joined(spans: list[Span], distance: float) -> list[Span]:
    found: list[Span] = []
    for begin, end in spans:
        if found and begin - found[-1][1] <= distance:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found
