"""The counts of a recording add up: each moment and each broadcast is counted once, whatever happens to it."""

import random
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from servomex import OverflowPolicy, Sample, ServomexConnectionError, ServomexTimeoutError, open_device, record
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.recorded import sample

pytestmark = pytest.mark.virtual_time

HZ = 20
DURATION_S = 2.0
FAILURES = (ServomexTimeoutError("no reply"), ServomexConnectionError("the port was lost"))


class Unsteady:
    """A source whose polls take any time, and give a reading, an error or nothing new."""

    name = "unsteady"

    def __init__(self, dice: random.Random) -> None:
        self.polls = self.failed = self.empty = 0
        self._dice = dice

    def poll_samples(self, *, names: Sequence[str] | None = None, timeout: float | None = None) -> list[Sample]:
        self.polls += 1
        time.sleep(self._dice.choice([0.0, 0.01, 0.04, 0.12, 0.3]))
        what = self._dice.random()
        if what < 0.2:
            self.failed += 1
            raise self._dice.choice(FAILURES)
        if what < 0.4:
            self.empty += 1
            return []
        return [sample(self.polls)]


@pytest.mark.parametrize("policy", list(OverflowPolicy))
@pytest.mark.parametrize("seed", range(12))
def test_each_moment_is_counted_once(seed: int, policy: OverflowPolicy) -> None:
    dice = random.Random(seed)
    source, taken = Unsteady(dice), []
    count = dice.choice([None, None, 5, 15])
    with record(
        source, rate_hz=HZ, duration=DURATION_S, count=count, overflow=policy, buffer_size=dice.choice([1, 3, 100])
    ) as rec:
        for batch in rec.stream:
            taken.append(batch)
            time.sleep(dice.choice([0.0, 0.0, 0.1, 0.5]))
    summary = rec.summary
    assert summary.samples_emitted == len(taken)
    assert summary.errors == sum(batch[0].error is not None for batch in taken)
    assert summary.repeated == source.empty
    assert summary.dropped == source.polls - source.empty - len(taken)
    assert summary.attempts == source.polls
    assert summary.slots == (summary.samples_emitted + summary.samples_late + summary.repeated + summary.dropped)
    if count is None:
        assert summary.slots == HZ * DURATION_S
    else:
        assert summary.attempts <= count
    if policy is OverflowPolicy.BLOCK:
        assert summary.dropped == 0


@pytest.mark.parametrize("policy", list(OverflowPolicy))
@pytest.mark.parametrize("seed", range(6))
def test_each_broadcast_is_counted_once(seed: int, policy: OverflowPolicy) -> None:
    dice = random.Random(seed)
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with open_device(line.url, protocol="continuous") as analyzer:
        assert analyzer.reader
        every, taken = analyzer.reader.subscribe(1000), []
        with record(analyzer, duration=DURATION_S, overflow=policy, buffer_size=dice.choice([1, 3])) as rec:
            for batch in rec.stream:
                taken.append(batch)
                time.sleep(dice.choice([0.0, 0.1, 0.4]))
        analyzer.reader.unsubscribe(every)
        summary, times = rec.summary, [every.get(0).received_at for _ in range(len(every))]
    assert summary.started_at
    assert summary.finished_at
    at_least = sum(moment <= summary.started_at + timedelta(seconds=DURATION_S) for moment in times)
    at_most = sum(moment <= summary.finished_at for moment in times)
    assert summary.samples_emitted == len(taken) == len({batch[0].monotonic_ns for batch in taken})
    assert (summary.errors, summary.samples_late, summary.repeated) == (0, 0, 0)
    assert summary.slots == summary.samples_emitted + summary.dropped
    assert at_least - 2 <= summary.slots <= at_most, "it may have waited for room at its end"
    assert summary.dropped > 0
