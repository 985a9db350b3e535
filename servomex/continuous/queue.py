"""Broadcasts on their way to one reader, which may be slower than they arrive."""

from servomex.enums import OverflowPolicy
from servomex.errors import ServomexConnectionError, ServomexError, ServomexTimeoutError
from servomex.models.frame import Frame
from servomex.runtime.queues import BoundedQueue, Closed, no_frame


class FrameQueue:
    """Frames in the order of their arrival, for one reader that may be slower than they arrive.

    When it is full, the oldest is dropped and counted: what is taken out is as new as possible, and memory stays
    bounded when nothing is taken out.

    Args:
        size: How many frames it holds at most, 1 to 1,000,000.

    Attributes:
        dropped: Frames and errors that were dropped because the queue was full, and broadcasts that were dropped
            before because they had waited for an unknown time.
        dropped_errors: How many of them reported that the port was lost.
    """

    def __init__(self, size: int = 100) -> None:
        self.dropped: int = 0
        self.dropped_errors: int = 0
        self._items: BoundedQueue[Frame | ServomexError] = BoundedQueue(size, OverflowPolicy.DROP_OLDEST)

    def put(self, item: Frame | ServomexError) -> None:
        """Add a frame, or an error that :meth:`get` will raise. Never blocks."""
        for dropped in self._items.put(item):
            self.dropped += 1
            self.dropped_errors += isinstance(dropped, ServomexConnectionError)

    def count_dropped(self, number: int) -> None:
        """Count broadcasts that were dropped before they could be added."""
        self.dropped += number

    def get(self, timeout: float | None = None) -> Frame:
        """Return the oldest frame, waiting at most ``timeout`` seconds; indefinitely when ``None``.

        Raises:
            ServomexTimeoutError: None arrived in time, or others kept the port busy when the reader started.
            ServomexConnectionError: The port was lost since the frame before, or the queue is closed and empty.
            ServomexTransportError: Broadcasts were dropped since their age is not known, or the reader has failed.
            ServomexParseError: A broadcast was damaged, or its clock or its names do not follow from those before.
            ServomexChannelError: A broadcast lacks a channel.
            ServomexProtocolError: Two analysers broadcast on the line, or the same broadcast is repeated.
        """
        try:
            item = self.next_item(timeout)
        except Closed:
            raise ServomexConnectionError("the analyser was closed") from None
        if item is None:
            raise no_frame(timeout)
        if isinstance(item, ServomexError):
            raise item
        return item

    def next_item(self, timeout: float | None = None) -> Frame | ServomexError | None:
        """Return the oldest frame, or the error in place of one; ``None`` when none arrived in time.

        Raises:
            Closed: Nothing more will arrive.
        """
        try:
            return self._items.get(timeout)
        except ServomexTimeoutError:
            return None

    def close(self) -> None:
        """Accept no more frames, and end the wait of :meth:`get`."""
        self._items.close()

    def __len__(self) -> int:
        return len(self._items)
