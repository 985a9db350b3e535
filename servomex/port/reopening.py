"""Reopening: when a lost or missing port is tried again, and which error is raised until it is back."""

from collections.abc import Callable
from typing import Any

import attrs

from servomex.errors import ErrorContext, ServomexConnectionError, ServomexError
from servomex.port.connect import READ_TICK_S, is_absent
from servomex.port.opening import Opening
from servomex.runtime.clock import time


@attrs.frozen
class Pauses:
    """The pauses between attempts to open a port, in seconds.

    Attributes:
        first_s: The first pause; it doubles from one to the next.
        longest_s: The longest.
        eager_s: The pause for a port on which something was never reached.
        explained_s: How long the reason for a missing device is kept: until then only its presence is
            checked.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    eager_s: float = 0.3
    explained_s: float = 30.0


class Reopening:
    """Opens one port again. The caller holds its lock.

    Args:
        name: Name of the port.

    Attributes:
        loss: Why the port is not open; ``None`` while it is, and before the first attempt.
        failures: How many attempts in a row failed; reset when bytes arrive, so that the next pause is the
            shortest.
    """

    def __init__(self, name: str) -> None:
        self.loss: ServomexConnectionError | None = None
        self._name = name
        self._opening: Opening | None = None
        self.failures: int = 0
        self._retry_at = 0.0
        self._tried_at = 0.0
        self._absent_until = 0.0

    @property
    def retry_in_s(self) -> float:
        """Seconds until the port may be tried again."""
        return max(0.0, self._retry_at - time.monotonic())

    def without_pause(self) -> None:
        """Allow the next attempt at once."""
        self._retry_at = 0.0

    def port(
        self, open_it: Callable[[], Any], deadline: float, pauses: Pauses, *, may_try: bool, eager: bool
    ) -> Any:
        """Return the port if its pause is over and it could be opened; ``None`` when it is still being opened.

        Args:
            open_it: Opens it.
            deadline: How long to wait for that, on ``time.monotonic()``.
            pauses: The pauses between attempts.
            may_try: Whether it may be opened at all.
            eager: Whether its pauses do not grow.

        Raises:
            ServomexConnectionError: It is still lost, or lost and must not be reopened.
        """
        if self.loss is not None and (self.retry_in_s > 0 or not may_try):
            raise self.still_lost(may_try)
        if self._opening is None:
            self._tried_at = time.monotonic()
            if self.loss is not None and self._tried_at < self._absent_until and is_absent(self._name):
                self.note_failure(self.loss, pauses, eager=eager)
                raise self.still_lost(may_try)
            self._opening = Opening(self._name, open_it)
        try:
            port = self._opening.result(max(READ_TICK_S, deadline - time.monotonic()))
        except ServomexError as error:
            self._opening = None
            lost = ServomexConnectionError(error.message, error.context, cure=error.cure)
            self.note_failure(lost, pauses, eager=eager)
            self._absent_until = self._tried_at + pauses.explained_s if is_absent(self._name) else 0.0
            raise
        if port is not None:
            self._opening = None
        return port

    def note_failure(self, error: ServomexConnectionError, pauses: Pauses, *, eager: bool) -> None:
        """Keep why the port is not open, and set when it is tried again."""
        self.loss = error
        now = time.monotonic()
        if eager:  # the time of an attempt, as on a network, counts as part of its pause
            self._retry_at = max(now, self._tried_at + pauses.eager_s)
        else:
            self._retry_at = now + min(pauses.longest_s, pauses.first_s * 2 ** min(self.failures, 16))
        self.failures += 1

    def still_lost(self, may_try: bool) -> ServomexConnectionError:
        """Return the error that says why the port is not open, and when it is tried again."""
        message = "the port is not open" if self.loss is None else self.loss.message
        if may_try and self.retry_in_s > 0:
            message += f" (next try in {self.retry_in_s:.1f} s)"
        cure = "" if self.loss is None else self.loss.cure
        return ServomexConnectionError(message, ErrorContext(port=self._name), cure=cure)

    def abandon(self) -> None:
        """Give up an attempt that is under way."""
        if self._opening is not None:
            self._opening.abandon()
            self._opening = None

    def forget(self) -> None:
        """Forget an attempt under way in a forked child: it belongs to the parent."""
        self._opening = None
