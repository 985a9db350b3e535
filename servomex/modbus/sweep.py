"""Sweep: the replies of one reading of an analyser, put together by address. No I/O."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar, cast

from servomex import registers
from servomex.enums import ChannelId, ProtocolKind
from servomex.modbus.query import READ_INPUTS, Query
from servomex.modbus.replies import Reply
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.registers import Span
from servomex.runtime.suspend import Awake

_T = TypeVar("_T")


class Sweep:
    """What was read so far of some channels, their states and the analyser's.

    Args:
        channels: See :meth:`begin`.
        todo: See :meth:`begin`.
        repeats: See :meth:`begin`.

    Attributes:
        channels: The channels that are read, in the analyser's order.
        todo: The requests that are still to be sent.
        states_planned: Whether the requests for the states have been planned.
        agrees: Whether everything that was read twice, in reads of different sizes, was the same.
        awake: Shows whether the computer has slept since the sweep began.
    """

    channels: Sequence[ChannelId]
    todo: list[Query]
    states_planned: bool
    agrees: bool
    awake: Awake

    def __init__(self, channels: Sequence[ChannelId] = (), todo: Sequence[Query] = (), repeats: int = 0) -> None:
        self.begin(channels, todo, repeats)

    def begin(self, channels: Sequence[ChannelId], todo: Sequence[Query], repeats: int) -> None:
        """Start over, with nothing read.

        Args:
            channels: The channels to read.
            todo: The first requests, those for values if there are any.
            repeats: How many requests had to be repeated before.
        """
        self.channels, self.todo = channels, list(todo)
        self.states_planned, self.agrees = False, True
        self.awake = Awake()
        self._repeats = repeats
        self._words: list[int | None] = [None] * registers.ALL_REGISTERS.end
        self._bits: list[bool | None] = [None] * registers.ALL_ANALYSER.end
        self._replies: list[tuple[Query, Reply]] = []

    def add(self, query: Query, reply: Reply, repeats: int) -> None:
        """Add a reply. If its request had to be repeated, earlier replies may be outdated and are asked for again.

        Args:
            query: A read of registers or of discrete inputs.
            reply: Its reply.
            repeats: How many requests had to be repeated by now.
        """
        if repeats > self._repeats:
            self.todo += [earlier for earlier, _ in self._replies]
            self._replies.clear()
            self._bits = [None] * registers.ALL_ANALYSER.end
            self._repeats = repeats
        self._replies.append((query, reply))
        place = query.span.place
        if query.function == READ_INPUTS:
            before = self._bits[place]
            if before.count(None) < len(before):
                self.agrees = self.agrees and all(
                    old in (None, new) for old, new in zip(before, reply.bits, strict=True)
                )
            self._bits[place] = _whole(query.span, reply.bits)
        else:
            self._words[place] = _whole(query.span, reply.words)

    @property
    def words(self) -> dict[int, int]:
        """The registers that were read, by address."""
        return {address: word for address, word in enumerate(self._words) if word is not None}

    @property
    def raw(self) -> bytes:
        """The replies in the order of their arrival."""
        return b"".join([reply.raw for _, reply in self._replies])

    def is_complete(self, wanted: Iterable[ChannelId]) -> bool:
        """Return whether each raised state has a value and each name a state."""
        if self._holds_all:
            return True
        for channel in wanted:
            block = self._words[registers.REGISTERS[channel].place]
            states = self._bits[registers.STATES[channel].place]
            if None in block:
                if any(states):
                    return False
            elif None in states and registers.is_named(cast("list[int]", block)):
                return False
        return True

    def whole_channels(self, wanted: frozenset[ChannelId] | None) -> list[ChannelId]:
        """Return the wanted channels (``None``: any) of which everything was read: some lie in a gap read over."""
        if self._holds_all:
            return [channel for channel in ChannelId if wanted is None or channel in wanted]
        return [
            channel
            for channel in ChannelId
            if (wanted is None or channel in wanted)
            and None not in self._words[registers.REGISTERS[channel].place]
            and None not in self._bits[registers.STATES[channel].place]
        ]

    @property
    def _holds_all(self) -> bool:
        """Whether all registers and states were read, which takes the least time on most lines."""
        return None not in self._words and None not in self._bits[registers.ALL_STATES.place]

    @property
    def analyser(self) -> AnalyserStatus:
        """The state of the analyser."""
        bits = cast("list[bool]", self._bits)
        flags, groups = registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS
        return registers.decode_analyser(bits[flags.place], bits[groups.place])

    def frame(
        self, protocol: ProtocolKind, channels: Sequence[ChannelId], received_at: datetime, received_ns: int
    ) -> Frame:
        """Return what was read.

        Args:
            protocol: The communication mode.
            channels: The channels that it is to hold, as far as they are populated, see :meth:`whole_channels`.
            received_at: When the last byte arrived, UTC.
            received_ns: The same on the monotonic clock.
        """
        latency_s = (received_ns - self._replies[0][1].sent_ns) / 1e9
        words, bits = cast("list[int]", self._words), cast("list[bool]", self._bits)
        readings = registers.decode_channels(channels, words, bits, protocol, received_at, received_ns)
        return Frame(
            protocol,
            tuple(readings),
            self.analyser,
            received_at,
            received_ns,
            received_at - timedelta(seconds=latency_s),
            latency_s,
            self.raw,
        )


def _whole(span: Span, values: tuple[_T, ...]) -> tuple[_T, ...]:
    """Return what was read of a span; more or less would shift everything after it to another channel."""
    if len(values) != span.count:
        raise ValueError(f"{len(values)} values for {span}")
    return values
