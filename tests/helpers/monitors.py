"""What the monitors among the examples are tested with."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import servomex
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from servomex.views.looks import Level
from tests.helpers.paths import EXAMPLES
from tests.helpers.waiting import wait_until

Breathe = Callable[[float], None]
"""Lets a window work for some seconds."""
WAIT_S = 60.0
BLOCKED_S = 2.0
"""Longer than this no window may stand still. To make the widgets takes 0.4 s, and opening a dead line 10 s."""
DEAD_S = 3.0
RTU = "modbus_rtu"


def ten_channels() -> VirtualAnalyzer:
    """Make an analyser with all the channels that there may be, with long names."""
    ids = ("I1", "I2", "I3", "I4", "D1", "D2", "D3", "D4")
    return VirtualAnalyzer([VirtualChannel(channel, "Oxygen", "%", constant(20.376)) for channel in ids])


def raise_alarm(analyser: VirtualAnalyzer, number: int) -> None:
    """Raise an alarm of I2."""
    alarms = (number == 1, number == 2, number == 3, number == 4)
    analyser["I2"].status = servomex.ChannelStatus(alarms=alarms)


HEADLINES = [
    ("", "READING", Level.GOOD),
    ("calibrating", "I1 Oxygen: calibrating", Level.NOTICE),
    ("maintenance", "I1 Oxygen: maintenance", Level.WARNING),
    ("fault", "I1 Oxygen: fault", Level.ALARM),
    ("alarm", "I1 Oxygen: alarm 2", Level.ALARM),
    ("analyser", "analyser fault", Level.ALARM),
    ("no value", "I1 Oxygen: no value", Level.ALARM),
]
"""What is raised, what the headline of a window says then, and how loud."""


def raise_state(analyser: VirtualAnalyzer, state: str) -> None:
    """Raise one of :data:`HEADLINES`."""
    flags: dict[str, Any] = {state: True} if state in ("calibrating", "maintenance", "fault") else {}
    flags |= {"alarms": (False, True, False, False)} if state == "alarm" else {}
    analyser["I1"].status = servomex.ChannelStatus(**flags)
    analyser.fault = state == "analyser"
    if state == "no value":
        analyser["I1"].signal = constant(None)


def luminance(colour: str) -> float:
    """How bright a colour such as ``#56d364`` is: 0 to 1, as the eye weighs it (ITU-R BT.709)."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def is_stale(text: str) -> bool:
    """Whether a text says that a reading is stale, and how old it is."""
    return re.fullmatch(r"STALE, [1-9]\d* s old", text) is not None


def opened_until(
    state: str,
    line: VirtualLine,
    open_monitor: Callable[..., Any],
    shows: Callable[[Any], object],
    breathing: Callable[[Any], Breathe],
) -> Any:
    """Open a monitor and wait until it is in a state: opening, reading, dead or unplugged.

    Args:
        state: The state.
        line: The line of its analyser.
        open_monitor: Makes the monitor.
        shows: Whether the monitor shows readings.
        breathing: Gives what lets its window work.
    """
    (analyser,) = line.analysers
    analyser.faults.silent = state == "opening"
    monitor = open_monitor(line, protocol="auto")
    breathe = breathing(monitor)
    if state == "opening":
        breathe(0.3)
    else:
        wait_until(lambda: shows(monitor), pause=breathe)
    if state == "dead":
        analyser.faults.silent = True
        breathe(0.5)
    elif state == "unplugged":
        line.unplug()
        wait_until(lambda: monitor.latest.trouble, pause=breathe)
    return monitor


def assert_nothing_left(threads: set[threading.Thread], line: VirtualLine) -> None:
    """Check that only these threads run, and that the port is free once it is plugged in."""
    assert set(threading.enumerate()) <= threads
    line.plug()
    with servomex.SerialLink(line.url):
        pass


def assert_ends_on_ctrl_c(example: str, line: VirtualLine) -> None:
    """Start an example, wait until it reads, and interrupt it."""
    pipe = subprocess.PIPE
    with TcpServer(line) as server:
        command = [sys.executable, str(EXAMPLES / example), server.port, "--protocol", RTU]
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8") as process:
            try:
                wait_until(lambda: len(line.heard) > 6)
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=WAIT_S)
            finally:
                process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err


def longest(beats: list[float]) -> float:
    """The longest time between two beats, in seconds."""
    return max(after - before for before, after in pairwise(beats))
