"""A program that forgets to close what it opened ends all the same, with its rows written."""

import subprocess
import sys
from pathlib import Path

import pytest

from servomex.loading import load
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine

ROOT = Path(__file__).parent.parent
FORGETTING = """
import sys, time, servomex
analyzer = servomex.open_device(sys.argv[1], protocol=sys.argv[2])
analyzer.poll()
{then}
print("the end")
"""
THEN = {
    "forget": "",
    "record": "recorder = servomex.Recorder(analyzer, [sys.argv[3]], rate_hz=50).start(); time.sleep(0.5)",
    "subscribe": "subscription = analyzer.subscribe(print); analyzer.poll()",
    "close": "analyzer.close()",
}


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("mode", ["continuous", "modbus_rtu"])
def test_it_ends_by_itself(mode: str, then: str, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    code = FORGETTING.format(then=THEN[then])
    with TcpServer(VirtualLine(VirtualAnalyzer(mode=mode, period=0.05))) as server:
        command = [sys.executable, "-W", "always", "-c", code, server.port, mode, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "the end" in done.stdout
    forgotten = f"the analyser on {server.port} was never closed"
    assert (forgotten in done.stderr) == (then != "close")
    if then == "record":
        assert "was never stopped: use 'with', or call stop()" in done.stderr
        assert len(list(load(path))) >= 5
