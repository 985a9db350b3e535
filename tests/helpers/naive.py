"""The continuous frame parsed and split in the plainest way, without caches. The product must agree with it."""

import re
from datetime import datetime

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexChecksumError, ServomexFrameError, ServomexParseError
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus, Reading
from servomex.telegram import MAX_JUNK
from servomex.units import Unit

HEADER = re.compile(rb" [ -:<-~]{8};[ -:<-~]{8};[F ][M ];(?:[SC][12]){4};(0[1-9]|10);")
BLOCK = re.compile(
    rb"([ID][1-4]|E[12]);([ -:<-~\x80-\xff]{6});([ -:<-~]{6});([ -:<-~\x80-\xff]{3});"
    rb"([1 ][2 ][3 ][4 ]);([F ][M ]);([C ]);([W ]);"
)
UNITS = {"%": Unit.PERCENT, "vpm": Unit.VPM, "ppm": Unit.PPM, "ma": Unit.MILLIAMP}


def parse(raw: bytes, received_at: datetime, monotonic_ns: int) -> Frame:
    """Parse a frame, or raise what the product must raise."""
    frame = raw.rstrip(b"\r\n")
    header = HEADER.match(frame)
    if header is None:
        raise ServomexFrameError("header")
    count = int(header[1])
    if len(frame) != 34 + 33 * count + 5:
        raise ServomexFrameError("length")
    if not re.fullmatch(rb"[0-9A-F]{4};", frame[-5:]):
        raise ServomexFrameError("checksum is no number")
    if int(frame[-5:-1], 16) != sum(frame[1:-5]) % 65536:
        raise ServomexChecksumError("checksum")
    blocks = [frame[start : start + 33] for start in range(34, 34 + 33 * count, 33)]
    readings = tuple(_reading(block, received_at, monotonic_ns) for block in blocks)
    channels = [reading.channel for reading in readings]
    if channels != [channel for channel in ChannelId if channel in channels]:
        raise ServomexFrameError("order")
    if count > 2 and channels[-2:] != ["E1", "E2"]:
        raise ServomexFrameError("externals")
    date, time, flags, cal = frame[1:].split(b";")[:4]
    groups = tuple(
        CalGroupState(number, cal[2 * number - 2 :][:1] == b"C", int(cal[2 * number - 1 :][:1]))
        for number in (1, 2, 3, 4)
    )
    analyser = AnalyserStatus(flags[:1] == b"F", flags[1:] == b"M", groups, _clock(date, time))
    return Frame(ProtocolKind.CONTINUOUS_ASCII, readings, analyser, received_at, monotonic_ns, raw=frame)


def _clock(date: bytes, time: bytes) -> datetime | None:
    if not re.fullmatch(rb"[0-9]{2}-[0-9]{2}-[0-9]{2};[0-9]{2}:[0-9]{2}:[0-9]{2}", date + b";" + time):
        return None
    (day, month, year), (hour, minute, second) = map(int, date.split(b"-")), map(int, time.split(b":"))
    try:
        return datetime(2000 + year, month, day, hour, minute, second)  # noqa: DTZ001 (it has no zone)
    except ValueError:
        return None


def _reading(block: bytes, received_at: datetime, monotonic_ns: int) -> Reading:
    fields = BLOCK.fullmatch(block)
    if fields is None:
        raise ServomexFrameError("block")
    channel, name, value, unit, alarms, flags, calibrating, warming_up = fields.groups()
    status = ChannelStatus(
        b"F" in flags, b"M" in flags, calibrating == b"C", warming_up == b"W",
        (b"1" in alarms, b"2" in alarms, b"3" in alarms, b"4" in alarms),
    )  # fmt: skip
    number = None
    if re.fullmatch(rb" *-?(0|[1-9][0-9]*)(\.[0-9]+)?", value):
        number = float(value)
    elif re.fullmatch(rb"[ .0-9-]*[0-9][ .0-9-]*", value):
        raise ServomexParseError("value")
    if channel in (b"E1", b"E2") and status.fault:
        number = None
    text = _text(unit)
    return Reading(
        ChannelId(channel.decode()), _text(name) if name.strip(b" |") else None, number,
        UNITS.get(text.lower(), Unit.UNKNOWN), text, status, ProtocolKind.CONTINUOUS_ASCII,
        received_at, monotonic_ns,
    )  # fmt: skip


def _text(raw: bytes) -> str:
    text = raw.strip(b" ").decode("latin-1").translate({0x80 + digit: 0x2080 + digit for digit in range(10)})
    return "".join("�" if 0x7F <= ord(char) < 0xA0 else char for char in text)


class Splitter:
    """Cuts a stream as ``FrameSplitter`` promises to, and searches everything again at each byte."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Give the pieces that are complete with these bytes."""
        pieces = []
        for byte in data:
            self.held += bytes([byte])
            while size := self._size():
                piece, self.held = self.held[:size], self.held[size:]
                pieces += [piece] if piece.strip(b"\r\n") else []
        return pieces

    def _size(self) -> int:
        """Measure the piece at the start; 0 when it is not complete."""
        header = HEADER.match(self.held)
        end = 39 + 33 * int(header[1]) if header else 0
        line_end = self.held.find(b"\n") + 1
        if header and not 0 < line_end <= end:
            if len(self.held) < end:
                return self._inside()
            if _is_summed(self.held[:end]):
                return end
        following = HEADER.search(self.held, 1)
        ends = [place for place in (line_end, following.start() if following else 0) if place]
        return min(ends, default=len(self.held) - 34 if len(self.held) > MAX_JUNK else 0)

    def _inside(self) -> int:
        """Find where the first complete frame behind the start begins; 0 when there is none."""
        for header in HEADER.finditer(self.held, 1):
            frame = self.held[header.start() :][: 39 + 33 * int(header[1])]
            if len(frame) == 39 + 33 * int(header[1]) and _is_summed(frame):
                return header.start()
        return 0


def _is_summed(frame: bytes) -> bool:
    return frame[-5:] == b"%04X;" % (sum(frame[1:-5]) % 65536)
