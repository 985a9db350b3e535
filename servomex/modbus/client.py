"""ModbusClient: what one analyser in a Modbus mode holds, read in as few seconds as its line allows."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from servomex import registers
from servomex.enums import EXTERNAL_CHANNELS, ChannelId, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexChannelNotFoundError,
    ServomexIllegalDataAddressError,
    ServomexTimeoutError,
)
from servomex.errors.validation import whole
from servomex.modbus import identity
from servomex.modbus.exchange import Exchange
from servomex.modbus.framing import (
    COIL_VALUES,
    LOOPBACK,
    READ_COILS,
    READ_INPUTS,
    READ_REGISTERS,
    WRITE_COIL,
    Query,
)
from servomex.modbus.line import ModbusLine
from servomex.modbus.replies import Reply
from servomex.modbus.safety import check_confirmed
from servomex.modbus.sweep import Sweep
from servomex.models.analyser import AnalyserStatus
from servomex.models.channelset import ChannelSet
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus, Reading, is_populated
from servomex.port.link import SerialLink
from servomex.registers import Merging, Span
from servomex.runtime.clock import time
from servomex.runtime.suspend import Awake

REDISCOVER_S = 60.0
"""How often blocks that are not read in every sweep are looked at, for a channel that was added."""
PRESENCE_S = 10.0
"""For how long a channel that was seen counts as there when only its state is read."""
LATENESS_NS = 100_000_000
"""A reading that is complete this much after its deadline is refused: the values may be older than they look."""
SWEEP_REQUESTS = 3
"""Of a sweep that reads everything: values, states, and the analyser's own."""
LARGEST_BLOCK = max(registers.BLOCK_REGISTERS, registers.STATE_BITS)
"""Registers or states of one channel: no read can be smaller."""
AREAS = (registers.ALL_REGISTERS, registers.ALL_STATES, registers.ALL_ANALYSER)
"""A device that refuses to read over the gaps of one of these may allow it in the others."""
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
        gap_s: Seconds of silence kept before each request; those of the link when ``None``.

    Attributes:
        line: What is known of the line by all who speak Modbus on it.
        selected: Channels that are read; ``None`` for all.

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
        gap_s: float | None = None,
    ) -> None:
        self.link = link
        self.line: ModbusLine = link.state(ModbusLine)
        self.gap_s: float = link.gap_s if gap_s is None else gap_s
        self.address: int = whole(address, "address", 1, 247)
        self.protocol = protocol
        self.exchange: Exchange = Exchange(link, address, protocol, whole(retries, "retries", 0, 10), self.gap_s)
        ascii_framing = protocol is ProtocolKind.MODBUS_ASCII
        self._timing = registers.LineTiming(link.settings.char_time_s, self.gap_s, ascii_framing)
        self.selected = channels
        self._known = ChannelSet(channels)
        self._recognised = False
        self._looked_at: dict[ChannelId, float] = {}
        self._populated: frozenset[ChannelId] = frozenset()
        self._next_discovery = 0.0
        self._merging = dict.fromkeys(AREAS, Merging.ACROSS_GAPS)
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
                sweep = Sweep(channels, self._value_queries(channels), self.exchange.repeats)
                try:
                    while (query := self._next_query(sweep, deadline)) is not None:
                        sweep.add(query, self.exchange.ask(query, deadline), self.exchange.repeats)
                except ServomexIllegalDataAddressError:
                    if query is None or not self._read_less_at_once(query):
                        self._recognise_refusing(sweep, deadline)
                        raise
                    continue
                if sweep.agrees and self._is_complete(sweep) and self._concluded(awake, deadline):
                    return self._frame(sweep, deadline)

    def _next_query(self, sweep: Sweep, deadline: float) -> Query | None:
        """Take what is to be asked next: all values, then the states."""
        if not sweep.todo and not sweep.states_planned:
            self._recognise(sweep.words, sweep.raw, deadline)
            sweep.todo = self._state_queries(sweep.channels) + self._analyser_queries()
            sweep.states_planned = True
        return sweep.todo.pop(0) if sweep.todo else None

    def look_at_all_channels(self) -> None:
        """Let the next sweep read every block, also those that were not populated so far."""
        self._next_discovery = 0.0

    def read_channel(self, channel: ChannelId, deadline: float) -> Reading:
        """Read one channel and its state.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated.
        """
        with self.link.conversation(deadline):
            while True:
                awake = Awake()
                words, bits = self._registers_of(channel, deadline), self._states_of(channel, deadline)
                if self._concluded(awake, deadline):
                    break
            received_at, monotonic_ns = self._moment(deadline)
        reading = registers.decode_channel(channel, words, bits, self.protocol, received_at, monotonic_ns)
        if not is_populated(reading):
            raise ServomexChannelNotFoundError(
                f"channel {channel} is not populated: it has no name, no state and no value{self._known.there}",
                self._context(channel),
            )
        self._looked_at[channel] = time.monotonic()
        return reading

    def read_status(self, channel: ChannelId, deadline: float) -> ChannelStatus:
        """Read one channel's state; its registers as well, unless they showed it to be there within 10 s.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated.
        """
        if time.monotonic() - self._looked_at.get(channel, -math.inf) > PRESENCE_S:
            return self.read_channel(channel, deadline).status
        with self.link.conversation(deadline):
            while True:
                awake, bits = Awake(), self._states_of(channel, deadline)
                if self._concluded(awake, deadline):
                    self._moment(deadline)
                    return registers.decode_state(channel, bits)

    def read_analyser(self, deadline: float) -> AnalyserStatus:
        """Read the analyser's state only."""
        with self.link.conversation(deadline):
            while True:
                awake, sweep = Awake(), Sweep((), self._analyser_queries(), self.exchange.repeats)
                try:
                    while sweep.todo:
                        query = sweep.todo.pop(0)
                        sweep.add(query, self.exchange.ask(query, deadline), self.exchange.repeats)
                except ServomexIllegalDataAddressError:
                    if not self._read_less_at_once(query):
                        raise
                    continue
                if sweep.agrees and self._concluded(awake, deadline):
                    self._moment(deadline)
                    return sweep.analyser

    def recognise(self, deadline: float) -> None:
        """Make sure that this is an analyser of the series, unless what was read before has shown it.

        Raises:
            ServomexForeignDeviceError: It is another instrument.
        """
        if not self._recognised:
            with self.link.conversation(deadline):
                self._recognise({}, b"", deadline)

    def loopback(self, payload: bytes, deadline: float) -> bytes:
        """Send two bytes to the analyser and give what came back (FC08, sub-function 00)."""
        with self.link.conversation(deadline):
            return self.exchange.ask(Query(LOOPBACK, payload=payload), deadline).payload

    def read_coil(self, coil: Span, deadline: float) -> bool:
        """Read one coil (FC01)."""
        return self.read_coils(coil, deadline)[0]

    def read_coils(self, coils: Span, deadline: float) -> tuple[bool, ...]:
        """Read coils (FC01)."""
        with self.link.conversation(deadline):
            while True:
                bits = self.exchange.ask(Query(READ_COILS, coils), deadline).bits
                if self.exchange.conclude(deadline):
                    self._moment(deadline)
                    return bits

    def write_coil(self, coil: Span, value: bool, deadline: float, *, confirm: bool = False) -> None:
        """Write one coil (FC05), once. After an error nobody knows whether it was heard: read it back.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
        """
        check_confirmed("write_coil", confirm, "a coil may start or stop an autocalibration", self._context())
        with self.link.conversation(deadline):
            self.exchange.ask(Query(WRITE_COIL, coil, COIL_VALUES[value]), deadline)

    def _concluded(self, awake: Awake, deadline: float) -> bool:
        """Whether all that was read is proven and of one moment; otherwise it is to be read again."""
        return self.exchange.conclude(deadline) and self._is_of_one_moment(awake, deadline)

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

    def _moment(self, deadline: float) -> tuple[datetime, int]:
        """Give the moment at which a reading is complete.

        Raises:
            ServomexTimeoutError: It is long after the deadline: what was read may have waited since.
        """
        received_at, received_ns = datetime.now(UTC), time.monotonic_ns()
        if received_ns >= deadline * 1e9 + LATENESS_NS:
            raise ServomexTimeoutError(
                "the reading was complete only after its deadline: this computer was too busy, or stood still",
                self._context(),
            )
        return received_at, received_ns

    def _context(self, channel: ChannelId | None = None) -> ErrorContext:
        return ErrorContext(self.link.port, self.protocol, self.address, channel)

    def _channels_to_read(self) -> list[ChannelId]:
        """Choose the channels of a sweep: the selected, the populated, or from time to time all."""
        if self.selected is not None:
            wanted = self.selected
        elif time.monotonic() >= self._next_discovery:
            wanted = frozenset(ChannelId)
        else:
            wanted = self._populated | EXTERNAL_CHANNELS
        return [channel for channel in ChannelId if channel in wanted and channel not in self._absent]

    def _value_queries(self, channels: Sequence[ChannelId]) -> list[Query]:
        """Choose the requests that read values, names and units in the least time; on a shared line one for all.

        No other read brings as much, so its reply shows what it answers.
        """
        if self.line.others.shared and self._may_read_over_gaps(registers.ALL_REGISTERS):
            return [Query(READ_REGISTERS, registers.ALL_REGISTERS)]
        spans = [registers.REGISTERS[channel] for channel in channels]
        reads = registers.plan_reads(spans, self._timing.registers, self._merging[registers.ALL_REGISTERS])
        return [Query(READ_REGISTERS, span) for span in reads]

    def _recognise(self, words: Mapping[int, int], raw: bytes, deadline: float) -> None:
        """Make sure that registers are those of the series; read other blocks while these do not show it.

        Args:
            words: What was read, by address.
            raw: The replies that they came with.
            deadline: When to give up, on ``time.monotonic()``.

        Raises:
            ServomexForeignDeviceError: They are not.
        """
        found = dict(words)
        for span in reversed(registers.REGISTERS.values()):  # E1 and E2 come first: every analyser has them
            if identity.is_ours(found):
                break
            if span.address not in found:
                with contextlib.suppress(ServomexIllegalDataAddressError):
                    reply = self.exchange.ask(Query(READ_REGISTERS, span), deadline)
                    found.update(zip(span.addresses, reply.words, strict=True))
                    raw += reply.raw
        if not identity.is_ours(found, complete=True):
            self._recognised = False
            self._looked_at.clear()
            raise identity.foreign_device(found, attrs.evolve(self._context(), response=raw))
        self._recognised = True

    def _recognise_refusing(self, sweep: Sweep, deadline: float) -> None:
        """Look whether a device that refuses a read in mid-sweep is an analyser at all."""
        if not sweep.states_planned and (sweep.words or not self._recognised):
            self._recognise(sweep.words, sweep.raw, deadline)

    def _registers_of(self, channel: ChannelId, deadline: float) -> tuple[int, ...]:
        """Read the registers of one channel, or of all, and make sure that they are those of the series."""
        try:
            block, reply = self._read_around(READ_REGISTERS, self._block_to_read, channel, deadline)
        except ServomexIllegalDataAddressError:
            self._recognise({}, b"", deadline)
            raise
        self._recognise(dict(zip(block.addresses, reply.words, strict=True)), reply.raw, deadline)
        return block.cut(reply.words, registers.REGISTERS[channel])

    def _states_of(self, channel: ChannelId, deadline: float) -> tuple[bool, ...]:
        """Read the states of one channel, or of all."""
        span, reply = self._read_around(READ_INPUTS, self._states_to_read, channel, deadline)
        return span.cut(reply.bits, registers.STATES[channel])

    def _read_around(
        self, function: int, choose: Callable[[ChannelId], Span], channel: ChannelId, deadline: float
    ) -> tuple[Span, Reply]:
        """Read what is chosen for a channel; less of it where the device refuses as much."""
        while True:
            query = Query(function, choose(channel))
            try:
                return query.span, self.exchange.ask(query, deadline)
            except ServomexIllegalDataAddressError:
                if not (query.span.count > LARGEST_BLOCK and self._read_less_at_once(query)):
                    raise

    def _state_queries(self, channels: Sequence[ChannelId]) -> list[Query]:
        """Choose the requests that read the states, also of channels that were not populated so far."""
        if self._may_read_over_gaps(registers.ALL_STATES):
            return [Query(READ_INPUTS, registers.ALL_STATES)]
        spans = [registers.STATES[channel] for channel in channels]
        reads = registers.plan_reads(spans, self._timing.bits, self._merging[registers.ALL_STATES])
        return [Query(READ_INPUTS, span) for span in reads]

    def _states_to_read(self, channel: ChannelId) -> Span:
        """Choose what is read for one channel's state: all of them, since no other read brings as much."""
        together = self._may_read_over_gaps(registers.ALL_STATES)
        return registers.ALL_STATES if together else registers.STATES[channel]

    def _may_read_over_gaps(self, area: Span) -> bool:
        return self._merging[area] is Merging.ACROSS_GAPS and not self._absent

    def _block_to_read(self, channel: ChannelId) -> Span:
        """Choose what is read for one channel's value: all, where its name and unit do not tell it from others."""
        span = registers.REGISTERS[channel]
        together = self._may_read_over_gaps(registers.ALL_REGISTERS)
        may_be_another = not self.exchange.evidence.known.tells_apart(span)
        return registers.ALL_REGISTERS if may_be_another and together else span

    def _analyser_queries(self) -> list[Query]:
        """Choose the requests that read the analyser's state; where others read as many bits, of two sizes."""
        spans = [registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS]
        reads = registers.plan_reads(spans, self._timing.bits, self._merging[registers.ALL_ANALYSER])
        in_one, in_two = ((READ_INPUTS, 3 + size) for size in (2, 1))
        contested = self.line.others.ask_for(in_one) and not self.line.others.ask_for(in_two)
        if contested and reads != spans:
            return [Query(READ_INPUTS, span, paired=True) for span in (*reads, *spans)]
        return [Query(READ_INPUTS, span) for span in reads]

    def _read_less_at_once(self, refused: Query) -> bool:
        """Adapt to a device that refused to read so much; tell whether there is a point in trying again.

        Only an exception 02 leads here. It is remembered: first no gaps are read over, then blocks are read one
        by one, and a single block that is refused belongs to a channel that the device does not have.
        """
        area = _area_of(refused)
        channel = next((channel for channel, span in registers.REGISTERS.items() if span == refused.span), None)
        expected = EXTERNAL_CHANNELS | self._populated | (self.selected or frozenset())
        if area == registers.ALL_REGISTERS and channel is not None and channel not in expected:
            self._absent.append(channel)
            self._merging[area] = Merging.ADJACENT
            return True
        if self._merging[area] is Merging.NEVER:
            return False
        self._merging[area] = Merging(self._merging[area] + 1)
        return True

    def _is_complete(self, sweep: Sweep) -> bool:
        """Return whether there is a value for each raised state and a state for each name; else read all next."""
        if sweep.is_complete((self.selected or frozenset(ChannelId)) - set(self._absent)):
            return True
        self.look_at_all_channels()
        return False

    def _frame(self, sweep: Sweep, deadline: float) -> Frame:
        received_at, received_ns = self._moment(deadline)
        wanted = self.selected or frozenset(ChannelId)
        frame = sweep.frame(self.protocol, wanted, received_at, received_ns)
        self._note_present(sweep.channels, frozenset(map(ChannelId, frame.channels)))
        looked_at = frozenset((*sweep.whole_channels(wanted), *self._absent))
        self._known.check(frame, self._context(), looked_at=looked_at)
        return frame

    def _note_present(self, channels: Sequence[ChannelId], present: frozenset[ChannelId]) -> None:
        """Remember which channels are populated; look at all of them again soon when that has changed."""
        self._looked_at = dict.fromkeys(present, time.monotonic())
        if len(channels) + len(self._absent) >= len(ChannelId):
            self._populated = present
            self._next_discovery = time.monotonic() + REDISCOVER_S
            self._absent = self._absent[1:]  # one is tried again next time: each costs a refused request
        elif self.selected is None and present - EXTERNAL_CHANNELS != self._populated - EXTERNAL_CHANNELS:
            self._next_discovery = 0.0


def _area_of(query: Query) -> Span:
    if query.function == READ_REGISTERS:
        return registers.ALL_REGISTERS
    return registers.ALL_STATES if query.span.address < registers.ALL_STATES.end else registers.ALL_ANALYSER
