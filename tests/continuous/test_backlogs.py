"""What a stall held up and then comes at a moderate pace, faster than it is sent, is as old as it is."""

import contextlib
import time

import pytest

from servomex import ServomexTimeoutError, open_continuous
from servomex.models.frame import Frame
from servomex.testing import ScriptedPort
from tests.helpers.broadcasts import UNSET, Line, Sender, looks, measured


def lag_s(line: Line) -> float:
    """How much younger than it is a frame looked at most."""
    return max(looks(frame) - measured(frame) for frame in line.frames)


def caught_up(line: Line, sender: Sender, first: int, stall: float, rate: float, period: float = 1.0) -> float:
    """Send a backlog at a rate, and what is sent meanwhile after it; return when the next one is sent."""
    at, number = first * period + stall, first
    while at - number * period > 1 / rate:
        line.come(at, sender.at(number * period))
        number += 1
        at += 1 / rate
    return number * period


@pytest.mark.parametrize("seen", [1, 2, 3])
@pytest.mark.parametrize("rate", [1.4, 2, 3, 5])
def test_a_backlog_soon_after_opening_shows_by_the_clock(seen: int, rate: float) -> None:
    line, sender = Line(), Sender()
    line.regular(sender, range(seen))
    number = caught_up(line, sender, seen, 60, rate)
    assert len(line.frames) == number
    assert lag_s(line) <= 1.3
    after = line.regular(sender, [number + second for second in range(20)])
    assert [item.delayed_s for item in after if isinstance(item, Frame)][5:] == [0.0] * 15


@pytest.mark.parametrize("seen", [1, 2, 3, 4])
@pytest.mark.parametrize("rate", [5, 10, 20])
def test_a_short_stall_of_a_fast_analyser_soon_after_opening(seen: int, rate: float) -> None:
    line, sender = Line(), Sender()
    line.regular(sender, [0.3 * number for number in range(seen)])
    caught_up(line, sender, seen, 6, rate, 0.3)
    assert lag_s(line) <= 1.3


@pytest.mark.parametrize("rate", [2, 3, 5])
def test_a_backlog_without_a_clock_shows_by_its_number(rate: float) -> None:
    line, sender = Line(), Sender(clock=UNSET)
    line.regular(sender, range(13))
    number = caught_up(line, sender, 13, 60, rate)
    alone, *others = line.frames[13:]
    assert alone.delayed_s == 0.0  # it looks like one that is new
    for place, frame in enumerate(others, 1):
        assert frame.delayed_s >= 73 + place / rate - measured(frame) - 0.5
        assert looks(frame) <= max(73.001, measured(frame) + 0.5)  # no stamp is before the one that came first
    after = line.regular(sender, [number + second for second in range(10)])
    assert [item.delayed_s for item in after if isinstance(item, Frame)][3:] == [0.0] * 7


def test_frames_that_were_lost_in_a_stall_are_not_waited_for() -> None:
    line, sender = Line(), Sender(clock=UNSET)
    line.regular(sender, range(13))
    for number in range(5):
        line.come(73 + number / 3, sender.at(13 + number))
    line.regular(sender, range(75, 85))
    assert [frame.delayed_s for frame in line.frames][-7:] == [0.0] * 7


def test_a_fast_backlog_does_not_pass_for_a_clock_that_was_set() -> None:
    line, sender = Line(), Sender()
    line.regular(sender, [0.1 * number for number in range(100)])
    caught_up(line, sender, 100, 60, 20, 0.1)
    assert lag_s(line) <= 1.3


@pytest.mark.parametrize("seen", [1, 2, 3])
@pytest.mark.parametrize("clock", [b"01-01-00;00:00:00", UNSET])
def test_a_clock_that_stands_still_makes_nothing_late_for_long(seen: int, clock: bytes) -> None:
    line, sender = Line(), Sender(clock=clock)
    line.regular(sender, range(seen))
    line.regular(sender, range(60, 80))
    assert [frame.delayed_s for frame in line.frames[seen + 2 :]] == [0.0] * 18


def test_a_clock_that_was_set_back_soon_after_opening_is_learned_again() -> None:
    line, sender = Line(), Sender(ahead_s=100)
    line.regular(sender, range(2))
    sender.ahead_s = 70
    line.regular(sender, range(60, 90))
    assert line.frames[2].delayed_s == pytest.approx(30, abs=1)
    assert line.frames[-1].delayed_s == 0.0


def test_a_shorter_period_set_in_an_outage_is_learned_when_the_gap_is_made_up() -> None:
    line, sender = Line(), Sender(clock=UNSET)
    line.regular(sender, range(13))
    line.regular(sender, [20 + 0.5 * number for number in range(40)])
    assert [frame.delayed_s for frame in line.frames[-20:]] == [0.0] * 20
    assert line.intake.period_s == 0.5


@pytest.mark.virtual_time
def test_no_poll_gives_what_is_known_to_be_late() -> None:
    """Its stamp is older than that of the broadcast before it, so that it alone does not show how late it is."""
    port, sender, late = ScriptedPort(), Sender(clock=UNSET), list[float]()
    with open_continuous(port, identify=False) as analyzer:
        port.schedule([sender.at(number) for number in range(12)], interval=1.0)
        time.sleep(17.0)
        port.schedule([sender.at(number) for number in range(12, 22)], interval=0.45)
        until = time.monotonic() + 6
        while time.monotonic() < until:
            with contextlib.suppress(ServomexTimeoutError):
                late.append(analyzer.poll(timeout=0.3, max_age=2.5).delayed_s)
            time.sleep(0.1)
    assert late
    assert max(late) <= 2.5
