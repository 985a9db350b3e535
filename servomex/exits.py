"""What a program leaves open is closed when it ends, while its threads still run.

Later, in ``__del__``, the interpreter has stopped the threads already: one that receives would never give its port
back, and the program would not end.
"""

import atexit
import itertools
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("servomex")

_numbers = itertools.count()
_ends: dict[int, tuple[int, weakref.WeakMethod[Callable[[], Any]]]] = {}


def at_exit(method: Callable[[], Any]) -> None:
    """Call a method when the program ends, unless its object is gone by then; that of the newest object first."""
    number = next(_numbers)
    _ends[number] = (os.getpid(), weakref.WeakMethod(method, lambda _gone: _ends.pop(number, None)))


@atexit.register
def _end() -> None:
    for process, reference in reversed(list(_ends.values())):
        method = reference()
        if method is None or process != os.getpid():  # a child has none of the threads of its parent
            continue
        try:
            method()
        except Exception:  # noqa: BLE001 (the others are to be ended as well)
            _log.exception("what was left open could not be closed")
