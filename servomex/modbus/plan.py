"""ReadPlan: which registers and discrete inputs are read, in as few seconds as the line allows. No I/O."""

from collections.abc import Sequence
from functools import lru_cache

from servomex import registers
from servomex.enums import EXTERNAL_CHANNELS, ChannelId
from servomex.modbus.known import Known
from servomex.modbus.others import Others
from servomex.modbus.query import READ_INPUTS, READ_REGISTERS, Query
from servomex.registers import LineTiming, Merging, Span
from servomex.runtime.clock import time

REDISCOVER_S = 60.0
"""How often blocks that are not read in every sweep are checked for an added channel."""
LARGEST_BLOCK = max(registers.BLOCK_REGISTERS, registers.STATE_BITS)
"""Registers or states of one channel: no read can be smaller."""
AREAS = (registers.ALL_REGISTERS, registers.ALL_STATES, registers.ALL_ANALYSER)
"""A device that refuses to read over the gaps of one of these may allow it in the others."""


class ReadPlan:
    """Chooses the requests to one analyser, by what it has shown and refused so far.

    Args:
        timing: What a read costs on the line.
        others: What was heard of other masters and programs on the line.
        known: What the analyser's replies have shown.
        selected: Channels to read; all that are populated when ``None``.

    Attributes:
        absent: Channels whose block the device refuses to read.
    """

    def __init__(
        self, timing: LineTiming, others: Others, known: Known, selected: frozenset[ChannelId] | None
    ) -> None:
        self.absent: list[ChannelId] = []
        self._timing = timing
        self._others = others
        self._known = known
        self._selected = selected
        self._populated: frozenset[ChannelId] = frozenset()
        self._next_discovery = 0.0
        self._merging = dict.fromkeys(AREAS, Merging.ACROSS_GAPS)

    def look_at_all_channels(self) -> None:
        """Read every block in the next sweep, also those that were not populated so far."""
        self._next_discovery = 0.0

    def channels(self) -> list[ChannelId]:
        """Choose the channels of a sweep: the selected, the populated, or from time to time all."""
        if self._selected is not None:
            wanted = self._selected
        elif time.monotonic() >= self._next_discovery:
            wanted = frozenset(ChannelId)
        else:
            wanted = self._populated | EXTERNAL_CHANNELS
        return [channel for channel in ChannelId if channel in wanted and channel not in self.absent]

    def value_queries(self, channels: Sequence[ChannelId]) -> tuple[Query, ...]:
        """Choose the requests that read values, names and units in the least time; on a shared line one for all.

        No other read returns as much, so its reply shows what it answers.
        """
        if self._others.shared and self._may_read_over_gaps(registers.ALL_REGISTERS):
            return (Query(READ_REGISTERS, registers.ALL_REGISTERS),)
        spans = tuple(map(registers.REGISTERS.__getitem__, channels))
        return _cheapest(READ_REGISTERS, spans, self._timing, self._merging[registers.ALL_REGISTERS])

    def state_queries(self, channels: Sequence[ChannelId]) -> tuple[Query, ...]:
        """Choose the requests that read the states, also of channels that were not populated so far."""
        if self._may_read_over_gaps(registers.ALL_STATES):
            return _ALL_STATES
        spans = tuple(map(registers.STATES.__getitem__, channels))
        return _cheapest(READ_INPUTS, spans, self._timing, self._merging[registers.ALL_STATES])

    def analyser_queries(self) -> tuple[Query, ...]:
        """Choose the requests that read the analyser's state; where others read as many bits, of two sizes."""
        apart = (registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS)
        reads = _cheapest(READ_INPUTS, apart, self._timing, self._merging[registers.ALL_ANALYSER])
        contested = self._others.ask_for(_IN_ONE) and not self._others.ask_for(_IN_TWO)
        if contested and len(reads) == 1:
            return tuple(Query(READ_INPUTS, span, paired=True) for span in (reads[0].span, *apart))
        return reads

    def block_of(self, channel: ChannelId) -> Span:
        """Choose what is read for one channel's value: all, where others may have its name and unit."""
        span = registers.REGISTERS[channel]
        together = self._may_read_over_gaps(registers.ALL_REGISTERS)
        return registers.ALL_REGISTERS if together and not self._known.distinguishes(span) else span

    def states_of(self, channel: ChannelId) -> Span:
        """Choose what is read for one channel's state: all states, since no other read returns as much."""
        together = self._may_read_over_gaps(registers.ALL_STATES)
        return registers.ALL_STATES if together else registers.STATES[channel]

    def read_less(self, refused: Query) -> bool:
        """Adapt to a device that refused so large a read; return whether trying again makes sense.

        Only an exception 02 leads here. It is remembered: first no gaps are read over, then blocks are read one
        by one, and a single block that is refused belongs to a channel that the device does not have.
        """
        area = _area_of(refused)
        channel = next((channel for channel, span in registers.REGISTERS.items() if span == refused.span), None)
        expected = EXTERNAL_CHANNELS | self._populated | (self._selected or frozenset())
        if area == registers.ALL_REGISTERS and channel is not None and channel not in expected:
            self.absent.append(channel)
            self._merging[area] = Merging.ADJACENT
            return True
        if self._merging[area] is Merging.NEVER:
            return False
        self._merging[area] = Merging(self._merging[area] + 1)
        return True

    def note_present(self, channels: Sequence[ChannelId], present: frozenset[ChannelId]) -> None:
        """Remember which channels are populated; check all of them again soon when that has changed."""
        if len(channels) + len(self.absent) >= len(ChannelId):
            self._populated = present
            self._next_discovery = time.monotonic() + REDISCOVER_S
            self.absent = self.absent[1:]  # one is tried again next time: each costs a refused request
        elif self._selected is None and present - EXTERNAL_CHANNELS != self._populated - EXTERNAL_CHANNELS:
            self._next_discovery = 0.0

    def _may_read_over_gaps(self, area: Span) -> bool:
        return self._merging[area] is Merging.ACROSS_GAPS and not self.absent


_IN_ONE, _IN_TWO = (READ_INPUTS, 5), (READ_INPUTS, 4)
"""The shape of a reply with the whole state of the analyser, of two bytes, and with a part of it, of one."""
_ALL_STATES = (Query(READ_INPUTS, registers.ALL_STATES),)


@lru_cache(maxsize=128)
def _cheapest(function: int, spans: tuple[Span, ...], timing: LineTiming, merging: Merging) -> tuple[Query, ...]:
    """Return the requests that read all these spans in the least time."""
    cost = timing.registers if function == READ_REGISTERS else timing.bits
    return tuple(Query(function, span) for span in registers.plan_reads(spans, cost, merging))


def _area_of(query: Query) -> Span:
    if query.function == READ_REGISTERS:
        return registers.ALL_REGISTERS
    return registers.ALL_STATES if query.span.address < registers.ALL_STATES.end else registers.ALL_ANALYSER
