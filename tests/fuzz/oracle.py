"""What the wire's formats allow, written from their description and not from the driver.

Everything here is a plain walk over bytes. It shares no code, no pattern and no table with the driver, so that a
mistake in the driver is not repeated here.
"""

from fractions import Fraction

import attrs

IDS = ("I1", "I2", "I3", "I4", "D1", "D2", "D3", "D4", "E1", "E2")
HEAD, BLOCK, TAIL = 34, 33, 5
DIGITS = b"0123456789"
HEX = b"0123456789ABCDEF"


@attrs.frozen
class Channel:
    """One channel block: what it says, with its texts as they are on the wire."""

    id: str
    name: bytes
    value: float | None
    unit: bytes
    alarms: tuple[bool, ...]
    fault: bool
    maintenance: bool
    calibrating: bool
    warming_up: bool


@attrs.frozen
class Broadcast:
    """One frame of continuous mode."""

    clock: bytes
    fault: bool
    maintenance: bool
    groups: str
    channels: tuple[Channel, ...]


class _Refused(Exception):  # noqa: N818 (it never leaves this module)
    """The bytes are no frame."""


def broadcast(raw: bytes) -> Broadcast | None:
    """Read one frame, its line end aside; ``None`` when it breaks the format in any place."""
    try:
        return _broadcast(raw.rstrip(b"\r\n"))
    except _Refused:
        return None


def _broadcast(raw: bytes) -> Broadcast:
    _need(len(raw) >= HEAD + BLOCK + TAIL and raw[0] == 0x20)
    count = int(_two_digits(raw[31:33]))
    _need(1 <= count <= 10 and len(raw) == HEAD + count * BLOCK + TAIL)
    _need(all(raw[place] == 0x3B for place in (9, 18, 21, 30, 33)) and raw[-1] == 0x3B)
    _need(_is_plain(raw[1:9]) and _is_plain(raw[10:18]))
    _need(_hexadecimal(raw[-5:-1]) == sum(raw[1:-5]) % 65536)
    fault, maintenance = _mark(raw[19], "F"), _mark(raw[20], "M")
    groups = raw[22:30].decode("latin-1")
    _need(all(groups[place] in "SC" and groups[place + 1] in "12" for place in range(0, 8, 2)))
    blocks = [raw[start : start + BLOCK] for start in range(HEAD, len(raw) - TAIL, BLOCK)]
    channels = tuple(map(_channel, blocks))
    places = [IDS.index(channel.id) for channel in channels]
    _need(places == sorted(set(places)))
    _need(count < 3 or places[-2:] == [8, 9])
    return Broadcast(raw[1:18], fault, maintenance, groups, channels)


def _channel(block: bytes) -> Channel:
    fields = (block[0:2], block[3:9], block[10:16], block[17:20], block[21:25], block[26:28], block[29:30])
    _need(all(block[place] == 0x3B for place in (2, 9, 16, 20, 25, 28, 30, 32)))
    channel, name, value, unit, alarms, flags, calibrating = fields
    _need(channel.decode("latin-1") in IDS)
    _need(_is_text(name) and _is_text(unit) and _is_plain(value))
    raised = tuple(_mark(alarms[place], str(place + 1)) for place in range(4))
    marks = _mark(flags[0], "F"), _mark(flags[1], "M"), _mark(calibrating[0], "C"), _mark(block[31], "W")
    return Channel(channel.decode(), name, _value(value, channel, marks[0]), unit, raised, *marks)


def _value(field: bytes, channel: bytes, fault: bool) -> float | None:
    """Read right-justified decimal text. A text of digits, points, signs and spaces that is none is damage."""
    text = field.decode().lstrip(" ")
    whole, point, part = text.removeprefix("-").partition(".")
    regular = _all_digits(whole) and (whole == "0" or whole[0] != "0") and (_all_digits(part) if point else True)
    if regular:
        return None if fault and channel[:1] == b"E" else float(Fraction(text))
    numeric = all(letter in "0123456789.- " for letter in field.decode()) and any(map(str.isdigit, text))
    _need(not numeric)
    return None


def _need(held: bool) -> None:
    if not held:
        raise _Refused


def _all_digits(text: str) -> bool:
    return text != "" and all(letter in "0123456789" for letter in text)


def _two_digits(text: bytes) -> bytes:
    _need(len(text) == 2 and text[0] in DIGITS and text[1] in DIGITS)
    return text


def _hexadecimal(text: bytes) -> int:
    _need(all(letter in HEX for letter in text))
    return int(text, 16)


def _is_plain(text: bytes) -> bool:
    return all(0x20 <= letter <= 0x7E and letter != 0x3B for letter in text)


def _is_text(text: bytes) -> bool:
    return all((0x20 <= letter <= 0x7E and letter != 0x3B) or letter >= 0x80 for letter in text)


def _mark(letter: int, meaning: str) -> bool:
    _need(letter == ord(meaning) or letter == 0x20)
    return letter == ord(meaning)


def crc16(body: bytes) -> int:
    """The CRC of Modbus RTU, bit by bit from its polynomial; the low byte goes first on the wire."""
    value = 0xFFFF
    for byte in body:
        value ^= byte
        for _ in range(8):
            carry = value & 1
            value >>= 1
            if carry:
                value ^= 0xA001
    return value


def rtu_frame(body: bytes) -> bytes:
    """Put the CRC behind a message."""
    return body + crc16(body).to_bytes(2, "little")


def ascii_frame(body: bytes) -> bytes:
    """Write a message in Modbus ASCII."""
    return b":" + (body + bytes([-sum(body) % 256])).hex().upper().encode() + b"\r\n"


def messages(stream: bytes, size: int, ascii_framing: bool) -> list[bytes]:
    """Find every message of ``size`` bytes, address included and check not, that stands anywhere in a stream."""
    if ascii_framing:
        return [body for start in _places(stream, b":") if (body := _ascii_body(stream[start:], size))]
    return [
        stream[start : start + size]
        for start in range(len(stream) - size - 1)
        if crc16(stream[start : start + size]) == int.from_bytes(stream[start + size : start + size + 2], "little")
    ]


def _ascii_body(text: bytes, size: int) -> bytes:
    digits, end = text[1 : 3 + 2 * size], text[3 + 2 * size : 5 + 2 * size]
    if len(digits) != 2 * size + 2 or end != b"\r\n":
        return b""
    try:
        body = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return b""
    return body[:-1] if len(body) == size + 1 and sum(body) % 256 == 0 else b""


def _places(stream: bytes, letter: bytes) -> list[int]:
    return [place for place in range(len(stream)) if stream[place : place + 1] == letter]


def answers(stream: bytes, request: bytes, ascii_framing: bool) -> list[bytes]:
    """Give the data of all messages in a stream that may answer a request to read or a loopback.

    Args:
        stream: What came.
        request: The request from its address on, without its check.
        ascii_framing: Modbus ASCII rather than RTU.
    """
    function, count = request[1], int.from_bytes(request[4:6], "big")
    if function == 8:
        return [body[4:] for body in messages(stream, len(request), ascii_framing) if body == request]
    data = 2 * count if function == 4 else (count + 7) // 8
    begin = bytes([request[0], function, data])
    found = messages(stream, 3 + data, ascii_framing)
    return [body[3:] for body in found if body.startswith(begin)]


def refusals(stream: bytes, request: bytes, ascii_framing: bool) -> list[int]:
    """Give the exception codes of all messages in a stream that may refuse a request."""
    begin = bytes([request[0], request[1] | 0x80])
    return [body[2] for body in messages(stream, 3, ascii_framing) if body.startswith(begin)]
