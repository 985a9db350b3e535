"""Virtual time: it stands while anybody works, every wait ends at its moment, and it goes back to what it was."""

import queue
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from servomex.runtime.suspend import Awake
from tests.helpers.virtual_time import VirtualTime

pytestmark = pytest.mark.virtual_time
real_monotonic = time.monotonic


def test_an_hour_takes_a_blink() -> None:
    began, really, wall, day = time.monotonic(), real_monotonic(), time.time(), datetime.now(UTC)
    time.sleep(3600)
    assert 3600 <= time.monotonic() - began < 3600.01
    assert 3600 <= time.time() - wall < 3600.01
    assert 3600 <= (datetime.now(UTC) - day).total_seconds() < 3600.01
    assert real_monotonic() - really < 60


def test_none_passes_while_a_thread_works() -> None:
    working, done = threading.Event(), threading.Event()

    def work() -> None:
        working.set()
        until = real_monotonic() + 0.1
        while real_monotonic() < until:
            pass
        done.set()

    began = time.monotonic()
    worker = threading.Thread(target=work)
    worker.start()
    assert working.wait(5)
    assert done.wait(0.001), "however long it takes"
    worker.join()
    assert time.monotonic() - began < 0.001


def test_a_thread_that_works_for_long_is_not_taken_for_a_computer_that_sleeps() -> None:
    awake = Awake()
    until = real_monotonic() + 0.1
    while real_monotonic() < until:
        pass
    assert awake.slept_s == 0.0


def test_waits_end_in_the_order_of_their_moments() -> None:
    ended: list[tuple[str, float]] = []
    began = time.monotonic()

    def note(what: str) -> None:
        ended.append((what, round(time.monotonic() - began, 2)))

    def sleep() -> None:
        time.sleep(0.3)
        note("sleep")

    def event() -> None:
        assert not threading.Event().wait(0.1)
        note("event")

    def lock() -> None:
        taken = threading.Lock()
        with taken:
            assert not taken.acquire(timeout=0.2)
        note("lock")

    def empty() -> None:
        kinds: list[Any] = [queue.Queue, queue.SimpleQueue]
        for kind in kinds:
            with pytest.raises(queue.Empty):
                kind().get(timeout=0.2)
        note("queues")

    threads = [threading.Thread(target=run) for run in (sleep, empty, event, lock)]
    threads.append(threading.Timer(0.35, note, ["timer"]))
    for thread in threads:
        thread.start()
    threads[0].join(0.25)
    assert threads[0].is_alive()
    note("join")
    for thread in threads:
        thread.join()
    expected = [("event", 0.1), ("lock", 0.2), ("join", 0.25), ("sleep", 0.3), ("timer", 0.35), ("queues", 0.4)]
    assert ended == expected


def test_a_lock_goes_to_who_waits_and_not_to_who_comes_too_late() -> None:
    lock, got = threading.Lock(), list[bool]()
    lock.acquire()
    patient = threading.Thread(target=lambda: got.append(lock.acquire(timeout=1)))
    hasty = threading.Thread(target=lambda: got.append(lock.acquire(timeout=0.1)))
    for thread in (hasty, patient):
        thread.start()
    time.sleep(0.5)
    assert got == [False]
    lock.release()
    patient.join()
    assert got == [False, True]
    assert lock.locked()
    with pytest.raises(RuntimeError):
        threading.Lock().release()


class Own(type(threading.RLock())):  # type: ignore[misc]
    """A class that derives from the system's own lock."""


def test_a_lock_of_a_class_of_its_own_is_waited_for_in_virtual_time() -> None:
    lock, got = Own(), list[bool]()
    with lock, lock:
        threads = [
            threading.Thread(target=lambda wait=wait: got.append(lock.acquire(timeout=wait))) for wait in (1, 9)
        ]
        for thread in threads:
            thread.start()
        time.sleep(2)
        assert got == [False]
    threads[1].join()
    assert got == [False, True]


def test_a_loop_that_only_looks_at_the_clock_ends() -> None:
    until = time.monotonic() + 0.01
    while time.monotonic() < until:
        pass


@pytest.mark.real_time
def test_what_is_real_stays_real(virtual_time: VirtualTime | None) -> None:
    assert virtual_time is None
    assert time.monotonic is real_monotonic
    assert type(threading.Lock()).__module__ == "_thread"
