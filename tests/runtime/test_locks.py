"""The lock of a port: re-entrant, first come first served, with a deadline, and never lost."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from servomex.errors import ServomexConnectionError, ServomexTimeoutError
from servomex.port.link import SerialLink
from servomex.runtime.locks import PortLock, Signal
from servomex.simulator import VirtualLine
from tests.helpers.threads import GENEROUS_S, in_thread, waiting
from tests.helpers.waiting import wait_until


@pytest.fixture
def lock() -> PortLock:
    return PortLock()


def turn(lock: PortLock, work: Callable[[], object] = lambda: None, timeout: float | None = GENEROUS_S) -> bool:
    """Take the lock, work, and give it back."""
    if not lock.acquire(timeout):
        return False
    work()
    lock.release()
    return True


def queue_up(lock: PortLock, work: Callable[[], object], timeout: float = GENEROUS_S) -> "Future[bool]":
    """Let a thread wait for the lock; return when it does."""
    before = waiting(lock)
    future = in_thread(turn, lock, work, timeout)
    wait_until(lambda: waiting(lock) == before + 1)
    return future


def test_the_holder_may_take_it_again_and_must_give_it_back_as_often(lock: PortLock) -> None:
    assert lock.acquire()
    assert lock.acquire(0)
    lock.release()
    assert not in_thread(lock.acquire, 0).result(GENEROUS_S)
    lock.release()
    assert in_thread(turn, lock).result(GENEROUS_S)


def test_threads_get_it_in_the_order_in_which_they_came(lock: PortLock) -> None:
    order: list[int] = []
    lock.acquire()
    futures = [queue_up(lock, lambda number=number: order.append(number)) for number in range(10)]  # type: ignore[misc]
    assert order == []
    lock.release()
    assert all(future.result(GENEROUS_S) for future in futures)
    assert order == list(range(10))


def test_a_thread_that_releases_and_retakes_at_once_does_not_starve_another(lock: PortLock) -> None:
    for _ in range(50):
        order: list[str] = []
        lock.acquire()
        other = queue_up(lock, lambda order=order: order.append("other"))  # type: ignore[misc]
        lock.release()
        lock.acquire()
        order.append("greedy")
        lock.release()
        assert other.result(GENEROUS_S)
        assert order == ["other", "greedy"]


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.05])
def test_waiting_ends_at_the_deadline(lock: PortLock, timeout: float) -> None:
    lock.acquire()
    start = time.monotonic()
    assert not in_thread(lock.acquire, timeout).result(GENEROUS_S)
    assert timeout <= time.monotonic() - start < timeout + 2.0
    lock.release()


@pytest.mark.virtual_time
def test_a_thread_that_gave_up_is_not_handed_the_lock(lock: PortLock) -> None:
    order: list[str] = []
    lock.acquire()
    hasty = queue_up(lock, lambda: order.append("hasty"), timeout=0.05)
    patient = queue_up(lock, lambda: order.append("patient"))
    assert not hasty.result(GENEROUS_S)
    lock.release()
    assert patient.result(GENEROUS_S)
    assert order == ["patient"]
    assert lock.acquire(0)


def test_a_thread_that_does_not_hold_it_cannot_give_it_back(lock: PortLock) -> None:
    with pytest.raises(RuntimeError, match="held by another thread"):
        lock.release()
    lock.acquire()
    with pytest.raises(RuntimeError, match="held by another thread"):
        in_thread(lock.release).result(GENEROUS_S)
    assert not in_thread(lock.acquire, 0).result(GENEROUS_S)
    lock.release()
    with pytest.raises(RuntimeError, match="held by another thread"):
        lock.release()


def test_only_one_thread_has_it_at_a_time(lock: PortLock) -> None:
    inside, most, turns = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, turns
        inside += 1
        before = turns
        time.sleep(0)  # lets another thread in, if the lock does
        most = max(most, inside)
        turns = before + 1
        inside -= 1

    def many() -> bool:
        return all(turn(lock, work) for _ in range(100))

    assert all(future.result(GENEROUS_S) for future in [in_thread(many) for _ in range(8)])
    assert (most, turns) == (1, 800)


def converse(link: SerialLink, timeout: float) -> bool:
    with link.conversation(time.monotonic() + timeout):
        return True


def test_a_conversation_waits_for_the_other_until_its_deadline_only(line: VirtualLine) -> None:
    with SerialLink(line.url) as link:
        with link.conversation(time.monotonic()), link.conversation(time.monotonic()):
            start = time.monotonic()
            error = in_thread(converse, link, 0.1).exception(GENEROUS_S)
            assert 0.09 <= time.monotonic() - start < 2.0
        assert isinstance(error, ServomexTimeoutError)
        assert "other callers kept the port busy" in str(error)
        assert line.url in str(error)
        assert in_thread(converse, link, GENEROUS_S).result(GENEROUS_S)


def test_a_conversation_that_fails_lets_the_next_one_in(line: VirtualLine) -> None:
    with SerialLink(line.url) as link:
        with contextlib.suppress(KeyError), link.conversation(time.monotonic()):
            raise KeyError
        assert in_thread(converse, link, 0).result(GENEROUS_S)


def test_a_conversation_with_a_lost_port_lets_the_next_one_in(line: VirtualLine) -> None:
    with SerialLink(line.url) as link:
        line.unplug()
        with contextlib.suppress(ServomexConnectionError), link.conversation(time.monotonic()):
            link.write(b"x")
        error = in_thread(converse, link, 0).exception(GENEROUS_S)
        assert isinstance(error, ServomexConnectionError), "the lock was not given back"


@pytest.mark.virtual_time
def test_a_signal_that_is_set_twice_while_a_thread_wakes_up_ends_its_wait() -> None:
    """In virtual time a lock is handed over to the thread that waits for it before that thread runs."""
    signal = Signal()
    waits = in_thread(signal.wait, GENEROUS_S)
    time.sleep(0.1)
    signal.set()
    signal.set()
    assert waits.result(GENEROUS_S) is True
    assert signal.wait(0) is True
    signal.clear()
    assert signal.wait(0.01) is False
