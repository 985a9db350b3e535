"""The line between virtual analysers and their reader: what each hears, and when each byte arrives. No threads."""

import errno
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from servomex.enums import ProtocolKind
from servomex.errors.validation import whole
from servomex.port.pyserial import serial
from servomex.runtime.clock import time
from servomex.runtime.forks import let_go_after_fork
from servomex.settings import SerialSettings
from servomex.simulator.device import VirtualAnalyzer

if TYPE_CHECKING:
    from servomex.simulator.slave import ModbusSlave

RX_BUFFER = 4096
"""The most bytes that wait for a reader, as in an operating system's port; later ones are lost."""
MESSAGE_SILENCE_S = 0.05
"""Silence after which an incomplete request is forgotten."""
FOREIGN_ADDRESS = 199

_named: "weakref.WeakValueDictionary[str, VirtualLine]" = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


def named_line(name: str) -> "VirtualLine | None":
    """Find a line of this process by its name."""
    return _named.get(name)


@attrs.define
class _Burst:
    """Bytes on their way to the reader: the first one arrives a character time after ``start``."""

    start: float
    data: bytes
    char_s: float

    def due(self, now: float) -> int:
        """Return how many of them have arrived."""
        if now < self.start:
            return 0
        return (
            len(self.data)
            if not self.char_s
            else min(len(self.data), int((now - self.start) / self.char_s + 1e-6))
        )


class VirtualLine:
    """A serial line with virtual analysers on it. Its ``url`` opens it like a port, in this process.

    Args:
        analysers: The analysers on the line.
        name: The name in its URL; a number when omitted.
        baudrate: The analysers' baud rate. A reader with another one gets garbage and is not heard.
        pace: Whether bytes and analysers take as long as real ones.
        turnaround: Seconds from a request to its reply, when paced.
        echo: Whether the adapter sends back what is written.
        unplug_after: Seconds after which an opened port is lost.
        clock: Returns monotonic seconds.

    Attributes:
        analysers: The analysers on the line.
        echo: Whether the adapter sends back what is written.
        changed: Notified when something new may be read.
        heard: Every request that an analyser heard: clock and bytes.
    """

    def __init__(
        self,
        *analysers: VirtualAnalyzer,
        name: str | None = None,
        baudrate: int = 19200,
        pace: bool = False,
        turnaround: float = 0.03,
        echo: bool = False,
        unplug_after: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.analysers: tuple[VirtualAnalyzer, ...] = analysers or (VirtualAnalyzer(clock=clock),)
        self.baudrate: int = whole(baudrate, "baudrate", 300, 115200)
        self.echo = echo
        self.clock = clock
        self.changed: threading.Condition = threading.Condition()
        self.heard: list[tuple[float, bytes]] = []
        self._name = name or f"line-{next(_numbers)}"
        self._char_s = SerialSettings(baudrate=baudrate).char_time_s if pace else 0.0
        self._turnaround = turnaround if pace else 0.0
        self._unplug_after = unplug_after
        self._opened_at: float | None = None
        self._plugged = True
        self._garbled = False
        self._bursts: list[_Burst] = []
        self._busy_until: dict[VirtualAnalyzer | None, float] = {}
        self._reader = 0
        self._last_byte_at = float("-inf")
        self._slaves: dict[VirtualAnalyzer, ModbusSlave] = {}
        self._partial: dict[VirtualAnalyzer, bytes] = {}
        self._heard_at: dict[VirtualAnalyzer, float] = {}
        self._broadcast_at = {analyser: clock() + analyser.period for analyser in self.analysers}
        _named[self._name] = self
        let_go_after_fork(self)

    def _let_go(self) -> None:
        """Release this copy of the line in a forked child: its reader is in the parent."""
        self.changed = threading.Condition()
        self._opened_at = None

    @property
    def url(self) -> str:
        """The URL to open, as long as this object exists."""
        return f"sim://{self._name}"

    @property
    def plugged(self) -> bool:
        """Whether the port is there."""
        expired = (
            self._unplug_after is not None
            and self._opened_at is not None
            and self.clock() >= self._opened_at + self._unplug_after
        )
        return self._plugged and not expired

    def unplug(self) -> None:
        """Pull the cable: an open port fails, and cannot be reopened."""
        with self.changed:
            self._plugged = False
            self._opened_at = None
            self._bursts.clear()
            self.changed.notify_all()

    def plug(self) -> None:
        """Put the cable back."""
        with self.changed:
            self._plugged = True

    def open(self, baudrate: int) -> int:
        """Take the line for one reader.

        Returns:
            The reader's number, for :meth:`close` and :meth:`check`.

        Raises:
            serial.SerialException: It is unplugged, or another reader has it.
        """
        with self.changed:
            if not self._plugged:
                raise serial.SerialException(errno.ENOENT, f"could not open port {self.url}: it is unplugged")
            if self._opened_at is not None:
                raise serial.SerialException(errno.EBUSY, f"could not open port {self.url}: it is in use")
            self._opened_at = self.clock()
            self._garbled = baudrate != self.baudrate
            self._reader += 1
            self._drop_arrived()
            return self._reader

    def close(self, reader: int) -> None:
        """Release the line, unless it was lost and another reader has it."""
        with self.changed:
            if reader == self._reader:
                self._opened_at = None
            self.changed.notify_all()

    def check(self, reader: int) -> None:
        """Make sure that a reader still has the line.

        Raises:
            serial.SerialException: It was unplugged since it was opened.
        """
        self._check()
        if reader != self._reader or self._opened_at is None:
            raise serial.SerialException("device disconnected: the virtual line was unplugged")

    def write(self, data: bytes) -> None:
        """Take bytes from the reader, and pass them to the analysers."""
        with self.changed:
            self._check()
            now = self.clock()
            silence = now - self._last_byte_at
            sent = now + len(data) * self._char_s
            self._last_byte_at = sent
            if self.echo:
                self._send(None, now, data)
            for analyser in () if self._garbled else self.analysers:
                deaf = analyser.faults.gap > max(0.0, silence)
                if not deaf and analyser.mode is not ProtocolKind.CONTINUOUS_ASCII:
                    self._ask(analyser, data, sent)
            self.changed.notify_all()

    def take(self, size: int) -> bytes:
        """Return up to ``size`` bytes that have arrived."""
        with self.changed:
            self._check()
            now = self.clock()
            self._broadcast(now)
            taken = b""
            while self._bursts and len(taken) < size and (due := self._bursts[0].due(now)):
                burst = self._bursts[0]
                count = min(due, size - len(taken))
                taken += burst.data[:count]
                burst.data = burst.data[count:]
                burst.start += count * burst.char_s
                if not burst.data:
                    self._bursts.pop(0)
            return bytes(0x5A ^ byte for byte in taken) if self._garbled else taken

    def waiting(self) -> int:
        """Count the bytes that have arrived."""
        with self.changed:
            self._check()
            now = self.clock()
            self._broadcast(now)
            count = 0
            for burst in self._bursts:  # bytes after one that is still arriving cannot be taken yet
                due = burst.due(now)
                count += due
                if due < len(burst.data):
                    break
            return count

    def discard(self) -> None:
        """Drop what has arrived."""
        self.take(self.waiting())

    def next_due(self) -> float | None:
        """Return seconds until something more arrives; ``None`` when nothing is on its way."""
        with self.changed:
            times = [burst.start + burst.char_s for burst in self._bursts[:1]]
            times += [self._broadcast_at[item] for item in self.analysers if self._broadcasts(item)]
            if self._unplug_after is not None and self._opened_at is not None:
                times.append(self._opened_at + self._unplug_after)
            return max(0.0, min(times) - self.clock()) if times else None

    def _check(self) -> None:
        if not self.plugged:
            self._opened_at = None
            raise serial.SerialException("device disconnected: the virtual line was unplugged")

    def _drop_arrived(self) -> None:
        now = self.clock()
        self._broadcast(now)
        self._bursts = [burst for burst in self._bursts if not burst.due(now)]

    def _ask(self, analyser: VirtualAnalyzer, data: bytes, now: float) -> None:
        from servomex.simulator.slave import ModbusSlave

        slave = self._slaves.setdefault(analyser, ModbusSlave(analyser))
        silence = now - self._heard_at.get(analyser, now)
        self._heard_at[analyser] = now
        partial = self._partial.pop(analyser, b"") if silence < MESSAGE_SILENCE_S else b""
        complete, reply = slave.answer(partial + data)
        if not complete:
            self._partial[analyser] = (partial + data)[-300:]
            return
        self.heard.append((now, partial + data))
        del self.heard[:-10_000]
        if reply:
            faults = analyser.faults
            if faults.happens(faults.foreign):
                self._send(analyser, now + self._turnaround, slave.foreign(reply, FOREIGN_ADDRESS))
            self._send_faulty(analyser, now + self._turnaround + faults.late, reply)

    def _broadcasts(self, analyser: VirtualAnalyzer) -> bool:
        return analyser.mode is ProtocolKind.CONTINUOUS_ASCII and analyser.period > 0

    def _broadcast(self, now: float) -> None:
        for analyser in self.analysers:
            if not self._broadcasts(analyser):
                self._broadcast_at[analyser] = now + analyser.period
                continue
            missed = int((now - self._broadcast_at[analyser]) / analyser.period) - RX_BUFFER // 100
            self._broadcast_at[analyser] += max(0, missed) * analyser.period
            while self._broadcast_at[analyser] <= now:
                self._send_faulty(analyser, self._broadcast_at[analyser], analyser.broadcast())
                self._broadcast_at[analyser] += analyser.period

    def _send_faulty(self, analyser: VirtualAnalyzer, start: float, message: bytes) -> None:
        faults = analyser.faults
        if faults.silent or faults.happens(faults.drop):
            return
        if faults.happens(faults.garbage):
            self._send(analyser, start, faults.noise())
        if faults.happens(faults.corrupt):
            message = faults.damage(message)
        for _ in range(1 + faults.happens(faults.duplicate)):
            for delay, piece in faults.pieces(message):
                self._send(analyser, start + delay, piece)

    def _send(self, source: VirtualAnalyzer | None, start: float, data: bytes) -> None:
        """Put bytes on the way to the reader. Those of one source wait for each other, not for another's."""
        if not data or sum(len(burst.data) for burst in self._bursts) + len(data) > RX_BUFFER:
            return
        start = max(start, self._busy_until.get(source, start))
        self._bursts.append(_Burst(start, data, self._char_s))
        self._bursts.sort(key=lambda burst: burst.start)  # a stable sort: what arrived first stays first
        self._busy_until[source] = start + len(data) * self._char_s
        self._last_byte_at = max(self._last_byte_at, self._busy_until[source])
