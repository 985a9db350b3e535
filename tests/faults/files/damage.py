"""Episodes in which a finished file is damaged: right rows or an error of this package, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from servomex.models.sample import Sample
from servomex.sinks import open_sink
from tests.faults.files.judge import compare
from tests.faults.files.numbered import rows_of, samples_of
from tests.faults.files.readback import Outcome, continue_file, read_back
from tests.faults.files.stage import Stage

CHECKED = (".csv.gz", ".jsonl.gz", ".parquet")
"""Formats with a checksum: there no byte can change without an error."""
READINGS = 400
PARTS = 5


def flip(dice: Random, data: bytearray) -> None:
    """Change single bits."""
    for _ in range(dice.choice((1, 1, 3, 40))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def cut_off(dice: Random, data: bytearray) -> None:
    """Take the end away."""
    del data[dice.randrange(len(data)) :]


def blank(dice: Random, data: bytearray) -> None:
    """Make a piece all zeros, as a loss of power can."""
    start = dice.randrange(len(data))
    size = min(len(data) - start, dice.choice((16, 512, 4096)))
    data[start : start + size] = bytes(size)


def scramble(dice: Random, data: bytearray) -> None:
    """Put other bytes over a piece."""
    start = dice.randrange(len(data))
    size = min(len(data) - start, dice.choice((1, 8, 200)))
    data[start : start + size] = dice.randbytes(size)


def insert(dice: Random, data: bytearray) -> None:
    """Put a piece of the file, or other bytes, in between."""
    place, start = dice.randrange(len(data)), dice.randrange(len(data))
    piece = data[start : start + dice.choice((1, 100, 5000))]
    data[place:place] = piece if dice.random() < 0.5 else dice.randbytes(len(piece))


def extend(dice: Random, data: bytearray) -> None:
    """Append something."""
    data += dice.choice((bytes(5000), dice.randbytes(300), b"\n" * 70_000, b"[" * 70_000))


WAYS: tuple[Callable[[Random, bytearray], None], ...] = (
    flip,
    flip,
    flip,
    cut_off,
    blank,
    scramble,
    insert,
    extend,
)


def damage(stage: Stage) -> None:
    """Damage copies of a finished file in many ways; load each, continue it, and load it again."""
    given = stage.write_file(stage.target, "before", READINGS)
    rows = rows_of(given)
    whole = stage.target.read_bytes()
    for number in range(4 if stage.plan.quick else 12):
        way = stage.dice.choice(WAYS)
        data = bytearray(whole)
        way(stage.dice, data)
        folder = stage.disk / f"{number}"
        folder.mkdir()
        path = folder / stage.target.name
        path.write_bytes(data)
        _try(stage, path, rows, f"{way.__name__}, the {number}th")
        shutil.rmtree(folder)
    stage.count.numbers.update(given=len(rows), found=len(rows))


def damage_parts(stage: Stage) -> None:
    """Damage or delete one of the parts that a kill has left of a Parquet recording; load and continue it."""
    given = samples_of("before", READINGS)
    rows = rows_of(given)
    left = stage.aside / "left.parts"
    with open_sink(stage.target, flush_s=0) as sink:
        for start in range(0, READINGS, READINGS // PARTS):
            sink.write(rows_of(given[start : start + READINGS // PARTS]))
            sink.sync()
        shutil.copytree(f"{stage.target}.parts", left)
    for number in range(4 if stage.plan.quick else 12):
        path = stage.disk / f"{number}" / stage.target.name
        parts = shutil.copytree(left, f"{path}.parts")
        *older, newest = sorted(Path(parts).glob("*.parquet"))
        part = stage.dice.choice([*older, newest])
        way = stage.dice.choice((None, *WAYS))
        if way is None:
            part = stage.dice.choice(older)  # without the newest, nothing shows that there was one
            part.unlink()
        else:
            data = bytearray(part.read_bytes())
            way(stage.dice, data)
            part.write_bytes(data)
        _try(stage, path, rows, f"{way.__name__ if way else 'deletion'} of {part.name}, the {number}th")
    stage.count.numbers.update(given=len(rows), found=len(rows))


def _try(stage: Stage, path: Path, rows: list[Sample], what: str) -> None:
    first = read_back(path)
    stage.look(first, f"loading after {what}", refusal=False)
    _check(stage, rows, first, f"loading after {what}")
    stage.count.notes["damaged files: " + ("refused" if first.refusal else "read")] += 1
    more = rows_of(samples_of("more", 3))
    continued = continue_file(path, more)
    stage.look(continued, f"continuing after {what}", refusal=False)
    if continued.failed:
        return
    second = read_back(path)
    stage.look(second, f"loading what was continued after {what}", refusal=False)
    kept = compare([*first.rows, *more], second.rows)
    if not first.refusal and not second.refusal and kept.missing:
        stage.blame("lost", f"continuing after {what}: {len(kept.missing)} rows that were there, or were appended")


def _check(stage: Stage, rows: list[Sample], outcome: Outcome, what: str) -> None:
    """Check rows that came without an error, where the format can see all damage."""
    if outcome.failed or stage.plan.suffix not in CHECKED:
        return
    verdict = compare(rows, outcome.rows)
    if verdict.wrong or verdict.doubled:
        stage.blame("wrong", f"{what}: {verdict.example}", verdict.wrong + verdict.doubled)
    elif verdict.missing and not outcome.warned:
        stage.blame("lost", f"{what}: {len(verdict.missing)} rows without a word", len(verdict.missing))
