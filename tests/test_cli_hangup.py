"""A recording whose terminal goes: in the background it goes on, in the foreground it ends with all written."""

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
from tests.conftest import needs_pty

MAIN = "from servomex.cli import main; main()"
OF_ITS_OWN = "import fcntl, os, signal, termios; os.setsid(); fcntl.ioctl(2, termios.TIOCSCTTY, 0); "
"""Makes its stderr the terminal that the program is in the foreground of."""
NOHUP = "signal.signal(signal.SIGHUP, signal.SIG_IGN); "
BACKGROUND = "import os; os.setsid(); "
"""Leaves the program without a terminal of its own, as a job of the background that was disowned."""
MOMENTS = 30


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Give both ends of a terminal; a test closes them."""
    import pty

    ends = pty.openpty()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def begin(before: str, line: VirtualLine, server: TcpServer, file: Path, stderr: int) -> "subprocess.Popen[bytes]":
    """Start a recording of 30 readings, and wait until it reads."""
    args = ("--protocol", "modbus_rtu", "--rate", "10", "--gap", "0.005", "--flush", "0", "--count", str(MOMENTS))
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", before + MAIN, "record", server.port, str(file), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    deadline = time.monotonic() + 20
    while (not file.exists() or file.stat().st_size < 3000) and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.01)
    assert line.heard
    return child


def read_all(terminal: int) -> None:
    """Take what the program has shown, as a terminal does; its buffer must not be what stops it."""
    os.set_blocking(terminal, False)
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


@needs_pty
@pytest.mark.parametrize(
    ("before", "code"),
    [(BACKGROUND, 0), (OF_ITS_OWN + NOHUP, 0), (OF_ITS_OWN, 129)],
    ids=["background", "nohup", "foreground"],
)
def test_a_terminal_that_is_closed(
    before: str, code: int, terminal: tuple[int, int], line: VirtualLine, tmp_path: Path
) -> None:
    master, slave = terminal
    file = tmp_path / "run.csv"
    with TcpServer(line) as server:
        child = begin(before, line, server, file, slave)
        os.close(slave)
        read_all(master)
        os.close(master)
        assert child.wait(30) == code
    rows = len(list(load(file)))
    if code:
        assert 0 < rows <= 5 * MOMENTS
    else:
        assert rows == 5 * MOMENTS


@needs_pty
def test_a_pipe_whose_reader_has_gone(line: VirtualLine, tmp_path: Path) -> None:
    file = tmp_path / "run.csv"
    reader, writer = os.pipe()
    with TcpServer(line) as server:
        child = begin("", line, server, file, writer)
        os.close(writer)
        os.close(reader)
        line.analysers[0].faults.silent = True  # so that there is something to say
        time.sleep(0.2)
        line.analysers[0].faults.silent = False
        assert child.wait(60) == 0
    assert sum(1 for item in load(file) if item.channel == "I1" or item.error) == MOMENTS
