"""What the monitors among the examples are tested with."""

import signal
import subprocess
import threading
from collections.abc import Callable
from itertools import pairwise

import servomex
from servomex.simulator import VirtualAnalyzer, VirtualLine
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


def is_free(line: VirtualLine) -> bool:
    """Whether somebody else can open the port."""
    with servomex.SerialLink(line.url):
        return True


def only_these(threads: set[threading.Thread]) -> bool:
    return set(threading.enumerate()) <= threads


def assert_ends_on_ctrl_c(command: list[str], line: VirtualLine) -> None:
    """Start a program, wait until it reads, and interrupt it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
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
