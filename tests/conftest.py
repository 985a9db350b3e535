"""Every test must end the threads and close the ports that it started."""

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from servomex.simulator import VirtualAnalyzer, VirtualLine

hypothesis.settings.register_profile("suite", deadline=None)  # a busy computer is no failure of the code
hypothesis.settings.load_profile("suite")

CAPTURE = Path(__file__).parent / "captures" / "continuous_4100_idle_5ch.bin"


def _serial_files() -> set[str]:
    """The terminals and sockets that this process has open, where the system can tell."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return set()
    found = set()
    for entry in folder.iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # closed since it was listed
        if target.startswith(("/dev/pts/", "/dev/ptmx", "socket:")) and int(entry.name) > 2:
            found.add(f"{entry.name} {target}")
    return found


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread running or a terminal or socket open."""
    threads, files = set(threading.enumerate()), _serial_files()
    yield
    deadline = time.monotonic() + 2.0
    generation = 1  # what the test has made; looking at everything takes longer than most tests
    while time.monotonic() < deadline:
        gc.collect(generation)
        left = [thread.name for thread in threading.enumerate() if thread not in threads]
        open_files = _serial_files() - files
        if not left and not open_files:
            return
        generation = 2
        time.sleep(0.02)
    pytest.fail(f"left behind: threads {left}, open {sorted(open_files)}")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is set on this machine, or by the runner of the tests, away from the programs that are tested."""
    for name in list(os.environ):
        if name.startswith("SERVOMEX_") or name in ("NO_COLOR", "PYTHONUNBUFFERED", "PYTHONIOENCODING"):
            monkeypatch.delenv(name)


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    """A virtual analyser like the bench unit, in Modbus RTU mode."""
    return VirtualAnalyzer()


@pytest.fixture
def line(analyser: VirtualAnalyzer) -> VirtualLine:
    """The line that the virtual analyser is on."""
    return VirtualLine(analyser)


needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals on Windows")
