"""Picture: what a plot shows of a recording, whatever draws it."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import attrs

from servomex.durations import counted
from servomex.enums import ChannelId
from servomex.errors import ServomexChannelNotFoundError, ServomexValidationError
from servomex.models.naming import find, listed
from servomex.models.sample import Sample
from servomex.views.events import Event, EventFinder
from servomex.views.plot.curves import AnalyserStates, ChannelCurves, Curve
from servomex.views.plot.line import COLUMNS
from servomex.views.plot.spans import Spans

MOST_EVENTS = 500
"""How many events are kept; those of a higher level are kept first."""
MOST_CURVES = 200
"""How many curves a picture may have."""
ANALYSER = "analyser"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS = 1_000_000_000
_ORDER = {channel.value: place for place, channel in enumerate(ChannelId)}


@attrs.frozen
class Lane:
    """The states of one curve or one analyser, over time.

    Attributes:
        owner: The analyser, as far as it has to be named.
        channel: The channel; ``None`` for an analyser as a whole.
        curve: The number of the curve in its panel; ``None`` for an analyser.
        spans: When which state was raised.
    """

    owner: str
    channel: str | None
    curve: int | None
    spans: dict[str, Spans]


@attrs.frozen
class Panel:
    """Curves that share an axis.

    Attributes:
        unit_text: Their unit.
        curves: The curves.
        labels: Their names, for the legend.
        lanes: The states of those that have any, and of their analysers.
    """

    unit_text: str
    curves: list[Curve]
    labels: list[str]
    lanes: list[Lane]


@attrs.frozen
class Picture:
    """What is drawn.

    Attributes:
        begin: The time of the first sample, in seconds since 1970.
        end: The time of the last one.
        panels: The panels.
        analysers: The names of the analysers.
        readings: How many readings there are.
        failures: How many failed.
        events: What happened.
        more_events: How many events are not among them.
    """

    begin: float
    end: float
    panels: list[Panel]
    analysers: list[str]
    readings: int
    failures: int
    events: list[Event]
    more_events: int


@attrs.define(eq=False)
class _Analyser:
    name: str
    states: AnalyserStates = attrs.field(factory=AnalyserStates)
    channels: dict[str, ChannelCurves] = attrs.field(factory=dict)
    first_failure: float | None = None
    last_at: float = 0.0
    changes: int = 0


class _Builder:
    """Takes samples one after the other."""

    def __init__(self, columns: int, *, good_only: bool) -> None:
        self._columns = columns
        self._good_only = good_only
        self.analysers: dict[str, _Analyser] = {}
        self.begin: float | None = None
        self.end = 0.0
        self.readings = 0
        self.failures = 0
        self.events: list[Event] = []
        self.more_events = 0
        self._finder = EventFinder()

    def take(self, batch: list[Sample]) -> None:
        """Take the samples of one analyser that arrived together."""
        now = (batch[0].received_at - _EPOCH).total_seconds()
        if self.begin is None:
            self.begin = self.end = now
        self.begin, self.end = min(self.begin, now), max(self.end, now)
        analyser = self.analysers.get(batch[0].device)
        if analyser is None:
            analyser = self.analysers[batch[0].device] = _Analyser(batch[0].device)
        changed = False
        for sample in batch:
            changed |= self._take(analyser, now, sample)
        analyser.last_at = now
        if changed:
            # Times of a monotonic clock mean nothing in another recording: durations are of the time of day.
            moved = [attrs.evolve(sample, monotonic_ns=round(now * _NS)) for sample in batch]
            self._keep(self._finder.events(moved))

    def _take(self, analyser: _Analyser, now: float, sample: Sample) -> bool:
        reading = sample.reading
        if reading is None:
            self.failures += 1
            if analyser.first_failure is None:
                analyser.first_failure = now
            analyser.states.interrupt()
            for channel in analyser.channels.values():
                channel.take(now, None)
            return True
        self.readings += 1
        changed = sample.analyser is not None and analyser.states.take(now, sample.analyser)
        found = analyser.channels.get(reading.channel)
        if found is None:
            found = analyser.channels[reading.channel] = ChannelCurves(
                analyser.name, self._columns, good_only=self._good_only
            )
            if analyser.first_failure is not None:
                found.take(analyser.first_failure, None)
        before = found.changes
        found.take(now, reading)
        return changed or found.changes != before

    def _keep(self, events: list[Event]) -> None:
        self.events += events
        if len(self.events) > 2 * MOST_EVENTS:
            self.trim()

    def trim(self) -> None:
        """Keep the loudest events, of these the first, in their order."""
        kept = sorted(self.events, key=lambda event: -event.level)[:MOST_EVENTS]
        self.more_events += len(self.events) - len(kept)
        self.events = sorted(kept, key=lambda event: event.number)


def picture_of(
    samples: Iterable[Sample],
    *,
    channels: Sequence[ChannelId | str] = (),
    by_channel: bool = False,
    good_only: bool = False,
    columns: int = COLUMNS,
) -> Picture:
    """Return what a plot of samples shows.

    Args:
        samples: The samples.
        channels: Only these, from ``asked_channels``; all when empty.
        by_channel: A panel for each channel, instead of one for each unit.
        good_only: Leave uncertain values out.
        columns: Into how many intervals of time a curve is divided if it has too many points.

    Raises:
        ServomexValidationError: There are no readings, or too many channels.
        ServomexChannelNotFoundError: A channel is not there, or several have the name.
    """
    builder = _Builder(columns, good_only=good_only)
    for _, batch in itertools.groupby(samples, key=lambda sample: (sample.device, sample.received_at)):
        builder.take(list(batch))
    if not builder.readings or builder.begin is None:
        failed = f", only {counted(builder.failures, 'failed one')}" if builder.failures else ""
        raise ServomexValidationError(f"there are no readings to plot{failed}")
    for analyser in builder.analysers.values():
        analyser.states.interrupt()
        for channel in analyser.channels.values():
            channel.end(analyser.last_at)
    builder.trim()
    chosen = _chosen([*builder.analysers.values()], channels)
    if sum(len(curves) for _, curves in chosen) > MOST_CURVES:
        raise ServomexValidationError(
            f"there are more than {MOST_CURVES} curves", cure="Choose some of the channels"
        )
    ids = {(analyser.name, str(curve.channel)) for analyser, curves in chosen for curve in curves}
    names = [analyser.name for analyser, _ in chosen]
    events = [
        event for event in builder.events
        if ((event.device, event.channel) in ids if event.channel else event.device in names)
    ]  # fmt: skip
    return Picture(
        begin=builder.begin,
        end=builder.end,
        panels=_panels(chosen, by_channel=by_channel),
        analysers=names,
        readings=sum(curve.good + curve.uncertain + curve.bad for _, curves in chosen for curve in curves),
        failures=builder.failures,
        events=events,
        more_events=builder.more_events,
    )


_Chosen = list[tuple[_Analyser, list[Curve]]]


def _chosen(analysers: Sequence[_Analyser], asked: Sequence[ChannelId | str]) -> _Chosen:
    """Return the chosen curves of each analyser that has any."""
    found: _Chosen = []
    missing = dict.fromkeys(asked)
    for analyser in analysers:
        curves = [curve for channel in analyser.channels.values() for curve in channel.curves]
        curves.sort(key=lambda curve: _ORDER.get(curve.channel, len(_ORDER)))
        if asked:
            known = {channel: _named(curves, channel) for channel in asked}
            for channel in asked:
                if known[channel]:
                    missing.pop(channel, None)
            curves = [curve for curve in curves if any(str(curve.channel) == item for item in known.values())]
        if curves:
            found.append((analyser, curves))
    if missing:
        there = [curve for one in analysers for channel in one.channels.values() for curve in channel.curves]
        raise ServomexChannelNotFoundError(
            f"no channel is {str(next(iter(missing)))!r}; the recording has {listed(there)}"
        )
    return found


def _named(curves: Sequence[Curve], asked: ChannelId | str) -> str | None:
    """Return the channel that is meant.

    Raises:
        ServomexChannelNotFoundError: Several channels have the name.
    """
    # A channel may have had several units under the same name.
    distinct = {(str(curve.channel), curve.name): curve for curve in curves}
    curve = find(distinct.values(), asked)
    return None if curve is None else str(curve.channel)


def _panels(chosen: _Chosen, *, by_channel: bool) -> list[Panel]:
    groups: dict[tuple[str, ...], list[tuple[_Analyser, Curve]]] = {}
    for analyser, curves in chosen:
        for curve in curves:
            key = (analyser.name, str(curve.channel)) if by_channel else ()
            groups.setdefault((*key, curve.unit, curve.unit_text), []).append((analyser, curve))
    several = len(chosen) > 1
    shown: set[str] = set()
    return [_panel(key[-1], group, shown, several=several) for key, group in groups.items()]


def _panel(unit_text: str, group: list[tuple[_Analyser, Curve]], shown: set[str], *, several: bool) -> Panel:
    curves = [curve for _, curve in group]
    lanes = [*_analyser_lanes([analyser for analyser, _ in group], shown, several=several)]
    for place, curve in enumerate(curves):
        if any(curve.spans.values()):
            lanes.append(Lane(curve.device if several else "", str(curve.channel), place, curve.spans))
    return Panel(unit_text, curves, [label_of(curve, several=several) for curve in curves], lanes)


def _analyser_lanes(analysers: list[_Analyser], shown: set[str], *, several: bool) -> Iterator[Lane]:
    """Yield the lanes of analysers, each in the first panel that has a channel of it."""
    for analyser in analysers:
        if analyser.name not in shown and any(analyser.states.spans.values()):
            yield Lane(analyser.name if several else ANALYSER, None, None, analyser.states.spans)
        shown.add(analyser.name)


def label_of(curve: Curve, *, several: bool) -> str:
    """Return the name of a curve, for a legend."""
    words = [curve.device] * several + [str(curve.channel)] + [curve.name] * bool(curve.name)
    label = " ".join(filter(None, words))
    return f"{label} (in part converted from {', '.join(curve.converted)})" if curve.converted else label
