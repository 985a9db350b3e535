"""A program that forgets to close what it opened ends all the same, with its rows written."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from servomex.recording.load import load
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.paths import ROOT

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
        assert "was never closed: use 'with', or call close()" in done.stderr
        assert len(list(load(path))) >= 5


HEAD = """
import os, signal, sys, threading, time
import servomex

mode, path = sys.argv[1:]
url, rate = f"sim://moving?mode={mode}&period=0.05", {} if mode == "continuous" else {"rate_hz": 20}

def opened():
    return servomex.open_device(url, protocol=mode)

def recording():
    return servomex.Recorder(opened(), [path], **rate).start()

"""
PROGRAMS = {
    "a recorder that a function uses": "recorder = recording()\ndef used(): return recorder",
    "a recorder that was closed": "recorder = recording()\nrecorder.close()\ndef used(): return recorder",
    "a manager": "manager = servomex.ServomexManager()\nmanager.add('a', url, protocol=mode)\nmanager.poll()",
    "a manager that is recorded": (
        "manager = servomex.ServomexManager(error_policy='return')\nmanager.add('a', url, protocol=mode)\n"
        "recorder = servomex.Recorder(manager, [path], rate_hz=5).start()\ntime.sleep(0.3)"
    ),
    "a subscription": (
        "analyzer = opened()\ndef called(frame): analyzer, time\n"
        "subscription = analyzer.subscribe(called, **rate)\ntime.sleep(0.2)"
    ),
    "a subscription whose callback wants to end": (
        "analyzer = opened()\ndef called(frame): sys.exit(1)\n"
        "subscription = analyzer.subscribe(called, **rate)\ntime.sleep(0.2)"
    ),
    "a stream": "analyzer = opened()\nstream = analyzer.stream(**rate).__enter__()\nnext(iter(stream))",
    "an object that is its own callback": (
        "class Its:\n    def __init__(self):\n        self.me, self.analyzer = self, opened()\n"
        "        self.subscription = self.analyzer.subscribe(self.called, **rate)\n"
        "    def called(self, frame): self.frame = frame\n"
        "its = Its()\ntime.sleep(0.2)"
    ),
    "a part of sys": "sys.kept = recording()",
    "a session of cells": "cells = {'recording': recording}\nexec('kept = recording()\\ndef used(): kept', cells)",
    "a thread that ends itself": (
        "kept = recording()\nthread = threading.Thread(target=sys.exit, args=(3,))\nthread.start()"
    ),
    "an end in a signal's handler": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nkept = recording()\n"
        "signal.raise_signal(signal.SIGTERM)"
    ),
}
OURS = re.compile(r".*: ResourceWarning: the .* was never (?:closed|stopped): .*\n(?:  warnings\.warn\(\n)?")


def ended(program: str, mode: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """Run a program with all warnings; drop those of what was left open from its stderr."""
    command = [sys.executable, "-X", "dev", "-c", HEAD + program, mode, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    done.stderr = OURS.sub("", done.stderr)
    return done


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("mode", ["continuous", "modbus_rtu"])
def test_the_end_is_quiet_but_for_what_was_left_open(mode: str, program: str, tmp_path: Path) -> None:
    done = ended(PROGRAMS[program], mode, tmp_path / "run.csv")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("mode", ["continuous", "modbus_rtu"])
def test_an_error_is_all_that_is_shown_at_the_end(mode: str, tmp_path: Path) -> None:
    done = ended("kept = recording()\nraise KeyError('its own')", mode, tmp_path / "run.csv")
    assert done.returncode == 1
    assert re.fullmatch(r"Traceback .*:\n(?:  .*\n)+KeyError: 'its own'\n", done.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("mode", ["continuous", "modbus_rtu"])
def test_a_program_that_is_killed_says_nothing(mode: str, tmp_path: Path) -> None:
    done = ended(
        "kept = recording()\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(30)", mode, tmp_path / "run.csv"
    )
    assert (done.returncode, done.stderr) == (-15, "")


def test_an_analyser_that_is_opened_by_another_end_of_the_program_does_not_hold_it_up(tmp_path: Path) -> None:
    """Then it is too late to have it closed: the threads stand still."""
    late = (
        "import atexit\ndef late():\n    global kept\n    kept = opened()\n    kept.poll()\natexit.register(late)"
    )
    for mode in ("modbus_rtu", "continuous"):
        began = time.monotonic()
        done = ended(late, mode, tmp_path / "run.csv")
        if "cannot be started" not in done.stderr:  # Python 3.12 has no new thread by then
            assert (done.returncode, done.stderr) == (0, "")
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", ["run.csv.gz", "run.sqlite", "run.parquet"])
@pytest.mark.parametrize("kept", ["a local name", "a global name"])
def test_a_sink_that_is_left_open_is_closed_while_that_can_be_done(kept: str, name: str, tmp_path: Path) -> None:
    if name == "run.parquet":
        pytest.importorskip("pyarrow")
    begin = "global sink\n    " if kept == "a global name" else ""
    code = f"""
import sys, servomex
def main():
    {begin}sink = servomex.open_sink(sys.argv[1])
    with servomex.open_device("sim://4100", protocol="modbus_rtu") as analyzer:
        sink.write(analyzer.poll().as_samples())
    raise SystemExit(3)
main()
"""
    command = [sys.executable, "-X", "dev", "-c", code, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 3, done.stderr
    assert "was never closed: use 'with', or call close()" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(load(tmp_path / name))) == 5
