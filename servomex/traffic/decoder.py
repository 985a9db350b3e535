"""The traffic on a line: continuous frames, Modbus RTU and ASCII messages, and noise, each in words. No I/O."""

import re
from collections.abc import Iterator
from typing import Literal

import attrs

from servomex.durations import counted
from servomex.errors import ServomexParseError
from servomex.models.frame import Frame
from servomex.models.reading import NO_TIME
from servomex.telegram import HEADER, HEADER_SIZE, frame_size, parse_frame
from servomex.traffic.messages import ASCII_MESSAGE, body_of, crc16
from servomex.traffic.words import FUNCTIONS, Dialogue, body_sizes, reading_text

Kind = Literal["broadcast", "rtu", "ascii", "noise"]

MAX_NOISE = 512
"""Noise is returned in pieces of at most this many bytes."""
_STEP = 4096
_WAIT = -1
"""The size of an incomplete message."""

# A message begins with a space, a colon, or an address and a function code, which may not be there yet.
_START = re.compile(
    rb"[ :]|[\0-\xf7](?:[%b]|\Z)" % b"".join(b"\\x%02x\\x%02x" % (code, code | 0x80) for code in FUNCTIONS)
)
_HEADERS = (b" 00-00-00;00:00:00;  ;S1S1S1S1;05;", b" 00-00-00;00:00:00;  ;S1S1S1S1;10;")
_LINE_END = re.compile(rb"\r?\n?")
_ASCII_BEGUN = re.compile(rb":[0-9A-F]{0,510}\r?\Z")


@attrs.frozen
class Message:
    """A message on a line, or the noise between two.

    Attributes:
        kind: ``broadcast``, ``rtu``, ``ascii`` or ``noise``.
        raw: Its bytes, including the line end of a broadcast, if it has one.
        address: Modbus slave address.
        function: Modbus function code; for an exception, that of its request.
        text: Its meaning, on one line.
    """

    kind: Kind
    raw: bytes
    address: int | None
    function: int | None
    text: str


class TrafficDecoder:
    """Divides the bytes on a line into messages and noise. Every byte is in exactly one of them.

    How the bytes are chunked makes no difference. Up to about a thousand bytes are held back, for a message that
    may still become complete: call :meth:`flush` when the line falls silent.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._noise = bytearray()
        self._dialogue = Dialogue()

    @property
    def pending(self) -> int:
        """The number of bytes held back."""
        return len(self._buffer) + len(self._noise)

    def feed(self, data: bytes) -> list[Message]:
        """Accept more bytes, and return the messages that they complete, in the order of the line."""
        messages: list[Message] = []
        for start in range(0, len(data), _STEP):
            self._buffer += data[start : start + _STEP]
            messages += self._cut(at_end=False)
        return messages

    def flush(self) -> list[Message]:
        """Return the bytes held back: the line is silent, and the rest will not arrive."""
        return [*self._cut(at_end=True), *self._end_noise()]

    def _cut(self, *, at_end: bool) -> Iterator[Message]:
        buffer, place = self._buffer, 0
        while place < len(buffer):
            found = _START.search(buffer, place)
            start = found.start() if found else len(buffer)
            yield from self._pass_noise(buffer[place:start])
            place = start
            if place == len(buffer):
                break
            kind, size = self._measure(place, at_end)
            if size == _WAIT:
                break
            if size:
                yield from self._end_noise()
                yield self._message(kind, bytes(buffer[place : place + size]))
            else:
                yield from self._pass_noise(buffer[place : place + 1])
            place += size or 1
        del buffer[:place]

    def _measure(self, start: int, at_end: bool) -> tuple[Kind, int]:
        """Return the size of the message that begins at ``start``: 0 for none, -1 if more bytes are needed."""
        kind: Kind = "rtu"
        if self._buffer[start] == ord(":"):
            kind, size = "ascii", _ascii_size(self._buffer, start)
        elif self._buffer[start] == ord(" "):
            kind, size = "broadcast", _broadcast_size(self._buffer, start, at_end)
        else:
            size = 0
        if size == 0 or (size == _WAIT and at_end):
            kind, size = "rtu", self._rtu_size(start, at_end)
        return kind, size

    def _rtu_size(self, start: int, at_end: bool) -> int:
        """Return the size of an RTU message: the first of its possible lengths with a matching CRC."""
        head = bytes(self._buffer[start : start + 7])
        if len(head) < 2:
            return 0 if at_end else _WAIT
        if head[1] & 0x7F not in FUNCTIONS:
            return 0
        expected = self._dialogue.expected_size(head[0], head[1])
        for body in sorted(body_sizes(head), key=lambda size: (size != expected, size)):
            end = start + body + 2
            if end > len(self._buffer):
                if not at_end:
                    return _WAIT
            elif crc16(self._buffer[start:end]) == 0:
                return body + 2
        return 0

    def _pass_noise(self, data: bytearray) -> Iterator[Message]:
        self._noise += data
        while len(self._noise) >= MAX_NOISE:
            raw = bytes(self._noise[:MAX_NOISE])
            del self._noise[:MAX_NOISE]
            yield Message("noise", raw, None, None, _noise_text(raw))

    def _end_noise(self) -> Iterator[Message]:
        if self._noise:
            raw = bytes(self._noise)
            self._noise.clear()
            yield Message("noise", raw, None, None, _noise_text(raw))

    def _message(self, kind: Kind, raw: bytes) -> Message:
        if kind == "broadcast":
            frame = parse_frame(raw, received_at=NO_TIME, monotonic_ns=0)
            return Message(kind, raw, None, None, f"broadcast: {_frame_text(frame)}")
        body = body_of(raw, kind == "ascii") or b""
        return Message(kind, raw, body[0], body[1] & 0x7F, self._dialogue.say(body))


def _broadcast_size(buffer: bytearray, start: int, at_end: bool) -> int:
    """Return the size of a continuous frame with its line end."""
    header = HEADER.match(buffer, start)
    if header is None:
        begun = bytes(buffer[start : start + HEADER_SIZE])
        return _WAIT if any(HEADER.match(begun + whole[len(begun) :]) for whole in _HEADERS) else 0
    end = start + frame_size(int(header["count"]))
    if end > len(buffer):
        return _WAIT
    try:
        parse_frame(bytes(buffer[start:end]), received_at=NO_TIME, monotonic_ns=0)
    except ServomexParseError:
        return 0
    line_end = _LINE_END.match(buffer, end)
    whole = line_end.end() if line_end else end
    return _WAIT if whole == len(buffer) and not at_end and not buffer.endswith(b"\n") else whole - start


def _ascii_size(buffer: bytearray, start: int) -> int:
    """Return the size of a Modbus ASCII message with a matching LRC."""
    found = ASCII_MESSAGE.match(buffer, start)
    if found is None:
        return _WAIT if _ASCII_BEGUN.match(buffer, start) else 0
    return len(found[0]) if body_of(found[0], True) else 0


def _frame_text(frame: Frame) -> str:
    texts = [reading_text(reading) for reading in frame]
    analyser = frame.analyser
    texts += ["analyser fault"] * analyser.fault + ["analyser maintenance required"] * analyser.maintenance
    return ", ".join([*texts, *analyser.cal_words])


def _noise_text(raw: bytes) -> str:
    text = f"{counted(len(raw), 'byte')} in no known format"
    header = HEADER.search(raw)
    if header is not None:
        text += f"; in them {_damage(raw[header.start() : header.start() + frame_size(int(header['count']))])}"
    elif re.search(rb":[0-9A-F]{6}", raw):
        text += "; in them a damaged Modbus ASCII message"
    return text


def _damage(piece: bytes) -> str:
    try:
        parse_frame(piece, received_at=NO_TIME, monotonic_ns=0)
    except ServomexParseError as error:
        return f"a damaged broadcast: {error.reason}"
    return "a broadcast"
