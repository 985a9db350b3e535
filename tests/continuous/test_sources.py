"""One analyser a line: two that broadcast in turn, or one that changes with every frame, are an error."""

import pytest

from servomex import ServomexProtocolError
from servomex.models.frame import Frame
from tests.helpers.broadcasts import UNSET, Line, Sender, measured

TWO = "two analysers broadcast on this line in turn"
FOREIGN = 5000.0
"""What the values of another analyser are above those of the first."""


def alternate(line: Line, senders: list[Sender], frames: int, begin: int = 0) -> None:
    for second in range(begin, begin + frames):
        line.come(second, senders[second % len(senders)].at(second))


@pytest.mark.parametrize(
    "other",
    [
        Sender(name=b"CO    "),
        Sender(name=b"CO    ", clock=UNSET),
        Sender(ahead_s=3600),
        Sender(ahead_s=-3600),
        Sender(ahead_s=5),
        Sender(clock=UNSET),
    ],
    ids=["names", "names, no clock", "clock ahead", "clock behind", "clock a little ahead", "one clock"],
)
@pytest.mark.parametrize("joined", [0, 20])
def test_two_analysers_in_turn_are_an_error_and_are_not_mixed(other: Sender, joined: int) -> None:
    line, one = Line(), Sender()
    line.regular(one, range(joined))
    alternate(line, [one, other], 40, joined)
    assert isinstance(line.results[-1], ServomexProtocolError)
    assert TWO in str(line.results[-1])
    assert line.intake.is_mixed
    assert len(line.results) == joined + 40
    believed = [measured(frame) % 2 for frame in line.frames[joined:]]
    assert len(believed) <= 6
    assert len(set(believed[1:])) <= 1


def test_two_of_each_in_turn() -> None:
    line, one, other = Line(), Sender(), Sender(name=b"CO    ")
    alternate(line, [one, one, other, other], 40)
    assert line.intake.is_mixed


def test_one_that_sends_seldom_beside_one_that_sends_often() -> None:
    line, one, other = Line(), Sender(), Sender(name=b"CO    ")
    alternate(line, [other, *[one] * 9], 60)
    assert line.intake.is_mixed


def test_the_error_ends_when_one_of_them_is_gone() -> None:
    line, one, other = Line(), Sender(), Sender(ahead_s=3600)
    alternate(line, [one, other], 20)
    after = line.regular(one, range(20, 50))
    assert not line.intake.is_mixed
    assert isinstance(after[-1], Frame)
    assert {frame.delayed_s for frame in after if isinstance(frame, Frame)} == {0.0}


def test_a_change_at_the_panel_costs_one_broadcast() -> None:
    line, sender = Line(), Sender()
    line.regular(sender, range(10))
    for number, name in enumerate((b"CO    ", b"CO2   ", b"SO2   ", b"NO    "), 1):
        sender.name = name
        line.regular(sender, range(10 * number, 10 * number + 10))
    assert len(line.errors) == line.intake.dropped == 4
    assert {str(error) for error in line.errors} == {
        "names, units or channels changed, and no second broadcast has confirmed it yet"
    }
    assert not line.intake.is_mixed


@pytest.mark.parametrize("ahead", [3600, 7, -7, -3600])
@pytest.mark.parametrize("joined", [1, 2, 5, 20])
@pytest.mark.parametrize("period", [0.1, 0.2, 1.0, 10.0])
def test_none_of_another_clock_is_believed_however_soon_it_joins(ahead: float, joined: int, period: float) -> None:
    line, one, other = Line(), Sender(), Sender(ahead_s=ahead, adds=FOREIGN)
    for number in range(joined + 40):
        at = number * period
        line.come(at, one.at(at))
        if number >= joined:
            line.come(at + period / 2, other.at(at + period / 2))
    assert foreign(line) == 0
    assert line.intake.is_mixed


@pytest.mark.parametrize("ahead", [3600, 7, -7, -3600])
@pytest.mark.parametrize("joined", [1, 20])
def test_none_of_another_clock_is_believed_when_both_come_at_once(ahead: float, joined: int) -> None:
    line, one, other = Line(), Sender(), Sender(ahead_s=ahead, adds=FOREIGN)
    for number in range(joined + 40):
        at = number * 0.2
        line.come(at, one.at(at), *([other.at(at)] if number >= joined else ()))
    assert foreign(line) == 0
    assert line.intake.is_mixed


@pytest.mark.parametrize("period", [0.1, 1.0])
def test_two_of_each_clock_in_turn(period: float) -> None:
    line, senders = Line(), (Sender(), Sender(ahead_s=3600, adds=FOREIGN))
    for number in range(60):
        at = number * period
        line.come(at, senders[number // 2 % 2].at(at))
    assert line.intake.is_mixed
    assert foreign(line) <= 3


@pytest.mark.parametrize(
    "other", [Sender(name=b"CO    ", adds=FOREIGN), Sender(ahead_s=3600, adds=FOREIGN)], ids=["names", "clock"]
)
def test_when_two_analysers_are_known_five_of_each_in_turn_do_not_hide_them(other: Sender) -> None:
    line, one = Line(), Sender()
    line.regular(one, range(20))
    alternate(line, [one, other], 20, 20)
    believed = len(line.frames)
    alternate(line, [*[one] * 5, *[other] * 5], 40, 40)
    assert len(line.frames) == believed
    assert line.intake.is_mixed


def test_a_clock_that_is_set_soon_after_the_beginning_costs_one_broadcast() -> None:
    line, sender = Line(), Sender()
    line.regular(sender, [0.0, 0.2])
    sender.ahead_s = 3600
    line.regular(sender, [0.2 * number for number in range(2, 40)])
    assert len(line.errors) == 1
    assert "clock jumped" in str(line.errors[0])
    assert {frame.delayed_s for frame in line.frames} == {0.0}
    assert not line.intake.is_mixed


def foreign(line: Line) -> int:
    """How many broadcasts of another analyser were believed."""
    return sum(measured(frame) >= FOREIGN for frame in line.frames)
