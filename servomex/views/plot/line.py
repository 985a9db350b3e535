"""Line: the points of a curve, reduced as they arrive to so many that none of its features is lost."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COLUMNS = 2_000
"""Into how many intervals of time a line is divided when it is reduced: more than a picture has pixels."""
PER_COLUMN = 8
"""How many points are left of an interval at most: first, lowest, highest and last, of either quality."""
MOST_PARTS = 16
"""How often time may go back until the points are put in its order."""


class Point(NamedTuple):
    """A value of a curve.

    Attributes:
        at: When, in seconds since 1970.
        value: The value, in the unit of the curve.
        uncertain: Whether it is uncertain.
        broken: Whether the line is broken before it.
    """

    at: float
    value: float
    uncertain: bool
    broken: bool


class Line:
    """The points of a curve. Extremes and breaks stay, however many points there are.

    Args:
        columns: Into how many intervals of time the line is divided when it has too many points.
    """

    def __init__(self, columns: int = COLUMNS) -> None:
        self._width_s = 0.0
        self._columns = columns
        self._most = 3 * columns * PER_COLUMN // 2
        self._points: list[Point] = []

    def add(self, point: Point) -> None:
        """Add a point."""
        self._points.append(point)
        if len(self._points) > self._most:
            self._width_s = max(self._width_s, _width_of(self._points, self._columns))
            self._points = _reduced(self._points, self._columns)

    def parts(self, columns: int | None = None) -> list[list[Point]]:
        """Return the points in parts that run forwards in time; more than one where a clock was set back.

        Args:
            columns: Into how many intervals a line is divided if it has more points than that allows.
        """
        parts = _forwards(self._points)
        if len(parts) > MOST_PARTS:
            parts = [sorted(self._points)]
        if columns is None:
            return parts
        share = max(1, columns // max(1, len(parts)))
        return [_reduced(part, share) if len(part) > 4 * share else part for part in parts]

    def width_s(self, columns: int) -> float:
        """Return of how long a time :meth:`parts` has only the extremes; 0 when it has every point."""
        parts = self.parts()
        share = max(1, columns // max(1, len(parts)))
        return max([self._width_s, *(_width_of(part, share) for part in parts if len(part) > 4 * share)])


def _width_of(points: list[Point], columns: int) -> float:
    return (max(points)[0] - min(points)[0]) / columns or 1.0


def _reduced(points: list[Point], columns: int) -> list[Point]:
    first, width = min(points)[0], _width_of(points, columns)
    found = [*_thinned(points, first, width)]
    if len(found) > PER_COLUMN * (columns + 1):  # the clock was set back again and again
        found = [*_thinned(sorted(points), first, width)]
    return found


def _forwards(points: list[Point]) -> list[list[Point]]:
    parts: list[list[Point]] = []
    for point in points:
        if not parts or point.at < parts[-1][-1].at:
            parts.append([])
        parts[-1].append(point)
    return parts


def _thinned(points: Iterable[Point], first: float, width: float) -> Iterator[Point]:
    for _, column in itertools.groupby(points, key=lambda point: (point[0] - first) // width):
        group = list(column)
        yield from group if len(group) <= 4 else _few(group)


def _few(group: list[Point]) -> Iterator[Point]:
    """Yield the first, lowest, highest and last point of either quality, with the breaks among them."""
    kept: set[int] = set()
    for uncertain in (False, True):
        places = [place for place, point in enumerate(group) if point[2] is uncertain]
        if places:
            values = [group[place][1] for place in places]
            kept |= {places[0], places[-1]}
            kept |= {places[values.index(min(values))], places[values.index(max(values))]}
    before = -1
    for place in sorted(kept):
        broken = any(point[3] for point in group[before + 1 : place + 1])
        yield group[place]._replace(broken=broken)
        before = place
