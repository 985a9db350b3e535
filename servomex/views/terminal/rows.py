"""The lines of the screen: a row for a channel, a line for an analyser, a line for an event."""

from collections.abc import Sequence
from typing import Self

import attrs
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from servomex.enums import Quality
from servomex.errors.excerpts import plain
from servomex.views.board import RECENT, AnalyserView, ChannelView
from servomex.views.events import Event
from servomex.views.looks import COLOURS, STALE_COLOUR, STATES, Level
from servomex.views.terminal.texts import age_text, at_the_point, clock, course, label, pace_text

LOUD = f"bold reverse {COLOURS[Level.ALARM]}"
"""The style of what nobody may overlook."""
STYLES = {level: colour if level < Level.ALARM else f"bold {colour}" for level, colour in COLOURS.items()}
QUIET = "dim"
LONGEST_NAME = 16
SHORTEST_NAME = 6
SHORTEST_COURSE = 8
USUAL_WHOLE = 4
"""How many characters before the point values have where there is room, so that few changes move the column."""
WORD, LETTERS, AGE = 9, len(STATES), 7


@attrs.frozen(kw_only=True)
class Columns:
    """How wide the columns are; 0 for one that there is no room for.

    Attributes:
        channel: The ids of the channels.
        name: Their names.
        unit: Their units.
        word: The quality in a word.
        letters: The states, each letter in its place. With 0 only those that are raised are shown.
        values: The values, by channel: all of the same width. So are the next two.
        lowest: The lowest values.
        highest: The highest.
        age: The ages.
        course: The courses of the values.
        extremes: Whether lowest and highest are shown.
    """

    channel: int
    name: int
    unit: int
    word: int
    letters: int
    values: dict[int, str]
    lowest: dict[int, str]
    highest: dict[int, str]
    age: int
    course: int
    extremes: bool

    @property
    def value(self) -> int:
        """The width of the values."""
        return max(map(len, self.values.values()), default=0)

    @property
    def extreme(self) -> int:
        """The width of the lowest and of the highest."""
        return max(map(len, [*self.lowest.values(), *self.highest.values()]), default=0)

    @classmethod
    def fitting(cls, channels: Sequence[ChannelView], width: int) -> Self:
        """Return the columns for some channels on a screen that is this wide."""
        labels = [label(channel.reading) for channel in channels]
        keys = [id(channel) for channel in channels]
        number = max((cell_len(item[0]) for item in labels), default=2)
        name = min(LONGEST_NAME, max((cell_len(item[1]) for item in labels), default=0))
        unit = max((cell_len(item[2]) for item in labels), default=1)
        longest_word = max((len(channel.word) for channel in channels), default=WORD)
        values = at_the_point((channel.value_text for channel in channels), USUAL_WHOLE)
        rest = 6 + number + min(name, SHORTEST_NAME) + unit + LETTERS
        roomy = rest + len(next(iter(values), "")) + WORD <= width
        if not roomy:
            values = at_the_point(channel.value_text for channel in channels)
        word = WORD if roomy else longest_word
        letters = LETTERS if rest + len(next(iter(values), "")) + word <= width else 0
        lowest = at_the_point(_extreme(channel.lowest, channel) for channel in channels)
        highest = at_the_point(_extreme(channel.highest, channel) for channel in channels)
        fixed = 6 + number + len(next(iter(values), "")) + unit + word + letters
        room = width - fixed - name
        name = max(min(name, SHORTEST_NAME), name + min(0, room))
        room = width - fixed - name
        age = AGE if room > AGE else 0
        room -= age + 1 if age else 0
        both = 2 + 2 * max((len(text) for text in (*lowest, *highest)), default=0)
        extremes = room > both + RECENT // 2
        room -= both if extremes else 0
        return cls(
            channel=number,
            name=name,
            unit=unit,
            word=word,
            letters=letters,
            values=dict(zip(keys, values, strict=True)),
            lowest=dict(zip(keys, lowest, strict=True)),
            highest=dict(zip(keys, highest, strict=True)),
            age=age,
            course=min(RECENT, room - 1) if room > SHORTEST_COURSE else 0,
            extremes=extremes,
        )


def _extreme(value: float | None, channel: ChannelView) -> str:
    return "-" if value is None else f"{value:.{channel.decimals}f}"


def headings(columns: Columns) -> Text:
    """Return the line above the rows."""
    line = f" {'':{columns.channel}} {'':{columns.name}} {'value':>{columns.value}} {'':{columns.unit}} "
    line += f"{'quality'[: columns.word]:{columns.word}} "
    line += "".join(state.letter for state in STATES) if columns.letters else "state"
    if columns.age:
        line += f" {'age':>{columns.age}}"
    if columns.extremes:
        line += f" {'min':>{columns.extreme}} {'max':>{columns.extreme}}"
    if columns.course:
        line += f" {f'last {columns.course}':>{columns.course}}"
    return Text(line, QUIET)


def channel_row(channel: ChannelView, columns: Columns, bars: str) -> Text:
    """Return the row of a channel."""
    number, name, unit = label(channel.reading)
    base = STALE_COLOUR if channel.stale else STYLES[channel.level] if channel.level else ""
    bad = channel.reading.quality is Quality.BAD
    loud = channel.level is Level.ALARM
    line = Text()
    line.append(
        f"{'!' if loud else ' '}{set_cell_size(number, columns.channel)} {set_cell_size(name, columns.name)}",
        LOUD if loud and not channel.stale else base,
    )
    line.append(" ")
    value = columns.values[id(channel)]
    line.append(value, base if channel.stale else QUIET if bad else base or "bold")
    line.append(f" {set_cell_size(unit, columns.unit)} ", base)
    line.append(channel.word, _word_style(channel))
    line.append(" " * (columns.word + 1 - len(channel.word)))
    _append_letters(line, channel, blank="." if columns.letters else "")
    if columns.age:
        line.append(f" {age_text(channel.age_s):>{columns.age}}", base if channel.stale else QUIET)
    if columns.extremes:
        low, high = columns.lowest[id(channel)], columns.highest[id(channel)]
        line.append(f" {low:>{columns.extreme}} {high:>{columns.extreme}}", QUIET)
    if columns.course:
        line.append(f" {course(channel.recent, columns.course, bars)}", QUIET)
    return line


def _word_style(channel: ChannelView) -> str:
    if channel.stale:
        return f"reverse {STALE_COLOUR}"
    if channel.reading.quality is Quality.BAD:
        return LOUD
    return STYLES[Level.GOOD if channel.reading.quality is Quality.GOOD else channel.level]


def _append_letters(line: Text, channel: ChannelView, blank: str) -> None:
    raised = channel.reading.status.words
    for state in STATES:
        if state.word not in raised:
            line.append(blank, QUIET)
        elif state.level is Level.ALARM:
            line.append(state.letter, LOUD)
        else:
            line.append(state.letter, f"reverse {STALE_COLOUR if channel.stale else COLOURS[state.level]}")


def analyser_line(view: AnalyserView) -> Text:
    """Return the line of an analyser: what is wrong with it, and how it is read."""
    line = Text()
    line.append(plain(view.name), "bold" if view.level < Level.ALARM else STYLES[Level.ALARM])
    if complaint := complaint_of(view):
        line.append(" ")
        line.append(f" {complaint} ", LOUD)
    elif words := status_words(view):
        line.append(f" {', '.join(words)}", STYLES[Level.ALARM if view.status.fault else Level.WARNING])  # type: ignore[union-attr]
    figures, summary = view.figures, view.figures.summary
    parts = [plain(view.where)] if view.where != view.name else []
    parts.append(pace_text(figures.rate_hz, figures.period_s))
    parts += [f"{summary.errors} failed", f"{summary.samples_late} late"]
    if summary.damaged:
        parts.append(f"{summary.damaged} damaged")
    if figures.period_s is None and summary.tick_duration_ms_p50:
        parts.append(f"{summary.tick_duration_ms_p50:.0f} ms")
    parts.append(figures.mode)
    line.append(f"  {'  '.join(parts)}", QUIET)
    return line


def complaint_of(view: AnalyserView) -> str:
    """Return why an analyser gives no readings, in words; an empty text when it does."""
    if not view.stale:
        return ""
    never = "no reading yet, after" if view.status is None else "no readings for"
    return f"{never} {age_text(view.silent_s)}" + (f": {plain(view.error)}" if view.error else "")


def status_words(view: AnalyserView) -> list[str]:
    """Return what the analyser says of itself, in words."""
    status = view.status
    if status is None:
        return []
    flags = ((status.fault, "analyser fault"), (status.maintenance, "maintenance required"))
    return [*(word for raised, word in flags if raised), *status.cal_words]


def event_line(event: Event, *, several: bool) -> Text:
    """Return the line of an event; with the name of its analyser if there are several."""
    line = Text()
    line.append(f"{clock(event.at)} ", QUIET)
    style = COLOURS[event.level]  # never bold: what happened is less loud than what is
    if several:
        line.append(f"{plain(event.device)} ", style)
    line.append(plain(event.text), style)
    return line
