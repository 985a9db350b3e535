"""Files that are written, and removed while they are."""

import shutil
from pathlib import Path

from servomex.sinks import Sink
from tests.helpers.recordings import batches, joined

ONE_TEXT_EACH = ("run.csv", "run.csv.gz", "run.jsonl", "run.jsonl.gz")


def write(sink: Sink, first: int, count: int) -> int:
    """Write batches, each flushed by itself; the number of rows."""
    parts = batches(count, first)
    for part in parts:
        sink.write(part)
    return len(joined(parts))


def remove(path: Path) -> None:
    """Delete a file with all that belongs to it."""
    for item in path.parent.glob(f"{path.name}*"):
        shutil.rmtree(item) if item.is_dir() else item.unlink()
