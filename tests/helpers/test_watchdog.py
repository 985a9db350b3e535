"""The suite ends, with an error, whatever hangs in it, and says where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

HANGS = """
import os, signal, threading, time
import pytest

def hang():
    threading.Event().wait()

@pytest.fixture
def hanging():
    yield
    hang()
"""
UNREACHED = """
def test_it():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    hang()
"""
SWALLOWED = """
def test_it():
    while True:
        try:
            hang()
        except BaseException:
            pass
"""
END_OF_A_FAILURE = """
def test_it(hanging):
    assert False
"""
THREAD = """
def test_it():
    threading.Thread(target=hang).start()
"""
FORK = """
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_it():
    if not os.fork():
        hang()
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are neither forks nor alarms here")


def run(body: str, folder: Path, limit_s: int) -> "subprocess.CompletedProcess[str]":
    """Run a test with the settings of this suite, with shorter limits, and without a plugin that begins slowly."""
    file = folder / "test_hang.py"
    file.write_text(HANGS + body)
    limits = ("-o", "timeout=1", "-o", f"faulthandler_timeout={limit_s}")
    plugins = ("-p", "tests.helpers.watchdog", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *plugins, *limits, str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(UNREACHED, id="no signal reaches it", marks=needs_fork),
        pytest.param(SWALLOWED, id="it swallows the failure", marks=needs_fork),
        pytest.param(END_OF_A_FAILURE, id="behind a failure"),
        pytest.param(THREAD, id="a thread is left"),
    ],
)
def test_what_hangs_is_ended_with_an_error_and_shown(body: str, tmp_path: Path) -> None:
    ended = run(body, tmp_path, 3)
    assert ended.returncode == 1
    assert "Timeout (0:00:03)" in ended.stderr, "the stacks of all threads"
    assert "in hang" in ended.stderr


@needs_fork
def test_a_forked_child_ends_by_itself(tmp_path: Path) -> None:
    """It holds what the run writes to, which ends when the last of both has ended."""
    ended = run(FORK, tmp_path, 8)
    assert ended.returncode == 0, ended.stdout
