"""ModbusClient: reads one analyser in a Modbus mode, as fast as its line allows."""

import contextlib
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import attrs

from servomex import registers
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexChannelNotFoundError,
    ServomexIllegalDataAddressError,
    ServomexTimeoutError,
)
from servomex.errors.validation import whole
from servomex.modbus import identity
from servomex.modbus.exchange import Exchange
from servomex.modbus.line import ModbusLine
from servomex.modbus.plan import LARGEST_BLOCK, ReadPlan
from servomex.modbus.query import COIL_VALUES, LOOPBACK, READ_COILS, READ_INPUTS, READ_REGISTERS, WRITE_COIL, Query
from servomex.modbus.replies import Reply
from servomex.modbus.safety import check_confirmed
from servomex.modbus.sweep import Sweep
from servomex.modbus.timing import line_timing
from servomex.models.analyser import AnalyserStatus
from servomex.models.channelset import ChannelSet
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus, Reading, is_populated
from servomex.port.link import SerialLink
from servomex.registers import Span
from servomex.runtime.clock import time
from servomex.runtime.suspend import Awake

PRESENCE_S = 10.0
"""A channel that was seen counts as populated for this long when only its state is read."""
LATENESS_NS = 100_000_000
"""A reading that is completed later than this after its deadline is refused: its values may be too old."""
SWEEP_REQUESTS = 3
"""Requests of a sweep that reads everything: values, states, and the analyser's own."""
PROMPT_S = 0.2
"""Replies that take longer to begin make every sweep longer."""


class ModbusClient:
    """One analyser in Modbus RTU or ASCII mode, at one address of a link that others may share.

    Every method takes a deadline on ``time.monotonic()`` for the whole call, waiting for other users of the
    port and repeated requests included. All of them raise

    * :class:`ServomexTimeoutError` when no answer arrived in time,
    * :class:`ServomexFrameError` when only damaged or foreign replies arrived,
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
        line: What all Modbus clients of the line know of it.
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
        self._context = ErrorContext(link.port, protocol, self.address)
        self.exchange: Exchange = Exchange(link, address, protocol, whole(retries, "retries", 0, 10), self.gap_s)
        timing = line_timing(link.settings, protocol, self.gap_s)
        self._plan = ReadPlan(timing, self.line.others, self.exchange.evidence.known, channels)
        self.selected = channels
        self._known = ChannelSet(channels)
        self._recognised = False
        self._looked_at: dict[ChannelId, float] = {}
        self._sweep_s = timing.registers(registers.ALL_REGISTERS) + sum(
            map(timing.bits, (registers.ALL_STATES, registers.ALL_ANALYSER))
        )

    @property
    def sweep_s(self) -> float:
        """Seconds that reading everything takes on this line when nothing goes wrong."""
        return self._sweep_s + SWEEP_REQUESTS * max(0.0, self.exchange.pace.slowest_s - PROMPT_S)

    @property
    def patience_s(self) -> float:
        """Seconds that one call may take unless it is given another deadline: 1 s plus twice a sweep."""
        return 1.0 + 2 * self.sweep_s

    def read_frame(self, deadline: float) -> Frame:
        """Read all channels and their states, and the analyser's: one sweep."""
        with self.link.conversation(deadline):
            sweep = Sweep(*self._start())
            while (query := self._next_query(sweep, deadline)) is not None:
                try:
                    sweep.add(query, self.exchange.ask(query, deadline), self.exchange.repeats)
                except ServomexIllegalDataAddressError:
                    if not self._plan.read_less(query):
                        self._recognise_refusing(sweep, deadline)
                        raise
                    sweep.begin(*self._start())
            return self._frame(sweep, deadline)

    def _start(self) -> tuple[list[ChannelId], tuple[Query, ...], int]:
        """Return the start of a sweep: its channels, its first requests, and the number of repeats so far."""
        channels = self._plan.channels()
        return channels, self._plan.value_queries(channels), self.exchange.repeats

    def _next_query(self, sweep: Sweep, deadline: float) -> Query | None:
        """Take the next request: for the values, then the states, and for everything again if it is in doubt."""
        if not (sweep.todo or sweep.states_planned):
            self._recognise(sweep.words, sweep.raw, deadline)
            sweep.todo = [*self._plan.state_queries(sweep.channels), *self._plan.analyser_queries()]
            sweep.states_planned = True
        if not sweep.todo:
            if sweep.agrees and self._is_complete(sweep) and self._concluded(sweep.awake, deadline):
                return None
            sweep.begin(*self._start())
        return sweep.todo.pop(0)

    def look_at_all_channels(self) -> None:
        """Read every block in the next sweep, also those that were not populated so far."""
        self._plan.look_at_all_channels()

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
                attrs.evolve(self._context, channel=channel),
            )
        self._looked_at[channel] = time.monotonic()
        return reading

    def read_status(self, channel: ChannelId, deadline: float) -> ChannelStatus:
        """Read one channel's state, and its registers too unless it was seen there within the last 10 s.

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
                sweep = Sweep(todo=self._plan.analyser_queries(), repeats=self.exchange.repeats)
                try:
                    while sweep.todo:
                        query = sweep.todo.pop(0)
                        sweep.add(query, self.exchange.ask(query, deadline), self.exchange.repeats)
                except ServomexIllegalDataAddressError:
                    if not self._plan.read_less(query):
                        raise
                    continue
                if sweep.agrees and self._concluded(sweep.awake, deadline):
                    self._moment(deadline)
                    return sweep.analyser

    def recognise(self, deadline: float) -> None:
        """Make sure that this is an analyser of the series, unless earlier reads have shown it.

        Raises:
            ServomexForeignDeviceError: It is another instrument.
        """
        if not self._recognised:
            with self.link.conversation(deadline):
                self._recognise({}, b"", deadline)

    def loopback(self, payload: bytes, deadline: float) -> bytes:
        """Send two bytes to the analyser and return what came back (FC08, sub-function 00)."""
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
        """Write one coil (FC05), once. After an error it is unknown whether it arrived: read it back.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
        """
        check_confirmed("write_coil", confirm, "a coil may start or stop an autocalibration", self._context)
        with self.link.conversation(deadline):
            self.exchange.ask(Query(WRITE_COIL, coil, COIL_VALUES[value]), deadline)

    def _concluded(self, awake: Awake, deadline: float) -> bool:
        """Return whether all that was read is proven and of one moment; otherwise it must be read again."""
        return self.exchange.conclude(deadline) and self._is_of_one_moment(awake, deadline)

    def _is_of_one_moment(self, awake: Awake, deadline: float) -> bool:
        """Return whether the computer stayed awake during a reading; otherwise it must be read again.

        Raises:
            ServomexTimeoutError: There is no time left for that.
        """
        slept_s = awake.slept_s
        if slept_s and time.monotonic() >= deadline:
            raise ServomexTimeoutError(
                f"this computer slept for {slept_s:.1f} s during the reading, and no time is left to repeat it: "
                "read again",
                self._context,
            )
        return not slept_s

    def _moment(self, deadline: float) -> tuple[datetime, int]:
        """Return the moment at which a reading is complete.

        Raises:
            ServomexTimeoutError: It is long after the deadline: what was read may have waited since.
        """
        received_at, received_ns = datetime.now(UTC), time.monotonic_ns()
        if received_ns >= deadline * 1e9 + LATENESS_NS:
            raise ServomexTimeoutError(
                "the reading was complete only after its deadline: this computer was too busy, or stood still",
                self._context,
            )
        return received_at, received_ns

    def _recognise(self, words: Mapping[int, int], raw: bytes, deadline: float) -> None:
        """Make sure that registers are those of the series; read other blocks while these do not show it.

        Args:
            words: What was read, by address.
            raw: The replies that carried them.
            deadline: When to give up, on ``time.monotonic()``.

        Raises:
            ServomexForeignDeviceError: They are not.
        """
        if identity.is_ours(words):
            self._recognised = True
            return
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
            raise identity.foreign_device(found, attrs.evolve(self._context, response=raw))
        self._recognised = True

    def _recognise_refusing(self, sweep: Sweep, deadline: float) -> None:
        """Check whether a device that refuses a read in mid-sweep is an analyser at all."""
        if not sweep.states_planned and (sweep.words or not self._recognised):
            self._recognise(sweep.words, sweep.raw, deadline)

    def _registers_of(self, channel: ChannelId, deadline: float) -> tuple[int, ...]:
        """Read the registers of one channel, or of all, and make sure that they are those of the series."""
        try:
            block, reply = self._read_around(READ_REGISTERS, self._plan.block_of, channel, deadline)
        except ServomexIllegalDataAddressError:
            self._recognise({}, b"", deadline)
            raise
        self._recognise(dict(zip(block.addresses, reply.words, strict=True)), reply.raw, deadline)
        return block.cut(reply.words, registers.REGISTERS[channel])

    def _states_of(self, channel: ChannelId, deadline: float) -> tuple[bool, ...]:
        """Read the states of one channel, or of all."""
        span, reply = self._read_around(READ_INPUTS, self._plan.states_of, channel, deadline)
        return span.cut(reply.bits, registers.STATES[channel])

    def _read_around(
        self, function: int, choose: Callable[[ChannelId], Span], channel: ChannelId, deadline: float
    ) -> tuple[Span, Reply]:
        """Read what is planned for a channel, or less where the device refuses to read that much."""
        while True:
            query = Query(function, choose(channel))
            try:
                return query.span, self.exchange.ask(query, deadline)
            except ServomexIllegalDataAddressError:
                if not (query.span.count > LARGEST_BLOCK and self._plan.read_less(query)):
                    raise

    def _is_complete(self, sweep: Sweep) -> bool:
        """Return whether each raised state has a value and each name a state; if not, read all next time."""
        if sweep.is_complete((self.selected or frozenset(ChannelId)) - set(self._plan.absent)):
            return True
        self._plan.look_at_all_channels()
        return False

    def _frame(self, sweep: Sweep, deadline: float) -> Frame:
        received_at, received_ns = self._moment(deadline)
        whole = sweep.whole_channels(self.selected)
        frame = sweep.frame(self.protocol, whole, received_at, received_ns)
        present = frozenset(map(ChannelId, frame.channels))
        self._looked_at = dict.fromkeys(present, time.monotonic())
        looked_at = frozenset((*whole, *self._plan.absent))  # before that is changed
        self._plan.note_present(sweep.channels, present)
        self._known.check(frame, self._context, looked_at=looked_at)
        return frame


def state_s(client: ModbusClient, reads: int, wait_s: float) -> float:
    """Return the seconds in which an analyser's state is read, after the silence that a failure costs.

    Args:
        client: The analyser.
        reads: How many requests of that size, the fence included.
        wait_s: How long each reply may take to begin.
    """
    timing = line_timing(client.link.settings, client.protocol, client.gap_s, wait_s)
    return client.line.timing.quiet_s + reads * timing.bits(registers.ALL_ANALYSER)
