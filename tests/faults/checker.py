"""Compares what the driver gives with what the analyser truly had, and says which of both is wrong."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import attrs

from servomex.enums import ChannelId, ProtocolKind
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from tests.faults.hostclock import HOST_CLOCK
from tests.faults.line import WorstLine, shown
from tests.faults.tally import Recovery, Tally
from tests.faults.truth import BROADCAST, EXTERNAL, ORDER, Block, Moment, Said, Truth
from tests.fuzz import oracle
from tests.fuzz.streams import same_reading

SEND_SLACK_S = 0.25
"""The analyser may hear a request this long before the driver notes that it was sent: a busy computer."""
CLOCK_SET_S = 10.0
"""Behind that, stamps may be off by less than this: the driver learns the clock anew within some periods."""
HELD_S = 1.2
"""A broadcast is stamped this long after its last byte at most: what waited a second is to be dropped."""
EARLY_S = 1.5
"""A broadcast is stamped this long and a period before it was said at most: a clock of whole seconds dates it."""
FRESH_S = 10.0
MOST_PERIODS = 20
"""A broadcast that is older than this many periods passes for no current one, whatever was lost before."""
KNOWN_UNITS = ("%", "vpm", "ppm", "mA")
WALL_SLACK_S = 1.0
CALLS_KEPT = 60


def awake_and_asleep() -> float:
    """Seconds on the clock that goes on while a computer sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@attrs.frozen
class Given:
    """One reading as it was given: parts that belong together.

    Attributes:
        readings: The channels.
        analyser: The analyser's state; ``None`` when it was not read.
        stamp: When it arrived, on the monotonic clock.
        latency: Seconds from the first request; ``None`` when it is not known.
        received_at: When it arrived, UTC.
        whole: All channels are here.
        age_s: How old the driver said that it was, at ``looked_at``.
        looked_at: When it was looked at, on a clock that goes on while a computer sleeps.
    """

    readings: tuple[Reading, ...]
    analyser: AnalyserStatus | None
    stamp: float
    latency: float | None
    received_at: datetime
    whole: bool = True
    age_s: float = attrs.field(
        default=attrs.Factory(lambda self: self.readings[0].age_s if self.readings else 0.0, takes_self=True)
    )
    looked_at: float = attrs.field(factory=awake_and_asleep)

    def __str__(self) -> str:
        parts = "; ".join(
            f"{item.channel!s} {item.name} {item.value} {item.unit_text} {' '.join(item.status.words)}".strip()
            for item in self.readings
        )
        whole = self.analyser
        state = (
            f" fault {whole.fault} maintenance {whole.maintenance} {whole.cal_text} {whole.clock}" if whole else ""
        )
        return f"{self.stamp:.4f} latency {self.latency}: {parts}{state}"

    @classmethod
    def frame(cls, frame: Frame) -> "Given":
        return cls(frame.readings, frame.analyser, frame.monotonic_ns / 1e9, frame.latency_s, frame.received_at)

    @classmethod
    def samples(cls, samples: Sequence[Sample]) -> "Given":
        first = samples[0]
        readings = tuple(item.reading for item in samples if item.reading)
        return cls(readings, first.analyser, first.monotonic_ns / 1e9, first.latency_s, first.received_at)

    @classmethod
    def reading(cls, item: Reading) -> "Given":
        return cls((item,), None, item.monotonic_ns / 1e9, None, item.received_at, whole=False)


class Checker:
    """Checks all that is read of one analyser.

    Args:
        truth: The analyser.
        line: The line that it is on.
        tally: Where results are counted.
        number: Of the episode.
        scene: Says what is needed to see it again: seed, episode, faults.
    """

    def __init__(self, truth: Truth, line: WorstLine, tally: Tally, number: int, scene: Callable[[], str]) -> None:
        self.truth = truth
        self._line = line
        self._tally = tally
        self._number = number
        self._scene = scene
        self._lock = threading.Lock()
        self.calls: deque[tuple[float, str]] = deque(maxlen=CALLS_KEPT)
        self._faults: list[tuple[float, float, str]] = []
        self._longest_s = 0.0
        self._failed = False

    def good(self, where: str, given: Given, since: float, *, limit_s: float | None = None) -> None:
        """Check something that was given by a call, or that came out of a stream.

        Args:
            where: What gave it.
            given: What it gave.
            since: The start of the call; of a stream, its beginning.
            limit_s: How old a broadcast may have been at the start of the call; ``None`` for any age.
        """
        until = self._now()
        continuous = given.readings[0].protocol is ProtocolKind.CONTINUOUS_ASCII
        kind = (
            self._judge_broadcast(given, since, limit_s) if continuous else self._judge_sweep(given, since, until)
        )
        if not kind and not self._wall_fits(given):
            kind = "stale"
        if kind:
            if reason := self._excuse(given, since, until):
                self._tally.note(reason)
            else:
                self.blame(kind, where, given, since, until)
            return
        self._tally.note_values(where, given.readings[0].protocol.value, len(given.readings))
        self._note_good(given.stamp)

    def nothing(self, where: str, since: float) -> None:
        """Blame a call that gave no channel at all, and no error."""
        self.blame("wrong", where, "no channel", since, self._now())

    def state(self, where: str, channel: ChannelId, status: ChannelStatus, since: float) -> None:
        """Check a channel's state that was read alone."""
        self._alone(where, since, (channel, status), lambda said: covers(said, 2, 8, channel) and (
            said.moment.blocks[channel].status == status
        ))  # fmt: skip

    def analyser(self, where: str, status: AnalyserStatus, since: float) -> None:
        """Check the analyser's state that was read alone."""
        self._alone(where, since, status, lambda said: said.function == 2 and said.first >= 1000 and same_whole(
            status, said.moment
        ))  # fmt: skip

    def _alone(self, where: str, since: float, given: object, fits: Callable[[Said], bool]) -> None:
        until = self._now()
        if any(map(fits, self.truth.between(since, until))):
            self._tally.note_state(where)
            return
        if reason := self._excuse_alone(fits, since, until):
            self._tally.note(reason)
            return
        earlier = any(map(fits, self.truth.between(0.0, since)))
        self.blame("stale" if earlier else "wrong", where, given, since, until)

    def _now(self) -> float:
        """The moment at which something was given: now."""
        return time.monotonic()

    def _excuse(self, given: Given, since: float, until: float) -> str:
        """Why no driver can know that this is not right, so that it is counted apart; empty when one could."""
        return ""

    def _excuse_alone(self, fits: Callable[[Said], bool], since: float, until: float) -> str:
        """The same for a state that was read alone."""
        return ""

    def blame(self, kind: str, where: str, given: object, since: float, until: float) -> None:
        """Report something wrong, with all that is known."""
        since = max(since, until - 3.0)
        said = self.truth.between(since - 1.0, until)[-8:]
        lines = [
            f"{kind.upper()} by {where}: {self._scene()}",
            f"  call from {since:.4f} to {until:.4f}, analyser {self.truth.number} at {self.truth.address}",
            f"  given: {given}",
            *(f"  said:  {item}" for item in said),
            *(f"  call:  {item}" for at, item in list(self.calls) if since - 1.0 <= at),
            *(f"  {item}" for item in shown(self._line.log, since - 1.0, until)),
        ]
        self._tally.report(kind, "\n".join(lines))

    def _judge_sweep(self, given: Given, since: float, until: float) -> str:
        """Find the moments of which a sweep is, among those between its request and its arrival."""
        if given.stamp > until or given.stamp < since:
            return "stale"
        if self._fits(given, self.truth.between(self._asked(given, since), given.stamp)):
            return ""
        return "stale" if self._fits(given, self.truth.between(0.0, until)) else "wrong"

    def _asked(self, given: Given, since: float) -> float:
        """The earliest moment at which a sweep can have been asked for."""
        return since if given.latency is None else max(since, given.stamp - given.latency - SEND_SLACK_S)

    def _fits(self, given: Given, said: list[Said]) -> bool:
        wanted = {reading.channel for reading in given.readings}
        values: set[ChannelId] = set()
        states: set[ChannelId] = set()
        for item in said:
            if item.function == 4:
                values |= self._agreed(given, item, 7, same_value)
            elif item.function == 2 and item.first < 1000:
                states |= self._agreed(given, item, 8, same_state)
        if not wanted <= values or not wanted <= states:
            return False
        return given.analyser is None or any(
            item.function == 2 and item.first >= 1000 and same_whole(given.analyser, item.moment) for item in said
        )

    def _agreed(
        self, given: Given, said: Said, size: int, same: Callable[[Reading, Block], bool]
    ) -> set[ChannelId]:
        """The channels that one reply tells of, if all of them are as it tells: a reply is believed as a whole."""
        told = [item for item in given.readings if covers(said, said.function, size, ChannelId(item.channel))]
        blocks = said.moment.blocks
        if not all(
            ChannelId(item.channel) in blocks and same(item, blocks[ChannelId(item.channel)]) for item in told
        ):
            return set()
        here = {ChannelId(item.channel) for item in told}
        expected = {item for item in said.moment.populated if covers(said, said.function, size, item)}
        missing = expected - here - self.truth.ever_absent if given.whole and said.function == 4 else set()
        return set() if missing else here

    def _judge_broadcast(self, given: Given, since: float, limit_s: float | None) -> str:
        """Find the broadcast that a frame is, and see that it is not older than it says."""
        if limit_s is not None and since - given.stamp > limit_s:
            return "stale"
        said = [item for item in self.truth.between(0.0, self._now()) if item.function == BROADCAST]
        same = [item for item in said if self._same_broadcast(given, item.moment)]
        if not same:
            if any(self._is_limit(given, seen) for seen in list(self._line.limits)):
                self._tally.note("broadcasts whose sum hides the damage, read")
                return ""
            return "wrong"
        lag_s = min(given.stamp - self._current(item) for item in same)
        self._tally.note_lag(lag_s)
        if lag_s > self._held_s:
            return "stale"
        return "" if any(item.at - given.stamp <= self._early_s for item in same) else "wrong"

    def _current(self, said: Said) -> float:
        """Until when a broadcast was new: its last byte had not come."""
        return max(said.at, said.arrives)

    @property
    def _held_s(self) -> float:
        """How much later than that its stamp may be."""
        return HELD_S

    @property
    def _early_s(self) -> float:
        """How much older than it is it may be stamped, which is careful, but of no use when it is far off.

        Behind a fault nobody can know whether what was not heard meanwhile was lost or is held up; and a clock
        that was set must be learned again.
        """
        return EARLY_S + self.truth.period + self._longest_s + self._clock_s

    @property
    def _clock_s(self) -> float:
        """How far stamps may be off because the analyser's clock was set, or the analyser switched off."""
        return CLOCK_SET_S

    def _same_broadcast(self, given: Given, moment: Moment) -> bool:
        blocks = moment.blocks
        if given.whole and [item.channel for item in given.readings] != moment.populated:
            return False
        if given.analyser is not None and not (
            same_whole(given.analyser, moment) and given.analyser.clock == moment.clock
        ):
            return False
        return all(
            channel in blocks and same_value(item, blocks[channel]) and same_state(item, blocks[channel])
            for channel, item in ((ChannelId(item.channel), item) for item in given.readings)
        )

    @staticmethod
    def _is_limit(given: Given, seen: oracle.Broadcast) -> bool:
        channels = {item.id: item for item in seen.channels}
        whole = given.analyser
        return all(
            str(item.channel) in channels and same_reading(item, channels[str(item.channel)])
            for item in given.readings
        ) and (whole is None or (whole.fault, whole.cal_text) == (seen.fault, seen.groups))

    def _wall_fits(self, given: Given) -> bool:
        """Whether the UTC time of arrival is that of the monotonic clock, while the host's clock was not set."""
        now, wall = time.monotonic(), datetime.now(UTC)
        if HOST_CLOCK.jumped_since(given.stamp - WALL_SLACK_S):
            return True
        expected = wall.timestamp() + HOST_CLOCK.offset_s - (now - given.stamp)
        return abs(given.received_at.timestamp() - expected) <= WALL_SLACK_S

    def begin_fault(self, since: float, until: float, what: str) -> None:
        """Expect a fault, so that the time to the first good reading behind it is taken."""
        with self._lock:
            self._faults.append((since, until, what))
            self._longest_s = max(self._longest_s, until - since)

    def failed(self, at: float) -> None:
        """Note that a reading failed."""
        with self._lock:
            self._failed |= any(since <= at for since, _, _ in self._faults)

    def _note_good(self, stamp: float) -> None:
        with self._lock:
            ended = [item for item in self._faults if item[1] <= stamp]
            if not ended:
                return
            self._faults = [item for item in self._faults if item[1] > stamp]
            if self._failed:
                _, until, what = ended[-1]
                self._tally.note_recovery(Recovery(f"episode {self._number}: {what}", stamp - until))
            self._failed = False

    @property
    def recovered(self) -> bool:
        """Whether good readings came behind all faults that are over."""
        now = time.monotonic()
        return not any(until <= now for _, until, _ in self._faults)

    def end(self) -> None:
        """Count faults from which nothing came back."""
        for _, _, what in self._faults:
            self._tally.note_recovery(Recovery(f"episode {self._number}: {what}", None))


def covers(said: Said, function: int, size: int, channel: ChannelId) -> bool:
    first = ORDER.index(channel) * size
    return said.function == function and said.first <= first and first + size <= said.end


def same_value(reading: Reading, block: Block) -> bool:
    unit = block.unit if block.unit in KNOWN_UNITS else "?"
    invalid = reading.status.fault and reading.channel in EXTERNAL
    given = (reading.name, reading.value, reading.unit_text, reading.unit.value)
    return given == (block.name, None if invalid else block.value, block.unit, unit)


def same_state(reading: Reading, block: Block) -> bool:
    return reading.status == block.status and reading.quality.value == quality(reading.value, block.status)


def quality(value: float | None, status: ChannelStatus) -> str:
    """The quality that a channel should have."""
    if value is None or status.fault:
        return "bad"
    doubtful = status.maintenance or status.calibrating or status.warming_up
    return "uncertain" if doubtful else "good"


def same_whole(analyser: AnalyserStatus, moment: Moment) -> bool:
    given = (analyser.fault, analyser.maintenance, analyser.cal_text)
    return given == (moment.fault, moment.maintenance, moment.groups)


def freshness(truth: Truth, fresh_s: Iterable[float]) -> float:
    """How old a broadcast may be that a plain poll gives: what the driver says, within reason."""
    return min(max(fresh_s), max(FRESH_S, MOST_PERIODS * truth.period))
