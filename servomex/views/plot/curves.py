"""From samples to curves: their points, their gaps, and when which state was raised."""

import itertools
import math
from collections.abc import Mapping

import attrs

from servomex.enums import ChannelId
from servomex.errors import ServomexValidationError
from servomex.models.analyser import AnalyserStatus
from servomex.models.reading import ChannelStatus, Reading
from servomex.units import Unit, UnitKind
from servomex.views.plot.line import Line, Point
from servomex.views.plot.pace import Pace
from servomex.views.plot.spans import Spans

NO_VALUE = "no value"
"""The state of a curve where it has a gap: a failed reading, a bad value, a pause."""
FIRST = 6
"""How many readings wait at first, until the usual interval is known."""


@attrs.define(eq=False)
class Curve:
    """What a channel measured under one name and in one kind of unit.

    Attributes:
        device: The name of the analyser.
        channel: The channel.
        name: Its name on the display.
        unit: The unit of the points.
        unit_text: The text of the unit; as the analyser shows it, if it is not a known one.
        line: The points.
        spans: When which state was raised, by its word; :data:`NO_VALUE` for gaps.
        converted: Other units that values were converted from.
        good: How many readings were good.
        uncertain: How many were uncertain.
        bad: How many had no value, or a fault.
        lowest: The lowest good value; infinite if there is none.
        highest: The highest.
        last: The last value; ``None`` before the first.
    """

    device: str
    channel: ChannelId | str
    name: str | None
    unit: Unit
    unit_text: str
    line: Line
    spans: dict[str, Spans] = attrs.field(factory=dict)
    converted: dict[str, None] = attrs.field(factory=dict)
    good: int = 0
    uncertain: int = 0
    bad: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    last: float | None = None

    def add_span(self, word: str, begin: float, end: float) -> None:
        """Add an interval of a state."""
        self.spans.setdefault(word, Spans()).add(begin, end)

    def fits(self, reading: Reading) -> bool:
        """Return whether a reading belongs to this curve: concentrations are converted, nothing else is."""
        if reading.name != self.name:
            return False
        both = self.unit.kind is reading.unit.kind is UnitKind.CONCENTRATION
        return both or (reading.unit is self.unit and _text(reading) == self.unit_text)

    def value_of(self, reading: Reading) -> float | None:
        """Return the value of a reading in the unit of this curve; ``None`` for a bad one."""
        value = reading.value
        if value is None or reading.status.fault or not math.isfinite(value):
            return None
        if reading.unit is self.unit:
            return value
        self.converted.setdefault(_text(reading))
        try:
            return reading.to(self.unit)
        except ServomexValidationError:  # too large
            return None


def _text(reading: Reading) -> str:
    """Return the text of the unit: of a known one that of the unit, which may have been cleared on the display."""
    return (reading.unit_text or reading.unit.value) if reading.unit is Unit.UNKNOWN else reading.unit.value


@attrs.define(eq=False)
class States:
    """The raised states of a channel or an analyser, and where their intervals go."""

    spans: dict[str, Spans]
    begun: dict[str, float] = attrs.field(factory=dict)

    def change(self, now: float, raised: Mapping[str, None]) -> None:
        """Take the states that are raised from now on."""
        for word in [word for word in self.begun if word not in raised]:
            self.spans.setdefault(word, Spans()).add(self.begun.pop(word), now)
        for word in raised:
            self.begun.setdefault(word, now)

    def end(self, at: float) -> None:
        """End all: nothing is known of them afterwards."""
        self.change(at, {})


class ChannelCurves:
    """Follows a channel of an analyser, and makes its curves: another one after each change of what it measures.

    Args:
        device: The name of the analyser.
        columns: See :class:`Line`.
        good_only: Leave uncertain values out.
    """

    def __init__(self, device: str, columns: int, *, good_only: bool = False) -> None:
        self.curves: list[Curve] = []
        self.changes: int = 0
        self._device = device
        self._columns = columns
        self._good_only = good_only
        self._waiting: list[tuple[float, Reading | None]] | None = []
        self._pace = Pace()
        self._curve: Curve | None = None
        self._states = States({})
        self._status: ChannelStatus | None = None
        self._uncertain = False
        self._last_at: float | None = None
        self._known: tuple[str | None, str] | None = None
        self._gap_from: float | None = None
        self._broken = False

    def take(self, now: float, reading: Reading | None) -> None:
        """Take a reading; ``None`` for one that failed."""
        if self._waiting is None:
            self._follow(now, reading)
            return
        self.changes += 1
        self._waiting.append((now, reading))
        if sum(item is not None for _, item in self._waiting) == FIRST:
            self._begin()

    def end(self, now: float) -> None:
        """Take the end of the recording: the time of the last sample of this analyser."""
        if self._waiting is not None:
            self._begin()
        self._states.end(now if self._last_at is None else self._last_at)
        if self._last_at is not None and now - self._last_at > self._pace.longest_s:
            self._interrupt()
        if self._gap_from is not None and self._curve is not None:
            self._curve.add_span(NO_VALUE, min(self._gap_from, now), now)

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        times = [now for now, reading in waiting if reading is not None]
        for step in (later - sooner for sooner, later in itertools.pairwise(times)):
            self._pace.take(step)
        for now, reading in waiting:
            self._follow(now, reading)

    def _follow(self, now: float, reading: Reading | None) -> None:
        if reading is None:
            self._interrupt()
            self._gap_from = now if self._gap_from is None else self._gap_from
            self._last_at = now if self._last_at is None else max(now, self._last_at)
            return
        if self._last_at is not None:
            step = now - self._last_at
            if not 0 <= step <= self._pace.longest_s:
                self._leap(step)
            self._pace.take(step)
        self._last_at = now
        if self._known != (reading.name, reading.unit_text) or self._curve is None:
            self._choose(now, reading)
        if reading.status is not self._status and reading.status != self._status:
            self._change(now, reading.status)
        self._add(now, reading)

    def _add(self, now: float, reading: Reading) -> None:
        curve = self._curve
        assert curve is not None  # noqa: S101 (it was chosen just before)
        value = curve.value_of(reading)
        if value is None:
            curve.bad += 1
            if self._gap_from is None:
                self._gap_from = now
            return
        if self._gap_from is not None:
            curve.add_span(NO_VALUE, min(self._gap_from, now), now)
            self._gap_from, self._broken = None, True
        if self._uncertain and self._good_only:
            curve.uncertain += 1
            self._broken = True
            return
        curve.line.add(Point(now, value, self._uncertain, self._broken))
        curve.last = value
        self._broken = False
        if self._uncertain:
            curve.uncertain += 1
            return
        curve.good += 1
        if value < curve.lowest:
            curve.lowest = value
        if value > curve.highest:
            curve.highest = value

    def _interrupt(self) -> None:
        """End the states where they were last seen, and break the line."""
        if self._last_at is not None:
            self._states.end(self._last_at)
        if self._status is not None:
            self.changes += 1
        self._status = None
        self._broken = True
        if self._gap_from is None:
            self._gap_from = self._last_at

    def _leap(self, step: float) -> None:
        """Break the line where time went back, or where readings are missing."""
        gap_from = self._gap_from
        self._interrupt()
        if step < 0:
            if gap_from is not None and self._curve is not None and self._last_at is not None:
                self._curve.add_span(NO_VALUE, gap_from, self._last_at)
            self._gap_from = None

    def _choose(self, now: float, reading: Reading) -> None:
        """Choose the curve of a channel that has changed its name or its unit, or has none yet."""
        self.changes += 1
        self._known = (reading.name, reading.unit_text)
        if self._curve is not None and self._curve.fits(reading):
            return
        self._states.end(now)
        self._broken, self._status = True, None
        if self._curve is not None and self._gap_from is not None:
            self._curve.add_span(NO_VALUE, self._gap_from, now)
            self._gap_from = None
        found = next((curve for curve in self.curves if curve.fits(reading)), None)
        if found is None:
            line = Line(self._columns)
            found = Curve(self._device, reading.channel, reading.name, reading.unit, _text(reading), line)
            self.curves.append(found)
        self._curve = found
        self._states = States(found.spans)

    def _change(self, now: float, status: ChannelStatus) -> None:
        self.changes += 1
        self._status = status
        self._uncertain = status.maintenance or status.calibrating or status.warming_up
        self._states.change(now, dict.fromkeys(status.words))


class AnalyserStates:
    """Follows the state of a whole analyser."""

    def __init__(self) -> None:
        self.spans: dict[str, Spans] = {}
        self._pace = Pace()
        self._states = States(self.spans)
        self._known: tuple[object, ...] | None = None
        self._last_at: float | None = None

    def take(self, now: float, status: AnalyserStatus) -> bool:
        """Take a state; return whether it has changed."""
        if self._last_at is not None:
            step = now - self._last_at
            if not 0 <= step <= self._pace.longest_s:
                self.interrupt()
            self._pace.take(step)
        self._last_at = now
        known = (status.fault, status.maintenance, status.cal_groups)
        if known == self._known:
            return False
        self._known = known
        flags = (
            (status.fault, "fault"),
            (status.maintenance, "maintenance"),
            (bool(status.cal_words), "calibrating"),
        )
        self._states.change(now, {word: None for raised, word in flags if raised})
        return True

    def interrupt(self) -> None:
        """End the states where they were last seen: a reading failed, or it is the end."""
        if self._last_at is not None:
            self._states.end(self._last_at)
        self._known = None
