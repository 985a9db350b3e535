"""Service: reads a fleet, keeps what is read in the outbox until every sink has it, and shows that it lives."""

import contextlib
import threading
from typing import Self

from servomex.durations import counted
from servomex.fleet.alerts import Alerts
from servomex.fleet.analysers import FleetAnalysers
from servomex.fleet.model import Fleet, HttpEntry
from servomex.fleet.progress import Progress
from servomex.fleet.stores import steps_of, stores_of
from servomex.models.sample import Sample
from servomex.views.board import Board
from servomex.views.web.live import Live
from servomex.views.web.server import WebServer
from servomex.views.web.token import Token


class Service:
    """What ``servomex run`` runs. A context manager.

    Readings go from the threads of the analysers to the outbox and to the board, and from the outbox to the sinks:
    nothing behind the outbox delays a reading.

    Args:
        fleet: What the fleet file says.

    Attributes:
        fleet: What is running; after a reload, what the file says then.
        web: The page, the health and the metrics; ``None`` without ``[http]``.
        board: What the analysers show now.
        progress: Whether every thread moves.

    Raises:
        ServomexError: The outbox cannot be opened, or an address is taken.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet: Fleet = fleet
        self._telling = threading.Lock()
        self._told = 0
        with contextlib.ExitStack() as undo:
            self._live = Live()
            self.board: Board = self._live.board
            self.web: WebServer | None = _web_of(fleet.http, self._live)
            if self.web is not None:
                undo.callback(self.web.close)
            self._stores = stores_of(fleet)
            undo.pop_all()
        self._alerts = Alerts(fleet.alerts)
        self._analysers = FleetAnalysers(self.board, self._take)
        self.progress: Progress = Progress(self.board, lambda: steps_of(self._stores))

    @property
    def status(self) -> str:
        """How it fares, on one line."""
        views = self.board.view()
        lost = sum(view.stale for view in views)
        words = [counted(len(views), "analyser"), *([f"{lost} without readings"] if lost else [])]
        if self._stores is not None:
            figures = self._stores.figures()
            words.append(f"{counted(figures.rows, 'row')} in the outbox")
            words += [f"{item.name} fails" for item in figures.sinks if item.failures]
        return ", ".join(words)

    def _take(self, samples: list[Sample]) -> None:
        """Store what was read before anybody sees it: what the page shows is in the outbox."""
        if self._stores is not None:
            self._stores.add(samples)
        self._live.take(samples)
        with self._telling:
            events = self.board.events(after=self._told)
            self._told = events[-1].number if events else self._told
            self._alerts.take(events)

    def start(self) -> Self:
        """Start; the first readings follow at once.

        Raises:
            ServomexError: An analyser cannot be read as the file says, or the system cannot start another thread.
        """
        try:
            self._alerts.start()
            if self._stores is not None:
                self._stores.start()
            self._analysers.start()
            self._analysers.apply(self.fleet.analysers, self.fleet.site)
            if self.web is not None:
                self.web.start()
        except BaseException:
            self.close()
            raise
        return self

    def reload(self, fleet: Fleet) -> list[str]:
        """Run another fleet from now on, and return what was changed, in words.

        Analysers and sinks that are as before are not touched. The outbox, the alerts and the addresses of servers
        are taken over by the next start only.

        Raises:
            ServomexError: Something of it cannot be run.
        """
        changed = self._analysers.apply(fleet.analysers, fleet.site)
        if self._stores is not None:
            changed += self._stores.apply(fleet.sinks)
        for name in ("outbox", "http", "alerts"):
            if getattr(fleet, name) != getattr(self.fleet, name):
                changed.append(f"{name} changed, which needs a restart")
        self.fleet = fleet
        return changed

    def close(self) -> None:
        """End: first the readings, then the delivery. What the sinks have not taken stays in the outbox.

        May be called twice.

        Raises:
            ServomexError: Something did not end in time.
        """
        with contextlib.ExitStack() as ends:
            ends.callback(self._alerts.close)
            if self._stores is not None:
                ends.callback(self._stores.close)
            ends.callback(self._analysers.close)
            if self.web is not None:
                ends.callback(self.web.close)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _web_of(entry: HttpEntry | None, live: Live) -> WebServer | None:
    if entry is None:
        return None
    token = None if entry.token_file is None else Token.from_file(entry.token_file)
    return WebServer(live, host=entry.listen.host, port=entry.listen.port, token=token)
