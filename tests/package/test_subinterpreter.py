"""In a subinterpreter, which may have no threads, what needs none works, and the rest is refused with a reason."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

code = f'''
import sys
sys.path[:] = {sys.path!r}
import servomex
with servomex.open_device("sim://4100", protocol="modbus_rtu") as analyzer:
    print("ok", analyzer.poll().ok)
try:
    servomex.open_device("sim://4100?mode=continuous&period=0.1", protocol="continuous")
except servomex.ServomexError as error:
    print("refused", error)
'''
print("begun", flush=True)
interpreters.run_string(interpreters.create(), code)
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="some modules of the standard library refuse to be in one")
def test_a_thread_that_may_not_be_is_refused_with_a_reason() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = ended.stdout.splitlines()
    assert (lines[:2], ended.stderr) == (["begun", "ok True"], "")
    assert lines[2].startswith("refused the thread 'servomex-continuous sim://4100?mode=continuous&period=0.1' ")
    assert "cannot be started" in lines[2]
    assert "runs in a subinterpreter that allows none" in lines[2]
