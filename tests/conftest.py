"""Every test must end the threads that it started, and close the ports and files that it opened."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from servomex.simulator import VirtualAnalyzer, VirtualLine

pytest.register_assert_rewrite("tests.helpers")  # before the first import of one of them

from tests.helpers.virtual_time import VirtualTime, install  # noqa: E402

pytest_plugins = ["servomex.testing.plugin", "tests.helpers.watchdog"]

hypothesis.settings.register_profile("suite", deadline=None)  # a busy computer is no failure of the code
hypothesis.settings.load_profile("suite")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job of the background, and so in what tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    config.addinivalue_line("markers", "virtual_time: its time stands still while any thread works")
    config.addinivalue_line("markers", "real_time: waits for the system, whatever the module says of virtual time")
    config.addinivalue_line("markers", "alone: asks how quick it is, and runs after all others, one at a time")
    if sys.dont_write_bytecode and hasattr(config, "cache"):
        _keep_bytecode(config.cache.mkdir("bytecode"))


def _keep_bytecode(folder: Path) -> None:
    """Write bytecode to a folder of pytest where it may not be beside the sources.

    Otherwise each worker, and each program that a test starts, would compile everything anew.
    """
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Accept that one of the two runs that tox makes has no test: those that were chosen may be in the other."""
    one_of_two = session.config.option.markexpr in ("alone", "not alone")
    if one_of_two and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def _open_files() -> set[str]:
    """The terminals, the sockets and the files of tests that this process has open, where the system can tell."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return set()
    found = set()
    for entry in folder.iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # closed since it was listed
        ours = target.startswith(("/dev/pts/", "/dev/ptmx", "socket:")) or "/pytest-of-" in target
        if ours and int(entry.name) > 2:
            found.add(f"{entry.name} {target}")
    return found


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread running, or a terminal, a socket or a file open."""
    threads, files = set(threading.enumerate()), _open_files()
    yield
    deadline = time.monotonic() + 10.0
    generation = 1  # what the test has made; looking at everything takes longer than most tests
    while time.monotonic() < deadline:
        gc.collect(generation)
        left = [thread.name for thread in threading.enumerate() if thread not in threads]
        open_files = _open_files() - files
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


@pytest.fixture(autouse=True)
def virtual_time(request: pytest.FixtureRequest) -> Iterator[VirtualTime | None]:
    """Let time stand still while any thread works, where the marker ``virtual_time`` asks for it."""
    node = request.node
    if node.get_closest_marker("virtual_time") is None or node.get_closest_marker("real_time") is not None:
        yield None
        return
    with pytest.MonkeyPatch.context() as patch:
        clock = install(patch, sys.modules)
        yield clock
        clock.end()


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    """A virtual analyser like the bench unit, in Modbus RTU mode."""
    return VirtualAnalyzer()


@pytest.fixture
def line(analyser: VirtualAnalyzer) -> VirtualLine:
    """The line that the virtual analyser is on."""
    return VirtualLine(analyser)
