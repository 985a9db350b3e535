"""The commands, run in this process or in another, and what they write."""

import csv
import io
import os
import subprocess
import sys
from typing import Any

import click
from click.testing import CliRunner, Result

from servomex.cli.convert import convert
from servomex.cli.read import read
from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant

MODES = ("modbus_rtu", "modbus_ascii", "continuous")
VALUES = {"I1": 20.376, "I2": 0.084, "I3": 0.25, "E1": 0.0, "E2": 0.0}
FAST = ("--protocol", "modbus_rtu", "--gap", "0")
NEVER_SEEN = ("Traceback", "Exception ignored", "Warning")
NO_PORT = "cannot be opened" if sys.platform == "win32" else "is not a serial port"


def invoke(*args: str, command: click.Command = read, **extra: Any) -> Result:
    """Run a command in this process, its stderr apart from its stdout in every version of click."""
    runner: Any = CliRunner
    try:
        result: Result = runner(mix_stderr=False).invoke(command, args, **extra)
    except TypeError:  # click 8.2 and newer keep them apart without being asked
        result = runner().invoke(command, args, **extra)
    assert not any(word in result.stderr for word in NEVER_SEEN)
    return result


def program(*args: str, main: str = "read_main") -> list[str]:
    """Give what runs a command in another process, where signals work even if this one was started without.

    A job of the background ignores Ctrl-C, one under ``nohup`` the end of its terminal; so does what they start.
    """
    ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    hang_up = "hasattr(signal, 'SIGHUP') and signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    code = f"{ctrl_c}; {hang_up}; from servomex.cli import {main}; {main}()"
    return [sys.executable, "-W", "error", "-c", code, *args]


def start(*args: str, main: str = "read_main", before: tuple[str, ...] = ()) -> "subprocess.Popen[bytes]":
    command = [*before, *program(*args, main=main)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(*args: str, main: str = "read_main", env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command in another process: exit code, stdout, stderr."""
    done = subprocess.run(
        program(*args, main=main), capture_output=True, timeout=90, env={**os.environ, **(env or {})}, check=False
    )
    stderr = done.stderr.decode().replace(os.linesep, "\n")
    assert not any(word in stderr for word in NEVER_SEEN), stderr
    return done.returncode, done.stdout.decode(), stderr


def finish(child: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    stdout, stderr = child.communicate(timeout=60)
    assert not any(word in stderr.decode() for word in NEVER_SEEN), stderr
    return child.returncode, stdout.decode(), stderr.decode().replace(os.linesep, "\n")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def line_with(*statuses: tuple[str, ChannelStatus], value: float | None = 1.5, name: str = "gas") -> VirtualLine:
    channels = [VirtualChannel(channel, name, "%", constant(value), status) for channel, status in statuses]
    return VirtualLine(VirtualAnalyzer(channels))


def converted(*args: object) -> Result:
    return invoke(*map(str, args), command=convert)
