"""The Modbus map of the SERVOPRO 4000 series as data; decoding, encoding and the read plan. No I/O.

Source: installation manual, Appendix B. Input registers (FC04, number = address + 30001) hold ten blocks of
seven registers, one per channel: value (float32, high word first), name (6 characters), unit (3 characters and
NUL). Discrete inputs (FC02, number = address + 10001) hold eight state bits per channel, and the state of the
analyser from 11001 on. Coils (FC01, FC05, number = address + 1) start and stop autocalibrations.
"""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import attrs

from servomex.enums import EXTERNAL_CHANNELS, ChannelId, ProtocolKind
from servomex.models.analyser import CAL_GROUPS, AnalyserStatus, CalGroupState
from servomex.models.reading import NO_TIME, ChannelStatus, Reading, is_populated, make_reading
from servomex.units import channel_name

_T = TypeVar("_T")

REGISTER_NUMBER = 30001
"""The maker's number of input register address 0."""
INPUT_NUMBER = 10001
"""The maker's number of discrete input address 0."""
COIL_NUMBER = 1
"""The maker's number of coil address 0."""

BLOCK_REGISTERS = 7
STATE_BITS = 8


@attrs.frozen(order=True, cache_hash=True)
class Span:
    """Neighbouring addresses that one request reads.

    Attributes:
        address: The first address.
        count: The number of addresses.
        end: The first address after the span.
        addresses: The addresses of the span.
        place: Their slice of a list that begins with address 0.
    """

    address: int
    count: int
    end: int = attrs.field(init=False, eq=False, repr=False)
    addresses: range = attrs.field(init=False, eq=False, repr=False)
    place: slice = attrs.field(init=False, eq=False, repr=False)

    @end.default
    def _end(self) -> int:
        return self.address + self.count

    @addresses.default
    def _addresses(self) -> range:
        return range(self.address, self.end)

    @place.default
    def _place(self) -> slice:
        return slice(self.address, self.end)

    def cut(self, read: tuple[_T, ...], part: "Span") -> tuple[_T, ...]:
        """Return the values of a part of the span from those of the whole."""
        first = part.address - self.address
        return read[first : first + part.count]


NOTHING = Span(0, 0)

REGISTERS = {
    ChannelId.I1: Span(0, BLOCK_REGISTERS),
    ChannelId.I2: Span(7, BLOCK_REGISTERS),
    ChannelId.I3: Span(14, BLOCK_REGISTERS),
    ChannelId.I4: Span(21, BLOCK_REGISTERS),
    ChannelId.D1: Span(28, BLOCK_REGISTERS),
    ChannelId.D2: Span(35, BLOCK_REGISTERS),
    ChannelId.D3: Span(42, BLOCK_REGISTERS),
    ChannelId.D4: Span(49, BLOCK_REGISTERS),
    ChannelId.E1: Span(56, BLOCK_REGISTERS),
    ChannelId.E2: Span(63, BLOCK_REGISTERS),
}
"""Input registers of each channel."""

STATES = {channel: Span(STATE_BITS * place, STATE_BITS) for place, channel in enumerate(REGISTERS)}
"""Discrete inputs of each channel: fault (E1, E2: invalid), maintenance, calibration, warming up, alarm 1 to 4."""

ANALYSER_FLAGS = Span(1000, 2)
"""Discrete inputs 11001 fault and 11002 maintenance required."""
ANALYSER_GROUPS = Span(1008, 2 * CAL_GROUPS)
"""Discrete inputs 11009 to 11016: two bits per group, [0 sample, 1 calibration], [0 gas 1, 1 gas 2]."""

START_COILS = {group: Span(group - 1, 1) for group in range(1, CAL_GROUPS + 1)}
"""Coils 00001 to 00004: a change from 0 to 1 starts an autocalibration of the group."""
ALL_START_COILS = Span(0, CAL_GROUPS)
STOP_COIL = Span(8, 1)
"""Coil 00009: a change from 0 to 1 stops all autocalibrations, however they were started."""

ALL_REGISTERS = Span(0, BLOCK_REGISTERS * len(REGISTERS))
ALL_STATES = Span(0, STATE_BITS * len(STATES))
ALL_ANALYSER = Span(ANALYSER_FLAGS.address, ANALYSER_GROUPS.end - ANALYSER_FLAGS.address)


def _check_map() -> None:
    """Refuse the import if the map contradicts the manual's table of first registers."""
    spans = list(REGISTERS.values())
    first_numbers = [span.address + REGISTER_NUMBER for span in spans]
    if list(REGISTERS) != list(ChannelId) or first_numbers != list(range(30001, 30065, BLOCK_REGISTERS)):
        raise AssertionError("the register map contradicts Appendix B")
    if any(left.end != right.address for left, right in pairwise([*STATES.values(), Span(80, 0)])):
        raise AssertionError("the state map has gaps")


_check_map()


def float_value(words: Sequence[int]) -> float | None:
    """Decode a float32 from two registers, high word first; not-a-number and infinities become ``None``.

    The result is the shortest decimal number that rounds to the same float32: 20.376, as on the display, not
    20.375999450683594.
    """
    raw = struct.pack(">2H", *words)
    value: float = struct.unpack(">f", raw)[0]
    if not math.isfinite(value):
        return None
    for digits in (6, 7, 8, 9):
        short = float(f"{value:.{digits}g}")
        if struct.pack(">f", short) == raw:
            return short
    raise AssertionError("unreachable: nine digits distinguish every float32")


def is_named(block: Sequence[int]) -> bool:
    """Return whether a block of seven registers has a name: an I or D channel without one is not populated."""
    return channel_name(_BLOCK.pack(*block)[4:10]) is not None


def decode_channel(
    channel: ChannelId,
    block: Sequence[int],
    bits: Sequence[bool],
    protocol: ProtocolKind,
    received_at: datetime,
    monotonic_ns: int,
) -> Reading:
    """Decode one channel from its seven registers and its eight state bits."""
    return _dated([_undated(channel, tuple(block), tuple(bits), protocol)], received_at, monotonic_ns)[0]


def decode_channels(
    channels: Iterable[ChannelId],
    words: Sequence[int],
    bits: Sequence[bool],
    protocol: ProtocolKind,
    received_at: datetime,
    monotonic_ns: int,
) -> list[Reading]:
    """Decode channels, as far as they are populated, from the registers and inputs, each from address 0 on."""
    found = [
        _undated(channel, tuple(words[REGISTERS[channel].place]), tuple(bits[STATES[channel].place]), protocol)
        for channel in channels
    ]
    return _dated(list(filter(is_populated, found)), received_at, monotonic_ns)


@lru_cache(maxsize=1024)
def _undated(
    channel: ChannelId, block: tuple[int, ...], bits: tuple[bool, ...], protocol: ProtocolKind
) -> Reading:
    """Decode a channel without its time: the registers of most channels hold the same from sweep to sweep."""
    raw = _BLOCK.pack(*block)
    return make_reading(
        channel,
        raw[4:10],
        float_value(block[:2]),
        raw[10:],
        decode_state(channel, bits),
        protocol,
        NO_TIME,
        0,
        raw + _packed(bits),
    )


def _dated(readings: Iterable[Reading], received_at: datetime, monotonic_ns: int) -> list[Reading]:
    return [
        Reading(
            item.channel,
            item.name,
            item.value,
            item.unit,
            item.unit_text,
            item.status,
            item.protocol,
            received_at,
            monotonic_ns,
            item.raw,
        )
        for item in readings
    ]


_BLOCK = struct.Struct(f">{BLOCK_REGISTERS}H")


def _packed(bits: tuple[bool, ...]) -> bytes:
    """Pack state bits into a byte as Modbus does, the first of them lowest."""
    return bytes([sum(bit << place for place, bit in enumerate(bits))])


def decode_state(channel: ChannelId, bits: Sequence[bool]) -> ChannelStatus:
    """Decode a channel's eight state bits. For E1 and E2, bits 1 to 3 are reserved and ignored."""
    reserved = channel in EXTERNAL_CHANNELS
    return ChannelStatus(
        fault=bits[0],
        maintenance=bits[1] and not reserved,
        calibrating=bits[2] and not reserved,
        warming_up=bits[3] and not reserved,
        alarms=(bits[4], bits[5], bits[6], bits[7]),
    )


def decode_analyser(flags: Sequence[bool], groups: Sequence[bool]) -> AnalyserStatus:
    """Decode the analyser's two flags and its eight calibration group bits."""
    return AnalyserStatus(flags[0], flags[1], _cal_groups(tuple(groups)))


@lru_cache(maxsize=256)
def _cal_groups(bits: tuple[bool, ...]) -> tuple[CalGroupState, ...]:
    return tuple(
        CalGroupState(number + 1, bits[2 * number], 2 if bits[2 * number + 1] else 1)
        for number in range(CAL_GROUPS)
    )


def encode_channel(value: float | None, name: bytes, unit: bytes) -> list[int]:
    """Encode a channel's seven registers; no value becomes not-a-number.

    Raises:
        ValueError: The name or the unit is too long, or the value does not fit a float32.
    """
    if len(name) > 6 or len(unit) > 4:
        raise ValueError(f"name {name!r} or unit {unit!r} is too long")
    try:
        raw = struct.pack(">f6s4s", math.nan if value is None else value, name.ljust(6), unit)
    except OverflowError as error:
        raise ValueError(f"{value!r} does not fit a float32") from error
    return list(struct.unpack(f">{BLOCK_REGISTERS}H", raw))


def encode_state(status: ChannelStatus) -> list[bool]:
    """Encode a channel's eight state bits."""
    return [status.fault, status.maintenance, status.calibrating, status.warming_up, *status.alarms]


def encode_groups(groups: Iterable[CalGroupState]) -> list[bool]:
    """Encode the eight calibration group bits."""
    return [bit for group in groups for bit in (group.calibrating, group.cal_gas == 2)]


class Merging(IntEnum):
    """How freely neighbouring spans may be read with one request, judging from the device's answers so far."""

    ACROSS_GAPS = 0
    ADJACENT = 1
    NEVER = 2


def plan_reads(
    wanted: Iterable[Span], cost: Callable[[Span], float], merging: Merging = Merging.ACROSS_GAPS
) -> list[Span]:
    """Choose the requests that read all wanted spans in the least time.

    Every grouping of neighbours is considered: reading over a gap costs the characters of the gap; another
    request costs its frame, the silence before it and the analyser's turnaround.

    Args:
        wanted: Spans that do not overlap.
        cost: Seconds that a request for a span takes.
        merging: What one request may cover.
    """
    spans = sorted(wanted)
    best: list[tuple[float, list[Span]]] = [(0.0, [])]
    for last in range(len(spans)):
        options = []
        for first in range(last, -1, -1):
            if first < last and not _may_join(spans[first], spans[first + 1], merging):
                break
            span = Span(spans[first].address, spans[last].end - spans[first].address)
            seconds, reads = best[first]
            options.append((seconds + cost(span), [*reads, span]))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


def _may_join(left: Span, right: Span, merging: Merging) -> bool:
    if merging is Merging.ADJACENT:
        return left.end == right.address
    return merging is Merging.ACROSS_GAPS


@attrs.frozen
class LineTiming:
    """What a read costs on a line.

    Attributes:
        char_time_s: Seconds a character takes.
        gap_s: Silence kept before a request.
        ascii_framing: Modbus ASCII, which sends every byte as two characters, rather than RTU.
        turnaround_s: Seconds from the last byte of a request to the first of the reply; 20 to 40 ms were measured
            on a bench 4100D.
    """

    char_time_s: float
    gap_s: float
    ascii_framing: bool
    turnaround_s: float = 0.03

    def registers(self, span: Span) -> float:
        """Return seconds to read input registers."""
        return self.exchange(2 * span.count)

    def bits(self, span: Span) -> float:
        """Return seconds to read discrete inputs."""
        return self.exchange((span.count + 7) // 8)

    def exchange(self, data: int) -> float:
        """Return seconds to get a reply that carries this many bytes of data."""
        chars = message_size(2, data, self.ascii_framing) + message_size(5, 0, self.ascii_framing)
        return self.gap_s + self.turnaround_s + chars * self.char_time_s


@lru_cache(maxsize=256)
def message_size(head: int, data: int, ascii_framing: bool) -> int:
    """Count the characters of a message: address, ``head`` bytes (function code included), data and checksum.

    RTU adds a CRC of two bytes; ASCII adds a colon, one checksum byte and CR LF, and doubles every byte.
    """
    return 1 + 2 * (1 + head + data + 1) + 2 if ascii_framing else 1 + head + data + 2
