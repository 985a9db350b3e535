"""Something that goes on beside a test."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import AnyStr

import pytest


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


def no_thread_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system have no thread left for those whose name begins like this."""

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            raise RuntimeError("can't start new thread")
        begin(thread)

    begin = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)


@contextlib.contextmanager
def ended(process: "subprocess.Popen[AnyStr]") -> Iterator["subprocess.Popen[AnyStr]"]:
    """Give a process that is killed at the end of the block if it still runs: one that hangs is not waited for."""
    with process:
        try:
            yield process
        finally:
            process.kill()
