"""How states look: the same letters, words, levels and colours on a terminal, a page, a plot and in a window."""

from enum import IntEnum

import attrs

from servomex.enums import Quality
from servomex.models.analyser import AnalyserStatus
from servomex.models.reading import ChannelStatus, Reading

STALE = "stale"
"""The word in place of the quality of a value that is too old."""


class Level(IntEnum):
    """How loud something is shown. The highest level on a screen is the level of the whole screen."""

    GOOD = 0
    """Nothing is raised."""
    NOTICE = 1
    """The analyser is calibrating or warming up: it does what it should, but does not measure the sample."""
    WARNING = 2
    """Maintenance is required."""
    ALARM = 3
    """An alarm or a fault, or there is no value."""

    @property
    def word(self) -> str:
        """The level in a word, in small letters."""
        return self.name.lower()


@attrs.frozen
class State:
    """One of the eight states of a channel.

    Attributes:
        word: Its name, as in :attr:`ChannelStatus.words`.
        letter: The letter that stands for it where there is little room.
        level: How loud it is shown.
    """

    word: str
    letter: str
    level: Level


STATES = (
    State("fault", "F", Level.ALARM),
    State("maintenance", "M", Level.WARNING),
    State("calibrating", "C", Level.NOTICE),
    State("warming up", "W", Level.NOTICE),
    State("alarm 1", "1", Level.ALARM),
    State("alarm 2", "2", Level.ALARM),
    State("alarm 3", "3", Level.ALARM),
    State("alarm 4", "4", Level.ALARM),
)
"""The states of a channel, in the order of the analyser's discrete inputs."""

LEVELS = {state.word: state.level for state in STATES}

COLOURS = {
    Level.GOOD: "#56d364",
    Level.NOTICE: "#6cb6ff",
    Level.WARNING: "#ffb340",
    Level.ALARM: "#ff6b60",
}
"""Colours on a dark ground. They differ in brightness as well, and no state is shown by its colour alone."""
STALE_COLOUR = "#8b96a1"
"""The colour of what is too old, on a dark ground."""

BANDS = {
    "fault": "#c62828",
    "maintenance": "#b26a00",
    "calibrating": "#1565c0",
    "warming up": "#6a3fb5",
}
"""Colours of the bands behind a curve, on a light ground; they are drawn mostly transparent."""


def level_of(reading: Reading) -> Level:
    """Return how loud a reading is shown."""
    if reading.quality is Quality.BAD:
        return Level.ALARM
    return max((LEVELS[word] for word in reading.status.words), default=Level.GOOD)


def analyser_level(analyser: AnalyserStatus) -> Level:
    """Return how loud the state of the whole analyser is shown."""
    if analyser.fault:
        return Level.ALARM
    if analyser.maintenance:
        return Level.WARNING
    return Level.NOTICE if analyser.cal_words else Level.GOOD


def letters(status: ChannelStatus, blank: str = ".") -> str:
    """Return the eight states as letters in fixed places: ``F..W.2..``.

    Args:
        status: The state of a channel.
        blank: Stands for a state that is not raised.
    """
    raised = status.words
    return "".join(state.letter if state.word in raised else blank for state in STATES)
