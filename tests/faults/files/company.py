"""Episodes in which other programs look at the files while they are written, or copy them."""

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servomex.models.sample import Sample
from tests.faults.files.judge import compare, shown
from tests.faults.files.numbered import rows_of
from tests.faults.files.program import Program
from tests.faults.files.readback import processes, read_back
from tests.faults.files.stage import Stage

HOLDS_S = 60.0


def readers(stage: Stage) -> None:
    """Load it over and over, and hold it open, until it is closed: each sees the beginning of what was given."""
    program = stage.begin()
    ending = threading.Event()
    loader = threading.Thread(target=_load_on, args=(stage, program, ending), name="faults-files-loader")
    with _held(stage.current()) if stage.dice.random() < 0.7 else contextlib.nullcontext():
        loader.start()
        try:
            for _ in range(2 if stage.plan.quick else stage.dice.randint(2, 12)):
                stage.go_on(program)
            end = stage.stop(program)
        finally:
            ending.set()
            loader.join()
    stage.account((program, end))
    stage.again()


def _load_on(stage: Stage, program: Program, ending: threading.Event) -> None:
    while not ending.is_set():
        rows = stage.look(read_back(stage.source), "loading while it is written")
        _check_beginning(stage, program, rows, "a reader")
        stage.count.notes["loads while a file was written"] += 1


def _check_beginning(stage: Stage, program: Program, rows: list[Sample], who: str) -> None:
    """Check that rows are the first of those that were given."""
    expected = rows_of([*stage.before, *program.given()])
    verdict = compare(expected, rows)
    if verdict.wrong or verdict.doubled:
        stage.blame("wrong", f"{who}: {verdict.example}", verdict.wrong + verdict.doubled)
    if rows and verdict.missing and verdict.missing[0] < verdict.found:
        stage.blame("lost", f"{who}: a gap from {shown(expected[verdict.missing[0]])}")


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep a file open in another program, a database in a transaction."""
    held, release = processes().Event(), processes().Event()
    process = processes().Process(target=_hold, args=(path, held, release), daemon=True)
    process.start()
    held.wait(HOLDS_S)
    try:
        yield
    finally:
        release.set()
        process.join(HOLDS_S)
        process.kill()
        process.join()
        process.close()


def _hold(path: Path, held: Any, release: Any) -> None:
    with contextlib.ExitStack() as stack:
        if path.suffix == ".sqlite":
            connection = stack.enter_context(contextlib.closing(sqlite3.connect(path)))
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM samples").fetchone()
        else:
            for item in path.iterdir() if path.is_dir() else [path]:
                stack.enter_context(item.open("rb"))
        held.set()
        release.wait(HOLDS_S)


def copies(stage: Stage) -> None:
    """Copy it at any moments, as a plain copy of one file: each copy has the beginning of what was given."""
    program = stage.begin()
    made: list[Path] = []
    for number in range(3 if stage.plan.quick else 6):
        time.sleep(stage.dice.uniform(0.05, 0.5))
        made += _copied(stage, number)
    stage.account((program, stage.stop(program)))
    for path in made:
        rows = stage.look(read_back(path), "loading a copy")
        _check_beginning(stage, program, rows, "a copy") if not stage.plan.rotate else None
    stage.again()


def _copied(stage: Stage, number: int) -> list[Path]:
    current = stage.current()
    copy = stage.aside / f"copy{number}{stage.plan.suffix}"
    if not current.is_dir():
        return [Path(shutil.copy(current, copy))]
    try:
        shutil.copytree(current, f"{copy}.parts")
    except (shutil.Error, FileNotFoundError):
        return []  # a part was written anew just then
    if current.with_suffix("").exists():  # what was there before it was continued
        shutil.copy(current.with_suffix(""), copy)
    return [copy]
