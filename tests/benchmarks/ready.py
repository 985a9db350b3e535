"""Writing rows beside what the machine can do: writers that get everything ready and check nothing.

The yardsticks contain nothing of the driver: they get texts, tuples, or a table that were made before the clock
starts. A sink makes them from samples, and checks them.
"""

import csv
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from servomex import open_sink
from servomex.models.sample import Sample
from tests.benchmarks.figures import Result, Skipped, figure, ratio
from tests.benchmarks.files import BATCHES
from tests.benchmarks.machine import Settings, version_of
from tests.benchmarks.samples import sample_batches

Writer = Callable[[Path], None]
TRANSACTION = 10_000
"""Rows that are committed at once."""


def ready(settings: Settings) -> Iterator[Result]:
    """Write rows in turn with a sink and with a writer that gets them ready."""
    rows, rounds = settings.choose((20_000, 9), (500, 1))
    kinds = {".csv": csv_writer, ".jsonl": json_lines, ".sqlite": executemany, ".parquet": arrow_table}
    for size in BATCHES:
        batches = sample_batches(rows // size, size)
        for suffix, yardstick in kinds.items():
            case = f"{suffix}, batches of {size}"
            if suffix == ".parquet" and version_of("pyarrow") is None:
                yield Skipped(case, "pyarrow is not installed")
                continue
            settings.say(case)
            name, writer = _prepared(suffix, yardstick, batches, size)
            pairs = [(_rate(rows, suffix, _sink(batches)), _rate(rows, suffix, writer)) for _ in range(rounds)]
            ours, others = zip(*pairs, strict=True)
            yield figure(f"{case}, servomex", "rows/s", ours)
            yield figure(f"{case}, {name}", "rows/s", others)
            yield ratio(f"{case}, servomex / {name}", ours, others)


def _prepared(
    suffix: str, yardstick: Callable[[Path, int], Writer], batches: Sequence[list[Sample]], size: int
) -> tuple[str, Writer]:
    """Make a writer that has everything ready, from a file that the sink wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made{suffix}"
        _sink(batches)(path)
        return yardstick.__name__.replace("_", "."), yardstick(path, size)


def _rate(rows: int, suffix: str, write: Writer) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        write(Path(folder) / f"run{suffix}")
        return rows / (time.perf_counter() - begun)


def _sink(batches: Sequence[list[Sample]]) -> Writer:
    def write(path: Path) -> None:
        with open_sink(path) as sink:
            for batch in batches:
                sink.write(batch)

    return write


def csv_writer(made: Path, size: int) -> Writer:
    """``csv.writer`` with tuples of text."""
    with made.open(encoding="utf-8", newline="") as file:
        batches = _cut(map(tuple, csv.reader(file)), size)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            for batch in batches:
                writer.writerows(batch)

    return write


def json_lines(made: Path, size: int) -> Writer:
    """``json.dumps`` with dictionaries of text and numbers."""
    batches = _cut(map(json.loads, made.read_text(encoding="utf-8").splitlines()), size)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for batch in batches:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch)

    return write


def executemany(made: Path, size: int) -> Writer:
    """``executemany`` of sqlite3 with tuples, into tables and indices as the sink makes them."""
    source = sqlite3.connect(made)
    tables = [text for (text,) in source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    batches = _cut(source.execute("SELECT * FROM samples"), TRANSACTION)
    source.close()
    insert = f"INSERT INTO samples VALUES ({','.join('?' * len(batches[0][0]))})"

    def write(path: Path) -> None:
        base = sqlite3.connect(path, isolation_level=None)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        for text in tables:
            base.execute(text)
        for batch in batches:
            base.execute("BEGIN IMMEDIATE")
            base.executemany(insert, batch)
            base.execute("COMMIT")
        base.close()

    return write


def arrow_table(made: Path, size: int) -> Writer:
    """``write_table`` of pyarrow with one table of all rows."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(made)

    def write(path: Path) -> None:
        pyarrow.parquet.write_table(table, path)

    return write


def _cut(rows: Iterable[Any], size: int) -> list[Sequence[Any]]:
    made = list(rows)
    return [made[start : start + size] for start in range(0, len(made), size)]
