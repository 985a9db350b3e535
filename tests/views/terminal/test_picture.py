"""The picture: what is loudest is first and is never cut off, whatever the size."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexTimeoutError
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.runtime.clock import time
from servomex.views import Board, Level
from servomex.views.looks import COLOURS
from servomex.views.terminal.picture import Shown, picture
from servomex.views.terminal.texts import ASCII_BARS, age_text, at_the_point, course
from tests.helpers.any_samples import statuses, texts
from tests.helpers.serving import figures, reading, sample

CHANNELS = [str(item) for item in ChannelId]
ALARM = ChannelStatus(alarms=(False, False, True, False))


def board_of(channels: dict[str, ChannelStatus], devices: Sequence[str] = ("a",), name: str = "Oxygen") -> Board:
    board = Board()
    for device in devices:
        board.add(device, f"/dev/{device}", figures)
        board.take([sample(device, reading(channel=item, name=name, status=status))
                    for item, status in channels.items()])  # fmt: skip
    return board


def drawn(board: Board, width: int = 80, height: int | None = 24, trouble: Level = Level.GOOD) -> list[Text]:
    shown = Shown(views=board.view(), events=board.events(8), now=datetime.now(UTC), trouble=trouble)
    return picture(shown, width, height)


def plain(board: Board, width: int = 80, height: int | None = 24) -> list[str]:
    return [line.plain for line in drawn(board, width, height)]


def fail(board: Board, device: str = "a") -> None:
    error = ServomexTimeoutError("no reply")
    board.take([Sample(device, ProtocolKind.MODBUS_RTU, datetime.now(UTC), time.monotonic_ns(), error=error)])


@pytest.mark.parametrize(("status", "level", "word"), [
    (ChannelStatus(), Level.GOOD, "all good"),
    (ChannelStatus(calibrating=True), Level.NOTICE, "calibrating or warming up"),
    (ChannelStatus(maintenance=True), Level.WARNING, "MAINTENANCE"),
    (ALARM, Level.ALARM, "ALARM"),
    (ChannelStatus(fault=True), Level.ALARM, "ALARM"),
])  # fmt: skip
def test_the_header_is_green_only_when_nothing_is_wrong(status: ChannelStatus, level: Level, word: str) -> None:
    [header, *_] = drawn(board_of({"I1": ChannelStatus(), "I2": status}))
    assert header.plain.startswith(f" servomex  {word} ")
    assert header.style == f"bold reverse {COLOURS[level]}"


def test_a_stale_analyser_and_other_trouble_are_never_green() -> None:
    board = board_of({"I1": ChannelStatus()})
    assert drawn(board, trouble=Level.ALARM)[0].style == f"bold reverse {COLOURS[Level.ALARM]}"
    fail(board)
    header, wrong, *_ = drawn(board)
    assert header.style == f"bold reverse {COLOURS[Level.ALARM]}"
    assert wrong.plain == " no readings"


def test_before_the_first_reading_it_waits() -> None:
    [header, *_] = plain(Board().add("a", "/dev/a", figures))
    assert header.startswith(" servomex  waiting for readings")


@pytest.mark.parametrize("height", [11, 12, 24])
def test_alarms_are_first_when_there_is_no_room(height: int) -> None:
    channels = dict.fromkeys(CHANNELS, ChannelStatus()) | {CHANNELS[-1]: ALARM}
    board = board_of(channels, ("a", "b", "c"))
    lines = plain(board, 80, height)
    assert len(lines) <= height
    assert len([line for line in lines if line.startswith(f"!{CHANNELS[-1]} Oxygen")]) == 3
    assert any("not shown: " in line for line in lines)


def test_alarms_that_are_not_shown_are_counted_loudly() -> None:
    lines = drawn(board_of(dict.fromkeys(CHANNELS, ALARM)), 80, 10)
    [hidden] = [line for line in lines if "not shown" in line.plain]
    shown = [line for line in lines if line.plain.startswith("!")]
    assert (
        hidden.plain == f"... {len(CHANNELS) - len(shown)} more rows not shown: {len(CHANNELS) - len(shown)} alarm"
    )
    assert "reverse" in str(hidden.style)


def test_all_rows_are_shown_where_the_height_is_free() -> None:
    lines = plain(board_of(dict.fromkeys(CHANNELS, ALARM), ("a", "b")), 80, None)
    assert len([line for line in lines if line.startswith("!")]) == 2 * len(CHANNELS)


def test_the_latest_eight_events_are_shown_the_newest_first() -> None:
    board = board_of({"I1": ChannelStatus()})
    for number in range(10):
        board.take([sample("a", reading(status=ALARM if number % 2 == 0 else ChannelStatus()))])
    lines = plain(board)
    events = lines[lines.index("events") + 1 :]
    assert len(events) == 8
    assert "alarm 3 off after 0 s" in events[0]
    assert "alarm 3 on" in events[1]


def test_text_of_the_wire_is_neither_markup_nor_control() -> None:
    lines = plain(board_of({"I1": ALARM}, name="[red]\x1b[2J"))
    assert any("[red]\\x1b[2J" in line for line in lines)
    assert all(line.isprintable() for line in lines)


@given(
    st.dictionaries(st.sampled_from(CHANNELS), statuses, max_size=8), texts,
    st.integers(20, 200), st.integers(6, 60),
)  # fmt: skip
def test_it_fits_any_size(channels: dict[str, ChannelStatus], name: str, width: int, height: int) -> None:
    lines = drawn(board_of(channels, ("a", "b"), name), width, height)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    assert all(line.plain.isprintable() for line in lines)


def test_a_course_has_gaps_and_stands_at_the_right() -> None:
    assert course([0.0, None, 7.0, 3.5], 6) == "  ▁ █▅"
    assert course([5.0, 5.0], 2) == "▄▄"
    assert course([None, None], 3) == "   "
    assert course([1.0, 2.0, 3.0], 2, ASCII_BARS) == "_#"
    assert course([1.0], 0) == ""


@pytest.mark.parametrize(("seconds", "shown"), [
    (-1, "0.0 s"), (0.26, "0.3 s"), (9.94, "9.9 s"), (9.96, "10 s"), (99, "99 s"), (100, "2 min"),
    (3600, "60 min"), (7200, "2 h"), (86_400, "24 h"), (400_000, "5 d"),
])  # fmt: skip
def test_ages_are_short(seconds: float, shown: str) -> None:
    assert age_text(seconds) == shown


def test_points_are_below_each_other() -> None:
    assert at_the_point(["20.376", "-", "1415", "0.5"], 4) == ["  20.376", "   -    ", "1415    ", "   0.5  "]
    assert at_the_point([]) == []
