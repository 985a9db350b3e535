"""Sweep: the replies of one reading of an analyser, put together by address. No I/O."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from servomex import registers
from servomex.enums import EXTERNAL_CHANNELS, ChannelId, ProtocolKind
from servomex.exchange import Reply
from servomex.link_client import READ_INPUTS, Query
from servomex.models import AnalyserStatus, Frame


class Sweep:
    """What was read so far of some channels, their states and the analyser's.

    Args:
        channels: The channels that are read, in the analyser's order.
        todo: The requests for their values.
        repeats: How many requests had to be repeated before.

    Attributes:
        todo: The requests that are still to be sent.
        states_planned: Whether those for the states have been among them.
    """

    def __init__(self, channels: Sequence[ChannelId], todo: list[Query], repeats: int) -> None:
        self.channels = channels
        self.todo = todo
        self.states_planned = False
        self._repeats = repeats
        self._replies: list[tuple[Query, Reply]] = []
        self._words: dict[int, int] = {}
        self._bits: dict[int, bool] = {}

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
            self._repeats = repeats
        self._replies.append((query, reply))
        if query.function == READ_INPUTS:
            self._bits.update(zip(query.span.addresses, reply.bits, strict=False))
        else:
            self._words.update(zip(query.span.addresses, reply.words, strict=True))

    @property
    def present(self) -> frozenset[ChannelId]:
        """The populated channels among those that were read: E1 and E2, and what has a name."""
        return frozenset(
            channel
            for channel, span in registers.REGISTERS.items()
            if span.address in self._words
            and (channel in EXTERNAL_CHANNELS or registers.is_named(self._block(channel)))
        )

    @property
    def is_complete(self) -> bool:
        """Whether every populated channel has its state: one may have got its name in mid-sweep."""
        present = self.present
        return all(registers.STATES[item].address in self._bits for item in self.channels if item in present)

    def frame(self, protocol: ProtocolKind, received_at: datetime, received_ns: int) -> Frame:
        """Return what was read.

        Args:
            protocol: The communication mode.
            received_at: When the last byte came, UTC.
            received_ns: The same on the monotonic clock.
        """
        latency_s = (received_ns - self._replies[0][1].sent_ns) / 1e9
        present = self.present
        readings = tuple(
            registers.decode_channel(
                channel,
                self._block(channel),
                [self._bits[address] for address in registers.STATES[channel].addresses],
                protocol,
                received_at,
                received_ns,
            )
            for channel in self.channels
            if channel in present
        )
        return Frame(
            protocol,
            readings,
            analyser_of(self._bits),
            received_at,
            received_ns,
            received_at - timedelta(seconds=latency_s),
            latency_s,
            b"".join(reply.raw for _, reply in self._replies),
        )

    def _block(self, channel: ChannelId) -> list[int]:
        return [self._words[address] for address in registers.REGISTERS[channel].addresses]


def analyser_of(bits: dict[int, bool]) -> AnalyserStatus:
    """Decode the analyser's state from discrete inputs by address."""
    flags, groups = registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS
    return registers.decode_analyser(_at(bits, flags.addresses), _at(bits, groups.addresses))


def _at(bits: dict[int, bool], addresses: Iterable[int]) -> list[bool]:
    return [bits[address] for address in addresses]
