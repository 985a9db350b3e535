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
