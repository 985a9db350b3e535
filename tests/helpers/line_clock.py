"""Another clock for all that speaks on a line: the modules of Modbus and of the port."""

import contextlib
import sys
from collections.abc import Iterator
from unittest import mock

from servomex.modbus import client  # noqa: F401 (so that all modules of Modbus and the port are loaded)
from servomex.runtime import clock


@contextlib.contextmanager
def line_clock(other: object) -> Iterator[None]:
    """Let every module that speaks on a line look at another clock; none is forgotten when one is added."""
    with contextlib.ExitStack() as undo:
        for name, module in list(sys.modules.items()):
            speaks = name.startswith(("servomex.modbus.", "servomex.port."))
            if speaks and getattr(module, "time", None) is clock.time:
                undo.enter_context(mock.patch.object(module, "time", other))
        yield
