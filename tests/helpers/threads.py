"""Calls in threads of their own, and who waits for a lock."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from servomex.runtime.locks import PortLock

GENEROUS_S = 5.0
T = TypeVar("T")
P = ParamSpec("P")


def in_thread(call: Callable[P, T], *args: P.args, **options: P.kwargs) -> "Future[T]":
    """Call in a thread of its own; one that hangs fails its test and does not hold up the run."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def waiting(lock: PortLock) -> int:
    return len(lock._waiting)  # nothing else tells from outside that a thread has joined the queue
