"""Files that are read in another process, which shows what that takes."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ReadApart = Callable[[Path], tuple[int, str]]
MEMORY_MB = 130
READING = """
import json, sys, time
import pyarrow.parquet, servomex
from servomex.recording.load import load, load_metadata

def peak_mb():
    try:
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024
    except OSError:
        return 0

def begin_a_new_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass

for line in sys.stdin:
    path = json.loads(line)
    begin_a_new_peak()
    begun = time.process_time()
    rows, text = 0, ""
    try:
        load_metadata(path)
        for _ in load(path):
            rows += 1
    except servomex.ServomexError as error:
        text = f"{type(error).__name__}: {error.message}"
    print(json.dumps([rows, peak_mb(), time.process_time() - begun, text]), flush=True)
"""
PEAK_AT_REST_MB = 150
"""What Python, pyarrow and pandas take without a file, and some more."""


class OtherProcess:
    """Reads one file after the other; started again when a file has ended it."""

    def __init__(self) -> None:
        self._process = self._started()

    def _started(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-X", "utf8", "-c", READING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def read(self, path: Path) -> tuple[int, str]:
        """Return how many rows a file gave, and the error that ended the reading."""
        if self._process.poll() is not None:
            self._process = self._started()
        assert self._process.stdin
        assert self._process.stdout
        limit = threading.Timer(90, self._process.kill)
        limit.start()
        print(json.dumps(str(path)), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        limit.cancel()
        limit.join()
        assert answer, f"the process ended with {self._process.wait()}, or was ended after 90 s"
        rows, peak_mb, took_s, text = json.loads(answer)
        assert peak_mb < PEAK_AT_REST_MB + MEMORY_MB
        assert took_s < 20, "of CPU time, on a computer that is busy"
        assert len(text) < len(str(path)) + 500
        assert text.isprintable()
        return rows, text

    def end(self) -> None:
        self._process.communicate()
