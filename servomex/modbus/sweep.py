"""Sweep: the replies of one reading of an analyser, put together by address. No I/O."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from servomex import registers
from servomex.enums import ChannelId, ProtocolKind
from servomex.modbus.framing import READ_INPUTS, Query
from servomex.modbus.replies import Reply
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import is_populated


class Sweep:
    """What was read so far of some channels, their states and the analyser's.

    Args:
        channels: The channels that are read, in the analyser's order.
        todo: The requests for their values.
        repeats: How many requests had to be repeated before.

    Attributes:
        todo: The requests that are still to be sent.
        states_planned: Whether those for the states have been among them.
        words: Registers by address.
        agrees: Whether what was read twice, in reads of several sizes, was the same.
    """

    def __init__(self, channels: Sequence[ChannelId], todo: list[Query], repeats: int) -> None:
        self.channels = channels
        self.todo: list[Query] = todo
        self.states_planned = False
        self._repeats = repeats
        self.words: dict[int, int] = {}
        self.agrees: bool = True
        self._bits: dict[int, bool] = {}
        self._replies: list[tuple[Query, Reply]] = []

    def add(self, query: Query, reply: Reply, repeats: int) -> None:
        """Take a reply. If its request had to be repeated, what came before may be outdated, and is asked again.

        Args:
            query: A read of registers or of discrete inputs.
            reply: Its reply.
            repeats: How many requests had to be repeated by now.
        """
        if repeats > self._repeats:
            self.todo += [earlier for earlier, _ in self._replies]
            self._replies.clear()
            self._bits.clear()
            self._repeats = repeats
        self._replies.append((query, reply))
        if query.function == READ_INPUTS:
            bits = dict(zip(query.span.addresses, reply.bits, strict=False))
            self.agrees = self.agrees and all(self._bits.get(address, bit) == bit for address, bit in bits.items())
            self._bits.update(bits)
        else:
            self.words.update(zip(query.span.addresses, reply.words, strict=True))

    @property
    def raw(self) -> bytes:
        """The replies as they came."""
        return b"".join(reply.raw for _, reply in self._replies)

    def is_complete(self, wanted: Iterable[ChannelId]) -> bool:
        """Return whether there is a value for each raised state and a state for each name."""
        for channel in wanted:
            block = [self.words.get(address) for address in registers.REGISTERS[channel].addresses]
            states = [self._bits.get(address) for address in registers.STATES[channel].addresses]
            named = None not in block and registers.is_named([word or 0 for word in block])
            if (any(states) and None in block) or (named and None in states):
                return False
        return True

    def whole_channels(self, wanted: Iterable[ChannelId]) -> list[ChannelId]:
        """Return the channels of which everything was read: some lie in a gap that was read over."""
        return [
            channel
            for channel in wanted
            if self.words.keys() >= set(registers.REGISTERS[channel].addresses)
            and self._bits.keys() >= set(registers.STATES[channel].addresses)
        ]

    @property
    def analyser(self) -> AnalyserStatus:
        """The state of the analyser."""
        flags, groups = registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS
        return registers.decode_analyser(
            [self._bits[address] for address in flags.addresses],
            [self._bits[address] for address in groups.addresses],
        )

    def frame(
        self, protocol: ProtocolKind, wanted: frozenset[ChannelId], received_at: datetime, received_ns: int
    ) -> Frame:
        """Return what was read.

        Args:
            protocol: The communication mode.
            wanted: The channels that it is to hold, as far as they are populated.
            received_at: When the last byte came, UTC.
            received_ns: The same on the monotonic clock.
        """
        latency_s = (received_ns - self._replies[0][1].sent_ns) / 1e9
        decoded = (
            registers.decode_channel(
                channel,
                [self.words[address] for address in registers.REGISTERS[channel].addresses],
                [self._bits[address] for address in registers.STATES[channel].addresses],
                protocol,
                received_at,
                received_ns,
            )
            for channel in self.whole_channels(channel for channel in ChannelId if channel in wanted)
        )
        return Frame(
            protocol,
            tuple(filter(is_populated, decoded)),
            self.analyser,
            received_at,
            received_ns,
            received_at - timedelta(seconds=latency_s),
            latency_s,
            self.raw,
        )
