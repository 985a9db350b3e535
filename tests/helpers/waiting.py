"""Waiting until something happens, with a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

from servomex.errors import ServomexConnectionError, ServomexError

GENEROUS_S = 30.0

T = TypeVar("T")


def soon(seconds: float = 5.0) -> float:
    """Return a deadline that is generous for what takes no time."""
    return time.monotonic() + seconds


def wait_until(
    condition: Callable[[], object],
    limit_s: float = GENEROUS_S,
    every_s: float = 0.005,
    pause: Callable[[float], object] | None = None,
) -> float:
    """Wait until something is true; fail when it never is.

    Args:
        condition: What must become true.
        limit_s: How long that may take.
        every_s: How long to pause between two looks.
        pause: What passes that time, where a window has to work meanwhile.

    Returns:
        The seconds that it took.
    """
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + limit_s, "it never happened"
        (pause or time.sleep)(every_s)
    return time.monotonic() - started


def seconds_until(condition: Callable[[], object]) -> float:
    """Wait until a reading is as wanted: 20 are taken a second, as by a program that shows them."""
    return wait_until(condition, 60.0, every_s=0.05)


def until_it_works(
    call: Callable[[], T],
    limit_s: float = 5.0,
    every_s: float = 0.005,
    refused: type[ServomexError] = ServomexConnectionError,
) -> T:
    """Repeat a call until it returns, and return its result; any error but the expected one fails the test."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return call()
        except refused:
            assert time.monotonic() < deadline, "it never worked"
            time.sleep(every_s)
