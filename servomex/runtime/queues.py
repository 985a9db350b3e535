"""Bounded queues between a producing thread and its consumers."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from servomex.enums import OverflowPolicy
from servomex.errors import ErrorContext, ServomexTimeoutError
from servomex.errors.validation import whole
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound, let_go_after_fork
from servomex.runtime.locks import Changes

T = TypeVar("T")

LARGEST = 1_000_000
BUFFER = 1000
"""The most readings that may wait to be taken, by default."""
LOOK_S = 0.1
"""How often a waiting producer checks whether to give up."""


class Closed(Exception):  # noqa: N818 (it is the end, and no error)
    """The end: the queue is empty, and nothing more will arrive. This is not a :class:`ServomexError`.

    :meth:`Recording.get` raises it; a loop over a recording simply ends.
    """


def no_frame(timeout: float | None) -> ServomexTimeoutError:
    """Return the error that nothing arrived in time."""
    return ServomexTimeoutError("no frame arrived in time", ErrorContext(elapsed_s=timeout))


class BoundedQueue(ProcessBound, Generic[T]):
    """A bounded first-in, first-out queue; what does not fit is dropped.

    Args:
        size: The most items that it holds, 1 to 1,000,000.
        policy: What happens when it is full.
    """

    def __init__(self, size: int, policy: OverflowPolicy) -> None:
        self._items: deque[T] = deque()
        self._size = whole(size, "size", 1, LARGEST)
        self._policy = policy
        self._changes = Changes()
        self._closed = False
        let_go_after_fork(self)

    def _let_go(self) -> None:
        self._changes, self._closed = Changes(), True
        self._items.clear()

    def put(self, item: T, give_up: Callable[[], bool] = lambda: False) -> list[T]:
        """Add an item, and return what was dropped for it: nothing, the oldest item, or the item itself.

        Waits for room when the policy is ``BLOCK``, until ``give_up`` says otherwise: then it is added beyond the
        size, so that it is not lost. In a closed queue the item is dropped.
        """
        while True:
            with self._changes.mutex:
                if self._closed or (self._full and self._policy is OverflowPolicy.DROP_NEWEST):
                    return [item]
                if not self._full or self._policy is OverflowPolicy.DROP_OLDEST or give_up():
                    dropped = (
                        [self._items.popleft()] if self._full and self._policy is not OverflowPolicy.BLOCK else []
                    )
                    self._items.append(item)
                    self._changes.announce()
                    return dropped
                ticket = self._changes.ticket()
            self._changes.wait(ticket, LOOK_S)

    @property
    def _full(self) -> bool:
        return len(self._items) >= self._size

    def get(self, timeout: float | None = None) -> T:
        """Return the oldest item, waiting at most ``timeout`` seconds; indefinitely when ``None``.

        Raises:
            ServomexTimeoutError: Nothing arrived in time.
            Closed: Nothing more will arrive.
        """
        return self.take(1, timeout)[0]

    def take(self, most: int, timeout: float | None = None) -> list[T]:
        """Return up to ``most`` of the oldest items; see :meth:`get`."""
        self.check_process()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changes.mutex:
                if self._items:
                    taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
                    self._changes.announce()
                    return taken
                if self._closed:
                    raise Closed
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise no_frame(timeout)
                ticket = self._changes.ticket()
            self._changes.wait(ticket, remaining)

    def close(self) -> None:
        """Accept nothing more. The items in it can still be taken."""
        with self._changes.mutex:
            self._closed = True
            self._changes.announce()

    def __len__(self) -> int:
        return len(self._items)
