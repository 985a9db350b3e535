"""Something that goes on beside a test."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeating(act: Callable[[], object], every_s: float) -> Iterator[None]:
    """Act over and over in a thread until the block ends. An error in it fails the test, as in every thread."""
    stopping = threading.Event()

    def repeat() -> None:
        while not stopping.wait(every_s):
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
