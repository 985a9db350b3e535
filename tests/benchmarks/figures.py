"""What a benchmark measures: figures with their spread, bounds and goals, and the table of them."""

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import attrs


@attrs.frozen
class Goal:
    """What a figure is to reach.

    Attributes:
        limit: What the median is to stay below, or to reach.
        least: It is to reach the limit, rather than to stay below it.
        over_bound: Not the median is meant, but by how many percent it lies over the bound.
    """

    limit: float
    least: bool = False
    over_bound: bool = False

    def __str__(self) -> str:
        percent = " % over" if self.over_bound else ""
        return f"{'>=' if self.least else '<'} {self.limit:g}{percent}"

    def is_met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return value >= self.limit if self.least else value < self.limit


@attrs.frozen
class Figure:
    """One figure: the median of what was measured, and between which values the middle half of it lies.

    Attributes:
        name: What was measured, unique in its benchmark.
        unit: Its unit.
        median: The median; the value itself when there is only one.
        low: First quartile.
        high: Third quartile.
        count: How many values it is made of.
        bound: What physics allows at best, in the same unit; ``None`` where there is no such bound.
        goal: What it is to reach; ``None`` where nothing is promised.
    """

    name: str
    unit: str
    median: float
    low: float
    high: float
    count: int
    bound: float | None = None
    goal: Goal | None = None

    @property
    def over_bound(self) -> float | None:
        """By how many percent the median lies over the bound."""
        return None if self.bound is None else 100 * (self.median / self.bound - 1)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; ``None`` without one."""
        if self.goal is None:
            return None
        value = self.over_bound if self.goal.over_bound else self.median
        return value is not None and self.goal.is_met(value)

    def as_dict(self) -> dict[str, Any]:
        """Give it for JSON."""
        return {**attrs.asdict(self), "over_bound": self.over_bound, "met": self.met}


@attrs.frozen
class Skipped:
    """Something that could not be measured here.

    Attributes:
        name: What.
        why: Why not.
    """

    name: str
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Give it for JSON."""
        return attrs.asdict(self)


@attrs.frozen
class Curve:
    """One figure at growing sizes of the work.

    Attributes:
        name: What was measured, unique in its benchmark.
        unit: Its unit.
        sizes: How much work, growing.
        values: What was measured at each size.
        exponents: With which power of the size its cost grows from each size to the next: 1 when it is in
            proportion, 0 when it does not grow.
        goal: What the largest exponent is to stay below.
    """

    name: str
    unit: str
    sizes: list[int]
    values: list[float]
    exponents: list[float]
    goal: Goal

    @property
    def met(self) -> bool:
        """Whether it grows nowhere faster than it is to."""
        return all(map(self.goal.is_met, self.exponents))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**attrs.asdict(self), "met": self.met}


Result = Figure | Skipped | Curve


class Unavailable(Exception):  # noqa: N818 (it is no error of anybody)
    """This system lacks what a benchmark needs."""


def read_back(item: dict[str, Any]) -> Result:
    """Make a result of what its ``as_dict`` gave."""
    if "why" in item:
        return Skipped(**item)
    kept = {name: value for name, value in item.items() if name not in ("over_bound", "met")}
    kept["goal"] = None if kept["goal"] is None else Goal(**kept["goal"])
    return Curve(**kept) if "sizes" in kept else Figure(**kept)


def figure(
    name: str, unit: str, values: Sequence[float], *, bound: float | None = None, goal: Goal | None = None
) -> Figure:
    """Make a figure of everything that was measured."""
    low, median, high = quartiles(values)
    return Figure(name, unit, median, low, high, len(values), bound, goal)


def ratio(name: str, ours: Sequence[float], others: Sequence[float], *, goal: Goal | None = None) -> Figure:
    """Return the figure of ours divided by another's; each pair was measured in turn, under the same load."""
    return figure(name, "x", [mine / other for mine, other in zip(ours, others, strict=True)], goal=goal)


def curve(
    name: str, unit: str, sizes: Sequence[int], values: Sequence[float], costs: Sequence[float], goal: Goal
) -> Curve:
    """Return the curve of values at growing sizes; its exponents are those of the costs."""
    exponents = [
        math.log(later / earlier) / math.log(larger / smaller)
        for (smaller, larger), (earlier, later) in zip(pairwise(sizes), pairwise(costs), strict=True)
    ]
    return Curve(name, unit, list(sizes), list(values), exponents, goal)


def quantile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of the values do not exceed."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    return quantile(values, 25), statistics.median(values), quantile(values, 75)


def tail(
    name: str, unit: str, values: Sequence[float], *, goal: Goal | None = None, goal_percent: int = 99
) -> list[Figure]:
    """Give median, 99 % and maximum as figures of their own; the goal goes to the one of ``goal_percent``."""
    return [
        figure(f"{name}, p50", unit, values),
        _single(f"{name}, p99", unit, quantile(values, 99), len(values), goal if goal_percent == 99 else None),
        _single(f"{name}, max", unit, max(values), len(values)),
    ]


def _single(name: str, unit: str, value: float, count: int, goal: Goal | None = None) -> Figure:
    return Figure(name, unit, value, value, value, count, None, goal)


def _judged(item: Figure | Curve) -> str:
    return "" if item.goal is None else f"{item.goal}: {'met' if item.met else 'MISSED'}"


def _joined(values: Sequence[float]) -> str:
    return ", ".join(map(number, values))


FIGURE_COLUMNS: tuple[tuple[str, Callable[[Figure], str]], ...] = (
    ("median", lambda item: number(item.median)),
    ("quartiles", lambda item: "" if item.low == item.high else f"{number(item.low)}..{number(item.high)}"),
    ("n", lambda item: str(item.count)),
    ("unit", lambda item: item.unit),
    ("bound", lambda item: "" if item.bound is None else number(item.bound)),
    ("over", lambda item: "" if item.over_bound is None else f"{item.over_bound:+.1f} %"),
    ("goal", _judged),
)
CURVE_COLUMNS: tuple[tuple[str, Callable[[Curve], str]], ...] = (
    ("sizes", lambda item: ", ".join(f"{size:,}".replace(",", " ") for size in item.sizes)),
    ("at each", lambda item: _joined(item.values)),
    ("unit", lambda item: item.unit),
    ("exponents", lambda item: ", ".join(f"{value:.2f}" for value in item.exponents)),
    ("goal", _judged),
)


def number(value: float) -> str:
    """Write a number with four digits that count, and without an exponent."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) >= 0.001 else f"{value:.5f}"


def table(results: Sequence[Result]) -> list[str]:
    """Write figures, or curves, as the lines of a table; columns that nothing fills are omitted."""
    columns: Sequence[tuple[str, object]] = FIGURE_COLUMNS
    if any(isinstance(item, Curve) for item in results):
        columns = CURVE_COLUMNS
    cells = {item.name: _cells(item) for item in results}
    used = [title for title, _ in columns if any(row.get(title) for row in cells.values())]
    rows = [["figure", *used]]
    for item in results:
        row = cells[item.name]
        texts = [f"skipped: {item.why}"] if isinstance(item, Skipped) else [row[title] for title in used]
        rows.append([item.name, *texts])
    return aligned(rows)


def _cells(item: Result) -> dict[str, str]:
    if isinstance(item, Figure):
        return {title: text(item) for title, text in FIGURE_COLUMNS}
    return {title: text(item) for title, text in CURVE_COLUMNS} if isinstance(item, Curve) else {}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Write rows of cells as lines, the titles first; a row with fewer cells than they ends with a free text."""
    whole = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[0]) for row in rows)]
    widths += [max(len(row[place]) for row in whole) for place in range(1, len(rows[0]))]
    return ["  ".join(map(str.ljust, row, [*widths, 0])).rstrip() for row in rows]
