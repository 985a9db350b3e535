"""Gathering: reads the analysers of a manager, each in threads of its own, and passes on what they say."""

import threading
from collections.abc import Callable
from typing import Self

from servomex.enums import OverflowPolicy
from servomex.errors import ServomexError
from servomex.manager.manager import ServomexManager
from servomex.models.sample import Sample
from servomex.recording.acquisition import STOP_S
from servomex.recording.recording import Recording
from servomex.runtime.worker import Worker
from servomex.views.board import Figures

LOOKING_FRESH_S = 10.0
"""The age from which readings are stale as long as it is not known how the analyser is read."""


class _Source:
    """One analyser: the recording that reads it, and the thread that passes its samples on."""

    def __init__(
        self, manager: ServomexManager, name: str, rate_hz: float, take: Callable[[list[Sample]], object]
    ) -> None:
        self.rate_hz = rate_hz
        self.recording = Recording(manager, names=[name], rate_hz=rate_hz, overflow=OverflowPolicy.DROP_OLDEST)
        self._take = take
        self.worker = Worker(f"servomex-gathering {name}", self._run)

    def _run(self, _stopping: threading.Event) -> None:
        for batch in self.recording:  # its end is the end of this thread
            self._take(batch)


class Gathering:
    """Reads analysers at a rate, and passes on each reading as it arrives. A context manager.

    Each analyser is read by itself, so that a dead one delays only those on the same line. An error takes the
    place of a failed reading, as in a recording.

    Args:
        manager: The analysers; all that were added when this is made.
        rate_hz: Readings per second of each.
        take: Called with the samples of each reading, by a thread for each analyser.
    """

    def __init__(self, manager: ServomexManager, rate_hz: float, take: Callable[[list[Sample]], object]) -> None:
        self._manager = manager
        self._sources = {name: _Source(manager, name, rate_hz, take) for name in manager.names}

    def figures(self, name: str) -> Figures:
        """Return how an analyser is read."""
        source = self._sources[name]
        try:
            analyzer = self._manager.get(name)
        except ServomexError:
            mode, fresh_s, period_s = "looking for it", LOOKING_FRESH_S, None
        else:
            address = analyzer.mode.address
            mode = f"{analyzer.protocol}{'' if address is None else f', address {address}'}"
            fresh_s, period_s = analyzer.fresh_for_s(source.rate_hz), analyzer.period_s
        return Figures(
            mode=mode,
            fresh_s=fresh_s,
            rate_hz=source.rate_hz if period_s is None else None,
            period_s=period_s,
            summary=source.recording.summary,
        )

    def start(self) -> Self:
        """Start.

        Raises:
            ServomexError: The system cannot start another thread.
        """
        try:
            for source in self._sources.values():
                source.recording.start()
                source.worker.start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End after the readings in progress. May be called twice. The manager stays open.

        Raises:
            ServomexError: A reading did not end within 30 s.
        """
        for source in self._sources.values():
            source.recording.close()
        for source in self._sources.values():
            source.worker.stop(STOP_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()
