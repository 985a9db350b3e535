"""Pages in a browser: waiting for what they show."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

GENEROUS_S = 20.0


def until(page: "Page", expression: str, limit_s: float = GENEROUS_S) -> float:
    """Wait until an expression of JavaScript is true in a page; return the seconds that it took.

    Unlike ``wait_for_function`` this works where the page's own policy forbids ``eval``.
    """
    started = time.monotonic()
    while not page.evaluate(expression):
        assert time.monotonic() < started + limit_s, f"never true: {expression}"
        page.wait_for_timeout(50)
    return time.monotonic() - started
