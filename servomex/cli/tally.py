"""How many readings a command made, and a line at the end of a gap in them."""

import attrs

from servomex.cli.output import note
from servomex.durations import counted
from servomex.runtime.clock import time


@attrs.define
class Tally:
    """The readings so far, counted.

    Attributes:
        readings: How many succeeded.
        failures: How many failed.
        dropped: How many frames or replies were refused.
        failed_last: Whether the last one failed.
        started: When the first was begun, on ``time.monotonic()``.
    """

    readings: int = 0
    failures: int = 0
    dropped: int = 0
    failed_last: bool = False
    started: float = attrs.field(factory=lambda: time.monotonic())

    @property
    def attempts(self) -> int:
        """How many readings were attempted."""
        return self.readings + self.failures

    def __str__(self) -> str:
        return (
            f"{counted(self.readings, 'reading')}, {counted(self.failures, 'failure')} in "
            f"{time.monotonic() - self.started:.1f} s, {counted(self.dropped, 'dropped frame')}"
        )


@attrs.define
class Gap:
    """Consecutive readings that failed, and a line on stderr when they succeed again."""

    failures: int = 0
    _since: float = 0.0

    def note(self, *, failed: bool, quiet: bool) -> None:
        """Count a reading; unless ``quiet``, report a good one that ends a gap."""
        if failed:
            self._since = self._since if self.failures else time.monotonic()
            self.failures += 1
        elif self.failures:
            if not quiet:
                gap_s = time.monotonic() - self._since
                note(f"Readings are back after {gap_s:.1f} s ({counted(self.failures, 'failed reading')})")
            self.failures = 0
