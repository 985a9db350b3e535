"""How long this computer slept. Its monotonic clock may stand still meanwhile, so that old data would look new.

Linux has a second clock that counts sleep (``CLOCK_BOOTTIME``), macOS another (``CLOCK_MONOTONIC_RAW``, while
``time.monotonic`` is ``mach_absolute_time`` there). On Windows ``time.monotonic`` counts sleep itself. Elsewhere
the wall clock is compared: when it jumps ahead of the monotonic clock by more than a second, that counts as
sleep.
"""

import sys
import threading
import time as system_time
from collections.abc import Callable
from typing import NamedTuple

from servomex.runtime.clock import time

NOTICED_NS = 20_000_000
"""The two clocks are read one after the other; they differ by more than this only after a sleep."""
WALL_JUMP_NS = 1_000_000_000
"""The wall clock is slewed and set by small steps; only a jump ahead of more than this counts as sleep."""
KEPT = 32
"""Number of sleeps that are remembered. Before the oldest, all sleep counts as later."""

Source = Callable[[], tuple[int, int]]
"""Reads the monotonic clock, and the nanoseconds of sleep so far, from any origin and never too many."""


class Moment(NamedTuple):
    """A point in time.

    Attributes:
        monotonic_ns: ``time.monotonic_ns()``.
        lasting_s: Seconds from an arbitrary origin on a clock that sleep does not stop.
    """

    monotonic_ns: int
    lasting_s: float


class _Sleep(NamedTuple):
    """A sleep that was noticed: when, and the total sleep before it."""

    noticed_ns: int
    before_ns: int


class _Sleeps(NamedTuple):
    """All that is remembered: replaced as a whole, so that it can be read without a lock."""

    slept_ns: int
    latest: tuple[_Sleep, ...] = ()
    forgotten: bool = False


class SleepLog:
    """Notices sleeps, and remembers the latest of them. Any thread may use it.

    Args:
        source: Reads the clocks.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._first_ns = max(source()[1] for _ in range(5))  # a pause between the two reads makes it less
        self._sleeps = _Sleeps(self._first_ns)

    def now(self) -> Moment:
        """Return the present moment, and note the sleep since the last call, if any."""
        monotonic_ns, slept_ns = self._source()
        if slept_ns - self._sleeps.slept_ns > NOTICED_NS:
            self._note(monotonic_ns, slept_ns)
        return Moment(monotonic_ns, (monotonic_ns + self._sleeps.slept_ns) / 1e9)

    def slept_s(self) -> float:
        """Return the seconds of sleep since the program began."""
        self.now()
        return (self._sleeps.slept_ns - self._first_ns) / 1e9

    def age_s(self, monotonic_ns: int) -> float:
        """Return the seconds since a moment of ``time.monotonic_ns()``, sleep included.

        A sleep counts unless it certainly ended before that moment.
        """
        now_ns = self.now().monotonic_ns
        slept_ns, latest, forgotten = self._sleeps
        before_ns = slept_ns
        for sleep in reversed(latest):
            if monotonic_ns >= sleep.noticed_ns:
                break
            before_ns = sleep.before_ns
        else:
            before_ns = self._first_ns if forgotten else before_ns
        return (now_ns - monotonic_ns + slept_ns - before_ns) / 1e9

    def _note(self, monotonic_ns: int, slept_ns: int) -> None:
        with self._lock:
            before_ns, latest, forgotten = self._sleeps
            if slept_ns - before_ns > NOTICED_NS:  # else another thread has noted it
                latest = (*latest, _Sleep(monotonic_ns, before_ns))
                self._sleeps = _Sleeps(slept_ns, latest[-KEPT:], forgotten or len(latest) > KEPT)


class Awake:
    """Shows whether the computer slept since this object was made.

    A reading of several requests is of one moment only if there was no sleep during it.
    """

    def __init__(self) -> None:
        self._before_s = sleeps.slept_s()

    @property
    def slept_s(self) -> float:
        """Seconds of sleep since then; 0.0 when there was none."""
        return sleeps.slept_s() - self._before_s


def now() -> Moment:
    """Return the present moment."""
    return sleeps.now()


def age_s(monotonic_ns: int) -> float:
    """Return the seconds since a moment of ``time.monotonic_ns()``, sleep included."""
    return sleeps.age_s(monotonic_ns)


def lasting_clock(clock: int) -> Source:
    """Return a source of a system clock that sleep does not stop.

    Args:
        clock: Its number, for ``time.clock_gettime_ns``.
    """
    read: Callable[[int], int] = getattr(system_time, "clock_gettime_ns")  # noqa: B009 (Windows has none)

    def source() -> tuple[int, int]:
        lasting_ns = read(clock)
        monotonic_ns = time.monotonic_ns()  # read second: a pause between the two makes the difference smaller
        return monotonic_ns, lasting_ns - monotonic_ns

    return source


def wall_clock(wall_ns: Callable[[], int] = system_time.time_ns) -> Source:
    """Return a source of the wall clock: a jump ahead of the monotonic clock counts as sleep.

    Args:
        wall_ns: Reads the wall clock.
    """
    lock = threading.Lock()
    ahead_ns, slept_ns = wall_ns() - time.monotonic_ns(), 0

    def source() -> tuple[int, int]:
        nonlocal ahead_ns, slept_ns
        with lock:
            monotonic_ns = time.monotonic_ns()
            before_ns, ahead_ns = ahead_ns, wall_ns() - monotonic_ns
            if ahead_ns - before_ns > WALL_JUMP_NS:
                slept_ns += ahead_ns - before_ns
            return monotonic_ns, slept_ns

    return source


def system_source() -> Source:
    """Choose the source that suits this computer."""
    if sys.platform == "win32":
        return lambda: (time.monotonic_ns(), 0)
    name = "CLOCK_MONOTONIC_RAW" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    clock = getattr(system_time, name, None)
    return wall_clock() if clock is None else lasting_clock(clock)


sleeps: SleepLog = SleepLog(system_source())
"""The sleeps of this computer that this program noticed."""
