"""AUTO on a virtual line that takes its time: how long until the mode is known, or that nobody is there."""

import time
from collections.abc import Iterator

from servomex import ServomexTimeoutError, open_device
from servomex.simulator import Faults, VirtualAnalyzer, VirtualLine
from tests.benchmarks.broadcasting import FRAME_S
from tests.benchmarks.figures import Result, figure
from tests.benchmarks.machine import Settings
from tests.benchmarks.wire import READ_INPUTS, Line

PERIOD_S = 2.0
PROBE = (READ_INPUTS, 1000, 2)


def auto(settings: Settings) -> Iterator[Result]:
    """Recognise each mode, and silence."""
    for mode in ("modbus_rtu", "modbus_ascii"):
        line = Line(19200, mode == "modbus_ascii")
        settings.say(mode)
        values = [1000 * _recognised(_line(mode), mode) for _ in range(settings.choose(9, 1))]
        yield figure(mode, "ms", values, bound=1000 * line.seconds([PROBE]))
    settings.say("continuous")
    phases = settings.choose([0.1 + 0.2 * step for step in range(9)], [1.8])
    behind = [1000 * _behind_broadcast(phase) for phase in phases]
    yield figure("continuous, after the first whole broadcast", "ms", behind)
    listen_s = settings.choose(10.0, 0.5)
    settings.say("nobody")
    silent = [_not_found(listen_s) for _ in range(settings.choose(3, 1))]
    yield figure(f"silent, listen={listen_s:g}", "s", silent, bound=listen_s)


def _line(mode: str, faults: Faults | None = None) -> VirtualLine:
    analyser = VirtualAnalyzer(mode=mode, period=PERIOD_S, faults=faults)
    return VirtualLine(analyser, pace=True)


def _recognised(line: VirtualLine, mode: str) -> float:
    begun = time.monotonic()
    with open_device(line.url, identify=False) as analyzer:
        passed = time.monotonic() - begun
        if analyzer.protocol != mode:
            raise RuntimeError(f"an analyser in mode {mode} was taken for {analyzer.protocol}")
    return passed


def _behind_broadcast(phase_s: float) -> float:
    """Open so long after the last broadcast, and tell how long behind the next one the mode was known."""
    begun = time.monotonic()
    line = _line("continuous")
    time.sleep(phase_s)
    opened = time.monotonic()
    return opened + _recognised(line, "continuous") - (begun + PERIOD_S + FRAME_S)


def _not_found(listen_s: float) -> float:
    line = _line("modbus_rtu", Faults(silent=True))
    begun = time.monotonic()
    try:
        open_device(line.url, listen=listen_s).close()
    except ServomexTimeoutError:
        return time.monotonic() - begun
    raise RuntimeError("an analyser was found where there is none")
