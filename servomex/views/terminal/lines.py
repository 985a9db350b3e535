"""Lines: what the view shows where there is no terminal, a line for each reading and each event."""

import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from servomex.durations import counted
from servomex.errors.excerpts import plain
from servomex.models.sample import Sample
from servomex.views.board import AnalyserView, Board, ChannelView
from servomex.views.plot.zone import local
from servomex.views.terminal.texts import label

KEPT = 1000
"""How many lines wait to be written; older ones are dropped and counted."""


class Lines:
    """Makes lines of what is taken. Any thread may use it.

    Args:
        board: What is taken goes there first.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._dropped = 0

    def take(self, samples: Sequence[Sample]) -> None:
        """Take the samples of one reading."""
        lines = [
            f"{_time(event.at)} {plain(event.device)}: {event.level.word.upper()} {plain(event.text)}"
            for event in self._board.take(samples)
        ]
        read = dict.fromkeys(sample.device for sample in samples if sample.reading is not None)
        views = map(self._board.view_of, read)
        lines += [reading_line(view) for view in views if view is not None and view.channels]
        with self._lock:
            self._waiting += lines
            while len(self._waiting) > KEPT:
                self._waiting.popleft()
                self._dropped += 1

    def waiting(self) -> list[str]:
        """Return the lines since the last call."""
        with self._lock:
            lines, dropped = list(self._waiting), self._dropped
            self._waiting.clear()
            self._dropped = 0
        return [f"... {counted(dropped, 'line')} dropped, since they were not read in time"] * bool(
            dropped
        ) + lines


def reading_line(view: AnalyserView) -> str:
    """Return the newest readings of an analyser on one line, with their time."""
    if not view.channels:
        return f"{_time(datetime.now(UTC))} {plain(view.name)}: no reading" + (
            f": {plain(view.error)}" if view.error else ""
        )
    at = max(channel.reading.received_at for channel in view.channels)
    return f"{_time(at)} {plain(view.name)}: {'; '.join(map(_channel_text, view.channels))}"


def _channel_text(channel: ChannelView) -> str:
    states = channel.reading.status.words
    parts = [*label(channel.reading)[:2], channel.value_text]
    if channel.value_text != "-":
        parts.append(label(channel.reading)[2])
    return " ".join(filter(None, (*parts, ", ".join((channel.word, *states)))))


def _time(moment: datetime) -> str:
    return local(moment).isoformat(timespec="seconds")
