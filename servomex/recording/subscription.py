"""Subscription: frames and errors delivered to a callback, in order, by a thread of its own."""

import threading
from collections.abc import Callable
from typing import Protocol, Self

from servomex.continuous.reader import ContinuousReader
from servomex.enums import OverflowPolicy
from servomex.errors import ServomexError, ServomexTimeoutError
from servomex.errors.validation import whole
from servomex.models.frame import Frame
from servomex.recording.acquisition import Acquisition, Pace
from servomex.recording.feeds import Feed
from servomex.runtime.forks import ProcessBound
from servomex.runtime.logs import package_log
from servomex.runtime.queues import LARGEST, Closed
from servomex.runtime.worker import Worker

_log = package_log("servomex")

Callback = Callable[[Frame | ServomexError], object]
TICK_S = 0.1


class FrameSource(Protocol):
    """What a subscription needs of an :class:`Analyzer`."""

    @property
    def name(self) -> str:
        """The name in rows."""

    @property
    def reader(self) -> ContinuousReader | None:
        """The receiver of its broadcasts; ``None`` over Modbus."""

    @property
    def closed(self) -> bool:
        """Whether it is closed: nothing more will be read."""

    def poll(self) -> Frame:
        """Return all channels with their states.

        Raises:
            ServomexError: The reading failed.
        """


class Subscription(ProcessBound):
    """Delivers what an acquisition takes to a callback. :meth:`Analyzer.subscribe` makes one.

    The callback runs in one thread that belongs to this subscription, so that a slow one delays no other; if
    it stays slow, the oldest readings are dropped and counted. An exception that it raises is logged and counted,
    and does not end the subscription. Anything that is not an ``Exception``, such as the ``SystemExit`` of
    ``sys.exit``, ends it, and is logged and kept in :attr:`error`.

    Args:
        acquisition: Where readings come from.
        callback: Takes each :class:`Frame`, and each :class:`ServomexError` in place of one.
        name: Names the thread.

    Attributes:
        delivered: How often the callback was called.
        failures: How often it raised.
        last_failure: The last exception that it raised.
    """

    def __init__(
        self,
        acquisition: Acquisition[Frame | ServomexError],
        callback: Callback,
        name: str,
    ) -> None:
        self.delivered: int = 0
        self.failures: int = 0
        self.last_failure: Exception | None = None
        self._acquisition = acquisition
        self._callback = callback
        self._worker = Worker(f"servomex-subscription {name}", self._run)

    @property
    def error(self) -> BaseException | None:
        """The error that ended it, such as a closed analyser; ``None`` while it runs, and after :meth:`close`."""
        return self._acquisition.error or self._worker.error

    @property
    def dropped(self) -> int:
        """Readings that were dropped because the callback was too slow."""
        return self._acquisition.summary.dropped

    def start(self) -> Self:
        """Start.

        Raises:
            ServomexConfigurationError: It was started before.
            ServomexError: The system cannot start another thread.
        """
        self._acquisition.start()
        try:
            self._worker.start()
        except BaseException:
            self._acquisition.close()
            raise
        return self

    def close(self) -> None:
        """End the subscription. The callback is not called after this returns, unless it called this itself.

        May be called twice, and by any thread. Waits for a reading and a callback under way.

        Raises:
            ServomexError: The callback did not return within 5 s, or the reading within 30 s.
        """
        self._acquisition.close()
        self._worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _run(self, stopping: threading.Event) -> None:
        try:
            self._deliver(stopping)
        except BaseException:
            self._acquisition.close()  # nothing is taken any more
            raise

    def _deliver(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                item = self._acquisition.get(TICK_S)
            except ServomexTimeoutError:
                continue
            except Closed:
                return
            except ServomexError as error:  # the error that ended it
                self._call(error)
                return
            self._call(item)

    def _call(self, item: Frame | ServomexError) -> None:
        self.delivered += 1
        try:
            self._callback(item)
        except Exception as error:  # noqa: BLE001 (it is the caller's own, and reported)
            self.failures += 1
            self.last_failure = error
            _log.exception("%s: a callback raised", self._acquisition.name)


class FrameFeed(Feed[Frame | ServomexError]):
    """The frames of an analyser, and the errors in place of those that fail.

    Args:
        analyzer: The analyser.
    """

    def __init__(self, analyzer: FrameSource) -> None:
        super().__init__(analyzer.name, analyzer.reader)
        self._analyzer = analyzer

    @property
    def closed(self) -> bool:
        """Whether the analyser is closed."""
        return self._analyzer.closed

    def poll(self) -> Frame:
        """Read all channels now."""
        return self._analyzer.poll()

    def taken(self, frame: Frame) -> Frame:
        """Return a broadcast as it is."""
        return frame

    def failed(self, error: ServomexError) -> ServomexError:
        """Return an error as it is."""
        return error


def frames_of(
    analyzer: FrameSource, pace_hz: float | None, buffer_size: int, *, duration_s: float | None = None
) -> Acquisition[Frame | ServomexError]:
    """Return the acquisition of an analyser's frames, and of errors in place of those that fail.

    Args:
        analyzer: The analyser.
        pace_hz: Readings per second over Modbus; ``None`` for each broadcast.
        buffer_size: How many frames may wait; then the oldest are dropped and counted.
        duration_s: It ends after this many seconds; ``None`` for never.

    Raises:
        ServomexValidationError: The buffer is too small or too large.
    """
    buffer_size = whole(buffer_size, "buffer_size", 1, LARGEST)
    pace = Pace(rate_hz=pace_hz, duration_s=duration_s)
    return Acquisition(FrameFeed(analyzer), pace, size=buffer_size, policy=OverflowPolicy.DROP_OLDEST)
