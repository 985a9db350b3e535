"""SinkWriter: the thread that writes a recording to sinks; it does not wait indefinitely for a disk that hangs."""

import contextlib
import threading
from typing import Protocol

from servomex.errors import ServomexSinkError, ServomexSinkWriteError, ServomexTimeoutError
from servomex.models.sample import Sample
from servomex.recording.fan_out import FanOut, Standing
from servomex.recording.retry import SinkState
from servomex.recording.summary import AcquisitionSummary
from servomex.runtime.clock import time
from servomex.runtime.locks import Signal
from servomex.runtime.logs import package_log
from servomex.runtime.queues import Closed
from servomex.runtime.worker import Worker

_log = package_log("servomex")

TICK_S = 0.25
"""How often sinks may flush while nothing arrives, and how often writing is checked for progress."""
MOST_AT_ONCE = 100
"""The most readings that are written at once when they have piled up."""
DRAIN_S = 60.0
"""How long stopping waits for the rest to be written."""
CLOSE_S = 3600.0
"""How long it waits for the sinks to be closed after that: merging the parts of weeks takes minutes."""
HUNG_S = 10.0
"""How long stopping waits for a disk, network folder or server that does not answer."""
IMPATIENT_S = 1.0
"""The same after a second Ctrl-C."""
WARN_S = 2.0
"""When a warning says that one does not answer."""


class Writable(Protocol):
    """What can be written to sinks: a :class:`Recording`, or batches from elsewhere."""

    name: str
    summary: AcquisitionSummary

    def take(self, most: int, timeout: float | None = None) -> list[list[Sample]]:
        """Return the oldest batch and those waiting after it, up to ``most``.

        Raises:
            ServomexTimeoutError: None arrived in time.
            Closed: Nothing more will arrive.
        """

    def close(self) -> None:
        """End it."""

    def drop_waiting(self) -> None:
        """Drop what is still waiting after the end, and count it."""


class SinkWriter:
    """Writes a recording to sinks, in a thread of its own, until it ends.

    Args:
        recording: The source of the batches.
        sinks: Where to write; they are closed at the end.
    """

    def __init__(self, recording: Writable, sinks: FanOut) -> None:
        self._recording = recording
        self._sinks = sinks
        self._closer: dict[str, str] = {}
        self._drained = Signal()
        self._is_warned = False
        self._is_given_up = False
        self._worker = Worker(f"servomex-recorder {recording.name}", self._run)

    @property
    def alive(self) -> bool:
        """Whether it still writes and was not abandoned."""
        return self._worker.alive and not self._is_given_up

    @property
    def sink_states(self) -> tuple[SinkState, ...]:
        """What each sink is doing now."""
        return self._sinks.states

    def start(self) -> None:
        """Start."""
        self._worker.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds until it ends; return whether it has."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._worker.join(_piece(deadline)):
            self._warn_of_hung_sink("readings wait in memory")
            if deadline is not None and time.monotonic() >= deadline:
                return False
        return True

    def finish(self) -> None:
        """Wait until the rest of a recording that has ended is written, and the sinks are closed.

        After a second Ctrl-C the rest is abandoned and only the sinks are closed. A disk, network folder or server
        that does not answer is waited for at most 10 s, or 1 s after that Ctrl-C.

        Raises:
            ServomexSinkError: A sink failed, or does not answer.
            ServomexError: The error that ended the source, or writing did not end within 60 s.
            BaseException: Any other exception that the source raised.
        """
        if self._worker.is_current or self._is_given_up:
            return
        if not self._worker.alive and self._closes("caller"):  # it never began, and will not
            self._end()
            return
        try:
            self._wait()
        except BaseException as error:
            if self._worker.alive:  # by a third Ctrl-C, or since a sink does not answer
                standing = self._sinks.standing
                if standing is not None and not isinstance(error, ServomexSinkError):
                    error.add_note(str(_does_not_answer(standing)))
                self._give_up()
            raise

    def _wait(self) -> None:
        patience_s = IMPATIENT_S
        try:
            drained = self._wait_for_rest()
            patience_s = IMPATIENT_S if self._is_hung(0.0, HUNG_S) else HUNG_S
        finally:
            self._wait_for_sinks(patience_s)
        if self._worker.error is not None:
            raise self._worker.error
        if not drained:
            raise ServomexSinkWriteError(f"writing did not end within {DRAIN_S:g} s; the rest was abandoned")

    def _wait_for_rest(self) -> bool:
        """Wait until the rest is written; return whether it is."""
        begun = time.monotonic()
        while not self._drained.wait(TICK_S):
            now = time.monotonic()
            self._warn_of_hung_sink(f"waiting for it for up to {HUNG_S:g} s; Ctrl-C ends the wait")
            if now - begun >= DRAIN_S or self._is_hung(begun, HUNG_S):
                return False
        return True

    def _wait_for_sinks(self, patience_s: float) -> None:
        """Wait until the thread has closed the sinks, as long as anything moves; an interrupt shortens that.

        Raises:
            ServomexSinkWriteError: One of them does not answer.
            ServomexError: The thread did not end.
        """
        self._worker.ask_to_stop()
        try:
            self._wait_for_end(patience_s)
        except ServomexSinkWriteError:
            raise
        except BaseException:
            self._wait_for_end(IMPATIENT_S)
            raise

    def _wait_for_end(self, patience_s: float) -> None:
        begun = time.monotonic()
        while not self._worker.join(TICK_S):
            standing = self._sinks.standing
            if standing is not None and self._is_hung(begun, patience_s):
                raise _does_not_answer(standing)
            if time.monotonic() - begun >= CLOSE_S:
                break
        self._worker.stop()

    def _is_hung(self, begun: float, patience_s: float) -> bool:
        """Return whether no sink has made progress for this long."""
        standing = self._sinks.standing
        return standing is not None and time.monotonic() - max(begun, standing.since) >= patience_s

    def _warn_of_hung_sink(self, then: str) -> None:
        standing = self._sinks.standing
        if standing is None or standing.seconds < WARN_S:
            self._is_warned = False
        elif not self._is_warned:
            self._is_warned = True
            _log.warning(
                "%s: a write has not returned for %.0f s, so its disk, network folder or server does not "
                "answer; %s",
                standing.name,
                standing.seconds,
                then,
            )

    def _give_up(self) -> None:
        """Leave the thread in a system call that nothing can end, and count what may be lost."""
        self._is_given_up = True
        self._recording.drop_waiting()
        self._recording.summary.unwritten = self._sinks.give_up()

    def _run(self, stopping: threading.Event) -> None:
        """Write until the end of the recording, or a failure."""
        if not self._closes("thread"):
            return
        try:
            while not stopping.is_set() and self._write_next():
                self._count_lost()
        finally:
            self._end()

    def _closes(self, who: str) -> bool:
        """Return whether the caller closes the sinks: the first to ask does, also when it asks again."""
        return self._closer.setdefault("is", who) == who  # an interrupt arrives before or after it

    def _end(self) -> None:
        """Close the sinks and the recording, and count what was not taken."""
        with contextlib.ExitStack() as ends:
            ends.callback(self._count_lost)
            ends.callback(self._recording.drop_waiting)
            ends.callback(self._recording.close)
            ends.callback(self._sinks.close)
            ends.callback(self._drained.set)

    def _write_next(self) -> bool:
        """Write what is waiting; return ``False`` at the end."""
        try:
            batches = self._recording.take(MOST_AT_ONCE, TICK_S)
        except ServomexTimeoutError:
            self._sinks.flush_if_due()
        except Closed:
            return False
        else:
            self._sinks.write([sample for batch in batches for sample in batch])
        return True

    def _count_lost(self) -> None:
        self._recording.summary.unwritten = self._sinks.lost


def _does_not_answer(standing: Standing) -> ServomexSinkWriteError:
    return ServomexSinkWriteError(
        f"{standing.name}: a write has not returned for {standing.seconds:.0f} s, so its disk, network folder "
        "or server does not answer; what was not flushed may be lost",
        cure="Check it",
    )


def _piece(deadline: float | None) -> float:
    return TICK_S if deadline is None else max(0.0, min(TICK_S, deadline - time.monotonic()))
