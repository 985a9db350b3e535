"""Episodes in which another program takes a file away, cuts it, or puts another one in its place."""

import os
import shutil
from pathlib import Path

from tests.faults.files.program import Program
from tests.faults.files.readback import read_back
from tests.faults.files.stage import ENDS_S, Stage

LONG = "1h"
"""Files that are divided by this are not divided within an episode."""
FOREIGN = b"written by another program\n" * 400
UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def remove(stage: Stage) -> None:
    """Delete all of it, or only the file itself, the log of a database, or the newest part."""
    program = stage.begin(LONG)
    what = stage.dice.choice(("all", "file", "log"))
    is_part = stage.plan.suffix == ".parquet" and what != "all"  # it is written again: nothing is lost
    stage.disturb(program, lambda: _delete(stage, what), must=not is_part)
    _finish(stage, program, removed=True)


def _delete(stage: Stage, what: str) -> None:
    current = stage.current()
    log = current.with_name(f"{current.name}-wal")
    if what == "all":
        for path in stage.disk.glob(f"{current.name}*"):
            _remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
    elif current.is_dir():
        _newest_part(stage, current).unlink()
    else:
        (log if what == "log" and log.exists() else current).unlink()


def _newest_part(stage: Stage, parts: Path) -> Path:
    """Return a part that was there a moment ago, as soon as there is one."""
    while not (found := sorted(parts.glob("*.parquet"))):
        stage.pause(0.05)
    return found[-1]


def _finish(stage: Stage, program: Program, *others: Path, removed: bool = False) -> None:
    stage.go_on(program)
    end = stage.stop(program)
    stage.account((program, end), others=others, removed=removed)
    stage.again()


def move(stage: Stage) -> None:
    """Rename it, or move it to another folder."""
    program = stage.begin(LONG)
    moved = _moved(stage, stage.disk if stage.dice.random() < 0.5 else stage.aside)
    current = stage.current()
    stage.disturb(program, lambda: current.rename(moved))
    _finish(stage, program, *([] if _is_empty(moved) else [_loadable(moved)]))


def move_and_make(stage: Stage) -> None:
    """Rename it and make an empty one, as logrotate does with ``create``."""
    program = stage.begin(LONG)
    moved = _moved(stage, stage.disk)
    current = stage.current()

    def act() -> None:
        is_folder = current.is_dir()
        current.rename(moved)
        current.mkdir(exist_ok=True) if is_folder else current.touch()

    stage.disturb(program, act)
    _finish(stage, program, *([] if _is_empty(moved) else [_loadable(moved)]))


def _is_empty(path: Path) -> bool:
    """Whether it is a folder that had no part yet."""
    return path.is_dir() and not any(path.glob("*.parquet"))


def _moved(stage: Stage, folder: Path) -> Path:
    return folder / f"old{stage.plan.suffix}{'.parts' * (stage.plan.suffix == '.parquet')}"


def _loadable(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".parts" else path


def remove_folder(stage: Stage) -> None:
    """Delete the whole folder."""
    program = stage.begin(LONG)
    stage.disturb(program, lambda: _remove_tree(stage.disk))
    _finish(stage, program, removed=True)


def _remove_tree(folder: Path) -> None:
    """Delete a folder whose files may come and go."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.glob("*")):
            return


def cut(stage: Stage) -> None:
    """Cut it to nothing, as logrotate does with ``copytruncate``, or to its half."""
    program = stage.begin(LONG)
    whole = stage.dice.random() < 0.5

    def act() -> None:
        current = stage.current()
        path = _newest_part(stage, current) if current.is_dir() else current
        os.truncate(path, 0 if whole else path.stat().st_size // 2)

    stage.disturb(program, act, must=stage.plan.suffix != ".parquet")
    _finish(stage, program, removed=True)


def replace_by_foreign(stage: Stage) -> None:
    """Put another kind of file in its place; take it away again after a while, or leave it there."""
    program = stage.begin(LONG)
    current = stage.current()
    place = current.with_suffix("") if current.suffix == ".parts" else current
    foreign = stage.aside / "foreign"
    foreign.write_bytes(FOREIGN)
    if place == current:
        stage.disturb(program, lambda: foreign.replace(place))
    else:
        foreign.replace(place)  # nothing is taken away, and only the end would touch it
    stage.go_on(program)
    if stage.dice.random() < 0.5:
        _take_away(stage, place)
        stage.go_on(program)
        end = stage.stop(program)
    else:
        end = stage.stop(program)
        _take_away(stage, place)
        if not end.code:
            stage.blame("wrong", f"exit code 0 although another file is in the place: {end.stderr}")
    stage.account((program, end), removed=True)
    stage.again()


def _take_away(stage: Stage, place: Path) -> None:
    if place.read_bytes() != FOREIGN:
        stage.blame("wrong", f"what another program wrote to {place.name} was changed")
    place.unlink()


def replace_by_recording(stage: Stage) -> None:
    """Put a finished recording in its place: it is continued, or left alone."""
    program = stage.begin(LONG)
    current = stage.current()
    place = current.with_suffix("") if current.suffix == ".parts" else current
    path = stage.aside / f"other{stage.plan.suffix}"
    other = stage.write_file(path, "other", 60)
    if place == current:
        stage.disturb(program, lambda: path.replace(place))
    else:
        path.replace(place)  # nothing is taken away, and only the end would touch it
    stage.go_on(program)
    end = stage.stop(program)
    stage.account((program, end), also=other, removed=True)
    stage.again()


def links(stage: Stage) -> None:
    """Record to a symbolic link, also one that leads to nothing yet, or to one of two names of a file."""
    way = stage.dice.choice(("symbolic", "dangling", "hard"))
    real = stage.aside / f"real{stage.plan.suffix}"
    if way != "dangling":
        stage.before = stage.write_file(real, "before", 30)
    if way == "hard":
        os.link(real, stage.target)
    else:
        stage.target.symlink_to(real)
    program = stage.start("first", "--count", str(stage.plan.readings))
    end = stage.checked(program.end(ENDS_S))
    if way != "hard" and not stage.target.is_symlink():
        stage.blame("wrong", f"the {way} link was replaced by a file: {end.stderr}")
    if end.code and way != "dangling":
        stage.blame("refused", f"a {way} link: {end.stderr}")
    if end.code:
        return
    stage.account((program, end))
    stage.again()
    if way != "hard" and stage.kept and not read_back(real).rows:
        stage.blame("lost", "what the link leads to has no rows")


def forbid(stage: Stage) -> None:
    """Take the right to write away, before or while it records, as far as it can be taken from this user."""
    before = () if os.geteuid() else UNPRIVILEGED
    if before and not shutil.which(before[0]):
        stage.count.notes["nothing is forbidden to this user"] += 1
        return
    if stage.dice.random() < 0.5:
        _forbid_at_start(stage, before)
        return
    stage.fill()
    program = stage.start(before=before)
    program.wait_given(stage.plan.readings)
    folder = stage.current() if stage.plan.suffix == ".parquet" else stage.disk
    folder.chmod(0o555)
    stage.pause(1.5)
    folder.chmod(0o755)
    stage.go_on(program)
    stage.account((program, stage.stop(program)))
    stage.again()


def _forbid_at_start(stage: Stage, before: tuple[str, ...]) -> None:
    stage.fill()
    files = {path: path.read_bytes() for path in stage.disk.iterdir()}
    for path in [*files, stage.disk]:
        path.chmod(0o555)
    program = stage.start(before=before)
    end = stage.checked(program.end(ENDS_S))
    stage.disk.chmod(0o755)
    if end.code not in (1, 2) or "Error: " not in end.stderr or program.given():
        stage.blame("refused", f"it says not why: exit code {end.code}, {end.stderr}")
    if {path: path.read_bytes() for path in stage.disk.iterdir()} != files:
        stage.blame("wrong", "files were changed, although it was forbidden")
    for path in files:
        path.chmod(0o644)
    stage.account((program, end))
    stage.again()
