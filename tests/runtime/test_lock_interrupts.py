"""A KeyboardInterrupt at any moment leaves the lock of a port, a signal and a queue usable for every thread."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

import servomex
from servomex.enums import OverflowPolicy
from servomex.runtime import locks as lock_module
from servomex.runtime import queues
from servomex.runtime.locks import Changes, PortLock, Signal
from servomex.runtime.queues import BoundedQueue
from tests.helpers.injecting import Injector
from tests.helpers.threads import GENEROUS_S, in_thread, waiting
from tests.helpers.waiting import wait_until

INSIDE = frozenset({lock_module.__file__, queues.__file__})


def moments(call: Callable[[Injector], bool]) -> Iterator[str]:
    """Call with an interrupt at the first moment, the second and so on, until it ends without one."""
    for moment in itertools.count():
        injector = Injector(moment, INSIDE)
        if not call(injector):
            assert moment > 3, "nothing was interrupted"
            return
        yield injector.hit


def usable(lock: PortLock) -> bool:
    """Whether another thread can take the lock and give it back, and this one as well."""

    def take() -> bool:
        with lock.turn(GENEROUS_S):
            return True

    return in_thread(take).result(GENEROUS_S) and take() and in_thread(take).result(GENEROUS_S)


def by_turn(lock: PortLock) -> None:
    with lock.turn(GENEROUS_S):
        pass


def nested(lock: PortLock) -> None:
    with lock.turn(GENEROUS_S), lock.turn(GENEROUS_S):
        assert lock.acquire(0)


@pytest.mark.parametrize("use", [by_turn, nested])
def test_a_turn_that_is_interrupted_anywhere_is_given_back(use: Callable[[PortLock], None]) -> None:
    lock = PortLock()
    for where in moments(lambda injector: injector.run(lambda: use(lock))):
        assert usable(lock), where


def test_a_turn_whose_beginning_fails_is_given_back() -> None:
    lock = PortLock()

    def fail() -> None:
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError), lock.turn(0, then=fail):
            pass
        assert usable(lock)


def test_taking_it_by_a_method_leaves_it_taken_or_not_as_the_call_says() -> None:
    lock = PortLock()

    def take_and_give_back(injector: Injector) -> bool:
        interrupted = injector.run(lambda: lock.acquire(GENEROUS_S))
        if not interrupted:
            assert lock.is_mine
            lock.release()
        return interrupted

    for where in moments(take_and_give_back):
        assert not lock.is_mine, where
        assert usable(lock), where


def test_giving_it_back_by_a_method_can_be_repeated() -> None:
    lock = PortLock()

    def give_back(injector: Injector) -> bool:
        lock.acquire()
        lock.acquire()
        lock.release()
        interrupted = injector.run(lock.release)
        if lock.is_mine:
            lock.release()
        return interrupted

    for where in moments(give_back):
        assert usable(lock), where


def hold(lock: PortLock) -> tuple[threading.Event, "Future[None]"]:
    """Take the lock in another thread until the event is set."""
    taken, give_back = threading.Event(), threading.Event()

    def keep() -> None:
        with lock.turn(GENEROUS_S):
            taken.set()
            assert give_back.wait(GENEROUS_S)

    future = in_thread(keep)
    assert taken.wait(GENEROUS_S)
    return give_back, future


@pytest.mark.parametrize("place", ["first in the line", "second in the line"])
def test_a_wait_that_is_interrupted_anywhere_keeps_neither_the_lock_nor_its_place(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(lock_module, "WAKE_S", 0.01)
    lock = PortLock()

    def wait(injector: Injector) -> bool:
        give_back, keeper = hold(lock)
        others = [in_thread(by_turn, lock)] if place.startswith("second") else []
        wait_until(lambda: waiting(lock) == len(others))
        timer = threading.Timer(0.015, give_back.set)
        timer.start()
        interrupted = injector.run(lambda: by_turn(lock))
        behind = in_thread(by_turn, lock)
        timer.join()
        for future in (keeper, *others, behind):
            future.result(GENEROUS_S)
        return interrupted

    seen = 0
    for moment in range(400):
        injector = Injector(moment, INSIDE)
        interrupted = wait(injector)
        seen += interrupted
        assert usable(lock), injector.hit
        if not interrupted:
            break
    assert seen > 20


def test_a_lock_whose_thread_ended_goes_to_the_next() -> None:
    lock = PortLock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert lock.acquire(GENEROUS_S)
    lock.release()
    assert usable(lock)


def test_a_signal_ends_waits_whatever_interrupted_it_before() -> None:
    signal = Signal()

    def use() -> None:
        signal.set()
        signal.wait(1)
        signal.clear()
        signal.wait(0.001)

    for where in moments(lambda injector: injector.run(use)):
        signal.clear()
        begun = time.monotonic()
        assert not signal.wait(0.02), where
        assert time.monotonic() - begun > 0.01, where
        waiter = in_thread(signal.wait, GENEROUS_S)
        signal.set()
        assert waiter.result(GENEROUS_S), where
        signal.clear()


def test_a_queue_goes_on_whatever_interrupted_it_before() -> None:
    queue: BoundedQueue[int] = BoundedQueue(100, OverflowPolicy.DROP_OLDEST)

    def use() -> None:
        queue.put(1)
        queue.take(100)
        with pytest.raises(TimeoutError):
            queue.get(0.001)

    for where in moments(lambda injector: injector.run(use)):
        while len(queue):
            queue.get(0)
        getter = in_thread(queue.get, GENEROUS_S)
        in_thread(queue.put, 7).result(GENEROUS_S)
        assert getter.result(GENEROUS_S) == 7, where


def test_a_wait_for_a_change_ends_though_its_announcer_was_interrupted() -> None:
    """The announcer has taken the tickets and is interrupted before it could use them."""
    changes = Changes()
    with changes.mutex:
        ticket = changes.ticket()
        changes._tickets.clear()
    in_thread(changes.wait, ticket).result(GENEROUS_S)


REAL_SIGNALS = """
import random, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from servomex.runtime.locks import PortLock, Changes

lock, changes = PortLock(), Changes()
came = [0]
def interrupt(_, frame):
    while frame is not None and frame.f_code is not loop.__code__:
        frame = frame.f_back
    if frame is not None:
        came[0] += 1
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
stop = False
turns = [0]

def other():
    while not stop:
        with lock.turn(20, lambda: SystemExit("the lock was lost")):
            turns[0] += 1
        with changes.mutex:
            changes.announce()
        time.sleep(0.0005)

def loop():
    with lock.turn():
        with lock.turn():
            pass
    with changes.mutex:
        ticket = changes.ticket()
    changes.wait(ticket, 0.0001)

thread = threading.Thread(target=other, daemon=True)
thread.start()
until = time.monotonic() + 60
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
while came[0] < int(sys.argv[2]) and time.monotonic() < until:
    try:
        loop()
    except KeyboardInterrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
time.sleep(0.01)
before, until = turns[0], time.monotonic() + 10
while turns[0] < before + 50 and time.monotonic() < until:
    time.sleep(0.01)
stop = True
assert turns[0] >= before + 50, f"the other thread waits for ever after {came[0]} signals"
thread.join(5)
assert not thread.is_alive()
print(came[0])
"""


@pytest.mark.alone
@pytest.mark.skipif(sys.platform == "win32", reason="there are no interval timers on Windows")
def test_thousands_of_real_signals_do_not_lose_a_lock() -> None:
    root = str(Path(servomex.__file__).parent.parent)
    result = subprocess.run(
        [sys.executable, "-c", REAL_SIGNALS, root, "4000"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) > 1000
