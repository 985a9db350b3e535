"""How to run a server that refuses to be run by root, in a folder that is removed, until the tests end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = "SERVOMEX_TEST_SERVERS" in os.environ
"""Whether a server that is missing fails the tests, as tox and CI want it; read before a test hides it."""


def missing(reason: str) -> NoReturn:
    """Skip a test for which there is no server here, or fail it where all are to be there."""
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


def user_of(name: str) -> tuple[str, ...]:
    """Return what comes before a command that another user is to run, where this one is root."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        missing("a server is not to be run by root, and there is no setpriv")
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        missing(f"a server is not to be run by root, and there is no user {name!r}")
    return ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")


def folder_for(name: str) -> Path:
    """Return a new folder that a user owns and can reach, unlike those of pytest; the caller removes it."""
    folder = Path(tempfile.mkdtemp(prefix="servomex-server-"))
    if not os.geteuid():
        entry = pwd.getpwnam(name)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder


def dying_with_this() -> tuple[str, ...]:
    """Return what comes before a server's command, so that it ends with this process, however that ends."""
    known = sys.platform == "linux" and shutil.which("setpriv") is not None
    return ("setpriv", "--pdeathsig", "QUIT") if known else ()


def free_port() -> int:
    """Return a TCP port of this computer that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(command: Sequence[str], folder: Path) -> None:
    """Run a command that prepares a server, and fail with what it says."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def ended(process: "subprocess.Popen[bytes]", sign: signal.Signals, timeout_s: float = 20.0) -> None:
    """End a server by a signal, and by SIGKILL when that does not."""
    process.send_signal(signal.SIGCONT)
    process.send_signal(sign)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
