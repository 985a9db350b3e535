"""One analyser a line: two that broadcast in turn, or one that changes with every frame, are an error."""

import pytest

from servomex import ServomexProtocolError
from servomex.models import Frame
from tests.broadcasts import UNSET, Line, Sender, measured

TWO = "two analysers broadcast on this line in turn"


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
