"""What happens to analysers, found in their samples: alarms, calibrations, losses, each with its duration."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from servomex.durations import counted
from servomex.errors import ServomexError, ServomexParseError
from servomex.errors.excerpts import plain
from servomex.models.analyser import AnalyserStatus
from servomex.models.plain import time_text
from servomex.models.sample import Sample
from servomex.models.texts import duration_text
from servomex.views.looks import LEVELS, Level

NS = 1_000_000_000
DAMAGE_NS = 60 * NS
"""After the event of a refused broadcast, further ones are counted for this long, so that alarms stay in view."""

KINDS = ("alarm", "fault", "maintenance", "calibration", "warming up", "lost", "damage", "change")
"""The kinds of events: a raised state, an outage, a refused broadcast, another name or unit of a channel."""


@attrs.frozen
class Event:
    """Something that happened to an analyser.

    Attributes:
        number: 1 for the first event of a board, and so on.
        at: When it happened, UTC.
        device: The name of the analyser.
        channel: The channel; ``None`` for the whole analyser.
        text: What happened, in words, with the channel in front.
        level: How loud it is shown.
        kind: One of :data:`KINDS`.
        state: What began or ended, such as ``alarm 2``; the kind where there is no more to say.
        over: Whether it is the end of something.
    """

    number: int
    at: datetime
    device: str
    channel: str | None
    text: str
    level: Level
    kind: str
    state: str
    over: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object; the level is its word."""
        return {
            "number": self.number,
            "at": time_text(self.at),
            "device": self.device,
            "channel": self.channel,
            "text": self.text,
            "level": self.level.word,
            "kind": self.kind,
            "state": self.state,
            "over": self.over,
        }


@attrs.define
class _Past:
    """What is known of one analyser: which states are raised, since when, and whether its readings fail."""

    raised: dict[tuple[str | None, str], int] = attrs.field(factory=dict)
    failing_since_ns: int | None = None
    failures: int = 0
    damage_shown_ns: int | None = None
    damaged: int = 0


class EventFinder:
    """Finds events by comparing each sample with those before it. One thread at a time may use it."""

    def __init__(self) -> None:
        self._past: dict[str, _Past] = {}
        self._number = 0

    def events(self, samples: Iterable[Sample]) -> list[Event]:
        """Return what the samples of one reading show to have happened, in order."""
        found: list[Event] = []
        by_device: dict[str, list[Sample]] = {}
        for sample in samples:
            by_device.setdefault(sample.device, []).append(sample)
        for device, batch in by_device.items():
            found += self._of_device(device, batch)
        return found

    def forget(self, device: str) -> None:
        """Forget an analyser: another one that gets its name begins anew."""
        self._past.pop(device, None)

    def _of_device(self, device: str, batch: list[Sample]) -> Iterator[Event]:
        past = self._past.setdefault(device, _Past())
        worked = any(sample.reading is not None for sample in batch)
        if worked and past.failing_since_ns is not None:
            yield self._back(past, batch[0])
        for sample in batch:
            if sample.error is not None:
                yield from self._error(past, sample, sample.error, alone=not worked)
            elif sample.reading is not None:
                reading = sample.reading
                label = plain(" ".join(filter(None, (str(reading.channel), reading.name))))
                raised = dict.fromkeys(reading.status.words)
                yield from self._changes(past, sample, str(reading.channel), f"{label} ", raised)
        last = batch[-1]
        if last.analyser is not None:
            yield from self._changes(past, last, None, "", _raised(last.analyser))

    def _back(self, past: _Past, sample: Sample) -> Event:
        lasted_s = (sample.monotonic_ns - (past.failing_since_ns or 0)) / NS
        text = f"is back after {duration_text(lasted_s)} ({counted(past.failures, 'failed reading')})"
        past.failing_since_ns, past.failures = None, 0
        return self._event(sample, None, text, Level.NOTICE, "lost", over=True)

    def _error(self, past: _Past, sample: Sample, error: ServomexError, *, alone: bool) -> Iterator[Event]:
        """Yield the event of an error: the first of an outage, damage, or a change of what a channel measures."""
        if isinstance(error, ServomexParseError):
            yield from self._damage(past, sample, error)
            return
        if not alone:
            yield self._event(sample, None, plain(str(error)), Level.WARNING, "change")
            return
        past.failures += 1
        if past.failing_since_ns is None:
            past.failing_since_ns = sample.monotonic_ns
            yield self._event(sample, None, f"no readings: {plain(str(error))}", Level.ALARM, "lost")

    def _damage(self, past: _Past, sample: Sample, error: ServomexParseError) -> Iterator[Event]:
        past.damaged += error.context.extra.get("refused_broadcasts", 1)
        if past.damage_shown_ns is not None and sample.monotonic_ns - past.damage_shown_ns < DAMAGE_NS:
            return
        text = plain(str(error))
        if past.damaged > 1:
            text = f"{counted(past.damaged, 'damaged broadcast')}, the last: {text}"
        past.damage_shown_ns, past.damaged = sample.monotonic_ns, 0
        yield self._event(sample, None, text, Level.WARNING, "damage")

    def _changes(
        self, past: _Past, sample: Sample, channel: str | None, label: str, raised: Mapping[str, None]
    ) -> Iterator[Event]:
        known = past.raised
        for word in raised:
            if (channel, word) not in known:
                known[channel, word] = sample.monotonic_ns
                yield self._event(sample, channel, f"{label}{word} on", _level(word), word)
        ended = [key for key in known if key[0] == channel and key[1] not in raised]
        for key in ended:
            lasted_s = (sample.monotonic_ns - known.pop(key)) / NS
            text = f"{label}{key[1]} off after {duration_text(lasted_s)}"
            yield self._event(sample, channel, text, Level.GOOD, key[1], over=True)

    def _event(
        self, sample: Sample, channel: str | None, text: str, level: Level, state: str, *, over: bool = False
    ) -> Event:
        self._number += 1
        at, kind = sample.received_at, _kind(state)
        return Event(self._number, at, sample.device, channel, text, level, kind, state, over)


def _raised(analyser: AnalyserStatus) -> dict[str, None]:
    flags = ((analyser.fault, "analyser fault"), (analyser.maintenance, "analyser maintenance"))
    return dict.fromkeys([*(word for raised, word in flags if raised), *analyser.cal_words])


def _kind(word: str) -> str:
    """Return the kind of event that a state is."""
    if word == "calibrating" or word.startswith("group"):
        return "calibration"
    return "alarm" if word.startswith("alarm") else word.removeprefix("analyser ")


def _level(word: str) -> Level:
    return LEVELS.get(word.removeprefix("analyser "), Level.NOTICE)
