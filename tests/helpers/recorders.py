"""Sinks that try a recorder, and what they hold."""

import time
from collections.abc import Sequence

from servomex import (
    Sample,
    ServomexSinkWriteError,
)
from servomex.sinks import InMemorySink


class SlowSink(InMemorySink):
    """Takes its time for each write, and fails from some write on."""

    def __init__(self, takes_s: float = 0.0, fails_from: int | None = None) -> None:
        super().__init__()
        self.writes = 0
        self._takes_s = takes_s
        self._fails_from = fails_from

    def write(self, samples: Sequence[Sample]) -> None:
        self.writes += 1
        time.sleep(self._takes_s)
        if self._fails_from is not None and self.writes >= self._fails_from:
            raise ServomexSinkWriteError("the disk is full")
        super().write(samples)


def numbers(sink: InMemorySink) -> list[int]:
    return [item.monotonic_ns for item in sink.samples]
