"""The end of a console on Windows: programs in it have a few seconds to end by themselves."""

import _thread
import signal
import sys
import time
from collections.abc import Callable

GRACE_S = 30.0
"""How long Windows is kept from ending the process; it waits no longer than about 5 s."""
ENDS = (2, 5, 6)
"""The events that end a process in any case: closing the console, logging off, shutting down."""

_registered: list[Callable[[int], int]] = []


def end_with_console() -> None:
    """Make the end of the console interrupt the main thread as Ctrl-Break does: on Windows, once per process.

    Python's own handler of these events only notes the signal. Windows ends the process as soon as a handler has
    returned, which would be before the main thread has seen it. So this one waits for the process to end. It is
    never removed again: while no command runs, it leaves the event to the other handlers.
    """
    if sys.platform != "win32" or _registered:
        return
    import ctypes
    from ctypes import wintypes

    kind = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)
    _registered.append(kind(_handle))  # Windows keeps no reference
    set_handler = ctypes.WinDLL("kernel32").SetConsoleCtrlHandler
    set_handler.argtypes, set_handler.restype = (kind, wintypes.BOOL), wintypes.BOOL
    set_handler(_registered[0], True)


def _handle(event: int) -> int:
    """Handle an event, in a thread that Windows made for it; return whether it was handled."""
    number = getattr(signal, "SIGBREAK", None)
    if event not in ENDS or number is None or not callable(signal.getsignal(number)):
        return False
    _thread.interrupt_main(number)
    time.sleep(GRACE_S)
    return True
