"""Whatever is done to an outbox, in whatever order: each sink has all rows in order, or is told what it lacks."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from servomex.models.sample import Sample
from servomex.outbox import Batch, Outbox, look
from servomex.runtime.clock import time
from tests.helpers.outboxes import Disk, gap_of, is_gap, killed, row

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
SINKS = ("one", "two")
DEVICES = ("rig A", "rig B")
sinks = st.sampled_from(SINKS)


class OutboxMachine(RuleBasedStateMachine):
    """An outbox for two sinks, and what they have stored."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk(self.patch)
        self.added: list[Sample] = []
        self.stored: dict[str, list[Sample]] = {name: [] for name in SINKS}
        self.taken: dict[str, list[Batch]] = {name: [] for name in SINKS}
        self.copies = itertools.count()
        self.may_repeat = False
        self.begin(self.folder / "outbox.sqlite")

    def begin(self, path: Path) -> None:
        self.path = path
        self.outbox = Outbox(path, SINKS)
        self.outbox._store._memory._most = 20
        self.taken = {name: [] for name in SINKS}

    @rule(count=st.integers(1, 9), device=st.sampled_from(DEVICES))
    def add(self, count: int, device: str) -> None:
        samples = [row(len(self.added) + place, device) for place in range(count)]
        on_disk = self.outbox.add(samples)
        assert on_disk or self.disk.full or self.outbox.figures().last_error
        self.added += samples

    @rule(name=sinks, most=st.integers(1, 12))
    def take(self, name: str, most: int) -> None:
        batch = self.outbox.take(name, most)
        if batch is not None:
            assert batch.samples
            assert len(batch.ends) == len(batch.samples)
            self.taken[name].append(batch)

    @precondition(lambda self: any(self.taken.values()))
    @rule(name=sinks, part=st.none() | st.integers(1, 20))
    def store(self, name: str, part: int | None) -> None:
        if self.taken[name]:
            batch = self.taken[name].pop(0)
            number = len(batch.samples) if part is None else min(part, len(batch.samples))
            self.stored[name] += batch.samples[:number]
            self.outbox.done(batch, number)
            if number < len(batch.samples):
                self.may_repeat = True
                self.rewind(name)

    @rule(name=sinks)
    def rewind(self, name: str) -> None:
        self.outbox.rewind(name)
        self.taken[name] = []

    @rule(count=st.integers(1, 3))
    def reach_a_limit(self, count: int) -> None:
        store = self.outbox._store
        store._drop(store._oldest(count), "a limit")

    @rule(full=st.booleans())
    def fill_or_clear_the_disk(self, full: bool) -> None:
        self.disk.full = full
        self.outbox._store._disk.try_at_once()

    @precondition(lambda self: not self.disk.full)
    @rule()
    def end_and_begin(self) -> None:
        self.outbox._store._disk.try_at_once()
        self.outbox.close()
        self.begin(self.path)

    @precondition(lambda self: not self.outbox.figures().in_memory)
    @rule()
    def kill(self) -> None:
        self.disk.full = False
        copy = killed(self.path, self.folder / str(next(self.copies)))
        self.outbox.close()
        self.begin(copy)
        self.may_repeat = True

    @rule()
    def tend(self) -> None:
        self.outbox.tend()

    @invariant()
    def rows_are_in_order(self) -> None:
        for name in SINKS:
            found = [sample.monotonic_ns for sample in self.stored[name] if not is_gap(sample)]
            if self.may_repeat:
                newest = list(itertools.accumulate(found, max))
                found = sorted({*newest})
                assert {*newest} == {*found}
            assert found == sorted(found)

    def teardown(self) -> None:
        try:
            self.disk.full = False
            self.outbox._store._disk.try_at_once()
            self.outbox.tend()
            for name in SINKS:
                self.drain(name)
                for device in DEVICES:
                    self.check(name, device)
            assert self.outbox.figures().rows == 0
            assert look(self.path).rows == 0
            self.outbox.close()
        finally:
            self.patch.undo()
            self.outbox.close()
            shutil.rmtree(self.folder)

    def drain(self, name: str) -> None:
        self.outbox.rewind(name)
        until = time.monotonic() + 10
        while batch := self.outbox.take(name):
            self.stored[name] += batch.samples
            self.outbox.done(batch)
            assert time.monotonic() < until

    def check(self, name: str, device: str) -> None:
        """Compare what a sink has of an analyser, and what it knows to be missing, with what was added."""
        wanted = {sample.monotonic_ns: sample for sample in self.added if sample.device == device}
        mine = [sample for sample in self.stored[name] if sample.device == device]
        got = {sample.monotonic_ns: sample for sample in mine if not is_gap(sample)}
        gaps = [gap_of(sample) for sample in mine if is_gap(sample)]
        assert all(wanted[number] == sample for number, sample in got.items())
        missing = [sample for number, sample in wanted.items() if number not in got]
        for sample in missing:
            assert any(first <= sample.received_at <= last for _, first, last in gaps)
        counted = sum(number for number, _, _ in gaps)
        assert counted >= len(missing)
        if not self.may_repeat:
            assert counted == len(missing)


OutboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, phases=PHASES)
TestOutbox = OutboxMachine.TestCase
