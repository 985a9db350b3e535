"""Time for tests that stands still while any thread works, and jumps to the next moment that a thread waits for.

However busy the computer is: no time passes while a step is taken, and every wait ends at its exact moment.
Counts, rates and deadlines can be asked for as they should be, and an hour takes a blink.

It holds for threads that wait by ``time.sleep`` or by what ``threading`` and ``queue`` have. One that waits for
the system (a socket, a terminal, another process) would be taken for one that works, and would stop the time of
all: a test that makes one of these fails at once, and is to be marked ``real_time``.
"""

import _thread
import functools
import os
import platform
import queue
import socket
import subprocess
import threading
import time
from datetime import datetime, tzinfo
from typing import Any

import attrs
import pytest

from servomex.runtime import clock as clocks
from servomex.runtime import suspend as awake
from servomex.simulator import PtyServer, ReplayLine, TcpServer, VirtualAnalyzer, VirtualLine

NS = 1_000_000_000
TICK_NS = 1_000
"""Each look at the clock takes that long: a loop that only looks at it comes to its end."""

RLOCK = type(_thread.RLock())

_start, _join, _sleep = threading.Thread.start, threading.Thread.join, time.sleep
_monotonic_ns, _time_ns = time.monotonic_ns, time.time_ns
_clock_gettime_ns = getattr(time, "clock_gettime_ns", None)


@attrs.define(eq=False)
class _Wait:
    """One thread that waits: for a lock, for a moment, or for whichever comes first."""

    plays: bool
    lock: "VirtualLock | None" = None
    until_ns: float = float("inf")
    over: bool = False
    granted: bool = False
    gate: Any = attrs.field(factory=_thread.allocate_lock)

    def __attrs_post_init__(self) -> None:
        self.gate.acquire()


class VirtualTime:
    """The time of the thread that makes it, and of all threads that are started by those who share it."""

    def __init__(self) -> None:
        self.mutex = _thread.allocate_lock()
        self.waits: list[_Wait] = []
        self._now_ns = self._began_ns = _monotonic_ns()
        self._wall_ns = _time_ns()
        self._over = False
        self._players = 1
        self._blocked = 0
        self._mine = threading.local()
        self._mine.plays = True
        self._ends: dict[threading.Thread, VirtualLock] = {}

    @property
    def plays(self) -> bool:
        """Whether the calling thread shares this time."""
        return not self._over and getattr(self._mine, "plays", False)

    def end(self) -> None:
        """Go back to real time. Waits of threads that still run end as if their time were up."""
        with self.mutex:
            self._over = True
            for wait in [wait for wait in self.waits if wait.until_ns < float("inf")]:
                self._end(wait)

    def monotonic_ns(self) -> int:
        """Return the monotonic time, in nanoseconds."""
        if not self.plays:
            return _monotonic_ns()
        with self.mutex:
            self._now_ns += TICK_NS
            return self._now_ns

    def monotonic(self) -> float:
        """Return the monotonic time, in seconds."""
        return self.monotonic_ns() / NS

    def time_ns(self) -> int:
        """Return the time of day, in nanoseconds: it goes as the monotonic one."""
        return self._wall_ns + self.monotonic_ns() - self._began_ns if self.plays else _time_ns()

    def time(self) -> float:
        """Return the time of day, in seconds."""
        return self.time_ns() / NS

    def clock_gettime_ns(self, clock: int) -> int:
        """Return what a clock of the system shows: all but that of the day are the monotonic one here."""
        if not self.plays or "CPUTIME" in _clock_name(clock):
            assert _clock_gettime_ns
            return int(_clock_gettime_ns(clock))
        return self.time_ns() if "REALTIME" in _clock_name(clock) else self.monotonic_ns()

    def clock_gettime(self, clock: int) -> float:
        """Return what a clock of the system shows, in seconds."""
        return self.clock_gettime_ns(clock) / NS

    def sleep(self, seconds: float) -> None:
        """Wait until the time has come to that moment."""
        if not self.plays or seconds <= 0:
            _sleep(seconds)
        else:
            self._wait(_Wait(plays=True), seconds)

    def acquire(self, lock: "VirtualLock", timeout: float) -> bool:
        """Take a lock; a negative ``timeout`` waits without end."""
        with self.mutex:
            if not lock.held:
                lock.held = True
                return True
            if timeout == 0:
                return False
            wait = _Wait(self.plays, lock)
            lock.queue.append(wait)
        return self._wait(wait, timeout if timeout > 0 else float("inf"))

    def release(self, lock: "VirtualLock") -> None:
        """Give a lock back, or on to the longest waiting thread."""
        with self.mutex:
            if not lock.held:
                raise RuntimeError("release unlocked lock")
            if lock.queue:
                lock.queue[0].granted = True
                self._end(lock.queue[0])
            else:
                lock.held = False

    def _wait(self, wait: _Wait, seconds: float) -> bool:
        with self.mutex:
            if not wait.over and wait.plays and not self._over:
                wait.until_ns = self._now_ns + seconds * NS
                self.waits.append(wait)
                self._blocked += 1
                self._jump_if_all_wait()
        limit = seconds if not wait.plays and seconds < float("inf") else -1
        try:
            wait.gate.acquire(timeout=limit)
        except BaseException:
            self._withdraw(wait)
            if wait.granted and wait.lock:
                self.release(wait.lock)
            raise
        self._withdraw(wait)
        return wait.granted

    def _withdraw(self, wait: _Wait) -> None:
        with self.mutex:
            if not wait.over:
                self._end(wait)

    def _end(self, wait: _Wait) -> None:
        """Let a thread go on. The mutex is held."""
        wait.over = True
        if wait.lock:
            wait.lock.queue.remove(wait)
        if wait in self.waits:
            self.waits.remove(wait)
            self._blocked -= 1
        wait.gate.release()

    def _jump_if_all_wait(self) -> None:
        """Go to the next moment that a thread waits for, if all threads wait. The mutex is held."""
        if self._blocked < self._players or not self.waits:
            return
        first = min(self.waits, key=lambda wait: wait.until_ns)
        if first.until_ns < float("inf"):  # else only another world can wake them
            self._now_ns = max(self._now_ns, int(first.until_ns) + 1)
            self._end(first)

    def start(self, thread: threading.Thread) -> None:
        """Start a thread that shares this time if the one does that starts it."""
        if not self.plays:
            _start(thread)
            return
        run, ended = thread.run, VirtualLock(self)
        ended.acquire()
        with self.mutex:
            self._players += 1
            self._ends[thread] = ended
        thread.run = functools.partial(self._play, thread, run)  # type: ignore[method-assign]
        try:
            _start(thread)
        except BaseException:
            self._leave(thread)
            raise

    def _play(self, thread: threading.Thread, run: Any) -> None:
        self._mine.plays = True
        try:
            run()
        finally:
            self._leave(thread)

    def _leave(self, thread: threading.Thread) -> None:
        self._ends[thread].release()
        with self.mutex:
            self._players -= 1
            self._jump_if_all_wait()

    def join(self, thread: threading.Thread, timeout: float | None = None) -> None:
        """Wait for the end of a thread."""
        ended = self._ends.get(thread)
        if ended is None or not self.plays or thread is threading.current_thread():
            _join(thread, timeout)
        elif ended.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            ended.release()
            _join(thread)  # which is over but for the last few instructions


class VirtualLock:
    """A lock as ``threading.Lock`` is, whose waits are in virtual time."""

    def __init__(self, clock: VirtualTime) -> None:
        self.held = False
        self.queue: list[_Wait] = []
        self._clock = clock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""
        return self._clock.acquire(self, timeout if blocking else 0)

    def release(self) -> None:
        """Give it back."""
        self._clock.release(self)

    def _at_fork_reinit(self) -> None:
        """Be free in a child, as modules want it of the locks that they have: they may be imported meanwhile."""
        self.held, self.queue = False, []

    def locked(self) -> bool:
        """Whether it is taken."""
        return self.held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.release()


def _clock_name(clock: int) -> str:
    names = [name for name in dir(time) if name.startswith("CLOCK_") and getattr(time, name) == clock]
    return names[0] if names else ""


def _datetime_of(clock: VirtualTime) -> type[datetime]:
    """Make a class that is ``datetime`` but for the time of day."""

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class VirtualDatetime(datetime, metaclass=Kind):
        def __new__(cls, *args: Any, **options: Any) -> Any:
            return datetime(*args, **options)  # noqa: DTZ001 (as it is called)

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.fromtimestamp(clock.time(), tz)

    return VirtualDatetime


def _stand_in(lock: Any) -> Any:
    """Return what waits in virtual time in the place of a lock whose class derives from the system's own."""
    return vars(lock).setdefault("virtual", threading._PyRLock())  # type: ignore[attr-defined]


_STAND_IN: dict[str, Any] = {
    "acquire": lambda lock, blocking=True, timeout=-1: _stand_in(lock).acquire(blocking, timeout),
    "release": lambda lock: _stand_in(lock).release(),
    "_is_owned": lambda lock: _stand_in(lock)._is_owned(),
    "__enter__": lambda lock: _stand_in(lock).acquire(),
    "__exit__": lambda lock, *_exc: _stand_in(lock).release(),
}


def _refusing(clock: VirtualTime, make: Any) -> Any:
    """Refuse what one can only wait for in real time."""

    @functools.wraps(make)
    def refuse(*args: Any, **options: Any) -> Any:
        if clock.plays:
            pytest.fail("sockets, terminals and other processes need real time: mark this test real_time")
        return make(*args, **options)

    return refuse


def install(patch: pytest.MonkeyPatch, modules: dict[str, Any]) -> VirtualTime:
    """Let the calling thread, and all that follow from it, live in virtual time until the patch is undone.

    Args:
        patch: What undoes it.
        modules: The loaded modules, by name: this package, and its tests.
    """
    platform.platform()  # it asks another program, once
    clock = VirtualTime()
    # Beside the system's clock of sleep, a virtual one that stands looks like a computer that sleeps.
    patch.setattr(awake, "sleeps", awake.SleepLog(lambda: (clock.monotonic_ns(), 0)))
    make_lock = functools.partial(VirtualLock, clock)
    for name in ("monotonic", "monotonic_ns", "time", "time_ns", "sleep", "clock_gettime", "clock_gettime_ns"):
        for kept in (time, clocks.time):  # the tests' own, and the package's
            if hasattr(kept, name):
                patch.setattr(kept, name, getattr(clock, name))
    patch.setattr(threading, "_time", clock.monotonic)
    patch.setattr(queue, "time", clock.monotonic)
    patch.setattr(threading, "Lock", make_lock)
    patch.setattr(threading, "_allocate_lock", make_lock)
    patch.setattr(threading, "RLock", threading._PyRLock)  # type: ignore[attr-defined]
    patch.setattr(queue, "SimpleQueue", queue._PySimpleQueue)  # type: ignore[attr-defined]
    patch.setattr(threading.Thread, "start", lambda thread: clock.start(thread))
    patch.setattr(threading.Thread, "join", lambda thread, timeout=None: clock.join(thread, timeout))
    for simulated in (VirtualAnalyzer, VirtualLine, ReplayLine):
        defaults: Any = simulated.__init__.__kwdefaults__
        patch.setitem(defaults, "clock", clock.monotonic)
    waited_for: list[Any] = [PtyServer, TcpServer, socket.socket, subprocess.Popen]
    for real in waited_for:
        patch.setattr(real, "__init__", _refusing(clock, real.__init__))
    if hasattr(os, "openpty"):
        patch.setattr(os, "openpty", _refusing(clock, os.openpty))
    virtual = _datetime_of(clock)
    ours = [
        modules[name] for name in list(modules) if name.startswith(("servomex.", "tests.")) and name != __name__
    ]
    for module in ours:
        if getattr(module, "datetime", None) is datetime:
            patch.setattr(module, "datetime", virtual)
        for kind in [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, RLOCK)]:
            for name in _STAND_IN.keys() - vars(kind).keys():
                patch.setattr(kind, name, _STAND_IN[name])
    return clock
