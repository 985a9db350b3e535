"""The figures of ``servomex diag``: durations, losses, and which gap is safe."""

import statistics

import pytest

from servomex.checkup.tally import Tally
from servomex.cli.diag.figures import smallest_safe_gap, summary


def test_durations_are_summed_up_by_the_usual_definitions() -> None:
    seconds = [number / 100 for number in range(1, 101)]
    whole = summary(seconds[::-1])
    assert whole is not None
    assert (whole.minimum, whole.median, whole.maximum) == (0.01, 0.505, 1.0)
    assert whole.p99 == pytest.approx(0.9901)
    assert whole.deviation == pytest.approx(statistics.stdev(seconds))


def test_few_durations_are_summed_up_as_well() -> None:
    few, single = summary([0.1, 0.2, 0.9]), summary([0.5])
    assert few is not None
    assert (few.median, 0.8 < few.p99 <= 0.9) == (0.2, True)
    assert single is not None
    assert (single.minimum, single.median, single.p99, single.maximum) == (0.5,) * 4
    assert single.deviation == 0.0
    assert summary([]) is None


def test_the_safe_gap_is_the_smallest_from_which_on_nothing_is_lost() -> None:
    for lost, safe in (
        ({0.0: 3, 0.01: 1, 0.05: 0, 0.1: 0}, 0.05),
        ({0.0: 0, 0.01: 1, 0.05: 0, 0.1: 0}, 0.05),
        ({0.1: 0, 0.0: 1, 0.05: 0}, 0.05),
        ({0.0: 0, 0.1: 0}, 0.0),
        ({0.0: 0, 0.1: 1}, None),
        ({0.1: 0}, 0.1),
    ):
        tallies = {gap_s: Tally(sent=5, lost=number, answered=5 - number) for gap_s, number in lost.items()}
        assert smallest_safe_gap(tallies) == safe
    assert smallest_safe_gap({0.05: Tally(sent=3, damaged=1), 0.1: Tally(sent=3)}) == 0.1
    assert smallest_safe_gap({0.05: Tally(sent=3, answered=3), 0.1: Tally()}) is None
