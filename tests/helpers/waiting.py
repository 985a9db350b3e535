"""Waiting until something happens, with a limit."""

import time
from collections.abc import Callable

GENEROUS_S = 30.0


def wait_until(condition: Callable[[], object], limit_s: float = GENEROUS_S) -> None:
    """Wait until something is true; fail when it never is."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def seconds_until(condition: Callable[[], object]) -> float:
    """Return how long it took until something came true; it is looked at 20 times a second."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < 60
        time.sleep(0.05)
    return time.monotonic() - started
