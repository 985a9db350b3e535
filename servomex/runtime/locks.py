"""The lock of a port, and signals that end waits. A Ctrl-C at any moment leaves each of them usable.

``threading.Event`` and ``threading.Condition`` are not: a KeyboardInterrupt at the wrong moment leaves their inner
lock taken, and the next wait never ends. Nor is a lock that is released by a method written in Python: an
interrupt at the entry of that method leaves it taken. So here

* a lock is taken and released by a ``with`` statement on the interpreter's own locks, which no interrupt splits,
* a state is changed by one assignment, and
* a waiting thread checks every :data:`WAKE_S`, so that a wake-up lost to an interrupt costs no more than that.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Self

from servomex.runtime.clock import time

WAKE_S = 0.2
"""The longest wait in one piece. On Windows a Ctrl-C is seen only between two pieces."""


def _piece(deadline: float | None) -> float:
    """Return how long to wait before the next check."""
    return WAKE_S if deadline is None else max(0.0, min(WAKE_S, deadline - time.monotonic()))


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


class Signal:
    """A flag that can be set, cleared and waited for."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._is_set = False

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and end all waits."""
        self._is_set = True
        self._open()

    def clear(self) -> None:
        """Reset it."""
        self._is_set = False
        self._gate.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for at most ``timeout`` seconds; return whether it is."""
        deadline = _deadline(timeout)
        while not self._is_set and not _passed(deadline):
            # After an interrupted clear() the gate is open: a thread that passes it has closed it.
            if self._gate.acquire(timeout=_piece(deadline)) and self._is_set:
                self._open()  # for the other waiting threads
        return self._is_set

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is open already
            self._gate.release()


def pause(seconds: float) -> None:
    """Wait. On Windows only the signal of Ctrl-C ends ``time.sleep``."""
    Signal().wait(seconds)


class Changes:
    """Guards a state with :attr:`mutex`, and lets threads wait for its next change.

    A waiting thread takes a ticket while it holds the mutex and what it waits for is not there, releases the
    mutex, waits with the ticket, and checks again.

    Attributes:
        mutex: Held, by a ``with`` statement, while the state is read or changed.
    """

    def __init__(self) -> None:
        self.mutex: threading.RLock = threading.RLock()  # a signal handler may enter it in the middle
        self._tickets: list[threading.Lock] = []

    def ticket(self) -> threading.Lock:
        """Return the ticket for :meth:`wait`. The mutex must be held."""
        ticket = threading.Lock()
        ticket.acquire()
        self._tickets.append(ticket)
        return ticket

    def announce(self) -> None:
        """End all waits. The mutex must be held."""
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.release()

    def wait(self, ticket: threading.Lock, timeout: float | None = None) -> None:
        """Wait for the next change, at most ``timeout`` seconds or :data:`WAKE_S`. The mutex must not be held.

        It may end without a change: the caller checks, and waits again.
        """
        if not ticket.acquire(timeout=_piece(_deadline(timeout))):
            with self.mutex:
                if ticket in self._tickets:
                    self._tickets.remove(ticket)


class Turn(type(threading.RLock())):  # type: ignore[misc]
    """One turn with a :class:`PortLock`, from the request to the release, for a ``with`` statement.

    It is itself a lock, held by its thread as long as the turn is wanted. The ``with`` statement ends by the
    interpreter's own ``__exit__`` of that lock: no interrupt can fall between the end of the block and the end of
    the turn, as it could with a method written in Python.

    Attributes:
        thread: The thread that asked.
        more: How many times the holder has taken the port's lock again by :meth:`PortLock.acquire`.
        in_line: Held while waiting for the turn.
        called: Set when those before it in the line are gone.
    """

    def __new__(cls, *_args: object, **_options: object) -> Self:  # noqa: D102 (a lock takes no arguments)
        turn: Self = super().__new__(cls)
        return turn

    def __init__(
        self,
        lock: "PortLock | None" = None,
        timeout: float | None = None,
        busy: Callable[[], Exception] = TimeoutError,
        then: Callable[[], object] | None = None,
    ) -> None:
        self.thread: threading.Thread = threading.current_thread()
        self.more = 0
        self.in_line: threading.Lock = threading.Lock()
        self.called: Signal = Signal()
        self._begin = (lock, timeout, busy, then)

    def __enter__(self) -> Self:
        (lock, timeout, busy, then), self._begin = self._begin, (None, None, TimeoutError, None)
        try:
            if lock is not None and not lock.take(self, timeout):
                raise busy()  # noqa: TRY301 (it ends the turn like any other)
            if then is not None:
                then()
        except BaseException:
            self.give_up()
            raise
        return self

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread asked for it, and has not released it."""
        return self.thread is threading.current_thread() and bool(self._is_owned())

    def give_up(self) -> None:
        """End the turn, if it is the calling thread's."""
        while self._is_owned():
            self.release()


class PortLock:
    """A re-entrant lock that is passed to waiting threads in the order of their arrival.

    ``threading.RLock`` may be taken again by the thread that just released it, so that a thread which polls
    without a pause starves all others; here no thread waits longer than the turns of those before it.

    ``with lock.turn():`` is safe from interrupts at every moment. :meth:`acquire` and :meth:`release` leave the
    lock either taken or not, but an interrupt just before ``release()`` leaves it taken. A lock whose thread ended
    without releasing it goes to the next in line.
    """

    def __init__(self) -> None:
        self._mutex = threading.RLock()  # a signal handler may enter it in the middle
        self._holder: Turn | None = None
        self._waiting: deque[Turn] = deque()

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread holds it."""
        holder = self._holder
        return holder is not None and holder.is_mine

    def turn(
        self,
        timeout: float | None = None,
        busy: Callable[[], Exception] = TimeoutError,
        then: Callable[[], object] | None = None,
    ) -> Turn:
        """Return a turn, to hold the lock in a ``with`` statement.

        Args:
            timeout: The longest wait in seconds.
            busy: Makes the exception to raise when it was not free in time.
            then: Called once it is held, before the block; if that fails, the lock is released.
        """
        return Turn(self, timeout, busy, then)

    def acquire(self, timeout: float | None = None) -> bool:
        """Acquire the lock, waiting at most ``timeout`` seconds; return whether it was acquired."""
        holder = self._holder
        if holder is not None and holder.is_mine:
            holder.more += 1
            return True
        turn = Turn()
        try:
            if self.take(turn, timeout):
                return True
        except BaseException:
            turn.give_up()
            raise
        turn.give_up()
        return False

    def release(self) -> None:
        """Release the lock, to the longest waiting thread if there is one.

        Raises:
            RuntimeError: The calling thread does not hold it.
        """
        holder = self._holder
        if holder is None or not holder.is_mine:
            raise RuntimeError("the port's lock is held by another thread")
        if holder.more:
            holder.more -= 1
        else:
            holder.release()

    def take(self, turn: Turn, timeout: float | None) -> bool:
        """Begin a turn, waiting at most ``timeout`` seconds; return whether it has begun.

        After ``False``, and after any exception, the caller must give up the turn.
        """
        nested = self.is_mine
        turn.acquire()
        if nested:
            return True
        try:
            with turn.in_line:
                with self._mutex:
                    self._waiting.append(turn)
                try:
                    return self._wait_in_line(turn, _deadline(timeout))
                finally:
                    self._leave_line(turn)
        except BaseException:
            if self._holder is not None:  # one that had ended, if it is this thread's now
                self._holder.give_up()
            raise

    def _wait_in_line(self, turn: Turn, deadline: float | None) -> bool:
        while True:
            with self._mutex:
                is_first = self._first() is turn
            if is_first:  # only the first checks the holder, and takes its place
                holder = self._holder
                if holder is None or holder.acquire(timeout=_piece(deadline)) or not holder.thread.is_alive():
                    self._holder = turn
                    return True
            else:
                turn.called.wait(_piece(deadline))
            if _passed(deadline):
                return False

    def _first(self) -> Turn:
        """Return the first that is still waiting; an interrupted one may precede it. The mutex is held."""
        while not self._waiting[0].in_line.locked():
            self._waiting.popleft()
        return self._waiting[0]

    def _leave_line(self, turn: Turn) -> None:
        with self._mutex:
            if turn in self._waiting:
                self._waiting.remove(turn)
            if self._waiting:
                self._waiting[0].called.set()
