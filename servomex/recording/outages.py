"""Outages: one log line when a source stops giving readings, one when it resumes, and a count of both."""

from collections.abc import Mapping

import attrs

from servomex.durations import counted
from servomex.errors import ServomexError
from servomex.recording.summary import AcquisitionSummary
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log

OUTAGES = "servomex.recording.outages"
"""The logger of these lines."""
_log = package_log(OUTAGES)

DAMAGE_S = 60.0
"""After a log line about damage, further damage is counted for this long before the next one."""


@attrs.define
class _Outage:
    begun: float
    counted_until: float
    readings: int = 1


class Outages:
    """Watches the readings of one or several sources. One thread may use it.

    An outage begins with the first reading that fails and ends with the next good one of the same source. A
    damaged broadcast is not an outage, since the source is there: the first one is logged, and further ones once a
    minute.

    Args:
        summary: Where outages and damage are counted.
    """

    def __init__(self, summary: AcquisitionSummary) -> None:
        self._summary = summary
        self._open: dict[str, _Outage] = {}
        self._damage_logged_at: float | None = None
        self._unlogged = 0
        self._last_damage = ""

    def note(self, outcomes: Mapping[str, ServomexError | None]) -> None:
        """Note the readings of one moment: for each source the error, or ``None`` for a good reading."""
        for source, error in outcomes.items():
            if error is not None:
                self._failed(source, error)
            elif source in self._open:
                self._ended(source, "is back")

    def note_damage(self, source: str, reason: str, number: int) -> None:
        """Note damaged broadcasts, and why the last of them was refused."""
        self._summary.damaged += number
        self._unlogged += number
        self._last_damage = reason
        now = time.monotonic()
        if self._damage_logged_at is None or now - self._damage_logged_at >= DAMAGE_S:
            self._log_damage(source)
            self._damage_logged_at = now

    def end(self, source: str) -> None:
        """Report the outages that are still going on at the end of the acquisition."""
        if self._unlogged:
            self._log_damage(source)
        for name in list(self._open):
            self._ended(name, "has still not returned at the end")

    def _failed(self, source: str, error: ServomexError) -> None:
        now = time.monotonic()
        outage = self._open.get(source)
        if outage is None:
            self._open[source] = _Outage(now, now)
            self._summary.outages += 1
            _log.warning("%s: readings fail from now on: %s", source, error)
        else:
            outage.readings += 1
            self._count_time(outage, now)

    def _ended(self, source: str, how: str) -> None:
        now = time.monotonic()
        outage = self._open.pop(source)
        self._count_time(outage, now)
        failed = counted(outage.readings, "failed reading")
        _log.warning("%s %s after %.1f s (%s)", source, how, now - outage.begun, failed)

    def _count_time(self, outage: _Outage, now: float) -> None:
        self._summary.outage_s += now - outage.counted_until
        outage.counted_until = now

    def _log_damage(self, source: str) -> None:
        text = counted(self._unlogged, "broadcast")
        _log.warning("%s: %s refused (last: %s)", source, text, self._last_damage)
        self._unlogged = 0
