"""Rows as an outbox holds them: lines of csv, many in one packed piece, and the rows that stand for a gap."""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import attrs

from servomex.durations import counted
from servomex.enums import ProtocolKind
from servomex.errors import ServomexGapError, ServomexSinkSchemaError
from servomex.models.plain import time_text
from servomex.models.sample import Sample
from servomex.rows.cells import CELLS, csv_cells
from servomex.rows.formats import CSV
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log

_log = package_log("servomex")

MOST_ROWS = 1_000
"""The most rows in one piece."""
LEVEL = 1
"""How hard zlib tries: more saves a tenth of the size, and takes twice as long."""
LARGEST = 200_000_000
"""Bytes of a piece when it is unpacked; more is damage."""
_GAP = re.compile(r"([0-9]+|an unknown number of) rows? from (\S+) to ")
UNKNOWN = "outbox"
"""The device of a gap when it is not known whose rows are missing."""


@attrs.frozen
class Chunk:
    """Some rows in a piece, with consecutive numbers.

    Attributes:
        first: The number of its first row.
        rows: How many rows it has, or stands for.
        at: When it was added, on the clock of the outbox.
        wall: The same by the wall clock, in seconds since 1970.
        data: The packed rows.
        is_marker: Whether its rows say that those with these numbers were lost; it is then taken as a whole.
    """

    first: int
    rows: int
    at: float
    wall: float
    data: bytes
    is_marker: bool = False

    @property
    def end(self) -> int:
        """The number after that of its last row."""
        return self.first + self.rows


@attrs.define
class Gap:
    """Rows of one analyser that are missing.

    Attributes:
        device: The analyser.
        protocol: Its communication mode.
        first_at: The time of the first of these rows.
        last_at: The time of the last.
        monotonic_ns: The same on the monotonic clock.
        rows: How many; ``None`` when that is not known.
    """

    device: str
    protocol: ProtocolKind
    first_at: datetime
    last_at: datetime
    monotonic_ns: int
    rows: int | None = 1

    def sample(self, why: str) -> Sample:
        """Return the row that says so. It has the time of the last missing row, whose place it takes."""
        number = "an unknown number of rows" if self.rows is None else counted(self.rows, "row")
        when = f"from {time_text(self.first_at)} to {time_text(self.last_at)}"
        error = ServomexGapError(f"{number} {when} {'is' if self.rows == 1 else 'are'} missing here: {why}")
        return Sample(self.device, self.protocol, self.last_at, self.monotonic_ns, error=error)


def gaps_of(samples: Iterable[Sample], gaps: dict[str, Gap] | None = None) -> dict[str, Gap]:
    """Return the gap that each analyser has when samples are dropped, added to what it had.

    A sample that is itself the row of a gap counts as the rows that it stands for.
    """
    found = {} if gaps is None else gaps
    for sample in samples:
        rows, first_at = _covered(sample)
        gap = found.get(sample.device)
        if gap is None:
            found[sample.device] = Gap(
                sample.device, sample.protocol, first_at, sample.received_at, sample.monotonic_ns, rows
            )
        else:
            gap.rows = None if gap.rows is None or rows is None else gap.rows + rows
            gap.last_at, gap.monotonic_ns = sample.received_at, sample.monotonic_ns
    return found


def _covered(sample: Sample) -> tuple[int | None, datetime]:
    """Return how many rows a sample stands for, and the time of the first of them."""
    if not isinstance(sample.error, ServomexGapError):
        return 1, sample.received_at
    known = _GAP.match(str(sample.error))
    if not known:
        return None, sample.received_at
    return int(known[1]) if known[1].isdecimal() else None, datetime.fromisoformat(known[2])


def unknown_gap(rows: int | None, wall: float | None = None) -> Gap:
    """Return the gap of rows of which no more is known than their number, and perhaps when they were added."""
    moment = datetime.now(UTC) if wall is None else datetime.fromtimestamp(wall, UTC)
    return Gap(UNKNOWN, ProtocolKind.AUTO, moment, moment, 0, rows)


def packed(samples: Sequence[Sample]) -> Iterator[tuple[int, bytes]]:
    """Yield samples as pieces, each with its number of rows.

    A sample that no file could hold is replaced by one with an error that says so.
    """
    for part in _parts(samples):
        try:
            lines = CSV["."].rows(part)
        except ValueError:
            lines = [CSV["."].rows([_storable(sample)])[0] for sample in part]
        yield len(lines), zlib.compress("".join(lines).encode(), LEVEL)


def _parts(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    for begin in range(0, len(samples), MOST_ROWS):
        yield samples[begin : begin + MOST_ROWS]


def _storable(sample: Sample) -> Sample:
    try:
        CSV["."].rows([sample])
    except ValueError as error:
        reason = ServomexSinkSchemaError(f"a row cannot be stored: {error}")
        ticks = time.monotonic_ns()
        return Sample(sample.device, sample.protocol, datetime.now(UTC), ticks, error=reason)
    return sample


def unpacked(data: bytes) -> list[Sample]:
    """Return the samples of a piece.

    Raises:
        ValueError: It is damaged.
    """
    engine = zlib.decompressobj()
    try:
        text = engine.decompress(data, LARGEST).decode()
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not engine.eof:
        raise ValueError("it is not whole")
    return [CELLS.sample(csv_cells(line)) for line in text.split("\n")[:-1]]


def samples_in(chunk: Chunk) -> list[Sample]:
    """Return the samples of a chunk; if it is damaged, one that says so."""
    try:
        return unpacked(chunk.data)
    except ValueError as error:
        _log.error(
            "%s of the outbox cannot be read, since they are damaged: %s", counted(chunk.rows, "row"), error
        )
        return [unknown_gap(chunk.rows, chunk.wall).sample("they are damaged")]
