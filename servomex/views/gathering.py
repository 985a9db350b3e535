"""Gathering: reads the analysers of a manager, each in threads of its own, and passes on what they say."""

import contextlib
import threading
from collections.abc import Callable
from typing import Self

from servomex.analyzer.analyzer import Analyzer
from servomex.enums import OverflowPolicy
from servomex.errors import ServomexError
from servomex.manager.manager import ServomexManager
from servomex.models.sample import Sample
from servomex.recording.acquisition import STOP_S
from servomex.recording.recording import Recording
from servomex.recording.summary import AcquisitionSummary
from servomex.runtime.worker import Worker
from servomex.views.board import Figures

Take = Callable[[list[Sample]], object]

LOOKING_FRESH_S = 10.0
"""The age from which readings are stale as long as it is not known how the analyser is read."""


class _Source:
    """One analyser: the recording that reads it, and the thread that passes its samples on."""

    def __init__(self, name: str, rate_hz: float, recording: Recording, take: Take) -> None:
        self.rate_hz = rate_hz
        self.recording = recording
        self._take = take
        self.worker = Worker(f"servomex-gathering {name}", self._run)

    def start(self) -> None:
        self.recording.start()
        self.worker.start()

    def _run(self, _stopping: threading.Event) -> None:
        for batch in self.recording:  # its end is the end of this thread
            self._take(batch)


class Gathering:
    """Reads analysers at a rate, and passes on each reading as it arrives. A context manager.

    Each analyser is read by itself, so that a dead one delays only those on the same line. An error takes the
    place of a failed reading, as in a recording.

    Args:
        manager: The analysers; all that were added when this is made are read.
        rate_hz: Readings per second of each.
        take: Called with the samples of each reading, by a thread for each analyser.
        overflow: What happens when ``take`` is too slow, see :class:`OverflowPolicy`.
    """

    def __init__(
        self,
        manager: ServomexManager,
        rate_hz: float,
        take: Take,
        *,
        overflow: OverflowPolicy = OverflowPolicy.DROP_OLDEST,
    ) -> None:
        self._manager = manager
        self._take = take
        self._overflow = overflow
        self._started = False
        self._sources: dict[str, _Source] = {}  # replaced and never changed, so that figures() needs no lock
        for name in manager.names:
            self.add(name, rate_hz)

    def add(self, name: str, rate_hz: float) -> None:
        """Read one more analyser of the manager.

        Raises:
            ServomexValidationError: There is none of this name.
            ServomexError: The system cannot start another thread.
        """
        recording = Recording(self._manager, names=[name], rate_hz=rate_hz, overflow=self._overflow)
        source = _Source(name, rate_hz, recording, self._take)
        self._sources = {**self._sources, name: source}
        if self._started:
            source.start()

    def remove(self, name: str) -> None:
        """End the reading of an analyser, after one in progress. It stays in the manager.

        Raises:
            ServomexError: A reading did not end within 30 s.
        """
        source = self._sources[name]
        _end([source])
        self._sources = {other: kept for other, kept in self._sources.items() if other != name}

    def figures(self, name: str) -> Figures:
        """Return how an analyser is read."""
        source = self._sources[name]
        summary = source.recording.summary
        try:
            analyzer = self._manager.get(name)
        except ServomexError:
            looking, fresh_s = "looking for it", LOOKING_FRESH_S
            return Figures(mode=looking, fresh_s=fresh_s, rate_hz=source.rate_hz, period_s=None, summary=summary)
        return figures_of(analyzer, source.rate_hz, summary)

    def start(self) -> Self:
        """Start.

        Raises:
            ServomexError: The system cannot start another thread.
        """
        self._started = True
        try:
            for source in self._sources.values():
                source.start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End after the readings in progress. May be called twice. The manager stays open.

        Raises:
            ServomexError: A reading did not end within 30 s.
        """
        _end(list(self._sources.values()))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()


def figures_of(analyzer: Analyzer, rate_hz: float | None, summary: AcquisitionSummary) -> Figures:
    """Return how an analyser is read, at a rate or with each of its broadcasts."""
    address, period_s = analyzer.mode.address, analyzer.period_s
    return Figures(
        mode=f"{analyzer.protocol}{'' if address is None else f', address {address}'}",
        fresh_s=analyzer.fresh_for_s(rate_hz),
        rate_hz=rate_hz if period_s is None else None,
        period_s=period_s,
        summary=summary,
    )


def _end(sources: list[_Source]) -> None:
    """End all of them, also when one cannot be ended, or an interrupt comes in between."""
    with contextlib.ExitStack() as ends:
        for source in sources:
            ends.callback(source.worker.stop, STOP_S)
        for source in sources:
            ends.callback(source.recording.close)
