"""SharedPort: a port of a manager, the thread that asks its analysers in turn, and which of them do not answer."""

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from servomex import registers
from servomex.analyzer import Analyzer
from servomex.clock import time
from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexConnectionError,
    ServomexError,
    ServomexFrameError,
    ServomexModbusError,
    ServomexTimeoutError,
    ServomexTransportError,
)
from servomex.link import SerialLink
from servomex.lock import Signal
from servomex.models import Frame
from servomex.worker import Worker

T = TypeVar("T")

PAUSES_S = (1.0, 60.0)
"""First and longest pause in asking an analyser that does not answer; it doubles from one to the other."""
PROBE_S = 0.5
"""What the question may take by which such an analyser is tried again; longer where the line needs more."""
PROBE_REQUESTS = 3
"""That question at its longest: a read that shows whether the line echoes, the fence, and the state."""
LOOK_S = 0.001
"""How long a continuous analyser that fell silent is waited for: its thread listens all the time."""
TURN_S = 4.0
"""How long others may keep a port before a round goes on without it; less than a thread is given to end."""
WAKE_S = 0.2
"""How often a waiting caller looks up: on Windows, Ctrl-C does not end the wait for a lock."""


@attrs.frozen
class DeviceResult(Generic[T]):
    """What came of asking one analyser of a manager: a value or an error, never both.

    Attributes:
        value: What it gave; ``None`` after an error.
        error: Why there is no value; ``None`` when all went well. Of a reading it is a :class:`ServomexError`,
            whose context has the port, the address and the name, ``extra["device"]``; of
            :meth:`ServomexManager.execute_each` what the operation raised.
        name: The analyser's name in its manager.
    """

    value: T | None = None
    error: Exception | None = None
    name: str = ""

    @classmethod
    def success(cls, value: T) -> "DeviceResult[T]":
        """Return the result of an analyser that gave a value."""
        return cls(value)

    @classmethod
    def failure(cls, error: Exception) -> "DeviceResult[Any]":
        """Return the result of an analyser that gave an error."""
        return cls(error=error)

    @property
    def ok(self) -> bool:
        """Whether there was no error."""
        return self.error is None

    def __str__(self) -> str:
        """Say what came of it, after the name of the analyser."""
        what = self.value if self.error is None else str(self.error) or type(self.error).__name__
        return f"{self.name}: {what}" if self.name else str(what)


class Member:
    """An analyser of a manager, and whether it answers. Only its port's thread asks it through this class.

    Over Modbus, what counts as an answer is what the line has shown: the address is proven after any answer, also
    one that somebody else has got, and until a request fails.

    Args:
        name: Its name in the manager.
        analyzer: The analyser.
        port: The port that it is on.
        owned: Whether the manager has opened it.

    Attributes:
        removed: Whether it was taken out of the manager, and is not to be asked any more.
        address: Modbus slave address; ``None`` in continuous mode.
    """

    def __init__(self, name: str, analyzer: Analyzer, port: "SharedPort", *, owned: bool) -> None:
        self.name = name
        self.analyzer = analyzer
        self.port = port
        self.owned = owned
        self.removed = False
        self._client = analyzer.client
        self.address: int | None = self._client.address if self._client else None
        self._failures = 0
        self._generation = 0
        self._retry_at = 0.0
        self._failure: type[ServomexError] = ServomexTimeoutError
        self._reason = self._cure = ""

    def poll(self, timeout: float | None) -> Frame:
        """Read all channels, unless the analyser is left out because it did not answer.

        The port is taken before the time begins to run: that others keep it busy says nothing about the analyser.

        Raises:
            ServomexError: As :meth:`Analyzer.poll` does.
        """
        if self._client and self._missing and time.monotonic() < self._retry_at:
            raise self._left_out()
        link = self.analyzer.link
        turn = link.lock_held(time.monotonic() + TURN_S) if self._client else contextlib.nullcontext()
        with turn:
            try:
                frame = self._ask(timeout)
            except Exception as error:
                self._note(error)
                raise
        self._failures = 0
        return frame

    def operate(self, operation: Callable[[Analyzer], T]) -> T:
        """Carry out an operation of the caller's, whatever is known of the analyser, and learn from it."""
        try:
            value = operation(self.analyzer)
        except Exception as error:
            self._note(error)
            raise
        self._note(None)
        return value

    def context(self) -> ErrorContext:
        """Say where it is."""
        where = ErrorContext(self.analyzer.link.port, self.analyzer.protocol, self.address)
        return where.merged(device=self.name)

    @property
    def _missing(self) -> bool:
        """Whether it failed last, and no sign has come since. With its port, it may have come back as well."""
        same_port = self._generation == self.analyzer.link.generation
        return self._failures > 0 and same_port and not self._proven

    @property
    def _proven(self) -> bool:
        return self.address in self.analyzer.link.proven

    def _ask(self, timeout: float | None) -> Frame:
        if self._missing and self._client is None:
            return self.analyzer.poll(timeout=LOOK_S)
        if self._missing and self._client:
            with contextlib.suppress(ServomexModbusError):  # a refusal is an answer
                self._client.read_analyser(time.monotonic() + self._probe_s)
            self._failures = 0
        return self.analyzer.poll(timeout=timeout)

    @property
    def _probe_s(self) -> float:
        """Seconds in which an analyser that is back has told its state, on this line and as slow as it was."""
        from servomex.exchange import QUIET_S

        assert self._client is not None  # noqa: S101 (one without a client is not probed)
        settings, gap_s = self.analyzer.link.settings, self.analyzer.link.gap_s
        framing = self._client.protocol is ProtocolKind.MODBUS_ASCII
        timing = registers.LineTiming(settings.char_time_s, gap_s, framing, self._client.exchange.slowest_s)
        return max(PROBE_S, QUIET_S + PROBE_REQUESTS * timing.bits(registers.ALL_ANALYSER))

    def _note(self, error: Exception | None) -> None:
        """Learn from what somebody did with the analyser. A port that is lost says nothing about it."""
        if self._proven:
            self._failures = 0
        elif isinstance(error, ServomexFrameError | ServomexTransportError) and not isinstance(
            error, ServomexConnectionError
        ):
            first, longest = PAUSES_S
            failures = self._failures if self._missing else 0
            self._retry_at = time.monotonic() + min(longest, first * 2 ** min(failures, 16))
            self._failures = failures + 1
            self._generation = self.analyzer.link.generation
            self._failure = ServomexFrameError if isinstance(error, ServomexFrameError) else ServomexTimeoutError
            self._reason, self._cure = error.message, error.cure

    def _left_out(self) -> ServomexError:
        pause_s = max(0.0, self._retry_at - time.monotonic())
        return self._failure(
            f"it did not answer, and is asked again in {pause_s:.1f} s at the earliest: {self._reason}",
            self.context(),
            cure=self._cure,
        )


@attrs.define(eq=False)
class Round(Generic[T]):
    """One call of a manager: what is done with each analyser, and what came of it so far.

    Attributes:
        work: Done with each analyser, in its port's thread.
        reads: Whether it only reads, so that on a lost port nothing need be tried.
        results: What came of it, by the analyser's name.
        stopped: Whether no further analyser is to be asked.
        fatal: What ``work`` raised that is no ``Exception``.
    """

    work: Callable[[Member], T]
    reads: bool
    results: dict[str, DeviceResult[T]] = attrs.field(factory=dict)
    stopped: bool = False
    fatal: BaseException | None = None

    def ask(self, member: Member, loss: ServomexError | None) -> None:
        """Do the work with one analyser, unless its port is lost. Whatever comes of it is kept."""
        name = member.name
        try:
            if loss is None:
                self.results[name] = DeviceResult(self.work(member), name=name)
            else:
                self.results[name] = DeviceResult(error=loss.with_context(device=name), name=name)
        except ServomexError as error:
            self.results[name] = DeviceResult(error=error.with_context(device=name), name=name)
        except Exception as error:  # noqa: BLE001 (it is the result)
            self.results[name] = DeviceResult(error=error, name=name)
        except BaseException as error:  # noqa: BLE001 (it is raised in the caller's thread)
            self.fatal, self.stopped = error, True


class Turn:
    """The part of a round that is done on one port.

    Args:
        asked: The round.
        members: The analysers on this port, in order.
    """

    def __init__(self, asked: Round[Any], members: list[Member]) -> None:
        self.asked = asked
        self.members = members
        self._ended = Signal()
        self._mutex = threading.Lock()

    def end(self) -> None:
        """Let the caller go, also with what there is so far. May be called twice, and by any thread."""
        with self._mutex:
            self._ended.set()

    def wait(self) -> None:
        """Wait for the end."""
        while not self._ended.wait(WAKE_S):
            pass


class SharedPort:
    """A port of a manager, and the thread that asks the analysers on it one after the other.

    Args:
        link: The port.
        owned: Whether the manager has opened it, so that :meth:`close` closes it.
    """

    def __init__(self, link: SerialLink, *, owned: bool) -> None:
        self.link = link
        self.owned = owned
        self._turns: queue.SimpleQueue[Turn | None] = queue.SimpleQueue()
        self._current: Turn | None = None
        self._ended = False
        self._thread: int | None = None
        self._worker = Worker(f"servomex-port {link.port}", self._run)

    @property
    def is_calling(self) -> bool:
        """Whether it is this port's thread that runs."""
        return self._thread == threading.get_ident()

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def submit(self, asked: Round[Any], members: list[Member]) -> Turn:
        """Hand a round's part over to the thread. When the port was closed, it ends at once."""
        turn = Turn(asked, members)
        self._turns.put(turn)
        if self._ended:  # else end() finds it, or the thread does
            turn.end()
        return turn

    def end(self) -> None:
        """Let all waiting callers go; the thread ends after what it is doing. May be called twice."""
        self._ended = True
        if (turn := self._current) is not None:
            turn.end()
        with contextlib.suppress(queue.Empty):
            while True:
                if (turn := self._turns.get_nowait()) is not None:
                    turn.end()
        self._turns.put(None)

    def close(self) -> None:
        """End the thread, and close the port if it was opened by the manager.

        Raises:
            ServomexError: The thread did not end: an operation does not come back.
        """
        self.end()
        try:
            if self.owned:
                self.link.close()
        finally:
            self._worker.stop()

    def _run(self, _stopping: threading.Event) -> None:
        self._thread = threading.get_ident()
        try:
            while self._serve_next():
                pass
        finally:
            self.end()

    def _serve_next(self) -> bool:
        """Wait for a turn and do it; ``False`` when there is none to come."""
        turn = self._turns.get()
        if turn is None:
            return False
        self._current = turn
        asked = turn.asked
        loss = self._loss() if asked.reads and not asked.stopped else None
        for member in turn.members:
            if self._ended or asked.stopped:
                break
            if not member.removed:
                asked.ask(member, loss)
        self._current = None
        turn.end()
        return True

    def _loss(self) -> ServomexError | None:
        """Say why nothing can be read here for now; a lost port is tried again, without waiting for it.

        Once a round is enough: the first analyser would else wait its whole time for a network host that is off.
        """
        if self.link.has_reader:  # whose thread keeps the port, and reopens it by itself
            return None
        try:
            with self.link.lock_held(time.monotonic() + TURN_S):
                self.link.ensure_open(time.monotonic())
        except ServomexError as error:
            return error
        return None
