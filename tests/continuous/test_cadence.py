"""The period is the usual interval between broadcasts: never an outage, but a change at the panel is learned."""

import pytest

from servomex.continuous.cadence import Cadence


def after(*intervals: float) -> float | None:
    cadence = Cadence()
    for interval in intervals:
        cadence.note(interval)
    return cadence.period_s


def test_before_the_second_broadcast_there_is_none() -> None:
    assert after() is None
    assert Cadence().shortest_s == 0.0


def test_the_first_interval_is_the_period_until_a_shorter_one_shows() -> None:
    assert after(20.0) == 20.0
    assert after(20.0, 1.0) == 1.0


@pytest.mark.parametrize("outages", [(20.0,), (20.0, 20.0), (20.0, 1.0, 20.0), (20.0, 20.0, 1.0, 20.0, 20.0)])
def test_outages_are_no_period(outages: tuple[float, ...]) -> None:
    assert after(1.0, 1.01, 0.99, *outages) == pytest.approx(1.0, abs=0.02)


def test_outages_before_the_period_is_sure_are_none_either() -> None:
    assert after(20.0, 20.0, 1.0) == 1.0
    assert after(1.0, 20.0, 20.0) == 1.0


@pytest.mark.parametrize(("before", "now"), [(1.0, 10.0), (10.0, 1.0), (2.0, 3.0)])
def test_a_change_at_the_panel_is_learned_after_three_intervals(before: float, now: float) -> None:
    assert after(*[before] * 5, now, now) == before
    assert after(*[before] * 5, now, now, now) == now


def test_jitter_does_not_move_it() -> None:
    assert after(*[2.0, 2.3, 1.7, 2.1, 1.9] * 4) == pytest.approx(2.0, abs=0.1)


def test_a_line_without_any_order_has_the_shortest_of_its_latest_intervals() -> None:
    assert after(1.0, 5.0, 9.0, 3.0, 7.0) == 3.0
