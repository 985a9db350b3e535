"""A recording whose terminal is closed: in the background it continues, in the foreground it ends cleanly."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex import load
from servomex.simulator import TcpServer, VirtualLine
from tests.helpers.platforms import needs_pty

MAIN = "from servomex.cli import main; main()"
OF_ITS_OWN = (
    "import fcntl, os, signal, termios; os.setsid(); fcntl.ioctl(2, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
)
"""Makes its stderr the terminal that the program is in the foreground of, however the tests were started."""
NOHUP = "signal.signal(signal.SIGHUP, signal.SIG_IGN); "
BACKGROUND = "import os; os.setsid(); "
"""Leaves the program without a terminal of its own, as a job of the background that was disowned."""
MOMENTS = 30
READINGS = 5
"""Of a moment: one for each channel."""
REQUESTS = 40
"""A recording that has sent this many has opened the analyser and read it at least twice."""
OF_30 = ("--flush", "0", "--count", str(MOMENTS))


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Return both ends of a terminal; a test closes them."""
    import pty

    ends = pty.openpty()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def begin(
    before: str, line: VirtualLine, server: TcpServer, file: Path, stderr: int, *options: str
) -> "subprocess.Popen[bytes]":
    """Start a recording, and wait until it reads."""
    args = ("--protocol", "modbus_rtu", "--rate", "10", "--gap", "0.005", *options)
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", before + MAIN, "record", server.port, str(file), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    deadline = time.monotonic() + 20
    while not (file.exists() and len(line.heard) > REQUESTS):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return child


def read_all(terminal: int) -> None:
    """Take what the program has shown, as a terminal does; its buffer must not be what stops it."""
    os.set_blocking(terminal, False)
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


def hang_up(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    os.close(slave)
    read_all(master)
    os.close(master)


@needs_pty
@pytest.mark.parametrize("before", [BACKGROUND, OF_ITS_OWN + NOHUP], ids=["background", "nohup"])
def test_it_goes_on_without_a_terminal(
    before: str, terminal: tuple[int, int], line: VirtualLine, tmp_path: Path
) -> None:
    file = tmp_path / "run.csv"
    with TcpServer(line) as server:
        child = begin(before, line, server, file, terminal[1], *OF_30)
        hang_up(terminal)
        assert child.wait(30) == 0
    assert len(list(load(file))) == READINGS * MOMENTS


@needs_pty
def test_in_the_foreground_of_a_terminal_it_ends_with_it(
    terminal: tuple[int, int], line: VirtualLine, tmp_path: Path
) -> None:
    """What it has not written yet, here all of it, is not lost."""
    file = tmp_path / "run.csv"
    with TcpServer(line) as server:
        child = begin(OF_ITS_OWN, line, server, file, terminal[1], "--flush", "3600")
        size = file.stat().st_size
        hang_up(terminal)
        assert child.wait(30) == 129
    rows = len(list(load(file)))
    assert file.stat().st_size > size
    assert rows >= 2 * READINGS
    assert rows % READINGS == 0


@needs_pty
def test_a_pipe_whose_reader_has_gone(line: VirtualLine, tmp_path: Path) -> None:
    file = tmp_path / "run.csv"
    reader, writer = os.pipe()
    with TcpServer(line) as server:
        child = begin("", line, server, file, writer, *OF_30)
        os.close(writer)
        os.close(reader)
        line.analysers[0].faults.silent = True  # so that there is something to say
        time.sleep(0.2)
        line.analysers[0].faults.silent = False
        assert child.wait(60) == 0
    assert sum(1 for item in load(file) if item.channel == "I1" or item.error) == MOMENTS


@needs_pty
@pytest.mark.real_time
def test_a_screen_whose_terminal_is_closed_ends(terminal: tuple[int, int]) -> None:
    ours, its = terminal
    begun = OF_ITS_OWN.replace("ioctl(2", "ioctl(1") + MAIN
    child = subprocess.Popen(
        [sys.executable, "-c", begun, "watch", "sim://4100", "--protocol", "modbus_rtu"],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(its)
    seen = b""
    while b"Oxygen" not in seen:
        seen += os.read(ours, 65536)
    os.close(ours)
    assert child.wait(30) == 129
