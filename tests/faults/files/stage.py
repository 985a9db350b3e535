"""What all episodes share: a folder, programs that record into it, and the account of their rows at the end."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from servomex.models.sample import Sample
from servomex.sinks import open_sink
from tests.faults.busy import BUSY
from tests.faults.files.judge import compare, shown
from tests.faults.files.numbered import NAMES, Given, rows_of, samples_of
from tests.faults.files.plan import SIZES, Plan
from tests.faults.files.program import End, Program
from tests.faults.files.readback import Outcome, read_back
from tests.faults.files.shim import Machine
from tests.faults.files.tally import Count

SAID_S = 2.0
SAID_SLACK_S = 0.3
"""What happens to a file is to be reported within the first, and the campaign may see that later by the second."""
NEVER_SAID_S = 12.0
KILLED_S = 1.0
"""Beside what waits for the flush, rows of this time may be lost by a kill: they are on their way to it."""
ENDS_S = 60.0
AGAIN = 5
"""Readings of the second start."""


class Stage:
    """One episode's folder, programs and counts. A context manager.

    Args:
        plan: What it is.
        folder: Where it may work; it is made here.
        shim: Of the disk and the clock; ``None`` where there is none.

    Attributes:
        before: What is in the file before a program continues it.
        kept: The rows that its files have at the end.
        is_refused: Whether they could not be read to their end.
    """

    def __init__(self, plan: Plan, folder: Path, shim: Path | None) -> None:
        self.plan = plan
        self.dice = plan.dice
        self.count = Count()
        self.disk, self.aside = folder / "disk", folder / "aside"
        self.disk.mkdir(parents=True)
        self.aside.mkdir()
        self.target = self.disk / f"run{plan.suffix}"
        self.before: list[Given] = []
        self.kept: list[Sample] = []
        self.is_refused = False
        self.shim = shim
        self._folder = folder
        self._programs: list[Program] = []
        self._machine: Machine | None = None
        self._said_ns: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._machine:
            self._machine.close()
        for program in self._programs:
            program.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def blame(self, what: str, text: str, number: int = 1) -> None:
        """Note something that must not happen."""
        self.count.blame(what, f"{self.plan}\n  {what}: {text}", self.plan.replay, number)

    def machine(self) -> Machine:
        """Return the disk and the clock of programs that are started from now on."""
        if self._machine is None:
            assert self.shim is not None
            self._machine = Machine(self.aside / "machine", self.disk, self.shim)
        return self._machine

    def fill(self) -> None:
        """Write what is in the file before, if anything is."""
        if self.plan.before:
            self.before = self.write_file(self.target, "before", self.plan.before)

    def write_file(self, path: Path, run: str, readings: int) -> list[Given]:
        """Write a finished file; return what is in it."""
        given = samples_of(run, readings)
        with open_sink(path, flush_s=0, fsync_s=None) as sink:
            for start in range(0, readings, 50):
                sink.write(rows_of(given[start : start + 50]))
        return given

    def start(self, run: str = "first", *options: str, rotate: str = "", before: tuple[str, ...] = ()) -> Program:
        """Start a recording.

        Args:
            run: The name of its source.
            options: Further words of the command line.
            rotate: Where files are divided; at a size that is reached soon when empty.
            before: What comes before it in the command.
        """
        how = ["--rotate", rotate or SIZES[self.plan.suffix]] if self.plan.rotate else []
        program = Program(
            run,
            self.target,
            self.aside,
            *(how or ["--append"]),
            *("--rate", str(self.plan.rate), "--flush", str(self.plan.flush_s)),
            *options,
            environment=self._machine.environment if self._machine else None,
            before=before,
        )
        self._programs.append(program)
        return program

    def begin(self, rotate: str = "") -> Program:
        """Start a recording, appended to what is there, and wait until it is in full swing."""
        self.fill()
        program = self.start(rotate=rotate)
        program.wait_given(self.plan.readings)
        program.wait(lambda: self.exists, "it made its file")
        self.pause(self.plan.flush_s + 0.3)  # so that rows are in the file, or wait for it
        return program

    def go_on(self, program: Program) -> None:
        """Wait for some more readings."""
        program.wait_given(len(program.given()) + self.dice.randint(3, 30))

    def pause(self, longest_s: float) -> None:
        """Wait for a moment."""
        time.sleep(self.dice.uniform(0, longest_s))

    @property
    def source(self) -> Path:
        """What is loaded: the file, or a pattern for all of them."""
        return self.target.with_name(f"run-*{self.plan.suffix}") if self.plan.rotate else self.target

    @property
    def exists(self) -> bool:
        """Whether there is anything to be loaded. What is missing is missed in any case."""
        return any(self.disk.glob(f"run*{self.plan.suffix}*"))

    def current(self) -> Path:
        """Return the file, or folder of parts, that is being written."""
        if self.plan.suffix == ".parquet":
            return max(self.disk.glob("run*.parquet.parts"), key=lambda path: path.stat().st_mtime)
        files = self.disk.glob(f"run*{self.plan.suffix}")
        return max(files, key=lambda path: path.stat().st_mtime)

    def disturb(self, program: Program, act: Callable[[], object], *, must: bool = True) -> None:
        """Do something to a file, and see how soon the program says so.

        Args:
            program: Who has to say it.
            act: What is done.
            must: Whether it has to say anything.
        """
        since, begun = len(program.stderr()), time.monotonic()
        act()
        took_s = program.wait_said(since, NEVER_SAID_S if must else SAID_S)
        late_s = BUSY.late_s(begun, time.monotonic())
        self._said_ns = time.monotonic_ns()
        if took_s is None:
            if must:
                self.blame("slow", f"nothing was said within {NEVER_SAID_S:g} s, or before its end")
            return
        self.count.note_said(took_s)
        if took_s > SAID_S + SAID_SLACK_S + late_s:
            self.blame("slow", f"said after {took_s:.1f} s: {program.stderr()[since:]}")

    def stop(self, program: Program, number: int = signal.SIGTERM) -> End:
        """End a program by a signal."""
        program.send(number)
        return self.checked(program.end(ENDS_S))

    def checked(self, end: End) -> End:
        """Look for what no program may end with."""
        if end.hung:
            self.blame("hang", f"it had to be killed: {end.stderr}")
        elif end.crash or (end.code < 0 and end.code != -signal.SIGKILL):
            self.blame("crash", f"exit code {end.code}: {end.stderr}")
        return end

    def look(self, outcome: Outcome, what: str, *, refusal: bool = True) -> list[Sample]:
        """Look for what no reading of files may end with, and return the rows.

        Args:
            outcome: What came of it.
            what: What was done.
            refusal: Whether an error of this package is a finding.
        """
        if outcome.crash or outcome.heavy:
            self.blame("crash", f"{what}: {outcome.crash or outcome.heavy}")
        if outcome.hung:
            self.blame("hang", f"{what}: it does not end")
        if outcome.refusal and refusal:
            self.blame("refused", f"{what}: {outcome.refusal}")
        return outcome.rows

    def account(
        self,
        *ended: tuple[Program, End],
        others: tuple[Path, ...] = (),
        also: list[Given] | None = None,
        removed: bool = False,
        ordered: bool = True,
    ) -> None:
        """Compare the files with what was given, and what is missing with what was said.

        Args:
            ended: The programs that wrote, and how they ended.
            others: Files that have rows as well, such as one that was renamed.
            also: What must be there as well.
            removed: Whether what was there before may be gone: only rows of one's own are counted.
            ordered: Whether rows must be in their order over all files.
        """
        given = [item for program, _ in ended for item in program.given()]
        rows = [row for path in others for row in self.look(read_back(path), f"loading {path.name}")]
        outcome = read_back(self.source) if self.exists else Outcome()
        self.kept = own = self.look(outcome, f"loading {self.source.name}")
        self.is_refused = outcome.failed
        expected = rows_of([*self.before, *(also or []), *given])
        verdict = compare(expected, [*rows, *own], ordered=ordered)
        excused = {row for program, end in ended for row in self._excused(program, end)}
        excused |= set(rows_of(self.before)) if removed else set()
        missing = [place for place in verdict.missing if expected[place] not in excused]
        said = sum(end.unwritten + len(NAMES) * end.dropped for _, end in ended if end.code)
        lost = 0 if self.is_refused else max(0, len(missing) - said)
        self.count.notes["rows in files that could not be read"] += len(missing) if self.is_refused else 0
        excused_rows = 0 if self.is_refused else len(verdict.missing) - lost
        self.count.numbers.update(given=len(expected), found=verdict.found, excused=excused_rows)
        ends = "; ".join(f"exit code {end.code}, {end.stderr[-600:]}" for _, end in ended)
        if lost:
            self.blame(
                "lost", f"{lost} of {len(missing)} missing rows; first {shown(expected[missing[0]])}; {ends}", lost
            )
        if verdict.wrong:
            self.blame("wrong", f"{verdict.wrong} rows; {verdict.example}; {ends}", verdict.wrong)
        if verdict.doubled:
            self.blame("doubled", f"{verdict.doubled} rows; {verdict.example}; {ends}", verdict.doubled)
        self._check_rest(given, {expected[place] for place in verdict.missing}, own, ends)

    def _excused(self, program: Program, end: End) -> list[Sample]:
        """Return the rows that a kill may cost; of a program that hung, all, since it is blamed for that."""
        if end.hung:
            return rows_of(program.given())
        if end.code != -signal.SIGKILL:
            return []
        window_s = self.plan.flush_s + KILLED_S
        window_s += BUSY.late_s(end.at_ns / 1e9 - window_s, end.at_ns / 1e9)
        return rows_of([item for item in program.given() if item.monotonic_ns > end.at_ns - window_s * 1e9])

    def _check_rest(self, given: list[Given], missing: set[Sample], own: list[Sample], ends: str) -> None:
        """Check that what came after something was said is under the asked name."""
        if self._said_ns is None or self.is_refused:
            return
        later = rows_of([item for item in given if item.monotonic_ns > self._said_ns])
        there = {*own, *missing}
        if gone := [row for row in later if row not in there]:
            self.blame("lost", f"{len(gone)} rows of the rest are not under the asked name; {ends}", len(gone))

    def again(self, *, must: bool = True) -> None:
        """Start once more on what is left: it works, or says why not.

        Args:
            must: Whether it has to work.
        """
        self.disk.mkdir(exist_ok=True)
        program = self.start("again", "--count", str(AGAIN))
        end = self.checked(program.end(ENDS_S))
        if end.code:
            if must:
                self.blame("refused", f"a second start: exit code {end.code}, {end.stderr}")
            elif not end.stderr.strip():
                self.blame("refused", f"a second start says nothing: exit code {end.code}")
            self.count.notes["second starts that were refused with reason"] += not must
            return
        outcome = read_back(self.source)
        rows = self.look(outcome, "loading after a second start", refusal=not self.is_refused)
        if self.is_refused or outcome.failed:
            return
        expected = [*self.kept, *rows_of(program.given())]
        verdict = compare(expected, rows)
        if verdict.missing:
            first = shown(expected[verdict.missing[0]])
            self.blame(
                "lost", f"{len(verdict.missing)} rows by a second start; first {first}", len(verdict.missing)
            )
        if verdict.wrong or verdict.doubled:
            self.blame("wrong", f"after a second start: {verdict.example}", verdict.wrong + verdict.doubled)
