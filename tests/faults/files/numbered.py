"""Readings that are known by their number: what a source gives, and what must therefore be in its files."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexTimeoutError
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.runtime.clock import time
from servomex.units import Unit

NAMES = {ChannelId.I1: "Oxygen", ChannelId.I2: "CO₂", ChannelId.D1: "=x;1,2"}
ERROR_EVERY = 97
"""One of this number of readings has failed."""


@attrs.frozen
class Given:
    """A reading that a source gave.

    Attributes:
        run: The name of the source; no two have the same.
        number: Its number, from 1 on.
        monotonic_ns: When it was given, on the clock that all processes share.
        received_at: The same on the clock of that process.
    """

    run: str
    number: int
    monotonic_ns: int
    received_at: datetime

    def line(self) -> str:
        """Write it as a line, see :func:`read_log`."""
        return f"{self.number} {self.monotonic_ns} {self.received_at.isoformat()}\n"

    def samples(self) -> list[Sample]:
        """Return its rows: one to three, or one that has failed. No two readings have a row in common."""
        protocol, at, ns = ProtocolKind.MODBUS_RTU, self.received_at, self.monotonic_ns
        if self.number % ERROR_EVERY == 0:
            return [Sample(self.run, protocol, at, ns, error=ServomexTimeoutError(f"no reply to\n{self.number}"))]
        groups = tuple(CalGroupState(group, group == self.number % 9, 1) for group in range(1, 5))
        analyser = AnalyserStatus(self.number % 5 == 0, self.number % 3 == 0, groups)
        return [
            Sample(self.run, protocol, at, ns, self._reading(channel), analyser, at, self.number / 1000)
            for channel in [*NAMES][: 1 + self.number % 3]
        ]

    def _reading(self, channel: ChannelId) -> Reading:
        place = [*NAMES].index(channel)
        alarms = tuple(bool(self.number >> bit & 1) for bit in range(place, place + 4))
        status = ChannelStatus(self.number % 7 == 0, False, self.number % 13 == 0, False, alarms)  # type: ignore[arg-type]
        value = None if self.number % 17 == 0 else self.number + place / 4
        unit = (Unit.PERCENT, "%")
        return Reading(
            channel,
            NAMES[channel],
            value,
            *unit,
            status,
            ProtocolKind.MODBUS_RTU,
            self.received_at,
            self.monotonic_ns,
        )


def rows_of(given: list[Given]) -> list[Sample]:
    """Return the rows of readings, one after the other."""
    return [sample for item in given for sample in item.samples()]


def read_log(log: Path, run: str) -> list[Given]:
    """Read what a source says that it gave; a line that is not ended was not given."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [_given(run, line) for line in lines]


def _given(run: str, line: str) -> Given:
    number, monotonic_ns, received_at = line.split()
    return Given(run, int(number), int(monotonic_ns), datetime.fromisoformat(received_at))


class NumberedSource:
    """A source that numbers its readings, and writes down each before it gives it. A context manager.

    Args:
        run: Its name.
        log: Where it writes them down.
    """

    protocol = ProtocolKind.MODBUS_RTU
    reader = None

    def __init__(self, run: str, log: Path) -> None:
        self.name = run
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._numbers = self._count()

    def _count(self) -> Iterator[Given]:
        number = 0
        while True:
            number += 1
            yield Given(self.name, number, time.monotonic_ns(), datetime.now(UTC))

    def poll_samples(self, *, names: Sequence[str] | None = None, timeout: float | None = None) -> list[Sample]:
        """Return the rows of the next reading."""
        given = next(self._numbers)
        os.write(self._log, given.line().encode())
        return given.samples()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._log)


def samples_of(run: str, count: int) -> list[Given]:
    """Return readings that were given all at once, for files that are there before."""
    now, monotonic_ns = datetime.now(UTC), time.monotonic_ns()
    return [Given(run, number, monotonic_ns + number, now) for number in range(1, count + 1)]
