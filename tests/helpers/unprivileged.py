"""How to run a program that is not allowed everything, also when the tests are run by root."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

REFUSED = """
import os, sys
from servomex.errors import ServomexError
from servomex.recording.load import load
from servomex.sinks import check_targets, open_sink
os.chdir(sys.argv[1])
for name in sys.argv[3:]:
    try:
        eval(sys.argv[2])
        print("it was allowed")
    except ServomexError as error:
        print(type(error).__name__, error)
"""


def unprivileged() -> tuple[str, ...]:
    """Give what comes before the program in a command; the test is skipped where there is no way."""
    if not hasattr(os, "geteuid"):
        pytest.skip("the rights of Windows are others")
    if os.geteuid():
        return ()
    command = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("nothing is forbidden to root")
    return command


def refused(expression: str, folder: Path, names: Iterable[str]) -> list[str]:
    """Give the errors of an expression for each of these names, tried in a folder by a program with few rights."""
    command = [*unprivileged(), sys.executable, "-W", "error", "-c", REFUSED, str(folder), expression, *names]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
