"""Rows by number for tests of the outbox, sinks that fail, and outboxes whose disk does."""

import shutil
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from servomex.enums import ProtocolKind
from servomex.errors import ServomexError, ServomexGapError, ServomexSinkWriteError
from servomex.models.sample import Sample
from servomex.outbox.ledger import Ledger
from servomex.sinks import Sink
from tests.helpers.frames import RECEIVED_AT


def row(number: int, device: str = "rig A") -> Sample:
    """Give a row that is known by its number."""
    moment = RECEIVED_AT + timedelta(seconds=number)
    return Sample(device, ProtocolKind.MODBUS_RTU, moment, number, error=ServomexError(f"row {number}"))


def rows(first: int, end: int, device: str = "rig A") -> list[Sample]:
    """Give the rows from one number to before another."""
    return [row(number, device) for number in range(first, end)]


def is_gap(sample: Sample) -> bool:
    """Return whether a row says that others are missing."""
    return isinstance(sample.error, ServomexGapError)


def numbers(samples: Iterable[Sample]) -> list[int]:
    """Give the numbers of rows, without those of gaps."""
    return [sample.monotonic_ns for sample in samples if not is_gap(sample)]


def gap_of(sample: Sample) -> tuple[int, datetime, datetime]:
    """Give how many rows are missing in a gap, and from when to when."""
    words = str(sample.error).split()
    return int(words[0]), datetime.fromisoformat(words[3]), datetime.fromisoformat(words[5])


def killed(path: Path, to: Path) -> Path:
    """Copy an outbox as a kill of its process would leave it."""
    to.mkdir(exist_ok=True)
    for end in ("", "-wal"):
        name = path.name + end
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, to / name)
    return to / path.name


class Collecting(Sink):
    """A sink that keeps what it gets, and fails as it is asked to.

    Attributes:
        samples: What it has.
        away: Whether it cannot be written.
        poison: Numbers of rows that it does not take.
        refusal: What it raises for them.
        gate: When cleared, writing waits for it.
    """

    name = "collecting"

    def __init__(self, samples: list[Sample], refusal: Exception | None = None) -> None:
        self.samples = samples
        self.away = False
        self.poison: set[int] = set()
        self.refusal = refusal
        self.gate = threading.Event()
        self.gate.set()

    def write(self, samples: Sequence[Sample]) -> None:
        """Take all of the samples, or none."""
        self.gate.wait()
        if self.away:
            raise ServomexSinkWriteError("it is away")
        if self.refusal is not None and self.poison & {sample.monotonic_ns for sample in samples}:
            raise self.refusal
        self.samples += samples


class Disk:
    """The disk of an outbox that can be full.

    Args:
        patch: What undoes it.

    Attributes:
        full: Whether it takes no more rows.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full = False
        append = Ledger.append

        def append_or_fail(ledger: Ledger, chunks: Iterable[object]) -> None:
            if self.full:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorname = "SQLITE_FULL"
                raise error
            append(ledger, chunks)  # type: ignore[arg-type]

        patch.setattr(Ledger, "append", append_or_fail)
