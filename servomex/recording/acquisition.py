"""Acquisition: the thread that takes readings at fixed moments, or each broadcast, and passes them on in order."""

import contextlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, Self, TypeVar

import attrs

from servomex.continuous.queue import FrameQueue
from servomex.continuous.reader import ContinuousReader
from servomex.enums import OverflowPolicy
from servomex.errors import (
    Argument,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexParseError,
    ServomexTransportError,
)
from servomex.models.frame import Frame
from servomex.recording.feeds import Feed
from servomex.recording.outages import Outages
from servomex.recording.summary import AcquisitionSummary
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound
from servomex.runtime.logs import package_log
from servomex.runtime.queues import BoundedQueue, Closed
from servomex.runtime.worker import Worker

T = TypeVar("T")

_log = package_log("servomex")

STOP_S = 30.0
"""How long the thread may take to end: as long as the reading in progress."""
A_RATE = Argument("rate_hz", 1)
"""The argument that is missing when nothing else determines when to read."""
LOOK_S = 0.1
"""How often the thread checks its stop request while it waits for a broadcast."""


@attrs.frozen(kw_only=True)
class Pace:
    """When readings are taken.

    Attributes:
        rate_hz: How often; ``None`` for each broadcast, which a feed without broadcasts cannot provide.
        count: It ends after this many attempted readings or received broadcasts, failed ones included;
            ``None`` for never.
        duration_s: It ends after this many seconds; ``None`` for never.
    """

    rate_hz: float | None = None
    count: int | None = None
    duration_s: float | None = None

    @property
    def slots(self) -> int | None:
        """How many moments the duration has; ``None`` when there is none, or no rate."""
        if self.rate_hz is None or self.duration_s is None:
            return None
        # The rounding keeps 60 s at 5 Hz from becoming 301 moments by the last bit of a product.
        return max(1, -int(-round(self.duration_s * self.rate_hz, 6) // 1))


class Acquisition(ProcessBound, Generic[T]):
    """Takes readings in a thread of its own and puts them into a bounded queue.

    The moments are fixed: the nth is n/rate seconds after the start on the monotonic clock, whatever the readings
    before it took. A moment that has passed when its turn comes is counted as late. A failed reading is passed on
    as an error, so that the gap shows.

    Args:
        feed: Where readings come from.
        pace: When they are taken.
        size: How many may wait to be taken.
        policy: What happens when more are waiting.
        auto_reconnect: Continue after the port was lost. Otherwise that ends the acquisition.

    Attributes:
        name: Names the source.
        summary: The outcome so far; live.
        error: The error that ended it, if any.
    """

    _usage: str = "Use 'with', or call start()"

    def __init__(
        self, feed: Feed[T], pace: Pace, *, size: int, policy: OverflowPolicy, auto_reconnect: bool = True
    ) -> None:
        self.name: str = feed.name
        self.summary: AcquisitionSummary = AcquisitionSummary()
        self.error: BaseException | None = None
        self._feed = feed
        self._pace = pace
        self._size = size
        self._reconnect = auto_reconnect
        self._queue: BoundedQueue[tuple[T, bool]] = BoundedQueue(size, policy)
        self._marking = threading.RLock()
        self._frames: FrameQueue | None = None
        self._started = False
        self._begun: float | None = None
        self._outages = Outages(self.summary)
        self._lost = self._rate_warned = False
        self._seen_dropped = self._seen_losses = 0
        self._seen_refused = 0
        self._watcher: Callable[[T], object] | None = None
        self._worker = Worker(f"servomex-acquisition {feed.name}", self._run)

    @property
    def is_current(self) -> bool:
        """Whether the caller is the thread that reads."""
        return self._worker.is_current

    def start(self) -> Self:
        """Start.

        Raises:
            ServomexConfigurationError: It was started before.
        """
        self.check_process()
        if self._started:
            raise ServomexConfigurationError("it can be started only once", cure="Make a new one")
        self._started = True
        if self._feed.reader is not None and self._pace.rate_hz is None:
            self._frames = self._feed.reader.subscribe(self._size)
        try:
            self._worker.start()
        except BaseException:
            self._release()
            raise
        return self

    def watch(self, watcher: Callable[[T], object]) -> None:
        """Call a function with each reading as it is taken, before it waits in the queue.

        It is called in the thread that reads, and delays the next reading: it should only keep what it gets. After
        an exception it is not called again.
        """
        self._watcher = watcher

    def close(self) -> None:
        """End after the reading in progress. What was read can still be taken.

        May be called twice, and by any thread.

        Raises:
            ServomexError: The thread did not end.
        """
        if not self.made_here:
            return
        try:
            self._worker.stop(STOP_S)
        finally:
            self._release()

    def _release(self) -> None:
        if self._feed.reader is not None and self._frames is not None:
            self._feed.reader.unsubscribe(self._frames)

    def get(self, timeout: float | None = None) -> T:
        """Return the oldest reading, waiting at most ``timeout`` seconds; indefinitely when ``None``.

        Raises:
            ServomexConfigurationError: It was not started.
            ServomexTimeoutError: None arrived in time.
            Closed: It has ended, nothing is left, and no error ended it.
            BaseException: The error that ended it.
        """
        return self.take(1, timeout)[0]

    def take(self, most: int, timeout: float | None = None) -> list[T]:
        """Return the oldest reading and those waiting after it, up to ``most``; see :meth:`get`."""
        self.check_process()
        if not self._started:
            raise ServomexConfigurationError("nothing is read yet", cure=self._usage)
        try:
            items = self._queue.take(most, timeout)
        except Closed:
            if self.error is not None:
                raise self.error from None
            raise
        with self._marking:
            return [self._marked(taken) for taken, _ in items]

    def _marked(self, taken: T) -> T:
        """Return a reading with what a subclass adds to it. Not called for dropped readings."""
        return taken

    def drop_waiting(self) -> None:
        """Drop what is still waiting after the end, and count it."""
        number = len(self._queue)
        for _, failed in self._queue.take(number, 0) if number else []:
            self._count_dropped(failed=failed)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _run(self, stopping: threading.Event) -> None:
        self.summary.started_at, self._begun = datetime.now(UTC), time.monotonic()
        try:
            if self._feed.reader is not None and self._frames is not None:
                self._follow(stopping, self._feed.reader, self._frames)
            else:
                self._keep_pace(stopping)
        except BaseException as error:
            self.error = error  # before the queue ends, or its end would look like a regular one
            raise
        finally:
            self._feed.end()
            self._outages.end(self.name)
            self.summary.finished_at = datetime.now(UTC)
            self._queue.close()

    def _keep_pace(self, stopping: threading.Event) -> None:
        """Read at each moment that has not passed already."""
        begun, rate_hz, slots, slot = time.monotonic(), self._pace.rate_hz, self._pace.slots, 0
        self._seen_refused = self._feed.reader.refused_broadcasts if self._feed.reader else 0
        if rate_hz is None:
            missing = "without broadcasts a rate is needed"
            raise ServomexConfigurationError(missing, cure=f"Pass {A_RATE}", argument=A_RATE)
        while (slots is None or slot < slots) and not self._is_enough():
            due = begun + slot / rate_hz
            if stopping.wait(max(0.0, due - time.monotonic())):
                return
            self.summary.note_start(time.monotonic() - due)
            self._read(stopping)
            self._count_refused()
            slot += 1
            passed = int((time.monotonic() - begun) * rate_hz)  # the current moment
            missed = max(0, min(passed, slots or passed) - slot)
            if missed and not self._is_enough():
                self.summary.samples_late += missed
                slot += missed
                self._check_rate(rate_hz)

    def _count_refused(self) -> None:
        """Count the broadcasts that were refused since the last moment: no readings replace them."""
        reader = self._feed.reader
        if reader is not None and (number := reader.refused_broadcasts - self._seen_refused) > 0:
            self._seen_refused += number
            self._outages.note_damage(self.name, reader.last_reason, number)

    def _check_rate(self, rate_hz: float) -> None:
        """Warn once when moments are missed because a reading takes longer than the time between them."""
        possible_hz = self.summary.possible_hz
        if self._rate_warned or possible_hz is None or possible_hz >= rate_hz:
            return
        self._rate_warned = True
        _log.warning(
            "%s: this line allows about %.2g readings a second, and %g are requested: lower the rate",
            self.name,
            possible_hz,
            rate_hz,
        )

    def _read(self, stopping: threading.Event) -> None:
        begun = time.monotonic()
        try:
            taken = self._feed.poll()
        except ServomexError as error:
            self.summary.note_poll(time.monotonic() - begun, good=False)
            if self._feed.closed or _is_mistake(error):
                raise
            self._hand_on_failure(error, stopping)
            return
        took_s = time.monotonic() - begun
        self._lost = False
        outcomes = {} if taken is None else self._feed.outcomes(taken)
        failed = any(error is not None for error in outcomes.values())
        self.summary.note_poll(took_s, good=taken is not None and not failed)
        if taken is None:
            self.summary.repeated += 1
            return
        self._outages.note(outcomes)
        self._hand_on(taken, stopping, failed=failed)

    def _follow(self, stopping: threading.Event, reader: ContinuousReader, frames: FrameQueue) -> None:
        """Pass on each broadcast as it arrives. While none arrives, pass on an error each time one is due."""
        try:
            self._take_broadcasts(stopping, reader, frames)
        finally:
            reader.unsubscribe(frames)
            self._count_missed(frames)
            while len(frames) and not self._is_enough():  # what has arrived is part of it
                with contextlib.suppress(ServomexError):  # it ends anyhow
                    self._take_broadcast(stopping, reader, frames, 0)

    def _take_broadcasts(self, stopping: threading.Event, reader: ContinuousReader, frames: FrameQueue) -> None:
        begun = heard = time.monotonic()
        while not stopping.is_set() and not self._over(begun):
            if self._take_broadcast(stopping, reader, frames, LOOK_S):
                heard = time.monotonic()
            elif time.monotonic() - heard > reader.fresh_s:
                heard = time.monotonic()
                self._hand_on_failure(reader.trouble(), stopping)
            self._count_missed(frames)

    def _take_broadcast(
        self, stopping: threading.Event, reader: ContinuousReader, frames: FrameQueue, timeout: float
    ) -> bool:
        """Pass on the next broadcast, or the error in its place; return ``False`` when none arrived in time.

        Raises:
            ServomexError: Nothing more will arrive.
        """
        try:
            item = frames.next_item(timeout)
        except Closed:
            raise reader.trouble() from None
        if item is None:
            return False
        if isinstance(item, Frame):
            self._lost = False
            self.summary.delayed += item.delayed_s > 0
            self._outages.note({self.name: None})
            self._hand_on(self._feed.taken(item), stopping, failed=False)
        elif isinstance(item, ServomexParseError):
            self._lost = False  # the analyser is there, but its broadcasts arrive damaged
            self._outages.note_damage(self.name, str(item), item.context.extra.get("refused_broadcasts", 1))
            self._hand_on(self._feed.failed(item), stopping, failed=True)
        else:
            self._hand_on_failure(item, stopping)
        return True

    def _count_missed(self, frames: FrameQueue) -> None:
        """Count what arrived while the thread waited for room, and was dropped."""
        missed = frames.dropped - self._seen_dropped
        self.summary.missed += missed
        self.summary.dropped += missed
        self.summary.disconnects += frames.dropped_errors - self._seen_losses
        self._seen_dropped, self._seen_losses = frames.dropped, frames.dropped_errors

    def _over(self, begun: float) -> bool:
        duration_s = self._pace.duration_s
        return self._is_enough() or (duration_s is not None and time.monotonic() - begun >= duration_s)

    def _is_enough(self) -> bool:
        return self._pace.count is not None and self.summary.attempts >= self._pace.count

    def _hand_on_failure(self, error: ServomexError, stopping: threading.Event) -> None:
        if isinstance(error, ServomexConnectionError):
            self.summary.disconnects += not self._lost
            self._lost = True
        self._outages.note({self.name: error})
        self._hand_on(self._feed.failed(error), stopping, failed=True)
        if self._lost and not self._reconnect:
            raise error

    def _hand_on(self, taken: T, stopping: threading.Event, *, failed: bool) -> None:
        self.summary.samples_emitted += 1
        self.summary.errors += failed
        self._show_watcher(taken)
        for _, was_failed in self._queue.put((taken, failed), stopping.is_set):
            self._count_dropped(failed=was_failed)

    def _show_watcher(self, taken: T) -> None:
        if self._watcher is None:
            return
        try:
            self._watcher(taken)
        except Exception:  # noqa: BLE001 (who only watches must not end what is watched)
            _log.warning("%s: it is not watched any more", self.name, exc_info=True)
            self._watcher = None

    def _count_dropped(self, *, failed: bool) -> None:
        self.summary.samples_emitted -= 1
        self.summary.errors -= failed
        self.summary.dropped += 1


def _is_mistake(error: ServomexError) -> bool:
    """Whether an error means that no reading can succeed, not only that this one did not."""
    return isinstance(error, ServomexConfigurationError) and not isinstance(error, ServomexTransportError)
