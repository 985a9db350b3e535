"""Refusals: reports refused broadcasts without a flood of errors and without omissions."""

import threading

from servomex.errors import ServomexError
from servomex.runtime.clock import time

REPORT_S = 1.0
"""How often refused broadcasts are reported at most as long as no period is known."""


class Refusals:
    """Thins out the errors of broadcasts that were refused, to one per broadcast period. Any thread may use it.

    An error that represents several says so, by ``refused_broadcasts`` in its context. What is not due yet waits,
    but each gap is reported in some way before the good broadcast that ends it.
    """

    def __init__(self) -> None:
        self._mutex = threading.RLock()  # a signal handler may enter it in the middle
        self._due_at = 0.0
        self._number = 0
        self._last: ServomexError | None = None
        self._reported = False

    def add(self, error: ServomexError) -> None:
        """Note the error of a broadcast that was refused."""
        with self._mutex:
            self._number, self._last = self._number + 1, error

    def due(self, period_s: float | None) -> ServomexError | None:
        """Return the report that is due now; ``None`` when there is none.

        Args:
            period_s: Seconds between broadcasts; ``None`` when that is not known.
        """
        every_s, now = REPORT_S if period_s is None else period_s, time.monotonic()
        with self._mutex:
            if self._last is None or now < self._due_at:
                return None
            # Broadcasts are not punctual: an early one must not be merged with the next.
            self._due_at = max(self._due_at, now - every_s / 2) + every_s
            return self._report()

    def before_good(self) -> ServomexError | None:
        """Return the report due before a good broadcast: of those refused since the previous good one.

        ``None`` if any of that was reported already; the rest waits.
        """
        with self._mutex:
            error = None if self._reported else self._report()
            self._reported = False
            return error

    def rest(self) -> ServomexError | None:
        """Return the report of the rest; ``None`` when there is nothing left to report."""
        with self._mutex:
            return self._report()

    def _report(self) -> ServomexError | None:
        error, number = self._last, self._number
        self._number, self._last = 0, None
        self._reported = self._reported or error is not None
        return error.with_context(refused_broadcasts=number) if error is not None and number > 1 else error
