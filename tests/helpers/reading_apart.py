"""A file that is read in a process of its own, which shows what that takes."""

import subprocess
import sys
from pathlib import Path

MEMORY_MB = 200
READING = """
import sys, time
import pyarrow.parquet, servomex
from servomex.recording.load import load, load_metadata

begun = time.process_time()
rows = 0
try:
    load_metadata(sys.argv[1])
    for _ in load(sys.argv[1]):
        rows += 1
    text = ""
except servomex.ServomexError as error:
    text = f"{type(error).__name__}: {error.message}"
try:
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
except OSError:
    peak = 0
print(rows, peak // 1024, round(time.process_time() - begun, 1), text)
"""
PEAK_AT_REST_MB = 150
"""What Python, pyarrow and pandas take without a file, and some more."""


def read_apart(path: Path) -> tuple[int, str]:
    """Read a file in a process of its own: how many rows it gave, and the error that ended it."""
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", READING, str(path)],
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=90,
    )
    rows, peak_mb, took_s, text = done.stdout.rstrip("\n").split(" ", 3)
    assert int(peak_mb) < PEAK_AT_REST_MB + MEMORY_MB
    assert float(took_s) < 20, "of CPU time, on a computer that is busy"
    assert len(text) < len(str(path)) + 500
    assert text.isprintable()
    return int(rows), text
