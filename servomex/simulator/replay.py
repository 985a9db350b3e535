"""A line that replays a recording: its bytes arrive again, at their times or after their requests. No threads.

A reader gets the pieces of a recording one by one, as they were received: after each it once finds nothing to
read, however fast the replay is. The port is lost where it was lost in the recording, once the reader has taken
everything before that; the next opening continues after that.
"""

import bisect
import errno
import itertools
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable

import attrs

from servomex.errors import ServomexValidationError
from servomex.errors.validation import seconds
from servomex.port.pyserial import serial
from servomex.runtime.clock import time
from servomex.runtime.forks import let_go_after_fork
from servomex.simulator.playback import Piece, Playback, Section, same_request

FASTEST = 1e6
SLOWEST = 1e-3
REOPENED_S = 60.0
"""How long a recording whose port was lost waits to be opened again; the driver tries at least every 30 s."""
FENCES = 20
"""How many of the last loopbacks a reply may belong to."""

_by_url: "weakref.WeakValueDictionary[str, ReplayLine]" = weakref.WeakValueDictionary()
_lost: "dict[str, ReplayLine]" = {}
"""Keeps the lines whose port was lost, which are otherwise unreferenced until it is opened again."""
_count = itertools.count(1)


def replay_line(url: str) -> "ReplayLine | None":
    """Find the last line that was made for a URL, as long as it exists."""
    return _by_url.get(url)


@attrs.frozen
class _Due:
    """A piece on its way to the reader, and when it arrives."""

    at: float
    piece: Piece


class ReplayLine:
    """A serial line on which a recording is replayed. Its ``url`` opens it like a port, in this process.

    Broadcasts arrive at their own times. Where requests were sent, a written request is looked up among those not
    used yet, in their order, and the bytes that followed it arrive again; an unknown one gets no answer. The
    number of a loopback is random: any other matches it, and is returned. Consecutive sessions of a trace are
    replayed as one.

    Args:
        recording: The recording to replay.
        speed: How many times as fast; 0 for as fast as it is read. Replies are never slowed down, since their
            readers do not wait longer.
        loop: Begin again at the end.
        url: The URL to open; numbered when omitted.
        clock: Returns monotonic seconds.

    Attributes:
        recording: The recording.
        url: The URL to open, as long as this object exists.
        changed: Notified when something new may be read.

    Raises:
        ServomexValidationError: The speed is out of range.
    """

    def __init__(
        self,
        recording: Playback,
        *,
        speed: float = 1.0,
        loop: bool = False,
        url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recording = recording
        self.url: str = url or f"sim://replay-{next(_count)}"
        self.changed: threading.Condition = threading.Condition()
        self.clock = clock
        self._speed = _checked(speed)
        self._loop = loop
        counts = [len(part) - 1 for part in recording.parts]
        self._asked_before = [0, *itertools.accumulate(counts)]
        self._reader = 0
        self._is_open = False
        self._lost_at: float | None = None
        self._rewind()
        _by_url[self.url] = self
        let_go_after_fork(self)

    def _let_go(self) -> None:
        """Release this copy of the line in a forked child: its reader is in the parent."""
        self.changed = threading.Condition()
        self._is_open = False

    def _rewind(self) -> None:
        self._part = self._section = 0
        self._began_at: float | None = None
        self._queue: list[_Due] = []
        self._rest = b""
        self._between = False
        self._numbers: deque[tuple[bytes, bytes]] = deque(maxlen=FENCES)

    @property
    def position(self) -> int:
        """How many requests of the recording have been passed."""
        return self._asked_before[self._part] + self._section

    @property
    def ended(self) -> bool:
        """Whether nothing more can arrive."""
        with self.changed:
            last = self._part >= len(self.recording.parts) - 1
            waiting = self._rest or self._queue or (self._part_now and self._began_at is None)
            return last and not waiting and not self._loop and self.position == self._asked_before[-1]

    @property
    def waits(self) -> bool:
        """Whether it waits to be opened for the first time, or again after its port was lost."""
        if self._lost_at is not None:
            return self.clock() < self._lost_at + REOPENED_S
        return self._reader == 0

    def seconds_until(self, section: Section) -> float:
        """Return the seconds until a request is due that was not sent yet, to send it at its recorded time."""
        part = self._part_now
        if self._began_at is None or not part or not self._speed:
            return 0.0
        return max(0.0, self._began_at + (section.at_s - part[0].at_s) / self._speed - self.clock())

    def open(self, _baudrate: int) -> int:
        """Take the line for one reader: from the beginning, or from the loss onwards.

        Returns:
            The reader's number, for :meth:`close` and :meth:`check`.

        Raises:
            serial.SerialException: Another reader has it, or the recording ends with the loss of the port.
        """
        with self.changed:
            if self._is_open:
                raise serial.SerialException(errno.EBUSY, f"could not open port {self.url}: it is in use")
            if self._lost_at is None:
                self._rewind()
            elif not self._part_now:
                raise serial.SerialException(
                    errno.ENOENT, f"could not open port {self.url}: in the recording it does not come back"
                )
            self._lost_at = None
            _lost.pop(self.url, None)
            self._is_open = True
            self._reader += 1
            if not self.recording.timed:
                self._begin()
            return self._reader

    def close(self, reader: int) -> None:
        """Release the line, unless it was lost and another reader has it."""
        with self.changed:
            if reader == self._reader:
                self._is_open = False
            self.changed.notify_all()

    def check(self, reader: int) -> None:
        """Make sure that a reader still has the line.

        Raises:
            serial.SerialException: The port was lost since it was opened.
        """
        if reader != self._reader or not self._is_open:
            raise serial.SerialException("device disconnected: in the recording the port was lost here")

    def write(self, data: bytes) -> None:
        """Take a request, and release the recorded bytes that followed it."""
        with self.changed:
            if self._began_at is None:
                self._begin()
            if not self._answer(data):
                parts = self.recording.parts[self._part + 1 :]
                if any(same_request(section.request, data) for part in parts for section in part):
                    self._queue = [_Due(self.clock(), Piece(0.0, b""))]  # it was requested only after a loss
                elif self._loop and self.recording.asked:
                    self._part = self._section = 0
                    self._answer(data)
            self.changed.notify_all()

    def take(self, size: int) -> bytes:
        """Return up to ``size`` bytes that have arrived."""
        with self.changed:
            if self._began_at is None:
                self._begin()
            data = self._arrived()[:size]
            self._rest = self._rest[len(data) :]
            self._between = bool(data) and not self._rest
            return data

    def waiting(self) -> int:
        """Count the bytes that have arrived."""
        with self.changed:
            return len(self._arrived())

    def discard(self) -> None:
        """Drop nothing: bytes that a reader dropped when it opened the port are not in the recording."""

    def next_due(self) -> float | None:
        """Return seconds until something more arrives; ``None`` when nothing is on its way."""
        with self.changed:
            if self._rest:
                return 0.0
            return max(0.0, self._queue[0].at - self.clock()) if self._queue else None

    @property
    def _part_now(self) -> tuple[Section, ...]:
        return self.recording.parts[self._part] if self._part < len(self.recording.parts) else ()

    def _begin(self) -> None:
        """Begin a part. Broadcasts wait for the first read, since they would be dropped before that."""
        self._began_at = self.clock()
        self._schedule(self._began_at)

    def _schedule(self, start: float) -> None:
        for piece in self._part_now[0].pieces if self._part_now else ():
            self._queue.append(_Due(start + (piece.delay_s / self._speed if self._speed else 0.0), piece))

    def _answer(self, data: bytes) -> bool:
        """Release the recorded bytes that followed a request; return whether it is in the rest of this part."""
        part = self._part_now
        for place in range(self._section + 1, len(part)):
            if same_request(part[place].request, data):
                self._section = place
                self._numbers.append((part[place].request, data))
                for piece in self._renumbered(part[place].pieces):
                    due = _Due(
                        self.clock() + (piece.delay_s / max(1.0, self._speed) if self._speed else 0.0), piece
                    )
                    bisect.insort(self._queue, due, key=lambda item: item.at)
                return True
        return False

    def _renumbered(self, pieces: tuple[Piece, ...]) -> list[Piece]:
        """Replace the loopback numbers of the recording by those that were written."""
        numbers = {old: new for old, new in self._numbers if old != new}
        if not numbers:
            return [*pieces]
        pattern = b"|".join(map(re.escape, numbers))
        data = iter(re.sub(pattern, lambda found: numbers[found[0]], b"".join(piece.data for piece in pieces)))
        return [attrs.evolve(piece, data=bytes(itertools.islice(data, len(piece.data)))) for piece in pieces]

    def _arrived(self) -> bytes:
        """Return the rest of the piece that is being read, or the next one if the reader has seen its end."""
        if self._rest:
            return self._rest
        if self._between:
            self._between = False
            return b""
        if not self._queue and self._loop and self.recording.timed and self._began_at is not None:
            self._part = 0
            self._began_at = self.clock()
            self._schedule(self._began_at)
        if self._queue and self._queue[0].at <= self.clock():
            self._rest = self._queue.pop(0).piece.data
            if not self._rest:
                self._lose()
        return self._rest

    def _lose(self) -> None:
        self._is_open = False
        self._lost_at = self.clock()
        self._queue.clear()
        self._part += 1
        self._section = 0
        self._began_at = None
        if self._loop:
            self._part %= len(self.recording.parts)
        _lost[self.url] = self
        self.check(self._reader)


def _checked(speed: float) -> float:
    if speed > FASTEST:
        raise ServomexValidationError(f"speed must be at most {FASTEST:,.0f}, not {speed!r}")
    if 0 < speed < SLOWEST:
        raise ServomexValidationError(f"speed must be 0 or at least {SLOWEST:g}, not {speed!r}")
    return seconds(speed, "speed", zero=True)
