"""Episodes in which the disk is full or hangs, the clock is set, or two programs write to one file."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.faults.files.program import End, NotReadyError, Program
from tests.faults.files.shim import Disk
from tests.faults.files.stage import ENDS_S, Stage

HANGS_S = (0.3, 1.5, 4.0)
GIVES_UP_S = 24.0
"""Two Ctrl-C end a program within this time, whatever its disk does; in short episodes within a third of it."""
SMALL_KB = {".csv": 100, ".jsonl": 300, ".sqlite": 400, ".parquet": 60}
STEPS_S = (-86400.0, -3600.0, -1.5, 0.7, 90.0, 86400.0 * 40)


def full_for_a_while(stage: Stage) -> None:
    """Fill the disk for a while: nothing is lost."""
    machine = stage.machine()
    program = stage.begin()
    stage.disturb(program, lambda: machine.set_disk(Disk.FULL))
    stage.pause(1.0 if stage.plan.quick else 5.0)
    machine.set_disk(Disk.WORKS)
    stage.go_on(program)
    stage.account((program, stage.stop(program)))
    stage.again()


def full_to_the_end(stage: Stage) -> None:
    """Fill the disk until the end: what is lost is counted."""
    machine = stage.machine()
    program = stage.begin()
    stage.disturb(program, lambda: machine.set_disk(Disk.FULL))
    stage.go_on(program)
    end = stage.stop(program)
    machine.set_disk(Disk.WORKS)
    stage.account((program, end))
    stage.again()


def small_disk(stage: Stage) -> None:
    """Record to a disk that has little room, or where files may not grow further: what is lost is counted."""
    with _mounted(stage) as mounted:
        stage.count.notes["small disks that were true ones"] += mounted
        if not mounted:
            stage.count.notes["small disks played by a limit for files"] += 1
        limit = ("sh", "-c", f'ulimit -f {2 * _small_kb(stage)}; exec "$@"', "sh")
        program = stage.start(before=() if mounted else limit)
        program.wait_said(0, ENDS_S)
        stage.go_on(program)
        end = stage.stop(program)
        stage.account((program, end))
        stage.again(must=False)


def _small_kb(stage: Stage) -> int:
    """Return a size that is reached soon; packed rows need little room."""
    return SMALL_KB.get(stage.plan.suffix, 24)


@contextlib.contextmanager
def _mounted(stage: Stage) -> Iterator[bool]:
    """Make the folder a small disk of its own, if that is allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_small_kb(stage)}k", "tmpfs", str(stage.disk)]
    allowed = sys.platform == "linux" and shutil.which("mount") and shutil.which("umount")
    if not allowed or subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", stage.disk], check=True)


def hung_for_a_while(stage: Stage) -> None:
    """Make the disk hang for a while: nothing is lost."""
    machine = stage.machine()
    program = stage.begin()
    machine.set_disk(Disk.HANGS)
    time.sleep(stage.dice.choice(HANGS_S[:2] if stage.plan.quick else HANGS_S))
    if stage.dice.random() < 0.3:
        program.send(signal.SIGTERM)  # which waits for the disk
        stage.pause(0.5)
    machine.set_disk(Disk.WORKS)
    with contextlib.suppress(NotReadyError):  # it was asked to end
        stage.go_on(program)
    stage.account((program, stage.stop(program)))
    stage.again()


def hung_to_the_end(stage: Stage) -> None:
    """Make the disk hang until the end: two Ctrl-C end the program, and what is lost is reported."""
    machine = stage.machine()
    program = stage.begin()
    machine.set_disk(Disk.HANGS)
    stage.pause(2.0)
    for _ in range(2):
        program.send(signal.SIGINT)
        stage.pause(1.0)
    end = stage.checked(program.end(GIVES_UP_S / 3 if stage.plan.quick else GIVES_UP_S))
    machine.set_disk(Disk.WORKS)
    stage.account((program, end))
    stage.again()


def set_clock(stage: Stage) -> None:
    """Set the clock forward and back: nothing is lost, and nothing is there twice."""
    machine = stage.machine()
    program = stage.begin(stage.dice.choice(("", "1s", "15m")))
    for _ in range(stage.dice.randint(1, 3)):
        machine.set_clock(stage.dice.choice(STEPS_S))
        stage.go_on(program)
    stage.account((program, stage.stop(program)), ordered=False)
    stage.again()


def two_writers(stage: Stage) -> None:
    """Start two programs on one file in the same moment: one of them is refused, unless files are divided."""
    stage.fill()
    _race(stage, stage.plan.rotate)


def packing(stage: Stage) -> None:
    """Start two programs on a packed file that was not ended, which both would pack anew; perhaps kill one."""
    count = 3000 if stage.plan.quick else stage.dice.choice((3000, 10_000))
    stage.before = stage.write_file(stage.target, "before", count)
    with stage.target.open("r+b") as file:
        file.truncate(stage.target.stat().st_size - 20)  # what a kill leaves: no end, and not the last flush
    if stage.dice.random() < 0.5:
        _race(stage, both=False, kill=stage.dice.random() < 0.4)
        return
    program = stage.start()
    program.wait_ready()
    stage.pause(0.6)
    end = program.kill()
    stage.account((program, end), removed=True)
    stage.again()


def _race(stage: Stage, both: bool, *, kill: bool = False) -> None:
    programs = [stage.start(run) for run in ("first", "second")]
    _wait_for_both(programs)
    stage.pause(1.0)
    ends = [_ended(stage, program, kill=kill) for program in programs]
    refused = [end for end in ends if end.code in (1, 2)]
    if not both and len(refused) != 1:
        texts = [f"exit code {end.code}, {end.stderr}" for end in ends]
        stage.blame("wrong", f"{len(refused)} of two programs were refused: {texts}")
    for end in refused:
        if "Error: " not in end.stderr:
            stage.blame("refused", f"it says not why: {end.stderr}")
    accepted = [pair for pair in zip(programs, ends, strict=True) if pair[1] not in refused]
    stage.account(*accepted, removed=stage.plan.kind == "packing")
    stage.again()


def _wait_for_both(programs: list[Program]) -> None:
    """Wait until each of them records, or was refused."""
    deadline = time.monotonic() + ENDS_S
    while not all(program.given() or program.process.poll() is not None for program in programs):
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _ended(stage: Stage, program: Program, *, kill: bool) -> End:
    return program.kill() if kill and program.process.poll() is None else stage.stop(program)
