"""What ``growth`` measures at one size, in a process of its own: see :mod:`tests.benchmarks.probe`."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
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


@attrs.define
class Spent:
    """Time that passes within it, and time that this process computes, each time that it is entered."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    _begun: Usage = attrs.field(factory=Usage)

    def __enter__(self) -> None:
        self._begun = Usage()

    def __exit__(self, *_: object) -> None:
        self.wall_s += self._begun.wall_s
        self.cpu_s += self._begun.cpu_s

    def as_dict(self, name: str) -> dict[str, float]:
        """Return both, under names that begin with this one."""
        return {f"{name}_s": self.wall_s, f"{name}_cpu_s": self.cpu_s}


def analysers(ports: list[str], each: int, rounds: int) -> dict[str, Any]:
    """Open the analysers on each of these ports, one after the other, and read them all."""
    from servomex import ServomexManager

    with ServomexManager() as manager:
        begun = time.monotonic()
        for port in ports:
            for address in range(1, each + 1):
                manager.add(f"{port} {address}", port, protocol="modbus_rtu", address=address)
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
        writing, closing, reading = Spent(), Spent(), Spent()
        sink = open_sink(path)
        for batch in _batches(rows):
            with writing:
                sink.write(batch)
        written_mib = resident_mib() or 0.0
        with closing:
            sink.close()
        with reading:
            found = sum(1 for _ in load(path))
    if found != rows:
        raise RuntimeError(f"{found} of {rows} rows came back from {path.name}")
    return {
        **writing.as_dict("writing"),
        **closing.as_dict("closing"),
        **reading.as_dict("reading"),
        "written_mib": written_mib,
        "read_mib": resident_mib() or 0.0,
    }


def _batches(rows: int) -> Iterator[list["Sample"]]:
    from tests.benchmarks.samples import sample_batches

    pattern = sample_batches(PATTERN_ROWS // BATCH, BATCH)
    seconds = PATTERN_ROWS / 5 * FRAME_PERIOD_S
    for number in range(-(-rows // BATCH)):
        turn, place = divmod(number, len(pattern))
        yield _later(pattern[place][: rows - number * BATCH], turn * seconds)


def _later(samples: Sequence["Sample"], seconds: float) -> list["Sample"]:
    """Return the samples as if their frames had arrived so much later; those of one frame share its times."""
    moved = []
    arrived_ns = received_at = monotonic_ns = None
    for sample in samples:
        if received_at is None or monotonic_ns is None or sample.monotonic_ns != arrived_ns:
            arrived_ns = sample.monotonic_ns
            received_at = sample.received_at + timedelta(seconds=seconds)
            monotonic_ns = arrived_ns + round(1e9 * seconds)
        reading = sample.reading
        if reading is not None:
            reading = attrs.evolve(reading, received_at=received_at, monotonic_ns=monotonic_ns)
        moved.append(attrs.evolve(sample, received_at=received_at, monotonic_ns=monotonic_ns, reading=reading))
    return moved


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
        first, reading = Spent(), Spent()
        with reading:
            with first:
                samples = load(f"{folder}/run-*{suffix}")
                next(samples)
            found = 1 + sum(1 for _ in samples)
    if found != files * each or not files <= made <= files + 1:
        raise RuntimeError(f"{found} of {files * each} rows came back from {made} files")
    return {**first.as_dict("first"), **reading.as_dict("reading"), "rows": found}
