"""Member: an analyser of a manager, whether it answers, and whether it was ever reached."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from servomex.analyzer.analyzer import Analyzer
from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexConnectionError,
    ServomexError,
    ServomexFrameError,
    ServomexTimeoutError,
    ServomexTransportError,
)
from servomex.manager.reaching import LOOK_S, PROBE_S, Awaited
from servomex.modbus.line import ModbusLine
from servomex.models.frame import Frame
from servomex.port.link import SerialLink
from servomex.runtime.clock import time

T = TypeVar("T")

PAUSES_S = (1.0, 60.0)
"""First and longest pause in reading an analyser that does not answer; it doubles each time."""
TURN_S = 4.0
"""How long others may keep a port before a round continues without it; less than the time a thread has to end."""


class Member:
    """An analyser of a manager, and whether it answers. Only its port's thread reads it through this class.

    Over Modbus, what the line has shown counts as an answer: the address is proven after any answer, also one
    that another caller got, and until a request fails.

    Args:
        name: Its name in the manager.
        analyzer: The analyser, or the attempts to reach one that is not there yet.
        link: The port that it is on.
        owned: Whether the manager opened it.

    Attributes:
        removed: Whether it was removed from the manager, and must not be read any more.
        awaited: The attempts to reach it; ``None`` once it was reached, or if it was opened at once.
        tags: Added to every row of it.
    """

    def __init__(self, name: str, analyzer: Analyzer | Awaited, link: SerialLink, *, owned: bool) -> None:
        self.name = name
        self.link = link
        self.owned = owned
        self.removed = False
        self.awaited = analyzer if isinstance(analyzer, Awaited) else None
        self._opened = analyzer if isinstance(analyzer, Analyzer) else None
        self.tags: Mapping[str, str] = analyzer.options.tags if isinstance(analyzer, Awaited) else analyzer.tags
        self._failures = 0
        self._generation = 0
        self._retry_at = 0.0
        self._failure: type[ServomexError] = ServomexTimeoutError
        self._reason = self._cure = ""

    @property
    def analyzer(self) -> Analyzer | None:
        """The analyser; ``None`` as long as its mode is not known."""
        awaited = self.awaited  # checked first: it is dropped once the analyser was taken from it
        return self._opened or (awaited.analyzer if awaited else None)

    @property
    def known(self) -> Analyzer:
        """The analyser.

        Raises:
            ServomexError: Its mode is not known yet; the error says why.
        """
        awaited = self.awaited
        analyzer = self.analyzer
        if analyzer is None:
            assert awaited is not None  # noqa: S101 (one that is not awaited any more has its analyser)
            raise awaited.error()
        return analyzer

    @property
    def protocol(self) -> ProtocolKind:
        """The communication mode; ``AUTO`` as long as it is not known."""
        awaited, opened = self.awaited, self._opened
        return opened.protocol if opened else awaited.protocol if awaited else ProtocolKind.AUTO

    @property
    def address(self) -> int | None:
        """Modbus slave address; ``None`` in continuous mode."""
        awaited, opened = self.awaited, self._opened
        return opened.mode.address if opened else awaited.address if awaited else None

    @property
    def context(self) -> ErrorContext:
        """Where it is."""
        return ErrorContext(self.link.port, self.protocol, self.address).merged(device=self.name)

    def seek(self, wait_s: float) -> Frame | None:
        """Try once to reach it; return the frame that showed it to be there, if a whole one was read.

        Args:
            wait_s: How long a reply to the first question may take to begin.

        Raises:
            ServomexError: It was not reached.
        """
        awaited = self.awaited
        if awaited is None:
            return None
        awaited.meet(wait_s)
        awaited.note_reached()
        self._failures = 0
        self._opened, self.awaited = awaited.analyzer, None
        return self.known.snapshot() if awaited.options.identify else None

    def poll(self, timeout: float | None) -> Frame:
        """Read all channels, unless the analyser is skipped because it did not answer, or was never reached.

        The port is taken before the time starts: a port that others keep busy says nothing about the analyser.

        Raises:
            ServomexError: As :meth:`Analyzer.poll` does.
        """
        if self.awaited:
            raise self.awaited.error()
        analyzer = self.known
        if self._missing and not analyzer.mode.broadcasts and time.monotonic() < self._retry_at:
            raise self._skipped()
        with analyzer.mode.turn(time.monotonic() + TURN_S):
            try:
                frame = self._ask(analyzer, timeout)
            except Exception as error:
                self._note(error)
                raise
        self._failures = 0
        return frame

    def operate(self, operation: Callable[[Analyzer], T]) -> T:
        """Carry out an operation of the caller's, even if the analyser is silent, and learn from it."""
        analyzer = self.known
        try:
            value = operation(analyzer)
        except Exception as error:
            self._note(error)
            raise
        self._note(None)
        return value

    def close(self) -> None:
        """Close the analyser, if the manager opened it, and stop trying to reach it.

        Raises:
            ServomexError: Its thread did not end.
        """
        awaited = self.awaited
        if awaited:
            awaited.close()
        if self.owned and self._opened:
            self._opened.close()

    @property
    def _missing(self) -> bool:
        """Whether the last request failed, with no sign of life since; not if the port came back meanwhile."""
        same_port = self._generation == self.link.generation
        return self._failures > 0 and same_port and not self._proven

    @property
    def _proven(self) -> bool:
        return self.address in self.link.state(ModbusLine).proven

    def _ask(self, analyzer: Analyzer, timeout: float | None) -> Frame:
        if self._missing:
            analyzer.mode.look_again(PROBE_S, LOOK_S)
            self._failures = 0
        return analyzer.poll(timeout=timeout)

    def _note(self, error: Exception | None) -> None:
        """Learn from the outcome of a request to the analyser. A lost port says nothing about it."""
        if self._proven:
            self._failures = 0
        elif isinstance(error, ServomexFrameError | ServomexTransportError) and not isinstance(
            error, ServomexConnectionError
        ):
            first, longest = PAUSES_S
            failures = self._failures if self._missing else 0
            self._retry_at = time.monotonic() + min(longest, first * 2 ** min(failures, 16))
            self._failures = failures + 1
            self._generation = self.link.generation
            self._failure = ServomexFrameError if isinstance(error, ServomexFrameError) else ServomexTimeoutError
            self._reason, self._cure = error.message, error.cure

    def _skipped(self) -> ServomexError:
        pause_s = max(0.0, self._retry_at - time.monotonic())
        return self._failure(
            f"it did not answer, and is asked again in {pause_s:.1f} s at the earliest: {self._reason}",
            self.context,
            cure=self._cure,
        )
