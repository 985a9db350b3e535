"""Where the driver stands is judged from figures, their spread, bounds and goals."""

import pytest

from tests.benchmarks.comparison import ROWS
from tests.benchmarks.figures import Figure, figure, ratio
from tests.benchmarks.standing import TITLES, Peer, Row, Target, figures_of, standing

PEER = Peer("peer", "theirs", ratio="ours / theirs")


def cells(row: Row, *figures: Figure) -> list[str]:
    """What the table says of one kind of work, which is in the benchmark ``b``."""
    titles, found = standing({("b", item.name): item for item in figures}, [row])
    assert titles == [*TITLES]
    return found


def verdict(row: Row, *figures: Figure) -> str:
    return cells(row, *figures)[-1]


def measured(ours: list[float], theirs: list[float]) -> list[Figure]:
    return [figure("ours", "ms", ours), figure("theirs", "ms", theirs), ratio("ours / theirs", ours, theirs)]


def test_the_ratio_of_the_pairs_decides() -> None:
    row = Row("work", "b", "ours", [PEER])
    assert verdict(row, *measured([1.0, 5.0, 9.0], [2.0, 6.0, 10.0])) == "ahead"
    assert verdict(row, *measured([2.0, 6.0, 10.0], [1.0, 5.0, 9.0])) == "behind"
    assert verdict(row, *measured([1.0, 6.0, 9.0], [2.0, 5.0, 9.0])) == "level"


def test_without_a_ratio_the_spread_of_the_peer_decides() -> None:
    row, theirs = Row("work", "b", "ours", [Peer("peer", "theirs")]), figure("theirs", "ms", [4.0, 5.0, 6.0])
    found = [verdict(row, figure("ours", "ms", [value]), theirs) for value in (4.0, 5.0, 6.0)]
    assert found == ["ahead", "level", "behind"]


def test_where_more_is_better_the_largest_peer_is_the_best() -> None:
    row = Row("work", "b", "ours", [PEER, Peer("fixed", None, 7.0)], [Target(2.0, "best")], more=True)
    found = cells(row, *measured([10.0, 10.0], [5.0, 5.0]))
    assert found == ["work", "10 ms", "7 (fixed)", "", ">= 2 x best: MISSED", "ahead"]
    found = cells(row, *measured([16.0, 16.0], [7.5, 7.5]))
    assert found[2:] == ["7.5 (peer)", "", ">= 2 x best: met", "ahead"]
    assert verdict(row, *measured([6.0, 6.0], [5.0, 5.0])) == "behind"


def test_a_reference_is_a_multiple_of_a_figure_of_the_same_run() -> None:
    row = Row("work", "b", "ours", [Peer("reference", "theirs", 3.0)])
    found = cells(row, figure("ours", "ms", [10.0]), figure("theirs", "ms", [4.0]))
    assert (found[2], found[-1]) == ("12 (reference)", "ahead")


@pytest.mark.parametrize(("more", "near", "far"), [(False, 10.4, 10.6), (True, 9.6, 9.4)])
def test_what_is_not_ahead_may_be_at_the_bound(more: bool, near: float, far: float) -> None:
    row = Row("work", "b", "ours", [Peer("peer", None, 10.0)], bound="limit", near=0.05, more=more)
    found = [verdict(row, figure("ours", "ms", [value]), figure("limit", "ms", [10.0])) for value in (near, far)]
    assert found == ["at the bound", "behind"]


def test_the_bound_of_a_figure_serves_when_none_is_named() -> None:
    row = Row("work", "b", "ours", targets=[Target(1.01, "bound"), Target(10.2)])
    found = cells(row, figure("ours", "ms", [10.15], bound=10.0))
    assert found[3:] == ["10", "<= 1.01 x bound: MISSED, <= 10.2: met", "at the bound"]


def test_without_peer_or_bound_only_the_goal_is_judged() -> None:
    assert cells(Row("work", "b", "ours", [PEER], [Target(1.0, "best")]), figure("ours", "", [0.0])) == [
        "work",
        "0",
        "",
        "",
        "<= 1 x best",
        "no peer",
    ]


def test_work_that_was_not_measured_is_omitted() -> None:
    rows = [Row("work", "b", "ours"), Row("more", "b", "others")]
    assert [item[0] for item in standing({("b", "ours"): figure("ours", "", [1.0])}, rows)] == ["work", "work"]
    assert standing({}, rows) == []


def test_figures_are_found_in_a_report() -> None:
    shown = figure("ours", "ms", [1.0])
    report = {
        "benchmarks": {"b": {"figures": [shown.as_dict(), {"name": "theirs", "why": "it is not installed"}]}}
    }
    assert figures_of(report) == {("b", "ours"): shown}


def test_each_kind_of_work_is_compared_once() -> None:
    assert len({row.work for row in ROWS}) == len(ROWS)
