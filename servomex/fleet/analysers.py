"""The analysers of a fleet: added to a manager and read, each at its own rate, and exchanged one by one."""

from collections.abc import Sequence
from typing import Any

import attrs

from servomex.enums import ErrorPolicy, OverflowPolicy
from servomex.fleet.model import AnalyserEntry, Site
from servomex.manager.manager import ServomexManager
from servomex.runtime.logs import package_log
from servomex.views.board import Board
from servomex.views.gathering import Gathering, Take

_log = package_log("servomex.fleet")

SITE_TAG = "site"
_OF_THE_FLEET = ("name", "port", "every", "tags")
"""The fields of an entry that are not options of :meth:`ServomexManager.add`."""


class FleetAnalysers:
    """Reads the analysers of a fleet.

    An analyser that is not there, or whose port is missing, is shown as an error and looked for again and again;
    it never ends anything, and delays only those on the same line.

    Args:
        board: Shows them; each is added to it.
        take: Called with the samples of each reading, by a thread for each analyser.
    """

    def __init__(self, board: Board, take: Take) -> None:
        self._board = board
        self._manager = ServomexManager(error_policy=ErrorPolicy.RETURN)
        self._gathering = Gathering(self._manager, 1.0, take, overflow=OverflowPolicy.BLOCK)
        self._entries: dict[str, tuple[AnalyserEntry, Site]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the analysers."""
        return tuple(self._entries)

    def apply(self, entries: Sequence[AnalyserEntry], site: Site) -> list[str]:
        """Read these analysers from now on, and return what was changed, in words.

        Those that are as before are not touched: their ports stay open, and no reading of them is missed.

        Args:
            entries: All analysers of the fleet.
            site: Its site.

        Raises:
            ServomexError: The system cannot start another thread, or a reading did not end.
        """
        wanted = {entry.name: (entry, site) for entry in entries}
        changed: list[str] = []
        for name in [name for name, kept in self._entries.items() if wanted.get(name) != kept]:
            self._remove(name)
            changed.append(f"{name} removed" if name not in wanted else f"{name} changed")
        for name, (entry, _) in wanted.items():
            if name not in self._entries:
                self._add(entry, site)
                changed += [f"{name} added"] * (f"{name} changed" not in changed)
        return changed

    def _add(self, entry: AnalyserEntry, site: Site) -> None:
        options: dict[str, Any] = attrs.asdict(
            entry, recurse=False, filter=lambda field, value: field.name not in _OF_THE_FLEET and value is not None
        )
        own = {SITE_TAG: site.name} if site.name else {}
        self._manager.add(entry.name, entry.port, wait=False, tags={**own, **site.tags, **entry.tags}, **options)
        self._board.add(entry.name, entry.port, lambda: self._gathering.figures(entry.name))
        self._gathering.add(entry.name, 1 / entry.every)
        self._entries[entry.name] = (entry, site)
        _log.info("%s on %s is read every %g s", entry.name, entry.port, entry.every)

    def _remove(self, name: str) -> None:
        del self._entries[name]
        self._board.remove(name)  # first: a view asks the others how it is read
        self._gathering.remove(name)
        self._manager.remove(name)

    def start(self) -> None:
        """Start to read.

        Raises:
            ServomexError: The system cannot start another thread.
        """
        self._gathering.start()

    def close(self) -> None:
        """End after the readings in progress, and close all ports. May be called twice.

        Raises:
            ServomexError: A reading did not end.
        """
        try:
            self._gathering.close()
        finally:
            self._manager.close()
