"""The lock of a port: re-entrant, first come first served, with a deadline."""

import threading
from collections import deque


class PortLock:
    """A re-entrant lock that is handed to waiting threads in the order in which they came.

    ``threading.RLock`` may be taken again by the thread that just released it, so that a thread which polls
    without a pause starves all others; here nobody waits longer than the turns of those before him.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock, waiting ``timeout`` seconds at most; tell whether it was taken."""
        me = threading.get_ident()
        ticket = threading.Event()
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

    def _withdraw(self, me: int, ticket: threading.Event) -> bool:
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
