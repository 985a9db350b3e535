"""ContinuousReader: the thread that turns broadcasts into frames, and the newest of them for everybody."""

import threading
from collections import deque
from datetime import UTC, datetime

from servomex.channelset import ChannelSet
from servomex.clock import time
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexChannelError,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexParseError,
    ServomexStaleError,
    ServomexTimeoutError,
    ServomexTransportError,
)
from servomex.link import SerialLink
from servomex.lock import Changes
from servomex.logs import package_log
from servomex.models import Frame
from servomex.ports import READ_TICK_S
from servomex.process import ProcessBound, let_go_after_fork
from servomex.queues import FrameQueue
from servomex.telegram import HEADER_SIZE, FrameSplitter, parse_frame
from servomex.worker import Worker

_log = package_log("servomex")

PERIODS_FRESH = 2.5
"""A frame is current for this many broadcast periods."""
FRESH_S = 10.0
"""How long a frame is current as long as the period is not known."""
PERIOD_WINDOW = 3
BURST_S = 0.02
"""Frames closer than this came out of a buffer together and tell nothing about the period."""
STALL_S = 1.0
"""When the thread did not run for so long, what waited in the port is of unknown age and is dropped."""
BACKLOG_S = 1.0
"""After such a stall, input is dropped for so long, or until the line has been silent for a moment."""
LISTEN_S = 0.1
"""While nothing comes, the thread looks this often whether it is to end."""
LOCK_WAIT_S = 5.0
"""How long the thread waits for others who talk on the port when it starts."""

_Configuration = tuple[tuple[tuple[ChannelId, str | None, str], ...], bool]
"""Channels with their names and units, and whether the clock shows no time."""


class _Turn:
    """How long ago the loop came by last. While a computer sleeps, its monotonic clock may stand still."""

    def __init__(self) -> None:
        self._monotonic, self._wall = time.monotonic(), _wall_s()

    def next_after(self) -> float:
        """Give the seconds since the last turn, by whichever clock saw more of them, and begin the next."""
        monotonic, wall = self._monotonic, self._wall
        self._monotonic, self._wall = time.monotonic(), _wall_s()
        return max(self._monotonic - monotonic, self._wall - wall)


def _wall_s() -> float:
    return time.time()


class ContinuousReader(ProcessBound):
    """Receives the broadcasts of one analyser in continuous mode, in a thread of its own.

    The thread holds the link's lock from :meth:`start` to :meth:`stop`. It reopens a lost port by itself. A
    damaged frame is dropped and counted. Since the frame's checksum is weak, a change of names, units or channels
    is believed only when two frames in a row agree on it; the first of them is dropped.

    Args:
        link: The port. It is opened and closed by its owner, not here.
        channels: Channels to keep; all when ``None``.
        first: A frame that was received before the thread started.

    Attributes:
        dropped_frames: Frames that were damaged, or held back because their configuration was not confirmed.
        discarded_bytes: Bytes that were part of no good frame.
        last_reason: Why the last one was dropped; empty when none was.
    """

    def __init__(
        self, link: SerialLink, *, channels: frozenset[ChannelId] | None = None, first: Frame | None = None
    ) -> None:
        self.link = link
        self.dropped_frames = 0
        self.discarded_bytes = 0
        self.last_reason = ""
        self._selected = channels
        self._known = ChannelSet(channels)
        self._splitter = FrameSplitter()
        self._joined = False
        self._configuration: _Configuration | None = None
        self._unconfirmed: _Configuration | None = None
        self._changes = Changes()
        self._latest: Frame | None = None
        self._count = 0
        self._error: ServomexError | None = None
        self._previous_ns: int | None = None
        self._intervals: deque[float] = deque(maxlen=PERIOD_WINDOW)
        self._queues: list[FrameQueue] = []
        self._ended = False
        self._fresh_from = 0
        self._worker = Worker(f"servomex-continuous {link.port}", self._run, self._die)
        if first is not None:
            self._accept(first.populated())
        let_go_after_fork(self)

    def start(self) -> None:
        """Start the thread.

        Raises:
            ServomexConfigurationError: The link has a reader already.
        """
        self.check_process()
        if self.link.has_reader:
            raise ServomexConfigurationError("this port has a reader already: share it", self._context())
        self.link.has_reader = True
        self._worker.start()

    def stop(self) -> None:
        """End the thread and every waiting call. May be called twice.

        Raises:
            ServomexError: The thread did not end.
        """
        if not self.made_here:
            return
        try:
            self._worker.stop()
        finally:
            with self._changes.mutex:
                self._error = self._error or ServomexConnectionError("the analyser was closed", self._context())
                self._changes.announce()
            self._end_queues()

    @property
    def latest(self) -> Frame | None:
        """The newest frame, however old it is."""
        return self._latest

    @property
    def period_s(self) -> float | None:
        """Seconds between broadcasts, as observed: the median of the last three; ``None`` before the second."""
        with self._changes.mutex:
            return sorted(self._intervals)[(len(self._intervals) - 1) // 2] if self._intervals else None

    @property
    def fresh_s(self) -> float:
        """How long a frame is taken for current: 2.5 periods, or 10 s before a period is known."""
        period_s = self.period_s
        return FRESH_S if period_s is None else PERIODS_FRESH * period_s

    def read_frame(self, deadline: float, *, max_age: float | None = None, wait_fresh: bool = False) -> Frame:
        """Give the newest frame while it is younger than ``max_age``, else wait for a new one.

        Args:
            deadline: When to give up, on ``time.monotonic()``.
            max_age: Seconds; 2.5 observed periods, or 10 s before a period is known, when ``None``.
            wait_fresh: Give only a frame that arrives after the call.

        Raises:
            ServomexStaleError: No new frame came; it carries the last one and its age.
            ServomexTimeoutError: No frame ever came.
            ServomexConnectionError: The port is closed or lost.
        """
        self.check_process()
        started = time.monotonic()
        limit_s = self.fresh_s if max_age is None else max_age
        seen: int | None = None
        while True:
            with self._changes.mutex:
                if self._error is not None:
                    raise type(self._error)(self._error.message, self._error.context)
                frame = self._latest
                seen = self._count if seen is None else seen
                current = not wait_fresh and self._count > self._fresh_from and frame and frame.age_s <= limit_s
                if frame is not None and (self._count > seen or current):
                    return frame
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise self._missing(frame, time.monotonic() - started)
                ticket = self._changes.ticket()
            self._changes.wait(ticket, remaining)

    def subscribe(self, size: int = 100) -> FrameQueue:
        """Give a queue of ``size`` frames that gets every frame from now on, and every loss of the port."""
        self.check_process()
        queue = FrameQueue(size)
        with self._changes.mutex:
            if self._ended:
                queue.close()
            else:
                self._queues.append(queue)
        return queue

    def unsubscribe(self, queue: FrameQueue) -> None:
        """Close a queue and forget it."""
        with self._changes.mutex:
            if queue in self._queues:
                self._queues.remove(queue)
        queue.close()

    def _let_go(self) -> None:
        self._changes, self._queues = Changes(), []  # a thread of the parent may have held the old lock

    def _run(self, stopping: threading.Event) -> None:
        try:
            with self.link.lock_held(time.monotonic() + LOCK_WAIT_S):
                self.link.discard_input()
                self._receive(stopping)
        except ServomexError as error:
            self._fail(error)
        finally:
            self.link.has_reader = False
            self._end_queues()

    def _receive(self, stopping: threading.Event) -> None:
        generation = self.link.generation
        turn, dropping_until = _Turn(), 0.0
        while not stopping.is_set():
            try:
                self.link.ensure_open(time.monotonic() + READ_TICK_S)
                if self.link.generation != generation:
                    generation = self.link.generation
                    self._restart()
                data = self.link.read(time.monotonic() + LISTEN_S)
            except ServomexError as error:
                self._fail(error)
                if self.link.is_closed or not self._wait_to_retry(stopping):
                    return  # whoever closes the port waits for its lock
                turn = _Turn()
                continue
            if turn.next_after() > STALL_S:
                dropping_until = time.monotonic() + BACKLOG_S
                self._fresh_from = self._count
            if not data:
                dropping_until = 0.0
            elif time.monotonic() < dropping_until:
                self._splitter.flush()
                self._drop(data, f"it waited while this program did not run for more than {STALL_S:g} s")
            else:
                self._take(data)

    def _wait_to_retry(self, stopping: threading.Event) -> bool:
        """Wait for the end of the pause between two tries; ``False`` when the port was closed meanwhile."""
        until = time.monotonic() + max(READ_TICK_S, self.link.retry_in_s)
        while time.monotonic() < until and not stopping.wait(READ_TICK_S):
            if self.link.is_closed:
                return False
        return True

    def _end_queues(self) -> None:
        with self._changes.mutex:
            self._ended = True
            queues, self._queues = self._queues, []
        for queue in queues:
            queue.close()

    def _take(self, data: bytes) -> None:
        received_at, received_ns = datetime.now(UTC), time.monotonic_ns()
        for piece in self._splitter.feed(data):
            try:
                frame = parse_frame(piece, received_at=received_at, monotonic_ns=received_ns).populated()
            except ServomexParseError as error:
                self._drop(piece, error.message)
            else:
                self._confirm(frame)
            self._joined = True

    def _drop(self, piece: bytes, reason: str) -> None:
        """Count damage. What was cut off by joining in the middle of a frame is not the line's fault."""
        self.discarded_bytes += len(piece)
        if self._joined and (len(piece) >= HEADER_SIZE or piece.endswith(b"\n")):
            self._count_dropped(reason)

    def _count_dropped(self, reason: str) -> None:
        self.dropped_frames += 1
        self.last_reason = reason
        _log.info("%s: frame dropped: %s", self.link.port, reason)

    def _confirm(self, frame: Frame) -> None:
        """Accept a frame, unless it changes the configuration and the one before did not say the same."""
        channels = tuple((item.channel, item.name, item.unit_text) for item in frame)
        configuration = (channels, frame.analyser.clock is None)
        if self._configuration in (None, configuration) or self._unconfirmed == configuration:
            self._configuration, self._unconfirmed = configuration, None
            self._accept(frame)
        else:
            self._unconfirmed = configuration
            self._count_dropped("names, units or channels changed, and no second frame has confirmed it yet")

    def _accept(self, frame: Frame) -> None:
        try:
            self._known.check(frame, self._context(), confirmed=True)
        except ServomexChannelError as error:
            self._refuse(error)
            return
        if self._selected is not None:
            frame = frame.only(self._selected)
        with self._changes.mutex:
            interval_s = (frame.monotonic_ns - self._previous_ns) / 1e9 if self._previous_ns else 0.0
            if interval_s > BURST_S:
                self._intervals.append(interval_s)
            self._previous_ns = frame.monotonic_ns
            self._latest = frame
            self._count += 1
            self._error = None
            self._changes.announce()
            queues = list(self._queues)
        for queue in queues:
            queue.put(frame)

    def _refuse(self, error: ServomexError) -> None:
        """Hand on an error in the place of a frame."""
        with self._changes.mutex:
            first, self._error = self._error is None, error
            self._changes.announce()
            queues = list(self._queues)
        if first:
            _log.warning("%s", error)
        for queue in queues:
            queue.put(error)

    def _restart(self) -> None:
        """Begin anew on a port that was reopened: what was half received is gone."""
        _log.info("%s: the port is back", self.link.port)
        self._splitter.flush()
        self._joined = False
        with self._changes.mutex:
            self._error = None
            self._previous_ns = None
            self._fresh_from = self._count  # what came before the loss may be old, however young it looks

    def _fail(self, error: ServomexError) -> None:
        with self._changes.mutex:
            first = self._error is None
            self._error = error
            self._changes.announce()
            queues = list(self._queues) if first else []
        for queue in queues:
            queue.put(error)
        if first:
            _log.warning("%s", error)

    def _die(self, error: BaseException) -> None:
        self._fail(ServomexTransportError(f"the thread that receives broadcasts died: {error!r}", self._context()))

    def trouble(self) -> ServomexError:
        """Tell why no new frame comes: the port was lost, or the line is silent."""
        return self._error or self._missing(self._latest, 0.0)

    def _missing(self, frame: Frame | None, elapsed_s: float) -> ServomexTimeoutError:
        context = self._context(elapsed_s)
        if frame is not None:
            return ServomexStaleError(
                f"no new broadcast: the last frame is {frame.age_s:.1f} s old. Check that the analyser is on, "
                "its frame frequency, and the cable",
                context,
                frame=frame,
                age_s=frame.age_s,
            )
        return ServomexTimeoutError(self._silence(), context)

    def _silence(self) -> str:
        if self.discarded_bytes or self._splitter.pending:
            count = self.discarded_bytes + self._splitter.pending
            reason = f" (last: {self.last_reason})" if self.last_reason else ""
            return (
                f"no broadcast: {count} bytes came that hold no good frame{reason}. Check the baud rate and the "
                "other serial settings"
            )
        return (
            "no broadcast came. The frame frequency on the analyser's panel may be longer, or 0 (off); else check "
            "its communication mode, the serial settings and the cable"
        )

    def _context(self, elapsed_s: float | None = None) -> ErrorContext:
        return ErrorContext(self.link.port, ProtocolKind.CONTINUOUS_ASCII, elapsed_s=elapsed_s)
