"""How time and memory grow with the work: more analysers, more ports, more rows, more files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.far_end import far_end
from tests.benchmarks.figures import Curve, Goal, Result, Skipped, Unavailable, curve
from tests.benchmarks.files import SUFFIXES
from tests.benchmarks.machine import Settings, probe, version_of

ANALYSERS = (1, 8, 64)
PORTS = (1, 8, 32)
ROWS = (10_000, 100_000, 1_000_000)
FILES = (1, 10, 100, 1000)
ROTATED = (".csv", ".jsonl", ".sqlite", ".parquet")
LINEAR = Goal(1.1)
"""Ten times the work may take 26 % more than ten times as long: small sizes have small costs of their own."""
FLAT = Goal(0.15)
"""Ten times the rows may leave the process 41 % larger."""
Found = Mapping[int, dict[str, Any]]


def growth(settings: Settings) -> Iterator[Result]:
    """Show each cost at growing sizes, and the power of the size with which it grows."""
    found: dict[int, dict[str, Any]] = {}
    rounds = settings.choose(3, 1)
    for count in settings.choose(ANALYSERS, (1, 2)):
        settings.say(f"{count} analysers on a line")
        found[count] = probe("analysers", count=count, rounds=rounds)
    yield from _several("analysers on a line", found)
    try:
        yield from _several("ports", _on_ports(settings, rounds))
    except Unavailable as missing:
        yield Skipped("ports", str(missing))
    for suffix in settings.choose(SUFFIXES, (".csv", ".sqlite", ".parquet")):
        yield from _for_format(suffix, settings, _rows)
    for suffix in settings.choose(ROTATED, (".csv", ".parquet")):
        yield from _for_format(suffix, settings, _files)


def _on_ports(settings: Settings, rounds: int) -> Found:
    found = {}
    for count in settings.choose(PORTS, (1, 2)):
        settings.say(f"{count} ports")
        with far_end("serve", ports=count) as served:
            found[count] = probe("ports", ports=served.ports, rounds=rounds)
    return found


def _several(work: str, found: Found) -> Iterator[Curve]:
    yield _grown(f"{work}: opening", "s", found, "opening_s")
    yield _rate(f"{work}: reading", "rows/s", found, lambda size, item: (item["rows_per_s"], item["round_s"]))
    yield _grown(f"{work}: CPU of a round", "ms", found, "cpu_ms")
    yield _grown(f"{work}: memory in use", "MiB", found, "in_use_mib")


def _for_format(
    suffix: str, settings: Settings, measured: Callable[[str, Settings], Iterator[Curve]]
) -> Iterator[Result]:
    if suffix == ".parquet" and version_of("pyarrow") is None:
        yield Skipped(suffix, "pyarrow is not installed")
    else:
        yield from measured(suffix, settings)


def _rows(suffix: str, settings: Settings) -> Iterator[Curve]:
    sizes = settings.choose(ROWS, (500, 1000))
    if settings.rows is not None:
        sizes = (*(size for size in sizes if size < settings.rows), settings.rows)
    found = {}
    for size in sizes:
        settings.say(f"{size} rows, {suffix}")
        found[size] = probe("rows", suffix=suffix, rows=size)
    yield _rate(
        f"rows into {suffix}: writing", "rows/s", found, lambda n, item: (n / item["writing_s"], item["writing_s"])
    )
    yield _rate(
        f"rows into {suffix}: reading", "rows/s", found, lambda n, item: (n / item["reading_s"], item["reading_s"])
    )
    yield _grown(f"rows into {suffix}: closing", "s", found, "closing_s")
    yield _grown(f"rows into {suffix}: memory after writing", "MiB", found, "written_mib", FLAT)
    yield _grown(f"rows into {suffix}: memory after reading", "MiB", found, "read_mib", FLAT)


def _files(suffix: str, settings: Settings) -> Iterator[Curve]:
    found = {}
    for size in settings.choose(FILES, (1, 3)):
        settings.say(f"{size} files, {suffix}")
        found[size] = probe("rotated", suffix=suffix, files=size)
    yield _grown(f"rotated {suffix}: until the first row", "s", found, "first_s")
    yield _rate(
        f"rotated {suffix}: loading",
        "rows/s",
        found,
        lambda size, item: (item["rows"] / item["reading_s"], item["reading_s"]),
    )


def _grown(name: str, unit: str, found: Found, key: str, goal: Goal = LINEAR) -> Curve:
    """Return the curve of what grows itself."""
    values = [item[key] for item in found.values()]
    return curve(name, unit, list(found), values, values, goal)


def _rate(
    name: str, unit: str, found: Found, of: Callable[[int, dict[str, Any]], Sequence[float]], goal: Goal = LINEAR
) -> Curve:
    """Return the curve of a rate, whose exponents are those of the time that the work takes."""
    rates, seconds = zip(*(of(size, item) for size, item in found.items()), strict=True)
    return curve(name, unit, list(found), rates, seconds, goal)
