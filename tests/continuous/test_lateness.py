"""Broadcasts that were held up on their way are dated back: never younger than is known, and none is lost."""

import logging

import pytest

from servomex.models.frame import Frame
from tests.helpers.broadcasts import BEGUN, UNSET, Line, Sender, looks, measured

CLOCKS = pytest.mark.parametrize("sender", [Sender(), Sender(clock=UNSET)], ids=["clock", "no clock"])


def lags(line: Line) -> list[float]:
    """How much younger each frame looks than it is."""
    return [looks(frame) - measured(frame) for frame in line.frames]


@CLOCKS
def test_what_comes_in_time_is_not_delayed(sender: Sender) -> None:
    line = Line()
    line.regular(sender, range(100))
    assert [frame.delayed_s for frame in line.frames] == [0.0] * 100
    assert lags(line) == [0.0] * 100
    assert line.intake.period_s == 1.0


@CLOCKS
@pytest.mark.parametrize("stall", [3, 10, 60, 900])
def test_a_stall_that_ends_in_one_burst_makes_nothing_younger(sender: Sender, stall: int) -> None:
    line = Line()
    line.regular(sender, range(20))
    burst = line.come(20.0 + stall, *(sender.at(second) for second in range(20, 20 + stall)))
    assert len(burst) == stall
    assert max(lags(line)) <= 1.0
    late = [item for item in burst if isinstance(item, Frame) and item.delayed_s]
    assert len(late) >= stall - 1
    for frame in late:
        assert (BEGUN - frame.received_at).total_seconds() == pytest.approx(-looks(frame), abs=1e-5)
        assert all(reading.monotonic_ns == frame.monotonic_ns for reading in frame)
    after = line.regular(sender, range(20 + stall + 1, 20 + stall + 11))
    assert [item.delayed_s for item in after if isinstance(item, Frame)] == [0.0] * 10


@CLOCKS
def test_all_stamps_differ_and_grow(sender: Sender) -> None:
    line = Line()
    line.regular(sender, range(10))
    line.come(15.0, *(sender.at(second) for second in range(10, 15)), sender.at(14))
    line.regular(sender, range(16, 20))
    stamps = [frame.monotonic_ns for frame in line.frames]
    assert stamps == sorted(set(stamps))


@CLOCKS
def test_a_burst_that_comes_in_parts(sender: Sender) -> None:
    line = Line()
    line.regular(sender, range(10))
    for part in range(5):
        line.come(70.0 + 0.2 * part, *(sender.at(second) for second in range(10 + 12 * part, 22 + 12 * part)))
    assert len(line.frames) == 70
    assert max(lags(line)) <= 1.5


@CLOCKS
def test_a_buffer_that_was_too_small_kept_the_oldest(sender: Sender) -> None:
    line = Line()
    line.regular(sender, range(10))
    line.come(70.0, *(sender.at(second) for second in range(10, 30)))
    assert max(lags(line)) <= 1.25


def test_one_broadcast_that_was_held_up_shows_by_its_clock() -> None:
    line, sender = Line(), Sender(ahead_s=-7200)
    line.regular(sender, range(10))
    (frame,) = line.come(50.0, sender.at(12))
    assert isinstance(frame, Frame)
    assert frame.delayed_s == pytest.approx(38.0, abs=0.1)


@CLOCKS
def test_an_outage_without_a_burst_delays_nothing(sender: Sender) -> None:
    line = Line()
    line.regular(sender, range(10))
    after = line.regular(sender, [40, 41, 42, 80, 81])
    assert [item.delayed_s for item in after if isinstance(item, Frame)] == [0.0] * 5


def test_a_clock_of_whole_seconds_is_no_delay_at_any_phase_and_rate() -> None:
    for period in (0.1, 0.7, 1.0, 1.3, 10.0, 601.0):
        line = Line()
        line.regular(Sender(), [0.95 + period * number for number in range(200)])
        assert {frame.delayed_s for frame in line.frames} == {0.0}, period


def test_a_clock_that_drifts_is_no_delay() -> None:
    line, sender = Line(), Sender()
    for second in range(0, 500_000, 60):
        sender.ahead_s = second * -0.0001
        line.regular(sender, [second])
    assert {frame.delayed_s for frame in line.frames} == {0.0}


@pytest.mark.parametrize("ahead", [3600, -3600, 86400 * 365, -30])
def test_a_clock_that_is_set_costs_one_broadcast_which_is_counted(ahead: int) -> None:
    line, sender = Line(), Sender(ahead_s=86400)
    line.regular(sender, range(20))
    sender.ahead_s += ahead
    line.regular(sender, range(20, 40))
    assert len(line.frames) == 39
    assert [str(error) for error in line.errors] == [
        "the analyser's clock jumped, and no second broadcast has confirmed it yet"
    ]
    assert {frame.delayed_s for frame in line.frames} == {0.0}
    assert line.intake.dropped == 1


def test_a_clock_that_was_set_back_during_an_outage_is_learned_again() -> None:
    line, sender = Line(), Sender()
    line.regular(sender, range(20))
    sender.ahead_s = -30
    line.regular(sender, range(80, 120))
    assert line.frames[20].delayed_s == pytest.approx(30, abs=1)  # it looks like one that was held up
    assert line.frames[-1].delayed_s == 0.0


def test_a_clock_that_runs_at_another_speed_is_not_believed_and_costs_one_broadcast() -> None:
    line, sender = Line(), Sender()
    for second in range(60):
        sender.ahead_s = second * 9.0
        line.regular(sender, [second])
    assert ["clock jumped" in str(error) for error in line.errors] == [True]
    assert len(line.frames) == 59
    assert {frame.delayed_s for frame in line.frames} == {0.0}


def test_a_clock_that_stands_still_while_values_change_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    with caplog.at_level(logging.WARNING, "servomex"):
        line.regular(Sender(clock=b"01-01-00;00:00:00"), range(60))
    assert {frame.delayed_s for frame in line.frames} == {0.0}
    assert len(line.frames) == 60
    assert sum("clock stands still" in record.getMessage() for record in caplog.records) == 1


def test_a_broadcast_that_is_repeated_grows_old_and_is_refused_then(caplog: pytest.LogCaptureFixture) -> None:
    line, sender = Line(), Sender()
    line.regular(sender, range(10))
    with caplog.at_level(logging.WARNING, "servomex"):
        for second in range(10, 70):
            line.come(second, sender.at(9))
    assert max(lags(line)) <= 1.25
    assert 3 <= len(line.frames) - 10 + 1 <= 6
    assert all("repeated byte for byte" in str(error) for error in line.errors)
    assert len(line.results) == 70
    assert len([record for record in caplog.records if "repeated" in record.getMessage()]) == 1
    assert line.intake.is_repeated
    (frame,) = line.come(70, sender.at(70))
    assert isinstance(frame, Frame)
    assert not line.intake.is_repeated


def test_steady_values_without_a_clock_are_no_repetition() -> None:
    line, sender = Line(), Sender(clock=UNSET)
    for second in range(60):
        line.come(second, sender.at(1))
    assert len(line.frames) == 60
    assert {frame.delayed_s for frame in line.frames} == {0.0}


def test_the_first_burst_after_opening_is_dated_by_its_newest() -> None:
    line, sender = Line(), Sender()
    line.come(30.0, *(sender.at(second) for second in range(30)))
    assert max(lags(line)) <= 1.0


def test_after_a_gap_it_is_waited_for_more_of_a_burst_but_not_for_ever() -> None:
    line, sender = Line(), Sender()
    line.regular(sender, range(10))
    intake = line.intake
    intake.add(line.frames[-1], 10.0)
    assert not intake.holds(10.0)
    line.come(10.0)
    intake.add(line.frames[-1], 40.0)
    assert intake.holds(40.0)
    assert intake.holds(40.5)
    assert not intake.holds(41.0)


def test_two_analysers_are_not_taken_for_lateness() -> None:
    line = Line()
    one, other = Sender(), Sender(ahead_s=-40)
    for second in range(0, 60, 2):
        line.come(second, one.at(second))
        line.come(second + 1, other.at(second + 1))
    assert len(line.frames) < 6
