"""The clocks of the system as they were when the package was imported, under the names of the module ``time``.

Deadlines, ages and the virtual analyser follow one clock. It continues when a test library freezes time
for the program under test: with a frozen clock, no deadline would ever pass.
"""

import time as _time


class _Clocks:
    """The functions of the module ``time`` that the package uses."""

    monotonic: "staticmethod[[], float]" = staticmethod(_time.monotonic)
    monotonic_ns: "staticmethod[[], int]" = staticmethod(_time.monotonic_ns)
    time: "staticmethod[[], float]" = staticmethod(_time.time)
    sleep: "staticmethod[[float], None]" = staticmethod(_time.sleep)


time: _Clocks = _Clocks()
