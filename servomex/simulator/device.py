"""The virtual analyser: its values, its state, and what its coils start. No I/O, no threads."""

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import attrs

from servomex import registers, telegram
from servomex.enums import EXTERNAL_CHANNELS, ChannelId, ProtocolKind
from servomex.errors import ServomexValidationError
from servomex.errors.validation import choice, seconds, whole
from servomex.models.analyser import CAL_GROUPS, AnalyserStatus, CalGroupState
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus, make_reading
from servomex.runtime.clock import time
from servomex.simulator.channels import VirtualChannel, capture_channels
from servomex.simulator.faults import Faults

START_COILS = [span.address for span in registers.START_COILS.values()]
STOP_COIL = registers.STOP_COIL.address
GROUPS = range(1, CAL_GROUPS + 1)


class IllegalAddressError(Exception):
    """A request reads beyond what the analyser has: Modbus exception 02."""


@attrs.define
class _Cycle:
    """A calibration under way: the group's gas and when the next phase begins."""

    started: float
    phase_s: float

    def gas(self, now: float) -> int:
        """Return 1 or 2 while it lasts, else 0."""
        phase = int((now - self.started) // self.phase_s)
        return phase + 1 if phase < 2 else 0


class VirtualAnalyzer:
    """An analyser of the 4000 series without hardware. It may be changed from any thread while it is read.

    Calibration group n covers channel In. A cycle spends ``cal_phase_s`` on each of the two gases.

    Args:
        channels: Its channels; those of the bench 4100D when omitted. E1 and E2 are added when missing.
        mode: Communication mode; not ``auto``.
        address: Slave address, 1 to 247.
        period: Seconds between broadcasts; 0 for none.
        clock: Returns monotonic seconds.
        faults: The faults to simulate.

    Attributes:
        channels: Its channels by id.
        mode: Communication mode.
        address: Slave address.
        period: Seconds between broadcasts.
        faults: The faults to simulate.
        fault: Analyser fault.
        maintenance: Analyser maintenance required.
        cal_phase_s: Seconds on each calibration gas.
        refuses_calibration: Whether a start is ignored, as by an instrument whose panel would refuse it.
        largest_read: The most blocks that one request may cover; more are refused.
        refuses_gaps: Whether reads of blocks of missing channels are refused.
        coil_log: Every write to a coil: clock, coil number, value.
    """

    def __init__(
        self,
        channels: Iterable[VirtualChannel] | None = None,
        *,
        mode: ProtocolKind | str = ProtocolKind.MODBUS_RTU,
        address: int = 1,
        period: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        faults: Faults | None = None,
    ) -> None:
        listed = list(capture_channels() if channels is None else channels)
        present = {item.channel for item in listed}
        listed += [item for item in capture_channels() if item.channel in EXTERNAL_CHANNELS - present]
        self.channels: dict[ChannelId, VirtualChannel] = {
            item.channel: item for item in sorted(listed, key=lambda item: list(ChannelId).index(item.channel))
        }
        if len(self.channels) != len(listed):
            raise ServomexValidationError("a channel is listed twice")
        self.mode: ProtocolKind = choice(ProtocolKind, mode, "mode")
        if self.mode is ProtocolKind.AUTO:
            raise ServomexValidationError("the mode of an analyser must be continuous, modbus_rtu or modbus_ascii")
        self.address: int = whole(address, "address", 1, 247)
        self.period: float = seconds(period, "period", zero=True)
        self.clock = clock
        self.faults: Faults = faults or Faults()
        self.fault = False
        self.maintenance = False
        self.cal_phase_s: float = 5.0
        self.refuses_calibration = False
        self.largest_read: int = len(ChannelId)
        self.refuses_gaps = False
        self.coil_log: list[tuple[float, int, bool]] = []
        self._lock = threading.RLock()
        self._on_at = clock()
        self._coils = dict.fromkeys([*START_COILS, STOP_COIL], False)
        self._cycles: dict[int, _Cycle] = {}

    def __getitem__(self, channel: ChannelId | str) -> VirtualChannel:
        return self.channels[ChannelId(channel)]

    def value(self, channel: ChannelId | str) -> float | None:
        """Return the current value of a channel."""
        return self[channel].signal(self.clock() - self._on_at)

    def status(self, channel: ChannelId | str) -> ChannelStatus:
        """Return the current state of a channel, calibration cycles included."""
        item = self[channel]
        gas = self.cal_gas(int(item.channel.value[1])) if item.channel.value[0] == "I" else 0
        return attrs.evolve(item.status, calibrating=True) if gas else item.status

    def cal_gas(self, group: int) -> int:
        """Return the calibration gas that flows for a group, 1 or 2; 0 for sample."""
        with self._lock:
            cycle = self._cycles.get(group)
            gas = cycle.gas(self.clock()) if cycle else 0
            if not gas:
                self._cycles.pop(group, None)
            return gas

    def analyser_status(self) -> AnalyserStatus:
        """Return the state of the analyser, with the clock of this computer."""
        gases = [(group, self.cal_gas(group)) for group in GROUPS]
        groups = tuple(CalGroupState(group, gas > 0, gas or 1) for group, gas in gases)
        clock = datetime.now().replace(microsecond=0)  # noqa: DTZ005 (the instrument's clock has no zone)
        return AnalyserStatus(self.fault, self.maintenance, groups, clock)

    def frame(self) -> Frame:
        """Return the frame that a reader should see now in continuous mode."""
        received_at, received_ns = datetime.now(UTC), time.monotonic_ns()
        readings = tuple(
            make_reading(
                channel,
                item.display_name,
                self.value(channel),
                item.display_unit,
                self.status(channel),
                ProtocolKind.CONTINUOUS_ASCII,
                received_at,
                received_ns,
            )
            for channel, item in self.channels.items()
        )
        return Frame(ProtocolKind.CONTINUOUS_ASCII, readings, self.analyser_status(), received_at, received_ns)

    def broadcast(self) -> bytes:
        """Return the frame that is broadcast now, CR LF included."""
        return telegram.format_frame(self.frame())

    def input_registers(self, address: int, count: int) -> list[int]:
        """Return input registers as FC04 reads them.

        Raises:
            IllegalAddressError: The device refuses to read these.
        """
        words: list[int] = []
        for channel in self._blocks(address, count, registers.REGISTERS):
            item = self.channels.get(channel)
            if item is None:
                words += registers.encode_channel(0.0, b"", b"")
            else:
                words += registers.encode_channel(self.value(channel), item.display_name, item.display_unit)
        first = address // registers.BLOCK_REGISTERS * registers.BLOCK_REGISTERS
        return words[address - first : address - first + count]

    def discrete_inputs(self, address: int, count: int) -> list[bool]:
        """Return discrete inputs as FC02 reads them.

        Raises:
            IllegalAddressError: The device refuses to read these.
        """
        if address >= registers.ANALYSER_FLAGS.address:
            return self._analyser_inputs(address, count)
        bits: list[bool] = []
        for channel in self._blocks(address, count, registers.STATES):
            present = channel in self.channels
            bits += registers.encode_state(self.status(channel) if present else ChannelStatus())
        first = address // registers.STATE_BITS * registers.STATE_BITS
        return bits[address - first : address - first + count]

    def coils(self, address: int, count: int) -> list[bool]:
        """Return coils as FC01 reads them.

        Raises:
            IllegalAddressError: The device does not have these.
        """
        if address + count > STOP_COIL + 1:
            raise IllegalAddressError
        return [self._coils.get(place, False) for place in range(address, address + count)]

    def write_coils(self, address: int, values: list[bool]) -> None:
        """Write coils; a start or stop happens on the change from 0 to 1.

        Raises:
            IllegalAddressError: The device does not have these. None of them is written.
        """
        with self._lock:
            if any(place not in self._coils for place in range(address, address + len(values))):
                raise IllegalAddressError
            for coil, value in enumerate(values, address):
                self.coil_log.append((self.clock(), coil, value))
                rising = value and not self._coils[coil]
                self._coils[coil] = value
                if rising and coil == STOP_COIL:
                    self._cycles.clear()
                elif rising and not self.refuses_calibration:
                    self._cycles[coil + 1] = _Cycle(self.clock(), self.cal_phase_s)

    def power_cycle(self, mode: ProtocolKind | str | None = None) -> None:
        """Switch off and on, in another mode if one is given: coils and calibrations are reset."""
        with self._lock:
            self.mode = self.mode if mode is None else choice(ProtocolKind, mode, "mode")
            self._coils = dict.fromkeys(self._coils, False)
            self._cycles.clear()
            self._on_at = self.clock()

    def _blocks(self, address: int, count: int, layout: dict[ChannelId, registers.Span]) -> list[ChannelId]:
        """Return the channels whose blocks a read touches."""
        end = address + count
        if end > max(span.end for span in layout.values()):
            raise IllegalAddressError
        touched = [channel for channel, span in layout.items() if span.address < end and span.end > address]
        absent = self.refuses_gaps and any(channel not in self.channels for channel in touched)
        if absent or len(touched) > self.largest_read:
            raise IllegalAddressError
        return touched

    def _analyser_inputs(self, address: int, count: int) -> list[bool]:
        flags, groups = registers.ANALYSER_FLAGS, registers.ANALYSER_GROUPS
        if address + count > groups.end or (self.refuses_gaps and address < groups.address < address + count):
            raise IllegalAddressError
        bits = [self.fault, self.maintenance, *([False] * (groups.address - flags.end))]
        bits += registers.encode_groups(self.analyser_status().cal_groups)
        return bits[address - flags.address : address - flags.address + count]
