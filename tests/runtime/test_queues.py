"""The bounded queue between the thread that receives frames and the one that uses them."""

import time
from concurrent.futures import TimeoutError as NotDoneError

import attrs
import pytest

from servomex.continuous.queue import FrameQueue
from servomex.enums import OverflowPolicy
from servomex.errors import (
    ServomexConnectionError,
    ServomexParseError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.models.frame import Frame
from servomex.runtime.queues import BoundedQueue, Closed
from servomex.telegram import parse_frame
from tests.helpers.frames import REAL, RECEIVED_AT
from tests.helpers.threads import in_thread

pytestmark = pytest.mark.virtual_time

GENEROUS_S = 5.0
TEMPLATE = parse_frame(REAL, received_at=RECEIVED_AT, monotonic_ns=0)


def frame(number: int) -> Frame:
    return attrs.evolve(TEMPLATE, monotonic_ns=number)


def numbers(queue: FrameQueue) -> list[int]:
    """Take out everything."""
    return [queue.get(0).monotonic_ns for _ in range(len(queue))]


def test_frames_come_out_in_the_order_in_which_they_went_in() -> None:
    queue = FrameQueue(10)
    for number in range(10):
        queue.put(frame(number))
    assert len(queue) == 10
    assert numbers(queue) == list(range(10))
    assert (len(queue), queue.dropped) == (0, 0)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_full_queue_drops_the_oldest_and_counts_them(size: int) -> None:
    queue = FrameQueue(size)
    for number in range(20):
        queue.put(frame(number))
        assert len(queue) == min(number + 1, size)
    assert queue.dropped == 20 - size
    assert numbers(queue) == list(range(20 - size, 20))


def test_it_holds_a_hundred_frames_by_default() -> None:
    queue = FrameQueue()
    for number in range(101):
        queue.put(frame(number))
    assert (len(queue), queue.dropped) == (100, 1)


@pytest.mark.parametrize("size", [0, -1, 1_000_001, 1.5, True, None])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ServomexValidationError, match="size must be a whole number from 1 to 1000000"):
        FrameQueue(size)


@pytest.mark.parametrize("timeout", [0.0, 0.05])
def test_waiting_ends_at_the_deadline(timeout: float) -> None:
    start = time.monotonic()
    with pytest.raises(ServomexTimeoutError, match="no frame arrived") as caught:
        FrameQueue().get(timeout)
    assert timeout <= time.monotonic() - start < timeout + 2.0
    assert caught.value.context.elapsed_s == timeout


@pytest.mark.parametrize("timeout", [None, GENEROUS_S])
def test_a_frame_ends_the_waiting(timeout: float | None) -> None:
    queue = FrameQueue()
    waiter = in_thread(queue.get, timeout)
    with pytest.raises(NotDoneError):
        waiter.result(0.05)
    queue.put(frame(7))
    assert waiter.result(GENEROUS_S).monotonic_ns == 7


def test_an_error_is_raised_in_its_place_between_the_frames_around_it() -> None:
    queue = FrameQueue()
    lost, damaged = ServomexConnectionError("lost"), ServomexParseError("damaged")
    for item in (frame(1), lost, frame(2), damaged):
        queue.put(item)
    assert queue.get(0).monotonic_ns == 1
    with pytest.raises(ServomexConnectionError) as first:
        queue.get(0)
    assert queue.get(0).monotonic_ns == 2
    with pytest.raises(ServomexParseError) as second:
        queue.get(0)
    assert (first.value, second.value) == (lost, damaged)
    with pytest.raises(ServomexTimeoutError):
        queue.get(0)


@pytest.mark.parametrize("timeout", [None, GENEROUS_S])
def test_close_wakes_those_who_wait(timeout: float | None) -> None:
    queue = FrameQueue()
    waiters = [in_thread(queue.get, timeout) for _ in range(3)]
    with pytest.raises(NotDoneError):
        waiters[0].result(0.05)
    start = time.monotonic()
    queue.close()
    for waiter in waiters:
        assert isinstance(waiter.exception(GENEROUS_S), ServomexConnectionError)
    assert time.monotonic() - start < 2.0


def test_a_closed_queue_still_gives_what_it_holds_and_takes_nothing_more() -> None:
    queue = FrameQueue()
    queue.put(frame(1))
    queue.put(frame(2))
    queue.close()
    queue.close()
    queue.put(frame(3))
    assert numbers(queue) == [1, 2]
    with pytest.raises(ServomexConnectionError, match="closed"):
        queue.get()


def test_nothing_is_lost_or_swapped_between_two_threads() -> None:
    queue = FrameQueue(5000)
    taken = in_thread(lambda: [queue.get(GENEROUS_S).monotonic_ns for _ in range(5000)])
    for number in range(5000):
        queue.put(frame(number))
    assert taken.result(GENEROUS_S) == list(range(5000))


def test_dropped_errors_are_counted_apart() -> None:
    queue = FrameQueue(2)
    for item in (frame(1), ServomexConnectionError("lost"), frame(2), frame(3), frame(4)):
        queue.put(item)
    assert (queue.dropped, queue.dropped_errors) == (3, 1)


def test_what_waits_can_be_taken_in_one_go() -> None:
    queue: BoundedQueue[int] = BoundedQueue(10, OverflowPolicy.BLOCK)
    for number in range(5):
        assert queue.put(number) == []
    assert queue.take(3) == [0, 1, 2]
    assert queue.take(10, 0) == [3, 4]
    with pytest.raises(ServomexTimeoutError):
        queue.take(10, 0)
    queue.close()
    with pytest.raises(Closed):
        queue.take(10)


def test_taking_makes_room_for_one_that_waits() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2, OverflowPolicy.BLOCK)
    for number in range(2):
        queue.put(number)
    putting = in_thread(queue.put, 2)
    assert queue.take(2) == [0, 1]
    assert putting.result(GENEROUS_S) == []
    assert queue.take(2, 0) == [2]
