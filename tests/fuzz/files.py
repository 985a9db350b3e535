"""Flips bytes of recordings: ``python -m tests.fuzz.files``. Exit code 1 when a wrong one was read without a word.

Each format is damaged in a process of its own, so that a crash of a library is found as well.
"""

import argparse
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import click

from servomex.errors import ServomexError
from servomex.models.sample import Sample
from servomex.recording.load import load, load_metadata
from servomex.sinks import open_sink
from tests.fuzz.wrong import need
from tests.helpers.recordings import batch, batches

CHECKED = ("run.csv.gz", "run.jsonl.gz", "run.parquet", "run.parquet.parts/000002.parquet", "run.sqlite-wal")
"""Those with checksums: what is read of them is right."""
FILES = ("run.csv", "run.jsonl", "run.sqlite", *CHECKED)
SEVERAL = 120
"""Batches, so that a database has several pages in its table."""


class _Warnings(logging.Handler):
    """Counts the warnings of the package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, _record: logging.LogRecord) -> None:
        self.count += 1


def record(folder: Path, name: str) -> list[Sample]:
    """Write the recording that a file belongs to; what belongs to one under way is there as a kill leaves it."""
    is_under_way = name.endswith("-wal") or "parts/" in name
    path = folder / name.partition("-wal")[0].partition(".parts")[0]
    written: list[Sample] = []
    made = folder / "made"
    made.mkdir()
    with open_sink(made / path.name, flush_s=0) as sink:
        for number, part in enumerate(batches(SEVERAL if name == "run.sqlite" else 20)):
            sink.write(part)
            written += part
            if number % 7 == 6:
                sink.sync()
        if is_under_way:
            shutil.copytree(made, folder, dirs_exist_ok=True)
    if not is_under_way:
        shutil.copytree(made, folder, dirs_exist_ok=True)
    shutil.rmtree(made)
    (folder / f"{path.name}-shm").unlink(missing_ok=True)
    return written


def read(path: Path) -> tuple[list[Sample] | None, int]:
    """Read a recording: its samples, or ``None`` when that is refused, and how many warnings there were."""
    seen = _Warnings()
    log = logging.getLogger("servomex")
    log.addHandler(seen)
    try:
        load_metadata(path)
        return list(load(path)), seen.count
    except ServomexError as error:
        need(len(str(error)) < 1000 and str(error).isprintable(), "a message is long or not printable", error)
        return None, seen.count
    finally:
        log.removeHandler(seen)


def flipped(folder: Path, name: str, flips: int, seed: str) -> Counter[str]:
    """Flip bytes of a file, one at a time, and count what became of it.

    Raises:
        WrongError: Rows are wrong or missing, and that was not reported.
    """
    good = folder / "good"
    good.mkdir()
    written = record(good, name)
    target = next(
        item
        for item in good.iterdir()
        if item.suffix in (".csv", ".jsonl", ".gz", ".sqlite", ".parquet", ".parts")
    )
    target = target.with_suffix("") if target.suffix == ".parts" else target
    shutil.copytree(good, folder / "whole")
    need(read(folder / "whole" / target.name) == (written, 0), "what is not damaged is read otherwise")
    dice = Random(seed)
    content = (good / name).read_bytes()
    counts: Counter[str] = Counter()
    for _ in range(flips):
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(good, work)
        place, bits = dice.randrange(len(content)), dice.randrange(1, 256)
        damaged = bytearray(content)
        damaged[place] ^= bits
        (work / name).write_bytes(damaged)
        counts[_fate(work / target.name, name, written, (place, bits))] += 1
    return counts


def _fate(path: Path, name: str, written: list[Sample], flip: tuple[int, int]) -> str:
    appended = path.parent / "appended"
    shutil.copytree(path.parent, appended)
    found, warned = read(path)
    if found is not None and found != written:
        need(bool(warned) or (len(found) == len(written) and name not in CHECKED), "wrong rows", name, flip)
    _append(appended / path.name, found, flip)
    if found is None:
        return "refused"
    return "same" if found == written else "warned" if warned else "other text"


def _append(path: Path, found: list[Sample] | None, flip: tuple[int, int]) -> None:
    more = batch(500)
    try:
        with open_sink(path, append=True) as sink:
            sink.write(more)
    except ServomexError:
        return
    after, _ = read(path)
    need(found is None or (after is not None and after[-len(more) :] == more), "appended rows are lost", flip)


def main() -> int:
    """Damage all formats, each in a process of its own, or one of them in this process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.files", description=__doc__)
    parser.add_argument("--flips", type=int, default=2000, help="for each format; default 2000")
    parser.add_argument("--seed", default="1", help="makes the flips repeatable")
    parser.add_argument("--file", choices=FILES, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    names = options.file or FILES
    if len(names) > 1:
        command = [sys.executable, "-m", "tests.fuzz.files", "--flips", str(options.flips), "--seed", options.seed]
        return int(
            sum(subprocess.run([*command, "--file", name], check=False).returncode != 0 for name in names) > 0
        )
    logging.getLogger("servomex").propagate = False
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = flipped(Path(folder), names[0], options.flips, options.seed)
    click.echo(f"{names[0]:34} {dict(counts)} in {time.monotonic() - begun:.0f} s, {_most_memory()}")
    return 0


def _most_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "memory unknown"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB at most"


if __name__ == "__main__":
    sys.exit(main())
