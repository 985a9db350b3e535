"""The whole screen as lines, for any width and height."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import attrs
from rich.cells import cell_len
from rich.text import Text

from servomex.durations import counted
from servomex.views.board import AnalyserView, level_of_all
from servomex.views.events import Event
from servomex.views.looks import COLOURS, Level
from servomex.views.plot.zone import local
from servomex.views.terminal.choice import Chosen, choose
from servomex.views.terminal.rows import (
    LOUD,
    QUIET,
    STYLES,
    Columns,
    analyser_line,
    channel_row,
    complaint_of,
    event_line,
    headings,
    status_words,
)
from servomex.views.terminal.texts import BARS, label

EVENTS = 8
"""How many events are shown."""
FEWEST_EVENTS = 2
WORDS = {
    Level.GOOD: "all good",
    Level.NOTICE: "calibrating or warming up",
    Level.WARNING: "MAINTENANCE",
    Level.ALARM: "ALARM",
}
"""The level of the screen in words."""


@attrs.frozen(kw_only=True)
class Shown:
    """What a screen shows.

    Attributes:
        views: The analysers.
        events: The latest events, the oldest first.
        now: The time of day.
        title: The left end of the header.
        notes: Lines below the header, such as the progress of a recording.
        bars: The heights of the courses.
        trouble: How loud something else is that is wrong, such as a file that cannot be written.
    """

    views: Sequence[AnalyserView]
    events: Sequence[Event]
    now: datetime
    title: str = "servomex"
    notes: Sequence[Text] = ()
    bars: str = BARS
    trouble: Level = Level.GOOD


def picture(shown: Shown, width: int, height: int | None = None) -> list[Text]:
    """Return the lines of a screen, none longer than its width.

    Args:
        shown: What it shows.
        width: Its width.
        height: The most lines; as many as are needed when ``None``.
    """
    top = [_header(shown, width)]
    if wrong := _wrong(shown.views):
        top.append(_joined(wrong, width))
    top += shown.notes
    chosen, events = _arranged(shown, None if height is None else height - len(top) - 1)
    lines = [*top, *_body(chosen, shown.bars, width)]
    if events:
        lines.append(Text("events", QUIET))
        several = len(shown.views) > 1
        lines += [event_line(event, several=several) for event in reversed(shown.events[-events:])]
    lines = lines if height is None else lines[:height]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines


def _arranged(shown: Shown, room: int | None) -> tuple[Chosen, int]:
    """Return the rows for a number of lines, and how many events are below them: none where they cost an alarm."""
    events = len(shown.events[-EVENTS:])
    if room is None:
        return choose(shown.views, None), events
    rows = sum(1 + len(view.channels) for view in shown.views)
    events = min(events, max(min(FEWEST_EVENTS, room // 4), room - rows - 1))
    chosen = choose(shown.views, max(1, room - events - (events > 0)))
    if events and Level.ALARM in chosen.hidden:
        return choose(shown.views, max(1, room)), 0
    return chosen, events


def _header(shown: Shown, width: int) -> Text:
    level = max(shown.trouble, level_of_all(shown.views))
    waiting = shown.trouble < Level.ALARM and all(view.status is None and not view.error for view in shown.views)
    word = "waiting for readings" if waiting else WORDS[level]
    left = f" {shown.title}  {word}"
    right = f"{local(shown.now):%H:%M:%S} "
    zone = f"{local(shown.now):%Z} "
    if cell_len(left + right + zone) + 2 <= width:
        right += zone
    gap = max(1, width - cell_len(left) - cell_len(right))
    return Text(f"{left}{' ' * gap}{right}", f"bold reverse {COLOURS[level]}")


def _wrong(views: Sequence[AnalyserView]) -> list[tuple[Level, str]]:
    """Return what is wrong, in words, the loudest first."""
    found: list[tuple[Level, str]] = []
    for view in views:
        of = f"{view.name}: " if len(views) > 1 else ""
        if complaint_of(view):
            found.append((Level.ALARM, f"{of}no readings"))
        elif view.status is not None and (words := status_words(view)):
            level = (
                Level.ALARM if view.status.fault else Level.WARNING if view.status.maintenance else Level.NOTICE
            )
            found.append((level, f"{of}{', '.join(words)}"))
        for channel in view.channels:
            if words := [*channel.reading.status.words]:
                number, name, _ = label(channel.reading)
                was = "was " if channel.stale else ""
                found.append(
                    (channel.level, f"{of}{' '.join(filter(None, (number, name)))} {was}{', '.join(words)}")
                )
    return sorted(found, key=lambda item: -item[0])


def _joined(wrong: list[tuple[Level, str]], width: int) -> Text:
    """Return what is wrong on one line: what there is no room for is counted."""
    line = Text()
    for number, (level, text) in enumerate(wrong):
        more = len(wrong) - number - 1
        needed = cell_len(text) + 2 + (len(f" +{more} more") if more else 0)
        if number and line.cell_len + needed > width:
            line.append(f" +{more + 1} more", STYLES[level])
            break
        line.append("  " if number else " ")
        line.append(text, STYLES[level])
    return line


def _body(chosen: Chosen, bars: str, width: int) -> list[Text]:
    columns = Columns.fitting([channel for _, channels in chosen.groups for channel in channels], width)
    lines = [headings(columns)]
    for view, channels in chosen.groups:
        lines.append(analyser_line(view))
        lines += [channel_row(channel, columns, bars) for channel in channels]
    if chosen.hidden:
        lines.append(_hidden(chosen.hidden))
    return lines


def _hidden(levels: Sequence[Level]) -> Text:
    by_level = Counter(levels)
    kinds = ", ".join(f"{number} {level.word}" for level, number in sorted(by_level.items(), reverse=True))
    text = f"... {counted(len(levels), 'more row')} not shown: {kinds}"
    return Text(text, LOUD if Level.ALARM in by_level else QUIET)
