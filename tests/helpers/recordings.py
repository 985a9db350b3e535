"""Samples to record, by number, and the recording of them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs

from servomex.enums import ProtocolKind
from servomex.errors import ServomexTimeoutError
from servomex.models.sample import Sample
from servomex.sinks import open_sink
from servomex.telegram import parse_frame
from tests.helpers.frames import REAL, RECEIVED_AT

TEXT_FILES = ("run.csv", "run.csv.gz", "run.jsonl", "run.ndjson", "run.jsonl.gz")
FILES = (*TEXT_FILES, "run.sqlite", "run.sqlite3", "run.db", "run.parquet")
ONE_EACH = ("run.csv", "run.csv.gz", "run.jsonl", "run.jsonl.gz", "run.sqlite", "run.parquet")
FRAME = parse_frame(REAL, received_at=RECEIVED_AT, monotonic_ns=0)
PERIOD_S = 2


def batch(number: int, *, device: str = "rig A", start: datetime = RECEIVED_AT) -> list[Sample]:
    """Give the samples of one frame: five channels, every third time with tags, or an error every seventh."""
    moment, monotonic_ns = start + timedelta(seconds=number * PERIOD_S), number * PERIOD_S * 1_000_000_000
    if number % 7 == 6:
        return [
            Sample(
                device,
                ProtocolKind.MODBUS_RTU,
                moment,
                monotonic_ns,
                error=ServomexTimeoutError(f"no reply to {number}"),
            )
        ]
    readings = tuple(
        attrs.evolve(item, value=round(20 + number / 1000, 3), received_at=moment, monotonic_ns=monotonic_ns)
        for item in FRAME
    )
    frame = attrs.evolve(FRAME, readings=readings, received_at=moment, monotonic_ns=monotonic_ns)
    tags = {"site": "mill-3", "line": 'A "old", ='} if number % 3 == 1 else {}
    return [attrs.evolve(sample, metadata=tags) for sample in frame.as_samples(device=device)]


def fresh(sample: Sample, age_s: float = 0.0) -> Sample:
    """Give a sample as if it had just arrived, or so many seconds ago."""
    moment = datetime.now(UTC) - timedelta(seconds=age_s)
    reading = sample.reading and attrs.evolve(sample.reading, received_at=moment)
    return attrs.evolve(sample, received_at=moment, reading=reading)


def fresh_batch(number: int = 0, *, age_s: float = 0.0) -> list[Sample]:
    """Give the samples of a batch as if they had just arrived, without tags."""
    moment = datetime.now(UTC) - timedelta(seconds=age_s)
    return [
        attrs.evolve(item, metadata={})
        for item in batch(number, start=moment - timedelta(seconds=number * PERIOD_S))
    ]


def batches(count: int, first: int = 0) -> list[list[Sample]]:
    """Give so many batches."""
    return [batch(number) for number in range(first, first + count)]


def joined(parts: Iterable[list[Sample]]) -> list[Sample]:
    """Give the samples of batches one after the other."""
    return [sample for part in parts for sample in part]


def write(path: Path, parts: Iterable[list[Sample]], **options: object) -> list[Sample]:
    """Write a whole recording and give its samples."""
    written = list(parts)
    with open_sink(path, **options) as sink:  # type: ignore[arg-type]
        for part in written:
            sink.write(part)
    return joined(written)
