"""Objects that a program leaves open are closed when it ends, while its threads still run.

Later, in ``__del__``, the interpreter has stopped the threads already: one that receives would never release its
port, and the program would not end.
"""

import os
import weakref
from collections.abc import Callable
from typing import Any

from servomex.runtime.logs import package_log

_log = package_log("servomex")


def at_exit(method: Callable[[], Any]) -> None:
    """Call a method when the program ends, unless its object is gone by then; newest object first.

    A child that was forked does not call it: it has none of the threads of its parent.
    """
    owner = method.__self__  # type: ignore[attr-defined]  # it is a method
    function = method.__func__  # type: ignore[attr-defined]
    weakref.finalize(owner, _end, weakref.ref(owner), function, os.getpid())


def _end(reference: "weakref.ref[Any]", function: Callable[[Any], Any], process: int) -> None:
    owner = reference()
    if owner is None or process != os.getpid():
        return
    try:
        function(owner)
    except Exception:  # noqa: BLE001 (the others are to be ended as well)
        _log.exception("an object that was left open could not be closed")
