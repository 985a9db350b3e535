"""Interrupting a command: Ctrl-C, and the signals that end it like Ctrl-C."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from servomex.cli.console import end_with_console
from servomex.cli.errors import SIGNALLED, Terminated
from servomex.runtime.clock import time

TWICE_S = 0.2
"""A one-file program of PyInstaller gets each Ctrl-C twice: from the terminal and from its parent process."""


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Make the signals that end a command raise :class:`Terminated` in it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, _frame: object) -> NoReturn:
        raise Terminated(SIGNALLED + number)

    interrupts = [-TWICE_S]

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(time.monotonic())
        if interrupts[-1] - interrupts[-2] > TWICE_S:
            signal.default_int_handler(number, frame)

    end_with_console()
    numbers = _signals("SIGTERM", "SIGHUP", "SIGBREAK")
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
    previous = [(number, signal.signal(number, terminate)) for number in wanted]
    if getattr(sys, "frozen", False) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        previous.append((signal.SIGINT, signal.signal(signal.SIGINT, interrupt)))
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)


def _signals(*names: str) -> list[signal.Signals]:
    """Return the signals that this system has: Windows has no SIGHUP, and it alone has SIGBREAK."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextlib.contextmanager
def without_late_interrupts() -> Iterator[None]:
    """End the program at the end of the block; another Ctrl-C meanwhile has nothing left to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        sys.exit(SIGNALLED + signal.SIGINT)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Delay interrupts to the end of a block that must not be split, such as an import or a write."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = _signals("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    previous = [(number, signal.signal(number, lambda number, _: came.append(number))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
