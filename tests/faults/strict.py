"""What is judged beyond values: alarms that are lost, stamps that hide a delay, gas that flows, late returns.

What no driver can know is counted apart, under a name that says what it is:

* a gateway that answers a request from its memory, when the request is equal to an earlier one in every byte: the
  reply is the right one to this request, only its moment is another (``CACHED_EQUAL``);
* the reply to another master, or another client, that has asked for the same bytes just before: it is true, and at
  most as old as one exchange of theirs (``EQUAL_ASKED``).
"""

from collections.abc import Callable

import attrs

from servomex.calibration.report import CalibrationProgress
from servomex.enums import ChannelId
from servomex.models.analyser import AnalyserStatus
from servomex.models.reading import ChannelStatus
from tests.faults.busy import BUSY
from tests.faults.checker import (
    HELD_S,
    MOST_PERIODS,
    SEND_SLACK_S,
    Checker,
    Given,
    same_whole,
)
from tests.faults.crowd import CACHED_EQUAL
from tests.faults.line import WorstLine
from tests.faults.lively import LivelyTruth
from tests.faults.tally import Tally
from tests.faults.truth import BROADCAST, Moment, Said, Truth

OVERRUN_S = 0.15
"""A call may return this long after its deadline."""
BUSY_S = 0.05
"""A computer on which sleeps were late by this much, at the end of a call, is too busy to judge it."""
CROWD_S = 0.1
"""An exchange of another master, or another client, takes so long: its reply was sampled as much before a call."""
EQUAL_ASKED = "said to an equal request of another, up to 0.1 s before the call"
FRESH_PERIODS = 2.5
FROZEN_S = 3.0
"""A clock of whole seconds must stand still for so long before it can be seen that it does."""
SHOWN_S = 0.5
MIXED = 3
"""Broadcasts of another analyser that may be taken before it can be known that there are two.

Two in a row that agree look like a change at the panel. How often each of them is read then does not matter.
"""


class StrictChecker(Checker):
    """A :class:`Checker` that judges all of that.

    Args as for a :class:`Checker`.

    Attributes:
        wanted: The channels that the user asked for; ``None`` for all.
        at: When the thing that is checked was given, if that was not now.
        crowded: Whether others read the same analyser. What was said to an equal request of theirs is true, and
            may have been said just before the driver's own.
        held_up_s: How long broadcasts were held up at the most. Those that come behind may be as old as those that
            were lost meanwhile.
        other: The checker of another analyser whose broadcasts come in turn with those of this one.
        taken: When the broadcasts came that were given, to the microsecond.
    """

    wanted: frozenset[ChannelId] | None = None
    at: float | None = None
    crowded: bool = False
    held_up_s: float = 0.0
    other: "StrictChecker | None" = None

    def __init__(self, truth: Truth, line: WorstLine, tally: Tally, number: int, scene: Callable[[], str]) -> None:
        super().__init__(truth, line, tally, number, scene)
        self.taken: set[float] = set()

    def good(self, where: str, given: Given, since: float, *, limit_s: float | None = None) -> None:
        if self.other and given.readings:
            if not self._is_mine(given):
                self.other.good(where, given, since, limit_s=limit_s)
                return
            self._judge_mixture(where, given, since)
        else:
            self.taken.add(round(given.stamp, 6))
        if not given.readings:
            self.nothing(where, since)
            return
        if given.whole and (kind := self._vanished(given, since)):
            self.blame(kind, f"{where}, a channel is missing", given, since, self._now())
            return
        if self.wanted is not None:
            given = attrs.evolve(given, whole=False)
        super().good(where, given, since, limit_s=limit_s)

    def state(self, where: str, channel: ChannelId, status: ChannelStatus, since: float) -> None:
        if self.truth.mode == "continuous":
            self._alone(
                where,
                since - self._old_s,
                (channel, status),
                lambda said: said.moment.blocks[channel].status == status,
            )
        else:
            super().state(where, channel, status, since)

    def analyser(self, where: str, status: AnalyserStatus, since: float) -> None:
        if self.truth.mode == "continuous":
            self._alone(where, since - self._old_s, status, lambda said: same_whole(status, said.moment))
        else:
            super().analyser(where, status, since)

    def progress(self, where: str, progress: CalibrationProgress, since: float) -> None:
        """Check what a group is said to be on."""
        place = 2 * (progress.group - 1)
        sample = ("S1", "S2")
        letters = {"idle": sample, "sampling": sample, "cal_gas_1": ("C1",), "cal_gas_2": ("C2",)}[
            progress.phase.value
        ]
        since -= self._old_s if self.truth.mode == "continuous" else 0.0
        self._alone(where, since, progress, lambda said: said.function in (2, BROADCAST) and (
            said.moment.groups[place : place + 2] in letters
        ))  # fmt: skip

    def _alone(self, where: str, since: float, given: object, fits: Callable[[Said], bool]) -> None:
        super()._alone(where, since - (CROWD_S if self.crowded else 0.0), given, fits)

    def late(self, where: str, begun: float, allowed_s: float, outcome: str) -> None:
        """Judge when a call returned, unless this computer was too busy to do anything in time."""
        until, due = self._now(), begun + allowed_s
        if until - due <= OVERRUN_S:
            return
        if BUSY.late_s(due - 0.5, until) > BUSY_S:
            self._tally.note("returns on a busy computer, late and not judged")
            return
        text = f"{until - due:.3f} s after its deadline of {allowed_s:.3f} s, with {outcome}"
        self.blame("overrun", where, text, begun, until)

    def blame(self, kind: str, where: str, given: object, since: float, until: float) -> None:
        refined = self._refined(kind, given, since, until)
        if isinstance(given, Given):  # of a recording, what was on the line when it came is of interest
            until = min(until, given.stamp + SHOWN_S)
        super().blame(refined, where, given, since, until)

    def _now(self) -> float:
        return super()._now() if self.at is None else self.at

    def _wall_fits(self, given: Given) -> bool:
        """Of another process, whoever hands its readings on looks at that: the clock there is not set by us."""
        return self.at is not None or super()._wall_fits(given)

    @property
    def _old_s(self) -> float:
        """How old a broadcast may be that passes for current."""
        return HELD_S + max(FRESH_PERIODS, MOST_PERIODS) * self.truth.period

    def _current(self, said: Said) -> float:
        return said.at

    @property
    def _held_s(self) -> float:
        """How far a stamp may be off: 2.5 periods, for that much passes for current anyway."""
        frozen_s = FROZEN_S if isinstance(self.truth, LivelyTruth) and self.truth.frozen else 0.0
        return HELD_S + FRESH_PERIODS * self.truth.period + frozen_s

    @property
    def _early_s(self) -> float:
        return super()._early_s + self.held_up_s

    @property
    def _clock_s(self) -> float:
        """Nobody sets the clock here."""
        return 0.0

    def _window(self, given: Given, since: float) -> list[Said]:
        late_s = SEND_SLACK_S if given.latency is None else given.latency + SEND_SLACK_S
        begun = max(since, given.stamp - late_s) if since else given.stamp - late_s
        return self.truth.between(begun, given.stamp)

    def _vanished(self, given: Given, since: float) -> str:
        """Whether a channel is missing that the user asked for, or that has an alarm all the time."""
        here = {item.channel for item in given.readings}
        gone = (frozenset(self.truth.channels) if self.wanted is None else self.wanted) - here
        said = self._window(given, since)
        if said and any(all(any(item.moment.blocks[name].status.alarms) for item in said) for name in gone):
            return "lost alarm"
        return "wrong" if self.wanted is not None and gone else ""

    def _refined(self, kind: str, given: object, since: float, until: float) -> str:
        """Say what is wrong more precisely: an alarm that is not shown, or gas. An old frame is just old."""
        if kind not in ("wrong", "stale") or (kind == "stale" and isinstance(given, Given)):
            return kind
        said = self.truth.between(since, until)
        statuses: list[tuple[ChannelId, ChannelStatus]] = []
        whole: AnalyserStatus | None = None
        if isinstance(given, Given):
            said = self._window(given, since)
            statuses, whole = [(ChannelId(item.channel), item.status) for item in given.readings], given.analyser
        elif isinstance(given, AnalyserStatus):
            whole = given
        elif isinstance(given, CalibrationProgress):
            flows = said and all(item.moment.groups[2 * given.group - 2] == "C" for item in said)
            return "gas" if flows and not given.active else kind
        elif isinstance(given, tuple):
            statuses = [given]
        if said and any(_lost(said, *pair) for pair in statuses):
            return "lost alarm"
        hidden = said and whole and any(
            all(_hides_gas(whole, place, item.moment) for item in said) for place in range(4)
        )  # fmt: skip
        return "gas" if hidden else kind

    def _excuse(self, given: Given, since: float, until: float) -> str:
        truth = self.truth
        if self.crowded and self._fits(given, truth.between(self._asked(given, since) - CROWD_S, given.stamp)):
            return EQUAL_ASKED
        if not isinstance(truth, LivelyTruth) or not truth.replayed:
            return ""
        again = [item for item in truth.replayed if since - SEND_SLACK_S <= item.at <= until]
        said = [*self._window(given, since), *again]
        return CACHED_EQUAL if again and self._fits(given, said) else ""

    def _excuse_alone(self, fits: Callable[[Said], bool], since: float, until: float) -> str:
        if self.other and any(map(fits, self.other.truth.between(since, until))):
            return "states of the other one of two analysers"
        truth = self.truth
        replayed = truth.replayed if isinstance(truth, LivelyTruth) else []
        return CACHED_EQUAL if any(fits(item) for item in replayed if since <= item.at <= until) else ""

    def _is_mine(self, given: Given) -> bool:
        """Whether a broadcast is of the analyser that was there first, where there are two."""
        mine = [item.moment.blocks for item in self.truth.said if item.function == BROADCAST]
        values = [(ChannelId(item.channel), item.value) for item in given.readings if item.value is not None]
        return not values or any(
            channel in blocks and blocks[channel].value == value for channel, value in values for blocks in mine
        )

    def _judge_mixture(self, where: str, given: Given, since: float) -> None:
        """Find broadcasts of two analysers that are given as those of one."""
        assert self.other is not None
        self.taken.add(round(given.stamp, 6))
        if min(len(self.taken), len(self.other.taken)) > MIXED:
            self.blame("wrong", f"{where}, two analysers taken for one", given, since, self._now())


def _lost(said: list[Said], channel: ChannelId, status: ChannelStatus) -> bool:
    """Whether an alarm that a channel had all the time is not in a state that was given for it."""
    held = [item.moment.blocks[channel].status.alarms for item in said if channel in item.moment.blocks]
    return any(held and all(alarms[place] for alarms in held) and not status.alarms[place] for place in range(4))


def _hides_gas(whole: AnalyserStatus, place: int, moment: Moment) -> bool:
    return moment.groups[2 * place] == "C" and not whole.cal_groups[place].calibrating
