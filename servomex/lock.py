"""The lock of a port, and the signal that ends its waits. Both survive a Ctrl-C in the middle of a wait.

``threading.Event`` and ``threading.Condition`` do not: a KeyboardInterrupt at the wrong moment leaves their inner
lock taken, and the next wait never ends. Waiting on a plain lock has no such moment.
"""

import contextlib
import threading
from collections import deque


class Signal:
    """Something that is set once or cleared again, and that can be waited for."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and end all waits."""
        self._is_set = True
        self._open()

    def clear(self) -> None:
        """Take it back."""
        self._is_set = False
        self._gate.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for ``timeout`` seconds at most; tell whether it is."""
        if not self._is_set and self._gate.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self._open()  # for the others that wait
        return self._is_set

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # set twice while a thread wakes up: the other one has opened it
            self._gate.release()


class Changes:
    """Guards a state with :attr:`mutex`, and lets threads wait for its next change.

    Who waits takes a ticket while it holds the mutex and has seen that what it waits for is not there, gives the
    mutex back, and waits with the ticket.

    Attributes:
        mutex: To be held while the state is looked at or changed.
    """

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self._tickets: list[threading.Lock] = []

    def ticket(self) -> threading.Lock:
        """Give what :meth:`wait` takes. The mutex must be held."""
        ticket = threading.Lock()
        ticket.acquire()
        self._tickets.append(ticket)
        return ticket

    def announce(self) -> None:
        """End all waits. The mutex must be held."""
        for ticket in self._tickets:
            ticket.release()
        self._tickets.clear()

    def wait(self, ticket: threading.Lock, timeout: float | None = None) -> None:
        """Wait for the next change, ``timeout`` seconds at most. The mutex must not be held."""
        if not ticket.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            with self.mutex:
                if ticket in self._tickets:
                    self._tickets.remove(ticket)


class PortLock:
    """A re-entrant lock that is handed to waiting threads in the order in which they came.

    ``threading.RLock`` may be taken again by the thread that just released it, so that a thread which polls
    without a pause starves all others; here nobody waits longer than the turns of those before him.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._waiting: deque[tuple[int, Signal]] = deque()

    @property
    def depth(self) -> int:
        """How many times the calling thread holds it."""
        return self._depth if self._owner == threading.get_ident() else 0

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock, waiting ``timeout`` seconds at most; tell whether it was taken."""
        me = threading.get_ident()
        ticket = Signal()
        with self._mutex:
            if self._owner == me:
                self._depth += 1
                return True
            if self._owner is None:
                self._owner, self._depth = me, 1
                return True
            self._waiting.append((me, ticket))
        try:
            if ticket.wait(timeout):
                return True
        except BaseException:
            if not self._withdraw(me, ticket):
                self.release()
            raise
        return not self._withdraw(me, ticket)

    def _withdraw(self, me: int, ticket: Signal) -> bool:
        """Leave the queue; ``False`` when the lock was handed over at the last moment."""
        with self._mutex:
            if ticket.is_set():
                return False
            self._waiting.remove((me, ticket))
            return True

    def release(self) -> None:
        """Give the lock back, to the longest waiting thread if there is one.

        Raises:
            RuntimeError: The calling thread does not hold it.
        """
        with self._mutex:
            if self._owner != threading.get_ident():
                raise RuntimeError("the port's lock is held by another thread")
            self._depth -= 1
            if self._depth:
                return
            if self._waiting:
                self._owner, ticket = self._waiting.popleft()
                self._depth = 1
                ticket.set()
            else:
                self._owner = None
