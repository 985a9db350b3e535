"""Episodes in which a recording is killed or interrupted, at whatever moment."""

import contextlib
import signal

from tests.faults.files.program import NotReadyError, Program
from tests.faults.files.readback import read_back
from tests.faults.files.stage import ENDS_S, Stage

OPENS_S = 0.5
ROTATES_S = 30.0


def kill(stage: Stage) -> None:
    """Kill it in full swing."""
    program = stage.begin()
    stage.pause(0.1)
    stage.account((program, program.kill()))
    stage.again()


def kill_opening(stage: Stage) -> None:
    """Kill it while it opens its file."""
    stage.fill()
    program = stage.start()
    program.wait_ready()
    stage.pause(OPENS_S)
    stage.account((program, program.kill()))
    stage.again()


def kill_turning(stage: Stage) -> None:
    """Kill it in the moment in which it begins a new file."""
    program = stage.start(rotate="1s" if stage.plan.quick or stage.dice.random() < 0.5 else "")
    program.wait_given(1)
    names = _names(stage)
    turns = 1 if stage.plan.quick else stage.dice.randint(1, 3)
    with contextlib.suppress(NotReadyError):
        program.wait(lambda: len(_names(stage) - names) >= turns, "it began a new file", ROTATES_S)
    stage.pause(stage.dice.choice((0.0, 0.002, 0.02)))
    stage.account((program, program.kill()))
    stage.again()


def _names(stage: Stage) -> set[str]:
    return {path.name for path in stage.disk.glob("run-*")}


def kill_closing(stage: Stage) -> None:
    """Kill it while it closes its file."""
    program = stage.begin()
    program.send(signal.SIGTERM)
    stage.pause(stage.dice.choice((0.01, 0.05, 0.3)))
    stage.account((program, program.kill()))
    stage.again()


def stop(stage: Stage) -> None:
    """End it by SIGTERM or Ctrl-C, in full swing."""
    program = stage.begin()
    stage.pause(0.1)
    number = stage.dice.choice((signal.SIGTERM, signal.SIGINT))
    _end_by(stage, program, (number,))


def stop_opening(stage: Stage) -> None:
    """End it by SIGTERM or Ctrl-C, while it opens its file."""
    stage.fill()
    program = stage.start()
    program.wait_ready()
    stage.pause(OPENS_S)
    _end_by(stage, program, (stage.dice.choice((signal.SIGTERM, signal.SIGINT)),))


def stop_twice(stage: Stage) -> None:
    """Press Ctrl-C twice, or three times, in quick succession."""
    program = stage.begin()
    numbers = [signal.SIGINT] * stage.dice.choice((2, 2, 3))
    _end_by(stage, program, tuple(numbers))


def _end_by(stage: Stage, program: Program, numbers: tuple[signal.Signals, ...]) -> None:
    for number in numbers:
        program.send(number)
        stage.pause(0.15 if len(numbers) > 1 else 0.0)
    end = stage.checked(program.end(ENDS_S))
    if end.code not in (128 + numbers[0], 1) and not end.crash:
        stage.blame("crash", f"exit code {end.code} after {numbers}: {end.stderr}")
    stage.account((program, end))
    stage.again()


def simulated(stage: Stage) -> None:
    """Record a simulated analyser to the end: what is counted is what is there."""
    program = stage.start("sim://4100?seed=1", "--protocol", "modbus_rtu", "--gap", "0.003", "--count", "8")
    end = stage.checked(program.end(ENDS_S))
    rows = stage.look(read_back(stage.source), "loading")
    stage.count.numbers["given"] += 5 * (end.readings or 0)
    stage.count.numbers["found"] += len(rows)
    if end.code or not end.readings:
        stage.blame("crash", f"exit code {end.code}: {end.stderr}")
    elif len(rows) != 5 * end.readings:
        stage.blame("lost", f"{len(rows)} rows, {end.stderr}", abs(5 * end.readings - len(rows)))
    times = [row.monotonic_ns for row in rows]
    if times != sorted(times) or {row.error for row in rows} != {None}:
        stage.blame("wrong", f"out of order, or errors: {rows[:5]}")
