r"""The continuous frame: finding it in a stream, checking, parsing and formatting it. No I/O.

Source: SERVOPRO 4000 series installation manual, section 3.4 with tables 3.6 and 3.7, and a capture of a
bench 4100D. One frame is a header, 1 to 10 channel blocks of 33 bytes, and a checksum::

     06-10-20;02:54:12;  ;S1S1S1S1;05;I1;Oxygen;20.376; % ;    ;  ; ; ; ... 2A1D;\r\n

The checksum is only a sum, so damage that does not change the sum passes it. The fields have fixed widths and
small alphabets; anything else is refused too.
"""

import math
import re
import struct
import zlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexChecksumError,
    ServomexFrameError,
    ServomexParseError,
    ServomexValidationError,
)
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.frame import Frame, broadcast_of
from servomex.models.reading import ChannelStatus, Reading, has_value, reading_of
from servomex.runtime.clock import time
from servomex.units import SUBSCRIPTS, Unit, channel_name, display_text, unit_and_text

MAX_CHANNELS = 10
VALUE_SIZE = 6
HEADER_SIZE = 34
BLOCK_SIZE = 33
TAIL_SIZE = 5
MAX_JUNK = 1024
"""The most bytes that a :class:`FrameSplitter` holds back while it looks for a frame."""

HEADER = re.compile(
    rb" (?P<clock>[ -:<-~]{8};[ -:<-~]{8});(?P<flags>[F ][M ]);(?P<cal>(?:[SC][12]){4});(?P<count>0[1-9]|10);"
)
_TEXT = rb"[ -:<-~\x80-\xff]"
_LABEL = re.compile(rb"([ID][1-4]|E[12]);(" + _TEXT + rb"{6});")
_STATE = re.compile(rb";(" + _TEXT + rb"{3});([1 ][2 ][3 ][4 ];[F ][M ];[C ];[W ]);")
_TAIL = re.compile(rb"([0-9A-F]{4});")
_PARTS = struct.Struct("10s6s17s")  # of a block: the label (id and name), the value, the state with the unit
_MINUTE = re.compile(rb"(\d\d)-(\d\d)-(\d\d);(\d\d):(\d\d):")
_SECONDS = {b"%02d" % second: timedelta(seconds=second) for second in range(60)}
_LINE_ENDS = re.compile(rb"(?:(?:\r\0?)*\n)+")
_VALUE = re.compile(rb"[ -:<-~]{6}")
_NUMBER = re.compile(rb" *-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_NUMBER_LIKE = re.compile(rb"[ .0-9-]*[0-9][ .0-9-]*")

_DIGITS = str.maketrans(SUBSCRIPTS, "0123456789")
_IDS = {channel.value.encode(): channel for channel in ChannelId}
_ORDER = {channel: place for place, channel in enumerate(ChannelId)}
_EXTERNALS = [ChannelId.E1, ChannelId.E2]
_FEWEST_DOCUMENTED = 3

_MODE = ProtocolKind.CONTINUOUS_ASCII
_SUMMED_AT_ONCE = 256
"""This many bytes cannot sum up to 65521, where Adler-32 wraps around."""


class _Damage(Exception):  # noqa: N818 (it becomes a ServomexParseError, which names the frame)
    """Why a frame is refused."""

    kind: type[ServomexParseError] = ServomexParseError


class _BrokenStructure(_Damage):
    kind = ServomexFrameError


class _WrongChecksum(_Damage):
    kind = ServomexChecksumError


class _Block(NamedTuple):
    """The fields of a channel block besides its value."""

    channel: ChannelId
    name: str | None
    unit: Unit
    unit_text: str
    status: ChannelStatus
    valid: bool


def checksum(body: bytes | bytearray) -> int:
    """Sum the bytes between the start space and the checksum, modulo 65536 (manual, table 3.6)."""
    if len(body) <= _SUMMED_AT_ONCE:  # the lower half of an Adler-32 that starts at 0 is the sum
        return zlib.adler32(body, 0) & 0xFFFF
    total = 0
    for start in range(0, len(body), _SUMMED_AT_ONCE):
        total += zlib.adler32(body[start : start + _SUMMED_AT_ONCE], 0) & 0xFFFF
    return total & 0xFFFF


def frame_size(channels: int) -> int:
    """Count the bytes of a frame, its CR LF not included."""
    return HEADER_SIZE + channels * BLOCK_SIZE + TAIL_SIZE


def parse_frame(raw: bytes, *, received_at: datetime | None = None, monotonic_ns: int | None = None) -> Frame:
    """Parse one continuous frame.

    Strict about structure, lenient about the clock, the names and the units. A value field without a
    number means no value (the text for over-range is undocumented); a malformed number, such as ``2..376`` or
    ``02.376``, is damage.

    Args:
        raw: The frame from its start space to its last ``;``; a line end after it is ignored.
        received_at: When its last byte arrived, UTC; now, when omitted.
        monotonic_ns: The same on the monotonic clock; now, when omitted.

    Raises:
        ServomexChecksumError: The frame is complete, but its checksum is wrong.
        ServomexFrameError: Its structure is broken: the header, the length, a channel block, their order.
        ServomexParseError: Its structure is sound, but a value in it is malformed.
    """
    received_at = received_at or datetime.now(UTC)
    monotonic_ns = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
    try:
        return _parsed(bytes(raw.rstrip(b"\r\n")), received_at, monotonic_ns)
    except _Damage as damage:
        message = f"damaged frame: {damage}"
        raise damage.kind(message, ErrorContext(response=bytes(raw)), reason=str(damage)) from None


def _parsed(frame: bytes, received_at: datetime, monotonic_ns: int) -> Frame:
    if (header := HEADER.match(frame)) is None:
        raise _BrokenStructure("no frame header")
    clock, flags, cal, count = header.groups()
    if len(frame) != (size := frame_size(int(count))):
        raise _BrokenStructure(f"{len(frame)} bytes instead of {size} for {int(count)} channels")
    _check_sum(frame)
    readings = _readings(frame, received_at, monotonic_ns)
    minute, second = _minute(clock[:15]), _SECONDS.get(clock[15:])
    moment = None if minute is None or second is None else minute + second  # None: the clock is not set
    analyser = AnalyserStatus(b"F" in flags, b"M" in flags, _cal_groups(cal), moment)
    return broadcast_of(_MODE, readings, analyser, received_at, monotonic_ns, frame)


def _check_sum(frame: bytes) -> None:
    if frame[-TAIL_SIZE:] != b"%04X;" % checksum(frame[1:-TAIL_SIZE]):
        if (found := checksums(frame)) is None:
            raise _BrokenStructure("no checksum at its end")
        raise _WrongChecksum("checksum {}, its bytes sum to {}".format(*found))


def checksums(frame: bytes) -> tuple[str, str] | None:
    """Return the checksum at the end of a frame and the one of its bytes; ``None`` if it has none.

    Args:
        frame: The frame, or the rest of it, from its start space to its last ``;``.
    """
    tail = frame[-TAIL_SIZE:]
    if _TAIL.fullmatch(tail) is None:
        return None
    return tail[:4].decode("ascii"), f"{checksum(frame[1:-TAIL_SIZE]):04X}"


def _readings(frame: bytes, received_at: datetime, monotonic_ns: int) -> tuple[Reading, ...]:
    parts = [*_PARTS.iter_unpack(frame[HEADER_SIZE:-TAIL_SIZE])]
    blocks: list[_Block] = []
    for label, _, state in parts:
        if (block := _block(label, state)) is None:
            raise _BrokenStructure(f"channel block {len(blocks) + 1} breaks the format")
        blocks.append(block)
    _check_order(tuple([label for label, _, _ in parts]))
    readings: list[Reading] = []
    starts = range(HEADER_SIZE, len(frame) - TAIL_SIZE, BLOCK_SIZE)
    for at, (channel, name, unit, text, status, valid), (_, field, _) in zip(starts, blocks, parts, strict=True):
        try:
            value = _value(field)
        except _Damage as damage:
            place = {"value": repr(field)[1:], "channel": channel, "number": len(readings) + 1}
            raise type(damage)(str(damage).format_map(place)) from None
        value, raw = value if valid else None, frame[at : at + BLOCK_SIZE]
        readings.append(
            reading_of(channel, name, value, unit, text, status, _MODE, received_at, monotonic_ns, raw)
        )
    return tuple(readings)


@lru_cache(maxsize=1024)
def _block(label: bytes, state: bytes) -> _Block | None:
    """Decode a block except its value; ``None`` when it breaks the format."""
    labelled, stated = _LABEL.fullmatch(label), _STATE.fullmatch(state)
    if labelled is None or stated is None:
        return None
    channel, status = _IDS[labelled[1]], _channel_status(stated[2])
    return _Block(
        channel, channel_name(labelled[2]), *unit_and_text(stated[1]), status, has_value(channel, status)
    )


@lru_cache(maxsize=128)
def _check_order(labels: tuple[bytes, ...]) -> None:
    channels = [_IDS[label[:2]] for label in labels]
    if any(_ORDER[channel] >= _ORDER[following] for channel, following in pairwise(channels)):
        raise _BrokenStructure("channels repeated or out of order")
    if len(channels) >= _FEWEST_DOCUMENTED and channels[-2:] != _EXTERNALS:
        raise _BrokenStructure("the last two channels are not E1 and E2")


@lru_cache(maxsize=1024)
def _value(field: bytes) -> float | None:
    if _NUMBER.fullmatch(field):
        return float(field)
    if _NUMBER_LIKE.fullmatch(field):
        raise _Damage("value {value} of {channel} is not a number")
    if _VALUE.fullmatch(field) is None:
        raise _BrokenStructure("channel block {number} breaks the format")
    return None


@lru_cache(maxsize=1024)
def _channel_status(state: bytes) -> ChannelStatus:
    """Decode the 11 bytes ``alarms;FM;cal;warm`` of a checked block."""
    alarms = state[:4]
    return ChannelStatus(
        fault=state[5:6] == b"F",
        maintenance=state[6:7] == b"M",
        calibrating=state[8:9] == b"C",
        warming_up=state[10:11] == b"W",
        alarms=(alarms[:1] == b"1", alarms[1:2] == b"2", alarms[2:3] == b"3", alarms[3:] == b"4"),
    )


@lru_cache(maxsize=256)
def _cal_groups(field: bytes) -> tuple[CalGroupState, ...]:
    return tuple(
        CalGroupState(group, field[place : place + 1] == b"C", int(field[place + 1 : place + 2]))
        for group, place in enumerate(range(0, 8, 2), 1)
    )


@lru_cache(maxsize=64)
def _minute(field: bytes) -> datetime | None:
    """Read ``DD-MM-YY;HH:MM:``, which is the same for many frames."""
    digits = _MINUTE.fullmatch(field)
    if digits is None:
        return None
    day, month, year, hour, minute = map(int, digits.groups())
    try:
        return datetime(2000 + year, month, day, hour, minute)  # noqa: DTZ001 (it has no zone)
    except ValueError:
        return None


def format_frame(frame: Frame) -> bytes:
    """Format a frame as the analyser broadcasts it, CR LF included: the inverse of :func:`parse_frame`.

    Values are written with up to three decimals, as many as fit into six characters.

    Raises:
        ServomexValidationError: A name, unit or value does not fit its field.
    """
    analyser = frame.analyser
    clock = format(analyser.clock, "%d-%m-%y;%H:%M:%S") if analyser.clock else "00-00-00;00:00:00"
    head = f"{clock};{_marks(analyser.fault, analyser.maintenance)};{analyser.cal_text};{len(frame):02d};"
    body = (head + "".join(map(_format_block, frame))).encode("latin-1")
    return b" %b%04X;\r\n" % (body, checksum(body))


def _marks(fault: bool, maintenance: bool) -> str:
    return ("F" if fault else " ") + ("M" if maintenance else " ")


def _format_block(reading: Reading) -> str:
    status = reading.status
    name = "||||||" if reading.name is None else f"{_plain(reading.name):6}"
    alarms = "".join(str(number) if alarm else " " for number, alarm in enumerate(status.alarms, 1))
    fields = (
        str(reading.channel),
        name,
        format_value(reading.value, at_least=1 if reading.unit is Unit.MILLIAMP else 3),
        f"{_plain(reading.unit_text) + (' ' if reading.unit is Unit.PERCENT else ''):>3}",
        alarms,
        _marks(status.fault, status.maintenance),
        "C" if status.calibrating else " ",
        "W" if status.warming_up else " ",
    )
    block = "".join(f"{field};" for field in fields)
    if len(block) != BLOCK_SIZE or block.count(";") != len(fields):
        raise ServomexValidationError(f"channel {reading.channel} does not fit its block: {block!r}")
    return block


def _plain(text: str) -> str:
    """Format display text for this mode, which sends plain digits for subscripts (seen: ``CO2``)."""
    plain = text.translate(_DIGITS)
    if display_text(plain.encode("latin-1", "replace")) != plain.strip(" "):
        raise ServomexValidationError(f"{text!r} cannot be written in the analyser's character set")
    return plain


def format_value(value: float | None, *, at_least: int = 3) -> str:
    """Format a value right-justified in six characters; ``------`` for none.

    Args:
        value: The value.
        at_least: Decimals that are written even if they are 0, as far as they fit. The capture shows three
            for concentrations and one for currents.

    Raises:
        ServomexValidationError: It needs more than six characters.
    """
    if value is None or not math.isfinite(value):
        return "------"
    exact = next((places for places in range(at_least, 3) if round(value, places) == round(value, 3)), 3)
    for places in range(exact, -1, -1):
        text = f"{value:6.{places}f}"
        if len(text) <= VALUE_SIZE:
            return text
    raise ServomexValidationError(f"the value {value!r} does not fit into {VALUE_SIZE} characters")


class FrameSplitter:
    """Cuts a byte stream into frames and into the damage between them.

    A frame is recognised by its header, its length and its checksum, not by its line end, so that neither a
    damaged CR LF nor noise next to a frame costs a good frame. The bytes in between are returned too,
    in pieces that end at a line end, so that :func:`parse_frame` can report what is wrong with it. At most
    :data:`MAX_JUNK` bytes are held back.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # bytes without a line end or a second header, which are not searched again

    @property
    def pending(self) -> int:
        """The number of bytes held back, for a frame that may still become complete."""
        return len(self._buffer)

    @property
    def held(self) -> bytes:
        """The bytes held back."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Accept more bytes, and return the pieces that they complete, in the order of the stream.

        Line ends between pieces are dropped; nothing else is.
        """
        pieces: list[bytes] = []
        for start in range(0, len(data), MAX_JUNK):
            self._buffer += data[start : start + MAX_JUNK]
            while (size := self._line_ends() or self._next_piece()) > 0:
                pieces += self._cut(size)
        return pieces

    def flush(self) -> list[bytes]:
        """Return the bytes held back, at the end of a stream or when the rest of it will not arrive."""
        pieces: list[bytes] = []
        while self._buffer:
            size = self._next_piece() or self._next_end() or len(self._buffer)
            pieces += self._cut(size)
        return pieces

    def _cut(self, size: int) -> list[bytes]:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        return [piece] if piece.replace(b"\r\0", b"").strip(b"\r\n") else []  # telnet sends CR NUL for CR

    def _line_ends(self) -> int:
        """Count the bytes of line ends at the start of the buffer, which are dropped at once."""
        found = _LINE_ENDS.match(self._buffer)
        return found.end() if found else 0

    def _next_piece(self) -> int:
        """Return the size of the piece at the start of the buffer; 0 when it is not complete yet."""
        buffer = self._buffer
        header = HEADER.match(buffer)
        if header is None:
            return self._next_end() or self._overflow()
        size = frame_size(int(header["count"]))
        is_broken = 0 < buffer.find(b"\n", self._searched) + 1 <= size
        if len(buffer) >= size and not is_broken and _sum_fits(buffer, 0, size):
            return size
        if len(buffer) >= size or is_broken:
            return self._next_end() or self._overflow()
        return self._complete_frame_inside()

    def _next_end(self) -> int:
        """Find the end of damage at the start: at a line end or before the next header; 0 if there is none."""
        line_end = self._buffer.find(b"\n", self._searched) + 1
        header = HEADER.search(self._buffer, self._searched or 1)
        ends = [end for end in (line_end, header.start() if header else 0) if end]
        if not ends:
            self._searched = max(0, len(self._buffer) - HEADER_SIZE + 1)
        return min(ends, default=0)

    def _complete_frame_inside(self) -> int:
        """Find a good frame within the extent that a damaged count claims; 0 when there is none."""
        first = 0
        for header in HEADER.finditer(self._buffer, self._searched or 1):
            first = first or header.start()
            size = frame_size(int(header["count"]))
            if len(self._buffer) >= header.start() + size and _sum_fits(self._buffer, header.start(), size):
                return header.start()
        self._searched = first or len(self._buffer) - HEADER_SIZE + 1
        return 0

    def _overflow(self) -> int:
        """Return how much of a full buffer cannot become a frame: all but a header that may be incomplete."""
        return len(self._buffer) - HEADER_SIZE if len(self._buffer) > MAX_JUNK else 0


def _sum_fits(buffer: bytearray, start: int, size: int) -> bool:
    tail = start + size - TAIL_SIZE
    return buffer[tail : start + size] == b"%04X;" % checksum(buffer[start + 1 : tail])
