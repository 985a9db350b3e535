"""What ``growth`` measures at one size, in a process of its own: see :mod:`tests.benchmarks.probe`."""

import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tests.benchmarks.machine import Usage, resident_mib

if TYPE_CHECKING:
    from servomex import ServomexManager
    from servomex.models.sample import Sample

BATCH = 500
PATTERN_ROWS = 20_000
"""Rows that are made once and written again and again, each time with later times."""
FRAME_PERIOD_S = 2.0


def analysers(count: int, rounds: int) -> dict[str, Any]:
    """Open analysers that share one line, which takes no time, and read them all."""
    from servomex import ServomexManager
    from servomex.simulator import VirtualAnalyzer, VirtualLine

    wire = VirtualLine(*(VirtualAnalyzer(address=address) for address in range(1, count + 1)))
    with ServomexManager() as manager:
        begun = time.monotonic()
        for analyser in wire.analysers:
            manager.add(f"a{analyser.address}", wire.url, protocol="modbus_rtu", address=analyser.address)
        return {"opening_s": time.monotonic() - begun, **_rounds(manager, rounds)}


def ports(ports: list[str], rounds: int) -> dict[str, Any]:
    """Open an analyser on each of these ports, and read them all."""
    from servomex import ServomexManager

    with ServomexManager() as manager:
        begun = time.monotonic()
        for port in ports:
            manager.add(port, port, protocol="modbus_rtu")
        return {"opening_s": time.monotonic() - begun, **_rounds(manager, rounds)}


def _rounds(manager: "ServomexManager", rounds: int) -> dict[str, Any]:
    manager.poll()
    usage, read = Usage(), 0
    for _ in range(rounds):
        read += sum(len(result.value or ()) for result in manager.poll().values())
    return {
        "rows_per_s": read / usage.wall_s,
        "round_s": usage.wall_s / rounds,
        "cpu_ms": 1000 * usage.cpu_s / rounds,
        "in_use_mib": resident_mib() or 0.0,
    }


def rows(suffix: str, rows: int) -> dict[str, Any]:
    """Write rows into one file, close it, and read them back; making the rows is not counted."""
    from servomex import load, open_sink

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"run{suffix}"
        writing_s = 0.0
        sink = open_sink(path)
        for batch in _batches(rows):
            begun = time.perf_counter()
            sink.write(batch)
            writing_s += time.perf_counter() - begun
        written_mib = resident_mib() or 0.0
        begun = time.perf_counter()
        sink.close()
        closing_s = time.perf_counter() - begun
        begun = time.perf_counter()
        found = sum(1 for _ in load(path))
        reading_s = time.perf_counter() - begun
    if found != rows:
        raise RuntimeError(f"{found} of {rows} rows came back from {path.name}")
    return {
        "writing_s": writing_s,
        "closing_s": closing_s,
        "reading_s": reading_s,
        "written_mib": written_mib,
        "read_mib": resident_mib() or 0.0,
    }


def _batches(rows: int) -> Iterator[list["Sample"]]:
    from tests.benchmarks.samples import sample_batches

    pattern = sample_batches(PATTERN_ROWS // BATCH, BATCH)
    seconds = PATTERN_ROWS / 5 * FRAME_PERIOD_S
    for number in range(-(-rows // BATCH)):
        turn, place = divmod(number, len(pattern))
        later, later_ns = timedelta(seconds=turn * seconds), round(1e9 * turn * seconds)
        yield [
            attrs.evolve(item, received_at=item.received_at + later, monotonic_ns=item.monotonic_ns + later_ns)
            for item in islice(pattern[place], min(BATCH, rows - number * BATCH))
        ]


def rotated(suffix: str, files: int) -> dict[str, Any]:
    """Record into so many files, one a minute, and read them back through a pattern."""
    from servomex import load, open_sink
    from tests.benchmarks.samples import sample_batches

    each = round(5 * 60 / FRAME_PERIOD_S)
    with tempfile.TemporaryDirectory() as folder:
        with open_sink(Path(folder) / f"run{suffix}", rotate="1m") as sink:
            for batch in sample_batches(files * each // 5, 5):
                sink.write(batch)
        made = len([path for path in Path(folder).iterdir() if path.suffix == Path(f"x{suffix}").suffix])
        begun = time.perf_counter()
        samples = load(f"{folder}/run-*{suffix}")
        next(samples)
        first_s = time.perf_counter() - begun
        found = 1 + sum(1 for _ in samples)
        reading_s = time.perf_counter() - begun
    if found != files * each or not files <= made <= files + 1:
        raise RuntimeError(f"{found} of {files * each} rows came back from {made} files")
    return {"first_s": first_s, "reading_s": reading_s, "rows": found, "read_mib": resident_mib() or 0.0}
