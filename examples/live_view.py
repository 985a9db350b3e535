"""What qt_monitor.py and tk_monitor.py show of an analyser: what is current, what is wrong, and how loud that is.

It has nothing to do with any toolkit. Words, levels and colours are those of all views of the package.
"""

import math
from typing import NamedTuple

from live_feed import Item, LiveFeed

import servomex
from servomex.views.looks import COLOURS, LEVELS, STALE_COLOUR, Level, level_of

BACK, CARD, LINE, TEXT, DIM = "#0f141a", "#182028", "#3a4652", "#f0f4f8", "#9aa7b4"
"""The dark ground for the colours of levels, and texts on it."""
NAMED = 3
"""How many channels the headline names; the rest are a number."""
DIGITS = 5


class Headline(NamedTuple):
    """What is said at the top of a window, and in its title: the loudest of all that there is to say."""

    word: str
    text: str
    colour: str


class Latest:
    """What a window shows: the newest frame, or why there is none. For the thread of the window.

    Attributes:
        frame: The newest frame; ``None`` before the first.
        trouble: Why there is nothing newer; ``None`` when the last item was a frame.
        closing: Whether the window is being closed.
    """

    def __init__(self, feed: LiveFeed) -> None:
        self.feed = feed
        self.frame: servomex.Frame | None = None
        self.trouble: str | None = None
        self.closing = False
        self._names: dict[str, str] = {}

    def take(self, item: Item) -> None:
        """Take what the feed delivered."""
        if isinstance(item, servomex.Frame):
            self.frame, self.trouble = item, None
            self._names |= {reading.channel: reading.name or "" for reading in item}
        else:
            self.trouble = item if isinstance(item, str) else item.text

    @property
    def stale(self) -> bool:
        """Whether what is shown is not current."""
        if self.frame is None or self.trouble is not None:
            return True
        return self.frame.age_s > self.feed.stale_after_s

    def is_stale(self, channel: str) -> bool:
        """Whether what is shown of a channel is not current."""
        return self.stale or self.frame is None or channel not in self.frame

    @property
    def headline(self) -> Headline:
        """The headline. It is green only when nothing is wrong and all that is shown is current."""
        if self.closing:
            return Headline("CLOSING", "the port is being closed", STALE_COLOUR)
        if self.frame is None:
            return Headline("OPENING", self.trouble or "", COLOURS[Level.NOTICE])
        if self.stale:
            since = f"last frame {self.frame.age_s:.0f} s ago"
            text = f"{since}: {self.trouble or 'nothing has arrived since'}"
            return Headline("NO READINGS", text, COLOURS[Level.ALARM])
        arrived = self.frame.received_at.astimezone()
        text = f"{self.feed.port}, {self.frame.protocol}, last frame {arrived:%H:%M:%S}"
        raised = self.raised(self.frame)
        loudest = max((level for level, _ in raised), default=Level.GOOD)
        words = [word for level, word in raised if level is loudest]
        return Headline(_listed(words, NAMED) or "READING", text, COLOURS[loudest])

    def raised(self, frame: servomex.Frame) -> list[tuple[Level, str]]:
        """Return what is not as it should be, with its level, such as ``I2 CO: alarm 1``."""
        found = [(Level.ALARM, "analyser fault")] * frame.analyser.fault
        found += [(Level.WARNING, "analyser maintenance")] * frame.analyser.maintenance
        found += [(Level.NOTICE, word) for word in frame.analyser.cal_words]
        for channel, name in self._names.items():
            label = f"{channel} {name}".strip()
            if channel not in frame:
                found.append((Level.ALARM, f"{label}: missing"))
            elif (level := level_of(frame[channel])) is not Level.GOOD:
                found.append((level, f"{label}: {loud_words(frame[channel])}"))
        return found


def loud_words(reading: servomex.Reading) -> str:
    """Return the words for what is loudest of a channel, such as ``alarm 1``; ``ok`` when nothing is."""
    level = level_of(reading)
    words = [word for word in reading.status.words if LEVELS[word] is level]
    return _listed(words, 2) or ("ok" if level is Level.GOOD else "no value")


def _listed(words: list[str], most: int) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


class Digits:
    """A steady number of decimals: as many as the values have, with at most :data:`DIGITS` digits in all."""

    def __init__(self) -> None:
        self._unit, self._decimals, self._largest = "", 0, 0.0

    def text(self, reading: servomex.Reading) -> str:
        """Return a value with its unit; ``-`` for one that is bad or missing."""
        if reading.value is None or reading.quality is servomex.Quality.BAD:
            return "-"
        if reading.unit_text != self._unit:
            self._unit, self._decimals, self._largest = reading.unit_text, 0, 0.0
        given = f"{reading.value:.{DIGITS}f}".rstrip("0").partition(".")[2]
        self._decimals = max(self._decimals, len(given))
        self._largest = max(self._largest, abs(reading.value))
        whole = 1 + math.floor(math.log10(self._largest)) if self._largest >= 1 else 1
        number = f"{reading.value:.{max(0, min(self._decimals, DIGITS - whole))}f}"
        if reading.value and not float(number):
            number = f"{reading.value:.3g}"  # too small for these digits, and yet not zero
        return f"{number} {reading.unit_text}"


def value_colour(reading: servomex.Reading, *, stale: bool) -> str:
    """Return the colour of a value: bright only for a good one that is current."""
    if stale:
        return STALE_COLOUR
    if reading.quality is servomex.Quality.BAD:
        return DIM
    return TEXT if reading.quality is servomex.Quality.GOOD else quality_colour(reading, stale=stale)


def quality_colour(reading: servomex.Reading, *, stale: bool) -> str:
    """Return the colour of a quality. An alarm is none of its business: the value is good."""
    if stale:
        return STALE_COLOUR
    if reading.quality is servomex.Quality.GOOD:
        return COLOURS[Level.GOOD]
    return COLOURS[
        Level.ALARM if reading.quality is servomex.Quality.BAD else min(level_of(reading), Level.WARNING)
    ]
