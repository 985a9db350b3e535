"""Samples in a list."""

from collections.abc import Mapping, Sequence
from typing import Any

from servomex.models.sample import Sample
from servomex.sinks.base import BufferedSink
from servomex.sinks.counting import check_samples


class InMemorySink(BufferedSink):
    """Keeps every sample that is written: for tests, and for recordings that fit in memory.

    Attributes:
        samples: All samples so far, as they were written.
        metadata: Facts about the recording.
    """

    def __init__(self, name: str = "memory://", *, metadata: Mapping[str, str] | None = None) -> None:
        self.samples: list[Sample] = []
        self.metadata: dict[str, str] = dict(metadata or {})
        super().__init__(name, flush_s=0, fsync_s=None)

    def __del__(self) -> None:
        """Do not warn of one that was never closed: nothing is lost."""

    def _prepared(self, samples: Sequence[Sample]) -> list[Any]:
        check_samples(samples)
        return list(samples)

    def _store(self, rows: list[Any]) -> None:
        self.samples += rows
