"""Bounded queues between the thread that receives frames and those that use them."""

import threading
import time
from collections import deque

from servomex.errors import ErrorContext, ServomexConnectionError, ServomexError, ServomexTimeoutError
from servomex.models import Frame
from servomex.validation import whole


class FrameQueue:
    """Frames in the order of their arrival, for one reader that may be slower than they come.

    When it is full, the oldest is dropped and counted: what is taken out is as new as possible, and memory stays
    bounded when nobody takes anything out.

    Args:
        size: How many frames it holds at most, 1 to 1,000,000.

    Attributes:
        dropped: Frames that were dropped because the queue was full.
    """

    def __init__(self, size: int = 100) -> None:
        self.dropped = 0
        self._items: deque[Frame | ServomexError] = deque(maxlen=whole(size, "size", 1, 1_000_000))
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: Frame | ServomexError) -> None:
        """Add a frame, or an error that :meth:`get` will raise. Never blocks."""
        with self._changed:
            if self._closed:
                return
            self.dropped += len(self._items) == self._items.maxlen
            self._items.append(item)
            self._changed.notify()

    def get(self, timeout: float | None = None) -> Frame:
        """Take the oldest frame, waiting for one ``timeout`` seconds at most; without end when ``None``.

        Raises:
            ServomexTimeoutError: None came in time.
            ServomexConnectionError: The port was lost since the frame before, or the queue is closed and empty.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items:
                if self._closed:
                    raise ServomexConnectionError("the analyser was closed")
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise ServomexTimeoutError("no frame came", ErrorContext(elapsed_s=timeout))
                self._changed.wait(remaining)
            item = self._items.popleft()
        if isinstance(item, ServomexError):
            raise item
        return item

    def close(self) -> None:
        """Take no more frames, and end the waiting of :meth:`get`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)
