"""SharedPort: a port of a manager, with the thread that reads its analysers and seeks those not reached yet."""

import contextlib
import queue
import threading
from typing import Any

from servomex.enums import ProtocolKind
from servomex.errors import ServomexConnectionError, ServomexError, ServomexTransportError
from servomex.manager.member import TURN_S, Member
from servomex.manager.reaching import PROBE_S, WAITS_S, Awaited, refused
from servomex.manager.rounds import DeviceResult, PortRound, Round
from servomex.models.frame import Frame
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.runtime.worker import Worker

OPENING_S = 0.3
"""How long to wait for a port that need not be there: a network address may take seconds to fail."""


class SharedPort:
    """A port of a manager, and the thread that reads the analysers on it one after the other.

    Between two rounds it tries to reach those that were not reached yet, one at a time, so that a round waits
    for at most one attempt.

    Args:
        link: The port.
        owned: Whether the manager has opened it, so that :meth:`close` closes it.

    Attributes:
        members: The analysers on it, in the order in which they were added.
        joining: Held while it is decided which analysers may be on the port, and in which mode.
    """

    def __init__(self, link: SerialLink, *, owned: bool) -> None:
        self.link = link
        self.owned = owned
        self.members: tuple[Member, ...] = ()
        self.joining: contextlib.AbstractContextManager[bool] = threading.RLock()
        self._generation = link.generation
        self._tried = (0.0, 0.0)
        self._not_before = 0.0
        self._wait_s = WAITS_S[0]
        self._rounds: queue.SimpleQueue[PortRound | None] = queue.SimpleQueue()
        self._current: PortRound | None = None
        self._ended = False
        self._thread: int | None = None
        self._worker = Worker(f"servomex-port {link.port}", self._run)

    @property
    def is_calling(self) -> bool:
        """Whether the caller is this port's thread."""
        return self._thread == threading.get_ident()

    def open(self, *, wait: bool) -> ServomexError | None:
        """Open the port for the first time.

        Args:
            wait: Raise the error of a missing port. Otherwise return it, and open the port once it is there.

        Raises:
            ServomexConnectionError: It is missing, busy or forbidden, and ``wait``.
            ServomexConfigurationError: Its name or the settings can never work.
        """
        if wait:
            self.link.open()
            return None
        self.link.eager = True
        self.link.open_later()
        try:
            with self.link.lock_held():
                self.link.ensure_open(time.monotonic() + OPENING_S)
        except ServomexConnectionError as error:
            return error
        return None

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def add(self, member: Member) -> None:
        """Add an analyser to those on this port, and look for it if it was not reached."""
        with self.joining:
            self.members = (*self.members, member)
            known = [other.protocol for other in self.members if other.protocol is not ProtocolKind.AUTO]
            if known:
                self._agree_on(known[0])
        self._note_awaited()
        self._rounds.put(None)  # the thread may wait without end

    def remove(self, member: Member) -> None:
        """Remove an analyser from those on this port."""
        with self.joining:
            self.members = tuple(other for other in self.members if other is not member)
        self._note_awaited()

    def submit(self, asked: Round[Any], members: list[Member]) -> PortRound:
        """Pass a round's part to the thread; it ends at once if the port was closed."""
        part = PortRound(asked, members)
        self._rounds.put(part)
        if self._ended:  # else end() finds it, or the thread does
            part.end()
        return part

    def end(self) -> None:
        """Release all waiting callers; the thread ends after its current task. May be called twice."""
        self._ended = True
        if (part := self._current) is not None:
            part.end()
        with contextlib.suppress(queue.Empty):
            while True:
                if (part := self._rounds.get_nowait()) is not None:
                    part.end()
        self._rounds.put(None)

    def close(self) -> None:
        """End the thread, and close the port if it was opened by the manager.

        Raises:
            ServomexError: The thread did not end: an operation does not return.
        """
        self.end()
        try:
            if self.owned:
                self.link.close()
        finally:
            self._worker.stop()

    def _run(self, _stopping: threading.Event) -> None:
        self._thread = threading.get_ident()
        try:
            while self._serve_next():
                pass
        finally:
            self.end()

    def _serve_next(self) -> bool:
        """Do the part of the next round, and try to reach one that is due; return ``False`` at the end."""
        with contextlib.suppress(queue.Empty):
            part = self._rounds.get(timeout=self._idle_s())
            if part is not None:
                self._serve(part)
        if self._ended:
            return False
        if (member := self._due()) is not None:
            began = time.monotonic()
            self._seek(member)
            self._tried = (began, time.monotonic())
        return True

    def _serve(self, part: PortRound) -> None:
        began, ended = self._tried
        self._not_before = 2 * ended - began  # the others get the line for as long as the attempt had it
        self._current = part
        asked = part.asked
        loss = self._loss() if asked.reads and not asked.stopped else None
        for member in part.members:
            if self._ended or asked.stopped:
                break
            if not member.removed:
                self._ask(asked, member, loss)
        self._current = None
        part.end()

    def _ask(self, asked: Round[Any], member: Member, loss: ServomexError | None) -> None:
        """Do the work of a round. If it was never tried, try that first; a frame from that is the result."""
        if asked.reads and member.awaited and not member.awaited.is_tried:
            frame = self._seek(member)
            if frame is not None:
                asked.results[member.name] = DeviceResult(frame, name=member.name)
                return
        asked.ask(member, None if member.awaited else loss)

    def _awaited(self) -> list[tuple[Member, Awaited]]:
        return [(member, member.awaited) for member in self.members if member.awaited]

    def _note_awaited(self) -> None:
        self.link.eager = bool(self._awaited())

    def _idle_s(self) -> float | None:
        """Seconds until an analyser is due to be tried; ``None`` when all were reached."""
        dues = [awaited.due for _, awaited in self._awaited()]
        return max(0.0, max(min(dues), self._not_before) - time.monotonic()) if dues else None

    def _due(self) -> Member | None:
        """Return the analyser to try next; ``None`` when none is due."""
        now = time.monotonic()
        waiting = sorted(self._awaited(), key=lambda item: item[1].due)
        is_due = waiting and waiting[0][1].due <= now >= self._not_before
        return waiting[0][0] if is_due else None

    def _seek(self, member: Member) -> Frame | None:
        """Try once to reach an analyser; return the frame that showed it to be there, if any."""
        awaited = member.awaited
        if awaited is None:
            return None
        came: list[int] = []
        try:
            if not self.link.has_reader:
                self._open()
            with self.link.tap(lambda data, _at: came.append(len(data))):
                if awaited.protocol is ProtocolKind.AUTO and not self._find_mode(member, awaited):
                    return None
                return member.seek(self._patience_s)
        except ServomexError as error:
            if isinstance(error, ServomexTransportError):
                self._wait_s = min(WAITS_S[1], 2 * self._wait_s) if came else WAITS_S[0]  # it may be late
            if not self._ended:  # else the closed port is not the reason
                awaited.note(error)
        except Exception as error:  # noqa: BLE001 (it is the reason; the thread is that of all others here, too)
            awaited.note(ServomexError(f"trying to reach it failed: {error!r}", awaited.context))
        finally:
            self._note_awaited()
        return None

    @property
    def _patience_s(self) -> float:
        """How long the reply of one that was never heard may take to begin; longer where others are slow."""
        modes = [member.analyzer.mode for member in self.members if member.analyzer and not member.awaited]
        return max((mode.reply_s(self._wait_s) for mode in modes), default=self._wait_s)

    def _open(self) -> None:
        """Make sure that the port is open; all that were not reached are due when it has just been opened.

        Raises:
            ServomexError: It is missing or lost: none of the others can be reached either.
        """
        try:
            with self.link.lock_held(time.monotonic() + PROBE_S):
                self.link.ensure_open(time.monotonic())
        except ServomexError as error:
            for _, awaited in self._awaited():
                awaited.note(error)
            raise
        if self.link.generation != self._generation:
            self._generation = self.link.generation
            for _, awaited in self._awaited():
                awaited.due = time.monotonic()

    def _find_mode(self, member: Member, awaited: Awaited) -> bool:
        """Look for the mode of a port; return whether the analyser can be read now.

        Raises:
            ServomexError: No analyser was found, or one in continuous mode that is not alone.
        """
        found = awaited.search(self._patience_s)
        with self.joining:
            others = [other.name for other in self.members if other is not member]
            if found.protocol is ProtocolKind.CONTINUOUS_ASCII and others:
                raise refused(awaited, ", ".join(others))
            self._agree_on(found.protocol, found.frame)
        return awaited.protocol is not ProtocolKind.AUTO

    def _agree_on(self, protocol: ProtocolKind, first: Frame | None = None) -> None:
        """Set this mode for all analysers whose mode is not known: all on a port share one."""
        for _, awaited in self._awaited():
            awaited.take_mode(protocol, first)

    def _loss(self) -> ServomexError | None:
        """Return why nothing can be read here for now; try a lost port again, without waiting for it.

        Once per round is enough: otherwise the first analyser would spend its whole timeout on a host that is off.
        """
        if self.link.has_reader:  # whose thread keeps the port, and reopens it by itself
            return None
        try:
            with self.link.lock_held(time.monotonic() + TURN_S):
                self.link.ensure_open(time.monotonic())
        except ServomexError as error:
            return error
        return None
