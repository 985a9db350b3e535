"""SourceGuard: whether a broadcast is from the same analyser as those before. No I/O, no clock of its own."""

from collections import deque

import attrs

from servomex.continuous.lateness import RESOLUTION_S, Arrived, Lateness

CONFIGURATION = "names, units or channels changed, and no second broadcast has confirmed it yet"
CLOCK = "the analyser's clock jumped, and no second broadcast has confirmed it yet"
TWO_SOURCES = (
    "two analysers broadcast on this line in turn, or one changes its names, units or clock with every broadcast"
)
TWO_SOURCES_CURE = "Connect one analyser to a port in continuous mode"
STRANGE = 3
"""The same stranger seen this many times shows that two analysers broadcast in turn."""
FRAMES = 100
"""Within this many broadcasts."""
QUIET_FRAMES = 10
"""This many without a stranger, or as many as were between two strangers, show that one is alone again."""
CLOCK_ALIKE_S = 2.0

Configuration = tuple[tuple[tuple[str, str | None, str], ...], bool]
"""Channels with their names and units, and whether the clock shows no time."""


@attrs.frozen
class _Source:
    """What identifies the analyser that a broadcast is from.

    Attributes:
        configuration: Its channels.
        ahead_s: How far this computer's clock is ahead of the analyser's; ``None`` when that does not matter.
        number: The number of the broadcast.
    """

    configuration: Configuration
    ahead_s: float | None
    number: int

    def is_like(self, other: "_Source") -> bool:
        if self.configuration != other.configuration:
            return False
        if self.ahead_s is None or other.ahead_s is None:
            return True
        return abs(self.ahead_s - other.ahead_s) <= CLOCK_ALIKE_S


class SourceGuard:
    """Compares each broadcast with the one before.

    The checksum of a frame is weak, and a second analyser on the line may have the same names. So a change of
    names, units or channels, and a jump of the analyser's clock, are believed only when two broadcasts in a row
    agree; the first of them is refused. When the same stranger returns repeatedly, all are refused.

    Args:
        lateness: Knows how the analyser's clock ran so far.
    """

    def __init__(self, lateness: Lateness) -> None:
        self._lateness = lateness
        self._believed: Configuration | None = None
        self._last: Arrived | None = None
        self._doubtful: Arrived | None = None
        self._former: deque[_Source] = deque(maxlen=4)
        self._strangers: deque[_Source] = deque(maxlen=4 * STRANGE)
        self._number = 0
        self._mixed_until = -1

    @property
    def mixed(self) -> bool:
        """Whether two sources broadcast in turn."""
        return self._number <= self._mixed_until

    def refusal(self, item: Arrived) -> str:
        """Return why a broadcast must not be believed; empty when it may be."""
        self._number += 1
        why = self._doubt(item)
        if not why:
            self._last, self._believed = item, configuration_of(item)
        return TWO_SOURCES if self.mixed else why

    def _doubt(self, item: Arrived) -> str:
        doubtful, self._doubtful = self._doubtful, None
        changed = self._believed is not None and configuration_of(item) != self._believed
        if not changed and not self._jumped(item):
            if doubtful is not None:
                self._note_stranger(doubtful, self._number - 1)
            elif self.mixed and not self._is_like_last(item):  # how its clock ran is not known: nothing is judged
                self._note_stranger(item, self._number)
            return ""
        if doubtful is not None and configuration_of(doubtful) == configuration_of(item):
            if changed or _runs_on(doubtful, item):
                self._switch(item)
                return ""
            self._note_stranger(doubtful, self._number - 1)  # this one is of neither clock: none can be relied on
            self._lateness.restart_clock(erratic=True)
            return ""
        self._doubtful = item
        return CONFIGURATION if changed else CLOCK

    def _jumped(self, item: Arrived) -> bool:
        """Return whether the analyser's clock went back, or further than the time that has passed."""
        last_s = None if self._last is None else self._last.clock_s
        back = last_s is not None and item.clock_s is not None and item.clock_s < last_s
        return back or self._lateness.is_ahead(item)

    def _is_like_last(self, item: Arrived) -> bool:
        last = self._last or item
        return self._source(item, self._number).is_like(self._source(last, self._number))

    def _switch(self, item: Arrived) -> None:
        """Believe another source. One that was believed or refused before is a returning stranger."""
        if self._last is not None:
            self._former.append(self._source(self._last, self._number))
        source = self._source(item, self._number)
        if any(source.is_like(known) for known in (*self._former, *self._strangers)):
            self._note_stranger(item, self._number)
        self._lateness.restart_clock()

    def _note_stranger(self, item: Arrived, number: int) -> None:
        stranger = self._source(item, number)
        self._strangers.append(stranger)
        like = [seen.number for seen in self._strangers if seen.is_like(stranger)][-STRANGE:]
        if len(like) == STRANGE and number - like[0] <= FRAMES:
            self._mixed_until = self._number + max(QUIET_FRAMES, number - like[0])

    def _source(self, item: Arrived, number: int) -> _Source:
        """Return what identifies the source: its clock only if its configuration is the one that is believed."""
        configuration = configuration_of(item)
        return _Source(configuration, item.ahead_s if configuration == self._believed else None, number)


def configuration_of(item: Arrived) -> Configuration:
    """Return the facts of a broadcast that must not change unnoticed."""
    channels = tuple((reading.channel, reading.name, reading.unit_text) for reading in item.frame)
    return channels, item.frame.analyser.clock is None


def _runs_on(before: Arrived, item: Arrived) -> bool:
    """Return whether the analyser's clock kept pace with the time between two broadcasts."""
    if before.clock_s is None or item.clock_s is None:
        return True
    ran_s, passed_s = item.clock_s - before.clock_s, item.at_s - before.at_s
    return ran_s >= 0 and abs(ran_s - passed_s) <= RESOLUTION_S
