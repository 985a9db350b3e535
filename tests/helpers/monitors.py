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
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.paths import EXAMPLES
from tests.helpers.waiting import wait_until

Breathe = Callable[[float], None]
"""Lets a window work for some seconds."""
WAIT_S = 60.0
BLOCKED_S = 2.0
"""Longer than this no window may stand still. To make the widgets takes 0.4 s, and opening a dead line 10 s."""
DEAD_S = 3.0
RTU = "modbus_rtu"


def raise_alarm(analyser: VirtualAnalyzer, number: int) -> None:
    """Raise an alarm of I2."""
    alarms = (number == 1, number == 2, number == 3, number == 4)
    analyser["I2"].status = servomex.ChannelStatus(alarms=alarms)


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
        wait_until(lambda: monitor.trouble, pause=breathe)
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
