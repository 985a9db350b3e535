"""ContinuousReader: the thread that turns broadcasts into frames, and the newest frame for all callers."""

import threading
from datetime import UTC, datetime

from servomex.continuous.backlog import Backlog, stalled_error
from servomex.continuous.intake import Intake, came_since
from servomex.continuous.queue import FrameQueue
from servomex.continuous.refusals import Refusals
from servomex.continuous.sources import TWO_SOURCES, TWO_SOURCES_CURE
from servomex.continuous.stale import no_new_frame
from servomex.continuous.stream import BroadcastStream
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexChannelError,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexProtocolError,
    ServomexTransportError,
)
from servomex.models.channelset import ChannelSet
from servomex.models.frame import Frame
from servomex.port.connect import READ_TICK_S
from servomex.port.link import SerialLink
from servomex.runtime import suspend as awake
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound, let_go_after_fork
from servomex.runtime.locks import Changes
from servomex.runtime.logs import package_log
from servomex.runtime.worker import Worker

_log = package_log("servomex")

STALL_S = 1.0
"""When the thread did not run for this long, what waited in the port is of unknown age and is dropped."""
LISTEN_S = 0.1
"""While nothing arrives, the thread checks this often whether it should end."""
LOCK_WAIT_S = 5.0
"""How long the thread waits for other users of the port when it starts."""
AT_ONCE = 1024
"""More bytes than this in one read were waiting already when it began."""


class ContinuousReader(ProcessBound):
    """Receives the broadcasts of one analyser in continuous mode, in a thread of its own.

    The thread holds the link's lock from :meth:`start` to :meth:`stop`. It reopens a lost port by itself. A
    damaged frame is dropped and counted. Since the frame's checksum is weak, a change of names, units or channels
    is believed only when two frames in a row agree on it; the first of them is dropped. A frame that was held up
    on its way is dated back by as much as it may be late, see :attr:`Frame.delayed_s`.

    Args:
        link: The port. It is opened and closed by its owner, not here.
        channels: Channels to keep; all when ``None``.
        first: A frame that was received before the thread started.
        live: Whether the analyser sends now. What is played again from a recording is not judged by its times.

    Attributes:
        selected: Channels that are kept; ``None`` for all.
    """

    def __init__(
        self,
        link: SerialLink,
        *,
        channels: frozenset[ChannelId] | None = None,
        first: Frame | None = None,
        live: bool = True,
    ) -> None:
        self.link = link
        self.selected = channels
        self._known = ChannelSet(channels)
        self._stream = BroadcastStream()
        self._intake = Intake(link.port, live=live)
        self._changes = Changes()
        self._latest: Frame | None = None
        self._count = self._fresh_from = self._waited = 0
        self._error: ServomexError | None = None
        self._queues: list[FrameQueue] = []
        self._ended = False
        self._refusals = Refusals()
        self._worker = Worker(f"servomex-continuous {link.port}", self._run)
        if first is not None:
            self._intake.add(first.populated(), awake.now().lasting_s - first.age_s)
            self._release()
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
        try:
            self._worker.start()
        except BaseException:
            self.link.has_reader = self._worker.alive
            raise

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
            self._end()

    @property
    def latest(self) -> Frame | None:
        """The newest frame, however old it is."""
        return self._latest

    @property
    def dropped_frames(self) -> int:
        """Frames that were damaged, refused, or held back because what they changed was not confirmed."""
        return self._intake.dropped + self._waited

    @property
    def discarded_bytes(self) -> int:
        """Bytes that were part of no good frame."""
        return self._stream.discarded_bytes

    @property
    def refused_broadcasts(self) -> int:
        """Broadcasts that were damaged, or refused as not to be believed."""
        return self._intake.dropped

    @property
    def last_reason(self) -> str:
        """Why the last one was dropped; empty when none was."""
        return self._intake.last_reason

    @property
    def period_s(self) -> float | None:
        """Seconds between broadcasts, as observed, see :class:`Cadence`; ``None`` before the second."""
        return self._intake.period_s

    @property
    def fresh_s(self) -> float:
        """How long a frame is taken for current: 2.5 periods, or 10 s before a period is known."""
        return self._intake.fresh_s

    def read_frame(self, deadline: float, *, max_age: float | None = None, wait_fresh: bool = False) -> Frame:
        """Return the newest frame while it is younger than ``max_age``, else wait for a new one.

        Args:
            deadline: When to give up, on ``time.monotonic()``.
            max_age: Seconds; 2.5 observed periods, or 10 s before a period is known, when ``None``.
            wait_fresh: Return only a frame that was sent after the call.

        Raises:
            ServomexStaleError: No new frame arrived; the error carries the last one and its age.
            ServomexTimeoutError: No frame has ever arrived.
            ServomexProtocolError: Two analysers broadcast on the line.
            ServomexConnectionError: The port is closed or lost.
        """
        self.check_process()
        started = time.monotonic()
        limit_s = self.fresh_s if max_age is None else max_age
        count = self._count
        called = awake.now().monotonic_ns
        while True:
            with self._changes.mutex:
                if self._error is not None:
                    raise self._error.with_context(elapsed_s=time.monotonic() - started)
                frame, usable = self._latest, self._count > self._fresh_from
                if (
                    frame is not None
                    and usable
                    and frame.delayed_s <= limit_s
                    and (
                        came_since(called, frame, is_new=self._count > count)
                        or (not wait_fresh and frame.age_s <= limit_s)
                    )
                ):
                    return frame
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    context = self._context(time.monotonic() - started)
                    raise no_new_frame(frame, self._intake, self._stream, context)
                ticket = self._changes.ticket()
            self._changes.wait(ticket, remaining)

    def subscribe(self, size: int = 100) -> FrameQueue:
        """Return a queue that gets every frame from now on, and an error in place of each that is missing.

        That is one that was damaged or refused, or lacks a channel. Of refused ones there is at most one error per
        broadcast period: when they arrive faster, it stands for several, and ``refused_broadcasts`` in its context
        says for how many. The loss of the port, and a time in which the program stood still, are one error each.

        Args:
            size: How many it holds, 1 to 1,000,000; then the oldest are dropped and counted.

        Raises:
            ServomexValidationError: The size is out of range.
            ServomexConfigurationError: The reader was made in another process.
        """
        self.check_process()
        queue = FrameQueue(size)
        self._report(self._refusals.rest())  # to those subscribed at the time
        with self._changes.mutex:
            if self._ended:
                queue.close()
            else:
                self._queues.append(queue)
        return queue

    def unsubscribe(self, queue: FrameQueue) -> None:
        """Close a queue and forget it."""
        self._report(self._refusals.rest())
        with self._changes.mutex:
            if queue in self._queues:
                self._queues.remove(queue)
        queue.close()

    def _let_go(self) -> None:
        self._changes, self._queues = Changes(), []  # a thread of the parent may have held the old lock
        self._refusals = Refusals()

    def _run(self, stopping: threading.Event) -> None:
        try:
            with self.link.lock_held(time.monotonic() + LOCK_WAIT_S):
                if self.link.is_open:
                    self.link.read_waiting()  # and dropped: its age is not known
                self._receive(stopping)
        except ServomexError as error:
            self._release()
            self._fail(error)
        except BaseException as error:
            died = f"the thread that receives broadcasts died: {error!r}"
            self._fail(ServomexTransportError(died, self._context()))
            raise
        finally:
            self.link.has_reader = False
            self._end()

    def _receive(self, stopping: threading.Event) -> None:
        generation, backlog = self.link.generation, Backlog(self.link.settings.char_time_s)
        turn_s = heard_s = awake.now().lasting_s
        while not stopping.is_set():
            try:
                self.link.ensure_open(time.monotonic() + READ_TICK_S)
                if self.link.generation != generation:
                    generation = self.link.generation
                    self._restart()
                data = self._next_data(stopping)
            except ServomexError as error:
                self._release()
                self._fail(error)
                if self.link.is_closed or not self._wait_to_retry(stopping):
                    return  # a thread that closes the port waits for its lock
                turn_s = awake.now().lasting_s
                continue
            received_at, now = datetime.now(UTC), awake.now()
            stalled, turn_s = now.lasting_s - turn_s > STALL_S, now.lasting_s
            silence_s = now.lasting_s - heard_s if len(data) < AT_ONCE else 0.0  # taking more took that time
            heard_s = now.lasting_s if data else heard_s
            if stalled:
                self._release()
                backlog.begin(now.lasting_s)
                heard_s = now.lasting_s
            elif backlog.is_over(data, now.lasting_s, silence_s, self.period_s):
                self._end_backlog(backlog)
            if backlog.lasts:
                backlog.drop(data)
            elif data:
                self._take(data, received_at, now)
            if not self._intake.holds(now.lasting_s):
                self._release()
        self._release()

    def _next_data(self, stopping: threading.Event) -> bytes:
        """Wait for data; while a broadcast is held, only as long as the rest of its burst may take."""
        if not self._intake.waiting:
            return self.link.read(time.monotonic() + LISTEN_S)
        data = self.link.read_waiting()
        if not data:
            stopping.wait(self._intake.hold_silence_s)
            data = self.link.read_waiting()
        if not data:
            self._release()
        return data

    def _wait_to_retry(self, stopping: threading.Event) -> bool:
        """Wait out the pause between two attempts; return ``False`` if the port was closed meanwhile."""
        until = time.monotonic() + max(READ_TICK_S, self.link.retry_in_s)
        while time.monotonic() < until and not stopping.wait(READ_TICK_S):
            if self.link.is_closed:
                return False
        return True

    def _end(self) -> None:
        """Make every call fail and end the queues, now that the reason is known."""
        self._report(self._refusals.rest())
        with self._changes.mutex:
            self._error = self._error or ServomexConnectionError("the analyser was closed", self._context())
            self._changes.announce()
            self._ended = True
            queues, self._queues = self._queues, []
        for queue in queues:
            queue.close()

    def _take(self, data: bytes, received_at: datetime, now: awake.Moment) -> None:
        for item in self._stream.feed(data, received_at, now, self.period_s):
            self._intake.add(item, now.lasting_s)

    def _end_backlog(self, backlog: Backlog) -> None:
        """Report what was dropped of what waited while this program stood still."""
        frames = backlog.end()
        self._stream.restart()
        self._stream.discarded_bytes += backlog.size
        if not backlog.size:
            return
        self._waited += frames
        error = stalled_error(frames, STALL_S, self._context())
        _log.warning("%s", error)
        self._report(self._refusals.rest())
        self._hand_on(error, frames)

    def _release(self) -> None:
        """Pass on what was taken in."""
        for item in self._intake.release():
            if isinstance(item, Frame):
                self._accept(item)
            else:
                self._refuse(item)
        self._report(self._refusals.due(self.period_s))

    def _accept(self, frame: Frame) -> None:
        self._report(self._refusals.before_good())
        try:
            self._known.check(frame, self._context(), confirmed=True)
        except ServomexChannelError as error:
            self._withhold(error)
            return
        if self.selected is not None:
            frame = frame.only(self.selected)
        with self._changes.mutex:
            self._latest, self._error = frame, None
            self._count += 1
            self._changes.announce()
            queues = list(self._queues)
        for queue in queues:
            queue.put(frame)

    def _refuse(self, error: ServomexError) -> None:
        """Note a refused broadcast; it is reported with the next good one at the latest."""
        _log.info("%s: frame dropped: %s", self.link.port, error.message)
        if self._intake.is_mixed:
            self._note_mixture()
        self._refusals.add(error.with_context(port=self.link.port, protocol=ProtocolKind.CONTINUOUS_ASCII))

    def _report(self, refusal: ServomexError | None) -> None:
        if refusal is not None:
            self._hand_on(refusal)

    def _withhold(self, error: ServomexError) -> None:
        """Make every call fail until a frame arrives with all the channels it should have."""
        with self._changes.mutex:
            first, self._error = self._error is None, error
            self._changes.announce()
        self._hand_on(error)
        if first:
            _log.warning("%s", error)

    def _note_mixture(self) -> None:
        """Make every call fail as long as two analysers broadcast in turn."""
        with self._changes.mutex:
            first = self._error is None
            self._error = self._error or ServomexProtocolError(TWO_SOURCES, self._context(), cure=TWO_SOURCES_CURE)
            self._changes.announce()
        if first:
            _log.warning("%s", self._error)

    def _hand_on(self, error: ServomexError, dropped: int = 0) -> None:
        with self._changes.mutex:
            queues = list(self._queues)
        for queue in queues:
            queue.put(error)
            queue.count_dropped(dropped)

    def _restart(self) -> None:
        """Start over on a reopened port: what was half received is gone."""
        _log.info("%s: the port is %s", self.link.port, "back" if self.link.generation > 1 else "open")
        self._stream.restart()
        with self._changes.mutex:
            self._error = None
            self._fresh_from = self._count  # what arrived before the loss may be old, however new it looks

    def _fail(self, error: ServomexError) -> None:
        self._report(self._refusals.rest())
        with self._changes.mutex:
            first = self._error is None or isinstance(self._error, ServomexProtocolError)
            self._error = error
            self._changes.announce()
            queues = list(self._queues) if first else []
        for queue in queues:
            queue.put(error)
        if first:
            _log.info("%s", error)

    def trouble(self) -> ServomexError:
        """Return why no new frame arrives: the reader has ended, the port was lost, or the line is silent."""
        if (error := self._error) is not None:
            return error.with_context()
        return no_new_frame(self._latest, self._intake, self._stream, self._context(0.0))

    def _context(self, elapsed_s: float | None = None) -> ErrorContext:
        return ErrorContext(self.link.port, ProtocolKind.CONTINUOUS_ASCII, elapsed_s=elapsed_s)
