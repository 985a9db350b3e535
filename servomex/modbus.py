"""ModbusClient: what one analyser in a Modbus mode holds, read in as few seconds as its line allows."""

import time
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from servomex import registers
from servomex.clock import Awake
from servomex.enums import EXTERNAL_CHANNELS, ChannelId, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexIllegalDataAddressError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.exchange import Exchange, Reply
from servomex.link import SerialLink
from servomex.link_client import (
    COIL_VALUES,
    LOOPBACK,
    READ_COILS,
    READ_INPUTS,
    READ_REGISTERS,
    WRITE_COIL,
    Query,
)
from servomex.models import AnalyserStatus, ChannelStatus, Frame, Reading
from servomex.registers import Merging, Span
from servomex.validation import whole

T = TypeVar("T")

REDISCOVER_S = 60.0
"""How often blocks that are not read in every sweep are looked at, for a channel that was added."""
LATENESS_NS = 100_000_000
"""A reading that is complete this much after its deadline is refused: the values may be older than they look."""
SWEEP_REQUESTS = 3
"""Of a sweep that reads everything: values, states, and the analyser's own."""
PROMPT_S = 0.2
"""Replies that take longer to begin make every sweep longer."""


class ModbusClient:
    """One analyser in Modbus RTU or ASCII mode, at one address of a link that others may share.

    Every method takes a deadline on ``time.monotonic()`` for the whole call, waiting for other users of the
    port and repeated requests included. All of them raise

    * :class:`ServomexTimeoutError` when no answer came in time,
    * :class:`ServomexFrameError` when only damaged or foreign replies came,
    * :class:`ServomexModbusError` when the analyser refused, and
    * :class:`ServomexConnectionError` when the port is closed or lost.

    Args:
        link: The port. It is opened and closed by its owner, not here.
        address: Slave address, 1 to 247.
        protocol: ``MODBUS_RTU`` or ``MODBUS_ASCII``.
        retries: How often a request is repeated within its deadline, 0 to 10.
        channels: Channels to read; all that are populated when ``None``.

    Raises:
        ServomexValidationError: ``address`` or ``retries`` is out of range.
    """

    def __init__(
        self,
        link: SerialLink,
        address: int,
        protocol: ProtocolKind,
        *,
        retries: int = 2,
        channels: frozenset[ChannelId] | None = None,
    ) -> None:
        self.link = link
        self.address = whole(address, "address", 1, 247)
        self.protocol = protocol
        self.exchange = Exchange(link, address, protocol, whole(retries, "retries", 0, 10))
        ascii_framing = protocol is ProtocolKind.MODBUS_ASCII
        self._timing = registers.LineTiming(link.settings.char_time_s, link.gap_s, ascii_framing)
        self._selected = channels
        self._populated: frozenset[ChannelId] = frozenset()
        self._next_discovery = 0.0
        self._merging = {READ_INPUTS: Merging.ACROSS_GAPS, READ_REGISTERS: Merging.ACROSS_GAPS}
        self._absent: list[ChannelId] = []
        self._sweep_s = self._timing.registers(registers.ALL_REGISTERS) + sum(
            map(self._timing.bits, (registers.ALL_STATES, registers.ALL_ANALYSER))
        )

    @property
    def sweep_s(self) -> float:
        """Seconds that reading everything takes when nothing goes wrong, on this line and with these replies."""
        return self._sweep_s + SWEEP_REQUESTS * max(0.0, self.exchange.slowest_s - PROMPT_S)

    @property
    def patience_s(self) -> float:
        """Seconds that one call takes at most unless it is given another deadline: 1 s and twice a sweep."""
        return 1.0 + 2 * self.sweep_s

    def read_frame(self, deadline: float) -> Frame:
        """Read all channels and their states, and the analyser's: one sweep."""
        with self.link.conversation(deadline):
            while True:
                awake = Awake()
                channels = self._channels_to_read()
                replies: list[tuple[Query, Reply]] = []
                todo, states_asked = self._value_queries(channels), False
                while todo:
                    query, *todo = todo
                    attempts = self.exchange.attempts
                    try:
                        reply = self.exchange.ask(query, deadline)
                    except ServomexIllegalDataAddressError:
                        if not self._read_less_at_once(query):
                            raise
                        break
                    if self.exchange.attempts > attempts + 1:  # what came before the repetition may be outdated
                        todo += [earlier for earlier, _ in replies]
                        replies = []
                    replies.append((query, reply))
                    if not todo and not states_asked:
                        todo = self._state_queries(channels, _words(replies)) + self._analyser_queries()
                        states_asked = True
                else:
                    if self._complete(channels, replies):
                        frame = self._frame(channels, replies, deadline)
                        if self._is_of_one_moment(awake, deadline):
                            return frame

    def look_at_all_channels(self) -> None:
        """Let the next sweep read every block, also those that were not populated so far."""
        self._next_discovery = 0.0

    def read_channel(self, channel: ChannelId, deadline: float) -> Reading:
        """Read one channel and its state.

        Raises:
            ServomexValidationError: The channel is not populated.
        """
        with self.link.conversation(deadline):
            while True:
                awake = Awake()
                words = self.exchange.ask(Query(READ_REGISTERS, registers.REGISTERS[channel]), deadline).words
                bits = self.exchange.ask(Query(READ_INPUTS, registers.STATES[channel]), deadline).bits
                received_at, monotonic_ns = datetime.now(UTC), time.monotonic_ns()
                if self._is_of_one_moment(awake, deadline):
                    break
        if channel not in EXTERNAL_CHANNELS and not registers.is_named(words):
            raise ServomexValidationError(
                f"channel {channel} is not populated: it has no name",
                self._context(channel),
            )
        return registers.decode_channel(channel, words, bits, self.protocol, received_at, monotonic_ns)

    def read_status(self, channel: ChannelId, deadline: float) -> ChannelStatus:
        """Read one channel's state only."""
        with self.link.conversation(deadline):
            while True:
                awake = Awake()
                reply = self.exchange.ask(Query(READ_INPUTS, registers.STATES[channel]), deadline)
                if self._is_of_one_moment(awake, deadline):
                    return registers.decode_state(channel, reply.bits)

    def read_analyser(self, deadline: float) -> AnalyserStatus:
        """Read the analyser's state only."""
        with self.link.conversation(deadline):
            while True:
                awake, bits = Awake(), dict[int, bool]()
                for query in self._analyser_queries():
                    try:
                        bits |= _numbered(query, self.exchange.ask(query, deadline).bits)
                    except ServomexIllegalDataAddressError:
                        if not self._read_less_at_once(query):
                            raise
                        break
                else:
                    if self._is_of_one_moment(awake, deadline):
                        return _analyser(bits)

    def loopback(self, payload: bytes, deadline: float) -> bytes:
        """Send two bytes to the analyser and give what came back (FC08, sub-function 00)."""
        with self.link.conversation(deadline):
            return self.exchange.ask(Query(LOOPBACK, payload=payload), deadline).payload

    def read_coil(self, coil: Span, deadline: float) -> bool:
        """Read one coil (FC01)."""
        with self.link.conversation(deadline):
            return self.exchange.ask(Query(READ_COILS, coil), deadline).bits[0]

    def write_coil(self, coil: Span, value: bool, deadline: float) -> None:
        """Write one coil (FC05), once. After an error nobody knows whether it was heard: read it back."""
        with self.link.conversation(deadline):
            self.exchange.ask(Query(WRITE_COIL, coil, COIL_VALUES[value]), deadline)

    def _is_of_one_moment(self, awake: Awake, deadline: float) -> bool:
        """Whether the computer did not sleep during a reading. If it did, it is to be read again.

        Raises:
            ServomexTimeoutError: There is no time left for that.
        """
        slept_s = awake.slept_s
        if slept_s and time.monotonic() >= deadline:
            raise ServomexTimeoutError(
                f"this computer slept for {slept_s:.1f} s during the reading, and no time is left to repeat it: "
                "read again",
                self._context(),
            )
        return not slept_s

    def _context(self, channel: ChannelId | None = None) -> ErrorContext:
        return ErrorContext(self.link.port, self.protocol, self.address, channel)

    def _channels_to_read(self) -> list[ChannelId]:
        """Choose the channels of a sweep: the selected, the populated, or from time to time all."""
        if self._selected is not None:
            wanted = self._selected
        elif time.monotonic() >= self._next_discovery:
            wanted = frozenset(ChannelId)
        else:
            wanted = self._populated | EXTERNAL_CHANNELS
        return [channel for channel in ChannelId if channel in wanted and channel not in self._absent]

    def _value_queries(self, channels: list[ChannelId]) -> list[Query]:
        """Choose the requests that read the values, names and units of these channels in the least time."""
        spans = [registers.REGISTERS[channel] for channel in channels]
        reads = registers.plan_reads(spans, self._timing.registers, self._merging[READ_REGISTERS])
        return [Query(READ_REGISTERS, span) for span in reads]

    def _state_queries(self, channels: list[ChannelId], words: dict[int, int]) -> list[Query]:
        """Choose the requests that read the states of the channels whose values show that they are populated."""
        spans = [registers.STATES[channel] for channel in channels if channel in _present(words)]
        reads = registers.plan_reads(spans, self._timing.bits, self._merging[READ_INPUTS])
        return [Query(READ_INPUTS, span) for span in reads]

    def _analyser_queries(self) -> list[Query]:
        spans = [registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS]
        reads = registers.plan_reads(spans, self._timing.bits, self._merging[READ_INPUTS])
        return [Query(READ_INPUTS, span) for span in reads]

    def _read_less_at_once(self, refused: Query) -> bool:
        """Adapt to a device that refused to read so much; tell whether there is a point in trying again.

        Only an exception 02 leads here. It is remembered: first no gaps are read over, then blocks are read one
        by one, and a single block that is refused belongs to a channel that the device does not have.
        """
        blocks = registers.REGISTERS if refused.function == READ_REGISTERS else registers.STATES
        channel = next((channel for channel, span in blocks.items() if span == refused.span), None)
        expected = EXTERNAL_CHANNELS | self._populated | (self._selected or frozenset())
        if refused.function == READ_REGISTERS and channel is not None and channel not in expected:
            self._absent.append(channel)
            self._merging[refused.function] = Merging.ADJACENT
            return True
        if self._merging[refused.function] is Merging.NEVER:
            return False
        self._merging[refused.function] = Merging(self._merging[refused.function] + 1)
        return True

    def _complete(self, channels: list[ChannelId], replies: list[tuple[Query, Reply]]) -> bool:
        """Tell whether every populated channel has its state: one may have got its name in mid-sweep."""
        read = {
            address for query, _ in replies if query.function == READ_INPUTS for address in query.span.addresses
        }
        present = _present(_words(replies))
        return all(registers.STATES[item].address in read for item in channels if item in present)

    def _frame(self, channels: list[ChannelId], replies: list[tuple[Query, Reply]], deadline: float) -> Frame:
        received_at, received_ns = datetime.now(UTC), time.monotonic_ns()
        if received_ns >= deadline * 1e9 + LATENESS_NS:
            raise ServomexTimeoutError(
                "the reading was complete only after its deadline: this computer was too busy, or stood still",
                self._context(),
            )
        latency_s = (received_ns - replies[0][1].sent_ns) / 1e9
        words = _words(replies)
        bits: dict[int, bool] = {}
        for query, reply in replies:
            bits |= _numbered(query, reply.bits)
        present = _present(words)
        self._note_present(channels, present)
        readings = tuple(
            registers.decode_channel(
                channel,
                _block(words, channel),
                [bits[address] for address in registers.STATES[channel].addresses],
                self.protocol,
                received_at,
                received_ns,
            )
            for channel in channels
            if channel in present
        )
        return Frame(
            self.protocol,
            readings,
            _analyser(bits),
            received_at,
            received_ns,
            received_at - timedelta(seconds=latency_s),
            latency_s,
            b"".join(reply.raw for _, reply in replies),
        )

    def _note_present(self, channels: list[ChannelId], present: frozenset[ChannelId]) -> None:
        """Remember which channels are populated; look at all of them again soon when that has changed."""
        if len(channels) + len(self._absent) >= len(ChannelId):
            self._populated = present
            self._next_discovery = time.monotonic() + REDISCOVER_S
            self._absent = self._absent[1:]  # one is tried again next time: each costs a refused request
        elif self._selected is None and present - EXTERNAL_CHANNELS != self._populated - EXTERNAL_CHANNELS:
            self._next_discovery = 0.0


def _words(replies: list[tuple[Query, Reply]]) -> dict[int, int]:
    words: dict[int, int] = {}
    for query, reply in replies:
        words |= _numbered(query, reply.words)
    return words


def _block(words: dict[int, int], channel: ChannelId) -> list[int]:
    return [words[address] for address in registers.REGISTERS[channel].addresses]


def _present(words: dict[int, int]) -> frozenset[ChannelId]:
    """The populated channels among those that were read: E1 and E2, and what has a name."""
    return frozenset(
        channel
        for channel, span in registers.REGISTERS.items()
        if span.address in words and (channel in EXTERNAL_CHANNELS or registers.is_named(_block(words, channel)))
    )


def _numbered(query: Query, values: tuple[T, ...]) -> dict[int, T]:
    return dict(zip(query.span.addresses, values, strict=False))


def _analyser(bits: dict[int, bool]) -> AnalyserStatus:
    return registers.decode_analyser(
        [bits[address] for address in registers.ANALYSER_FLAGS.addresses],
        [bits[address] for address in registers.ANALYSER_GROUPS.addresses],
    )
