"""Refusals: how often refused broadcasts are reported, so that noise is no flood and none goes unreported."""

import threading

from servomex.clock import time
from servomex.errors import ServomexError

REPORT_S = 1.0
"""Refused broadcasts are reported once in half a period at most; once in so long when no period is known."""


class Refusals:
    """Thins out the errors of broadcasts that were refused. Any thread may use it.

    An error that stands for several says so, by ``refused_broadcasts`` in its context. What is not reported now is
    :meth:`rest`, which is due when a good broadcast comes, and at the end.
    """

    def __init__(self) -> None:
        self._mutex = threading.RLock()  # a signal's handler may come to it in the middle
        self._next_report = 0.0
        self._number = 0
        self._last: ServomexError | None = None

    def add(self, error: ServomexError, period_s: float | None) -> ServomexError | None:
        """Return what is to be reported of a broadcast that was refused; ``None`` when it is not its turn.

        Args:
            error: Why it was refused.
            period_s: Seconds between broadcasts; ``None`` when that is not known.
        """
        now = time.monotonic()
        with self._mutex:
            self._number, self._last = self._number + 1, error
            if now < self._next_report:
                return None
            self._next_report = now + (REPORT_S if period_s is None else period_s / 2)
            return self._report()

    def rest(self) -> ServomexError | None:
        """Return what was not reported so far; ``None`` when that is nothing."""
        with self._mutex:
            return self._report()

    def _report(self) -> ServomexError | None:
        error, more = self._last, self._number - 1
        self._number, self._last = 0, None
        if error is None or not more:
            return error
        return error.with_context(refused_broadcasts=1 + more)
