"""The clocks of the system as they were when the package was imported, under the names of the module ``time``.

Deadlines, ages and the virtual analyser follow one clock. It continues when a test library makes time stand still
for the program that is tested: with a clock that stands, no deadline would ever come.
"""

import time as _time


class _Clocks:
    """What the package uses of the module ``time``."""

    monotonic: "staticmethod[[], float]" = staticmethod(_time.monotonic)
    monotonic_ns: "staticmethod[[], int]" = staticmethod(_time.monotonic_ns)
    time: "staticmethod[[], float]" = staticmethod(_time.time)
    sleep: "staticmethod[[float], None]" = staticmethod(_time.sleep)


time: _Clocks = _Clocks()
