"""The clocks of the system as they were when the package was imported, under the names of the module ``time``.

Deadlines, ages and the virtual analyser follow one clock. It continues when a test library freezes time
for the program under test: with a frozen clock, no deadline would ever pass.
"""

import sys
from typing import Any

_package: Any = sys.modules[__name__.partition(".")[0]]
_monotonic, _monotonic_ns, _time, _sleep = _package._clocks  # kept there, since this may be imported much later


class _Clocks:
    """The functions of the module ``time`` that the package uses."""

    monotonic: "staticmethod[[], float]" = staticmethod(_monotonic)
    monotonic_ns: "staticmethod[[], int]" = staticmethod(_monotonic_ns)
    time: "staticmethod[[], float]" = staticmethod(_time)
    sleep: "staticmethod[[float], None]" = staticmethod(_sleep)


time: _Clocks = _Clocks()
