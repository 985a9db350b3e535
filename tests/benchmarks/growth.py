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
FLOOR_S = 0.01
"""A cost below this counts as this: what is over in a moment varies from run to run."""
Found = Mapping[int, dict[str, Any]]


def growth(settings: Settings) -> Iterator[Result]:
    """Show each cost at growing sizes, and the power of the size with which it grows."""
    try:
        yield from _several("analysers on a line", settings, settings.choose(ANALYSERS, (1, 2)), on_one_line=True)
        yield from _several("ports", settings, settings.choose(PORTS, (1, 2)), on_one_line=False)
    except Unavailable as missing:
        yield Skipped("analysers and ports", str(missing))
    for suffix in settings.choose(SUFFIXES, (".csv", ".sqlite", ".parquet")):
        yield from _for_format(suffix, settings, _rows)
    for suffix in settings.choose(ROTATED, (".csv", ".parquet")):
        yield from _for_format(suffix, settings, _files)


def _several(work: str, settings: Settings, sizes: Sequence[int], *, on_one_line: bool) -> Iterator[Curve]:
    found = {}
    for size in sizes:
        settings.say(f"{size} {work}")
        ports, each = (1, size) if on_one_line else (size, 1)
        with far_end("serve", ports=ports, analysers=each) as served:
            found[size] = probe("analysers", ports=served.ports, each=each, rounds=settings.choose(3, 1))
    yield _grown(f"{work}: opening", "s", found, "opening_s")
    rates, seconds = ([item[key] for item in found.values()] for key in ("rows_per_s", "round_s"))
    yield curve(f"{work}: reading", "rows/s", list(found), rates, seconds, LINEAR)
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
    rows = list(found)
    yield _rate(f"rows into {suffix}: writing", found, rows, "writing")
    yield _rate(f"rows into {suffix}: reading", found, rows, "reading")
    yield _spent(f"rows into {suffix}: closing", found, "closing")
    yield _grown(f"rows into {suffix}: memory after writing", "MiB", found, "written_mib", FLAT)
    yield _grown(f"rows into {suffix}: memory after reading", "MiB", found, "read_mib", FLAT)


def _files(suffix: str, settings: Settings) -> Iterator[Curve]:
    found = {}
    for size in settings.choose(FILES, (1, 3)):
        settings.say(f"{size} files, {suffix}")
        found[size] = probe("rotated", suffix=suffix, files=size)
    yield _spent(f"rotated {suffix}: until the first row", found, "first")
    yield _rate(f"rotated {suffix}: loading", found, [item["rows"] for item in found.values()], "reading")


def _grown(name: str, unit: str, found: Found, key: str, goal: Goal = LINEAR) -> Curve:
    """Return the curve of what grows itself."""
    values = [item[key] for item in found.values()]
    return curve(name, unit, list(found), values, values, goal)


def _spent(name: str, found: Found, work: str) -> Curve:
    """Return the curve of the seconds that work takes; the exponents are of the processor's."""
    values = [item[f"{work}_s"] for item in found.values()]
    costs = [max(FLOOR_S, item[f"{work}_cpu_s"]) for item in found.values()]
    return curve(name, "s", list(found), values, costs, LINEAR)


def _rate(name: str, found: Found, rows: Sequence[int], work: str) -> Curve:
    """Return the curve of the rows that work does in a second; the exponents are of the processor's time."""
    rates = [count / item[f"{work}_s"] for count, item in zip(rows, found.values(), strict=True)]
    costs = [item[f"{work}_cpu_s"] for item in found.values()]
    return curve(name, "rows/s", list(found), rates, costs, LINEAR)
