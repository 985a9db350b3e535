"""Progress: whether every thread of a service moves: one that stands still must be noticed, and restarted."""

from collections.abc import Callable, Mapping

import attrs

from servomex.runtime.clock import time
from servomex.views.board import AnalyserView, Board

PATIENCE_S = 60.0
"""How long a thread may take for a step, beyond the time to the next one: longer than any reading or retry."""


@attrs.define
class _Seen:
    """How far something was, and since when it has been there."""

    count: float
    since: float


class Progress:
    """Watches counts that must grow. One thread may use it.

    Args:
        board: Shows the analysers, each of which must be read at its rate, whether it answers or not.
        steps: Returns further counts by name, each of which must grow within :data:`PATIENCE_S`.
    """

    def __init__(self, board: Board, steps: Callable[[], Mapping[str, float]]) -> None:
        self._board = board
        self._steps = steps
        self._seen: dict[str, _Seen] = {}

    def look(self) -> list[str]:
        """Look at everything once, and return the names of what stands still."""
        now = time.monotonic()
        due = {f"analyser {view.name}": (_readings(view), _interval_s(view)) for view in self._board.view()}
        due |= {name: (count, 0.0) for name, count in self._steps().items()}
        for name in self._seen.keys() - due.keys():
            del self._seen[name]
        still: list[str] = []
        for name, (count, interval_s) in due.items():
            seen = self._seen.get(name)
            if seen is None or seen.count != count:
                self._seen[name] = _Seen(count, now)
            elif now - seen.since > 2 * interval_s + PATIENCE_S:
                still.append(name)
        return still


def _readings(view: AnalyserView) -> float:
    """Return how many readings of an analyser were tried or passed over."""
    return view.figures.summary.slots


def _interval_s(view: AnalyserView) -> float:
    """Return the time between two readings."""
    return 1 / view.figures.rate_hz if view.figures.rate_hz else view.figures.period_s or 0.0
