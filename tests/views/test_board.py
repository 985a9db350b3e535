"""The board: the newest readings with their age, their course and their extremes, and nothing stale as fresh."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from servomex.enums import ProtocolKind
from servomex.errors import ServomexParseError, ServomexTimeoutError
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.runtime.clock import time
from servomex.views import AnalyserView, Board, ChannelView, Figures, Level
from servomex.views.board import EVENTS_KEPT, RECENT, level_of_all
from tests.helpers.serving import figures, reading, sample

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def board() -> Board:
    return Board().add("a", "/dev/ttyUSB0", figures)


def take(board: Board, value: float | None = 20.9, **options: Any) -> None:
    board.take([sample("a", reading(value, **options))])


def fail(board: Board, error: Exception | None = None) -> None:
    wrong = error or ServomexTimeoutError("no reply")
    at = datetime.now(UTC)
    board.take([Sample("a", ProtocolKind.MODBUS_RTU, at, time.monotonic_ns(), error=wrong)])


def analyser(board: Board) -> AnalyserView:
    [view] = board.view()
    return view


def channel(board: Board) -> ChannelView:
    [view] = analyser(board).channels
    return view


def test_an_analyser_without_a_reading_is_shown_as_one_that_gives_none(board: Board) -> None:
    time.sleep(1)
    view = analyser(board)
    assert (view.name, view.where, view.channels, view.status) == ("a", "/dev/ttyUSB0", (), None)
    assert view.stale
    assert view.level is Level.ALARM
    assert view.silent_s >= 1


def test_ages_grow_by_themselves_and_make_a_value_stale(board: Board) -> None:
    take(board)
    assert (channel(board).word, channel(board).stale, analyser(board).level) == ("good", False, Level.GOOD)
    time.sleep(4)
    assert not channel(board).stale
    time.sleep(2)
    view = channel(board)
    assert view.age_s >= 6
    assert (view.word, view.stale) == ("stale", True)
    assert (analyser(board).stale, analyser(board).level) == (True, Level.ALARM)


def test_a_failed_reading_makes_all_stale_at_once_and_a_good_one_ends_that(board: Board) -> None:
    take(board)
    fail(board)
    assert (channel(board).word, analyser(board).error) == ("stale", "no reply")
    assert analyser(board).level is Level.ALARM
    take(board)
    assert (channel(board).word, analyser(board).error) == ("good", None)


def test_damage_makes_nothing_stale_before_its_time(board: Board) -> None:
    take(board)
    fail(board, ServomexParseError("damaged"))
    assert (channel(board).word, analyser(board).error) == ("good", None)
    time.sleep(6)
    fail(board, ServomexParseError("damaged"))
    assert channel(board).stale


def test_a_bad_value_is_never_shown(board: Board) -> None:
    take(board, 20.9)
    take(board, 99.9, status=ChannelStatus(fault=True))
    view = channel(board)
    assert (view.value_text, view.word, view.level) == ("-", "bad", Level.ALARM)
    assert (view.recent, view.highest) == ((20.9, None), 20.9)
    take(board, None)
    assert channel(board).value_text == "-"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_not_shown(board: Board, value: float) -> None:
    take(board, value)
    assert (channel(board).value_text, channel(board).recent, channel(board).decimals) == ("-", (None,), 0)


def test_an_uncertain_value_is_shown_and_is_no_extreme(board: Board) -> None:
    take(board, 20.9)
    take(board, 3.0, status=ChannelStatus(calibrating=True))
    view = channel(board)
    assert (view.value_text, view.word, view.level) == ("3.0", "uncertain", Level.NOTICE)
    assert (view.lowest, view.highest, view.recent) == (20.9, 20.9, (20.9, 3.0))


@pytest.mark.parametrize("change", [{"unit": "vpm"}, {"name": "CO"}])
def test_another_name_or_unit_begins_anew(board: Board, change: dict[str, str]) -> None:
    take(board, 20.937)
    take(board, 400.0, **change)
    view = channel(board)
    assert (view.lowest, view.highest, view.recent, view.value_text) == (400.0, 400.0, (400.0,), "400.0")


def test_the_number_of_decimals_is_steady(board: Board) -> None:
    take(board, 20.376)
    take(board, 20.5)
    assert channel(board).value_text == "20.500"
    take(board, 20.0)
    assert channel(board).value_text == "20.000"
    take(board, 1234.5678)
    take(board, 20.376)
    assert channel(board).value_text == "20.4", "five digits of the largest"


def test_the_course_has_gaps_and_a_bound(board: Board) -> None:
    for number in range(RECENT):
        take(board, float(number))
    fail(board)
    recent = channel(board).recent
    assert (len(recent), recent[-2:], recent[0]) == (RECENT, (RECENT - 1.0, None), 1.0)


def test_an_alarm_is_as_loud_as_a_fault_and_the_whole_as_loud_as_its_loudest_part(board: Board) -> None:
    board.add("b", "/dev/ttyUSB1", figures)
    board.take([sample("a", reading()), sample("b", reading(status=ChannelStatus(alarms=(True,) + 3 * (False,))))])
    assert [view.level for view in board.view()] == [Level.GOOD, Level.ALARM]
    assert level_of_all(board.view()) is Level.ALARM
    assert level_of_all(()) is Level.GOOD


def test_events_are_numbered_bounded_and_taken_from_where_one_was(board: Board) -> None:
    on, off = ChannelStatus(maintenance=True), ChannelStatus()
    for number in range(EVENTS_KEPT + 10):
        take(board, status=on if number % 2 == 0 else off)
    events = board.events()
    assert (len(events), events[-1].number) == (EVENTS_KEPT, EVENTS_KEPT + 10)
    assert [event.number for event in board.events(after=EVENTS_KEPT + 8)] == [EVENTS_KEPT + 9, EVENTS_KEPT + 10]
    assert len(board.events(8)) == 8


def test_samples_of_others_are_ignored_and_one_that_is_removed_begins_anew(board: Board) -> None:
    assert board.take([sample("other", reading(status=ChannelStatus(fault=True)))]) == []
    fail(board)
    board.remove("a")
    assert (board.view(), board.view_of("a")) == ((), None)
    board.add("a", "/dev/ttyUSB0", figures)
    assert board.take([sample("a", reading())]) == [], "the outage was that of the one before"


def test_nothing_that_arrives_waits_for_the_figures_of_an_analyser() -> None:
    asked, ready = threading.Event(), threading.Event()

    def slow() -> Figures:
        asked.set()
        assert ready.wait(30)
        return figures()

    board = Board().add("a", "/dev/ttyUSB0", slow)
    looking = threading.Thread(target=board.view)
    looking.start()
    assert asked.wait(30)
    take(board)
    ready.set()
    looking.join()
    assert channel(board).word == "good"


@pytest.mark.real_time
def test_threads_may_take_and_look_at_the_same_time() -> None:
    names = [f"line {number}" for number in range(4)]
    board = Board()
    for name in names:
        board.add(name, "nowhere", figures)
    states = (ChannelStatus(fault=True), ChannelStatus())
    wrong: list[BaseException] = []

    def feed(name: str) -> None:
        try:
            for number in range(200):
                board.take([sample(name, reading(float(number), status=states[number % 2]))])
                board.view()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=feed, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    numbers = [event.number for event in board.events()]
    assert numbers == list(range(1, 801)), "each state began 100 times and ended 100 times on each of 4"
    assert [view.channels[0].highest for view in board.view()] == [199.0] * 4
