"""Sinks and what reads them back: rows per second."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from servomex import load, open_sink, to_pandas
from servomex.errors import ServomexSinkDependencyError
from servomex.models.sample import Sample
from tests.benchmarks.figures import Result, Skipped, figure
from tests.benchmarks.machine import Settings
from tests.benchmarks.samples import sample_batches

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".sqlite", ".parquet")
BATCHES = (5, 500)
Batches = Sequence[list[Sample]]


def sinks(settings: Settings) -> Iterator[Result]:
    """Write rows in batches of one frame, and of a hundred."""
    rows, rounds = settings.choose((20_000, 3), (500, 1))
    for size in BATCHES:
        batches = sample_batches(rows // size, size)
        for suffix in SUFFIXES:
            settings.say(f"{suffix}, batches of {size}")
            name = f"{suffix}, batches of {size}"
            try:
                yield figure(name, "rows/s", [_rate(rows, suffix, batches) for _ in range(rounds)])
            except ServomexSinkDependencyError as missing:
                yield Skipped(name, str(missing))


def _rate(rows: int, suffix: str, batches: Batches) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        _write(Path(folder) / f"run{suffix}", batches)
        return rows / (time.perf_counter() - begun)


def _write(path: Path, batches: Batches) -> None:
    with open_sink(path) as sink:
        for batch in batches:
            sink.write(batch)


def loading(settings: Settings) -> Iterator[Result]:
    """Read files back: as samples, and as a table."""
    rows, rounds = settings.choose((20_000, 3), (500, 1))
    readers: tuple[tuple[str, Callable[[Path], int]], ...] = (
        ("load", lambda path: sum(1 for _ in load(path))),
        ("to_pandas", lambda path: len(to_pandas(path))),
        ("to_pandas, wide", lambda path: 5 * len(to_pandas(path, wide=True))),
    )
    with tempfile.TemporaryDirectory() as folder:
        for suffix in SUFFIXES:
            path = Path(folder) / f"run{suffix}"
            try:
                _write(path, sample_batches(rows // 500, 500))
                for name, reader in readers:
                    settings.say(f"{suffix}, {name}")
                    yield figure(f"{suffix}, {name}", "rows/s", [_read(reader, path, rows) for _ in range(rounds)])
            except ServomexSinkDependencyError as missing:
                yield Skipped(suffix, str(missing))
        yield _pandas_alone(Path(folder) / "run.csv", rows, rounds)


def _read(reader: Callable[[Path], int], path: Path, rows: int) -> float:
    begun = time.perf_counter()
    found = reader(path)
    passed = time.perf_counter() - begun
    if found != rows:
        raise RuntimeError(f"{found} of {rows} rows came back from {path.name}")
    return rows / passed


def _pandas_alone(path: Path, rows: int, rounds: int) -> Result:
    """What pandas does with the same file, leaving all times and flags as text."""
    try:
        import pandas
    except ImportError:
        return Skipped(".csv, pandas.read_csv", "pandas is not installed")
    values = [_read(lambda file: len(pandas.read_csv(file)), path, rows) for _ in range(rounds)]
    return figure(".csv, pandas.read_csv", "rows/s", values)
