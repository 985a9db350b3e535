"""Where the driver stands: each kind of work beside the best peer of the same run, its bound and its goal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from tests.benchmarks.figures import Figure, number, read_back

TITLES = ("work", "servomex", "best peer", "bound", "goal", "verdict")
Found = Mapping[tuple[str, str], Figure]
"""Figures by benchmark and name."""


@attrs.frozen
class Peer:
    """Another driver that does the same work.

    Attributes:
        name: What it is called.
        figure: The figure that is its own, or that it is known to be a multiple of; ``None`` for a fixed value.
        factor: The multiple, or the fixed value.
        ratio: The figure of our share of its figure, measured pair by pair; ``None`` where there is none.
    """

    name: str
    figure: str | None
    factor: float = 1.0
    ratio: str | None = None


@attrs.frozen
class Target:
    """What our figure is to reach: a value, or a multiple of the best peer's figure or of the bound."""

    limit: float
    of: str = ""


@attrs.frozen
class Row:
    """One kind of work.

    Attributes:
        work: What is done.
        benchmark: Which benchmark measures it.
        ours: Our figure in it.
        peers: The others.
        bound: The figure that is the bound; ``None`` for the bound of our own figure, if it has one.
        near: Within which share of the bound a figure is at it.
        targets: What our figure is to reach.
        more: Whether more is better.
    """

    work: str
    benchmark: str
    ours: str
    peers: Sequence[Peer] = ()
    targets: Sequence[Target] = ()
    bound: str | None = None
    near: float = 0.02
    more: bool = False


@attrs.frozen
class Rival:
    """The best of the others: its figure and the range in which ours is neither better nor worse."""

    name: str
    median: float
    low: float
    high: float


def standing(found: Found, rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table, titles first; work that was not measured is omitted."""
    cells = [_cells(row, found) for row in rows if (row.benchmark, row.ours) in found]
    return [list(TITLES), *cells] if cells else []


def figures_of(report: Mapping[str, Any]) -> Found:
    """Return the figures of a report by benchmark and name."""
    return {
        (benchmark, result.name): result
        for benchmark, content in report["benchmarks"].items()
        for result in map(read_back, content["figures"])
        if isinstance(result, Figure)
    }


def _cells(row: Row, found: Found) -> list[str]:
    ours = found[row.benchmark, row.ours]
    best, bound = _best(row, ours, found), _bound(row, ours, found)
    return [
        row.work,
        f"{number(ours.median)} {ours.unit}".strip(),
        "" if best is None else f"{number(best.median)} ({best.name})",
        "" if bound is None else number(bound),
        ", ".join(_judged(target, row, ours.median, best, bound) for target in row.targets),
        _verdict(row, ours, best, bound),
    ]


def _best(row: Row, ours: Figure, found: Found) -> Rival | None:
    rivals = list(_rivals(row, ours, found))
    if not rivals:
        return None
    return (max if row.more else min)(rivals, key=lambda rival: rival.median)


def _rivals(row: Row, ours: Figure, found: Found) -> Iterator[Rival]:
    for peer in row.peers:
        if peer.figure is None:
            yield Rival(peer.name, peer.factor, peer.factor, peer.factor)
            continue
        theirs = found.get((row.benchmark, peer.figure))
        if theirs is None:
            continue
        shares = found.get((row.benchmark, peer.ratio)) if peer.ratio else None
        if shares is None:
            low, high = (peer.factor * value for value in (theirs.low, theirs.high))
        else:  # the pairs decide: ours is better when both quartiles of the ratio say so
            low, high = (ours.median / value if value else ours.median for value in (shares.high, shares.low))
        yield Rival(peer.name, peer.factor * theirs.median, low, high)


def _bound(row: Row, ours: Figure, found: Found) -> float | None:
    if row.bound is None:
        return ours.bound
    figure = found.get((row.benchmark, row.bound))
    return None if figure is None else figure.median


def _judged(target: Target, row: Row, ours: float, best: Rival | None, bound: float | None) -> str:
    base = {"": 1.0, "best": None if best is None else best.median, "bound": bound}[target.of]
    sign = ">=" if row.more else "<="
    text = f"{sign} {target.limit:g}" + (f" x {target.of}" if target.of else "")
    if base is None:
        return text
    limit = target.limit * base
    return f"{text}: {'met' if (ours >= limit if row.more else ours <= limit) else 'MISSED'}"


def _verdict(row: Row, ours: Figure, best: Rival | None, bound: float | None) -> str:
    if best is not None and (ours.median > best.high if row.more else ours.median < best.low):
        return "ahead"
    if bound is not None:
        near = ours.median >= bound * (1 - row.near) if row.more else ours.median <= bound * (1 + row.near)
        if near:
            return "at the bound"
    if best is None:
        return "no peer"
    return "behind" if (ours.median < best.low if row.more else ours.median > best.high) else "level"
