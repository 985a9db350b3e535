"""Board: the newest readings of several analysers, how old they are, their recent course, and what happened."""

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

import attrs

from servomex.enums import Quality
from servomex.errors import ServomexParseError
from servomex.errors.excerpts import plain
from servomex.models.analyser import AnalyserStatus
from servomex.models.reading import Reading
from servomex.models.sample import Sample
from servomex.models.texts import number_text
from servomex.recording.summary import AcquisitionSummary
from servomex.runtime import suspend as awake
from servomex.runtime.clock import time
from servomex.views.events import Event, EventFinder
from servomex.views.looks import STALE, Level, analyser_level, level_of

RECENT = 60
"""How many readings the short course of a channel shows."""
EVENTS_KEPT = 1000
DIGITS = 5
"""How many significant digits of the largest value are shown."""


@attrs.frozen(kw_only=True)
class Figures:
    """How an analyser is read, in figures.

    Attributes:
        mode: The communication mode and, over Modbus, the address, in words.
        fresh_s: The age in seconds from which its readings are stale.
        rate_hz: Readings per second; ``None`` for each broadcast.
        period_s: Seconds between its broadcasts; ``None`` over Modbus, and as long as it is not known.
        summary: The outcome so far; live.
    """

    mode: str
    fresh_s: float
    rate_hz: float | None
    period_s: float | None
    summary: AcquisitionSummary


@attrs.frozen(kw_only=True)
class ChannelView:
    """A channel as it is shown.

    Attributes:
        reading: Its newest reading.
        age_s: Its age in seconds.
        stale: Whether it is not current: it is too old, or its analyser cannot be read.
        lowest: The lowest good value since the start, in the present unit; ``None`` when there was none.
        highest: The highest.
        recent: The latest values, at most :data:`RECENT`; ``None`` for one that is bad or missing.
        decimals: How many decimals are shown, so that the number of digits is steady: those that its values have,
            as far as the largest has no more than :data:`DIGITS` digits.
    """

    reading: Reading
    age_s: float
    stale: bool
    lowest: float | None
    highest: float | None
    recent: tuple[float | None, ...]
    decimals: int

    @property
    def level(self) -> Level:
        """How loud it is shown; a stale channel as loud as it was at last."""
        return level_of(self.reading)

    @property
    def word(self) -> str:
        """The quality in a word: ``good``, ``uncertain``, ``bad`` or ``stale``."""
        return STALE if self.stale else self.reading.quality.value

    @property
    def value_text(self) -> str:
        """The value with its number of decimals; ``-`` when there is none, or a bad one."""
        value = self.reading.value
        if value is None or self.reading.quality is Quality.BAD or not math.isfinite(value):
            return "-"
        return f"{value:.{self.decimals}f}"


@attrs.frozen(kw_only=True)
class AnalyserView:
    """An analyser as it is shown.

    Attributes:
        name: Its name.
        where: Its port.
        figures: How it is read.
        status: Its newest state; ``None`` before its first reading.
        error: Why its last reading failed; ``None`` if it did not.
        silent_s: Seconds since its last good reading, or since the start if there was none.
        channels: Its channels, in the order of the analyser.
    """

    name: str
    where: str
    figures: Figures
    status: AnalyserStatus | None
    error: str | None
    silent_s: float
    channels: tuple[ChannelView, ...]

    @property
    def stale(self) -> bool:
        """Whether what is shown of it is not current."""
        return self.status is None or self.error is not None or self.silent_s > self.figures.fresh_s

    @property
    def level(self) -> Level:
        """The loudest of its channels and of itself; an alarm when it gives no readings."""
        if self.stale or self.status is None:
            return Level.ALARM
        return max([analyser_level(self.status), *(channel.level for channel in self.channels)])


@attrs.define
class _Channel:
    """A channel as it is kept: each field is what :class:`ChannelView` shows."""

    reading: Reading
    lowest: float | None = None
    highest: float | None = None
    recent: deque[float | None] = attrs.field(factory=lambda: deque(maxlen=RECENT))
    given: int = 0
    largest: float = 0.0

    def take(self, reading: Reading) -> None:
        before = self.reading
        if (before.unit_text, before.name) != (reading.unit_text, reading.name):
            self.lowest = self.highest = None
            self.recent.clear()
            self.given, self.largest = 0, 0.0
        self.reading = reading
        value = None if reading.quality is Quality.BAD else reading.value
        if value is not None and not math.isfinite(value):  # of a source of the user's own
            value = None
        self.recent.append(value)
        if value is None:
            return
        self.given = max(self.given, len(number_text(value).partition(".")[2]))
        self.largest = max(self.largest, abs(value))
        if reading.quality is Quality.GOOD:
            self.lowest = value if self.lowest is None else min(self.lowest, value)
            self.highest = value if self.highest is None else max(self.highest, value)

    @property
    def decimals(self) -> int:
        whole = 1 + math.floor(math.log10(self.largest)) if self.largest else 1
        return max(0, min(self.given, DIGITS - whole))


@attrs.define
class _Analyser:
    where: str
    figures: Callable[[], Figures]
    since_ns: int
    status: AnalyserStatus | None = None
    error: str | None = None
    channels: dict[str, _Channel] = attrs.field(factory=dict)

    def take(self, batch: Sequence[Sample]) -> None:
        readings = [sample.reading for sample in batch if sample.reading is not None]
        if not readings:
            errors = [item.error for item in batch if not isinstance(item.error, ServomexParseError)]
            self.error = plain(str(errors[-1])) if errors else self.error  # damage alone is no outage
            if errors:
                self._break()
            return
        self.error = None
        self.since_ns = max(reading.monotonic_ns for reading in readings)
        for sample in batch:
            self.status = sample.analyser or self.status
        for reading in readings:
            key = str(reading.channel)
            if key not in self.channels:
                self.channels[key] = _Channel(reading)
            self.channels[key].take(reading)

    def _break(self) -> None:
        for channel in self.channels.values():
            channel.recent.append(None)

    def view(self, name: str, figures: Figures) -> AnalyserView:
        failing = self.error is not None
        channels = tuple(
            ChannelView(
                reading=kept.reading,
                age_s=(age_s := kept.reading.age_s),
                stale=failing or age_s > figures.fresh_s,
                lowest=kept.lowest,
                highest=kept.highest,
                recent=tuple(kept.recent),
                decimals=kept.decimals,
            )
            for kept in self.channels.values()
        )
        return AnalyserView(
            name=name,
            where=self.where,
            figures=figures,
            status=self.status,
            error=self.error,
            silent_s=awake.age_s(self.since_ns),
            channels=channels,
        )


class Board:
    """What several analysers show now. Any thread may use it.

    Add each analyser with :meth:`add`, pass every batch of a :class:`Recording` to :meth:`take`, and look at
    :meth:`view` and :meth:`events` as often as you like: ages grow by themselves while nothing arrives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._analysers: dict[str, _Analyser] = {}
        self._finder = EventFinder()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)

    def add(self, name: str, where: str, figures: Callable[[], Figures]) -> Self:
        """Add an analyser, in the order in which they are shown.

        Args:
            name: Its name, which its samples have as their ``device``.
            where: Its port.
            figures: Returns how it is read; called for each view.
        """
        with self._lock:
            self._analysers[name] = _Analyser(where, figures, time.monotonic_ns())
        return self

    def remove(self, name: str) -> None:
        """Stop showing an analyser; what happened to it stays among the events."""
        with self._lock:
            self._analysers.pop(name, None)
            self._finder.forget(name)

    def take(self, samples: Sequence[Sample]) -> list[Event]:
        """Take the samples of one reading; return what they show to have happened.

        Samples of analysers that were not added are ignored.
        """
        by_device: dict[str, list[Sample]] = {}
        for sample in samples:
            by_device.setdefault(sample.device, []).append(sample)
        with self._lock:
            for device in list(by_device):
                if (analyser := self._analysers.get(device)) is None:
                    del by_device[device]
                else:
                    analyser.take(by_device[device])
            happened = self._finder.events(sample for batch in by_device.values() for sample in batch)
            self._events += happened
        return happened

    def view(self) -> tuple[AnalyserView, ...]:
        """Return the analysers as they are now."""
        with self._lock:
            shown = list(self._analysers.items())
        return self._views(shown)

    def view_of(self, name: str) -> AnalyserView | None:
        """Return one analyser as it is now; ``None`` when it was not added."""
        with self._lock:
            analyser = self._analysers.get(name)
        return None if analyser is None else self._views([(name, analyser)])[0]

    def _views(self, shown: list[tuple[str, _Analyser]]) -> tuple[AnalyserView, ...]:
        # The figures ask the analyser, whose locks its reading may hold: nothing that arrives may wait for that.
        figures = [analyser.figures() for _, analyser in shown]
        with self._lock:
            return tuple(
                analyser.view(name, figure) for (name, analyser), figure in zip(shown, figures, strict=True)
            )

    def events(self, most: int = EVENTS_KEPT, after: int = 0) -> tuple[Event, ...]:
        """Return the latest events, the oldest first.

        Args:
            most: How many, at most; the newest :data:`EVENTS_KEPT` are kept.
            after: Only those with a higher number.
        """
        with self._lock:
            events = [event for event in self._events if event.number > after]
        return tuple(events[-most:])


def level_of_all(views: Sequence[AnalyserView]) -> Level:
    """Return the level of a whole screen: that of its loudest analyser."""
    return max((view.level for view in views), default=Level.GOOD)
