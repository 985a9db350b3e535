"""Whole Modbus messages in a stream of bytes: where one ends, whether its checksum matches, its contents. No I/O.

Source: Modbus over Serial Line specification 1.02. RTU has no mark for the end of a message: its size follows from
its function code and byte count, and the CRC shows whether that was right. The read of a master has 8 bytes, as a
reply may have, so both sizes are tried.
"""

import re
from collections.abc import Iterator

import attrs

_READS = (1, 2, 3, 4)
_FIXED = (5, 6, 8)
_WRITES = (15, 16)
_MAX_ADDRESS = 247
_MAX_DATA = 250
SHORTEST_MESSAGE = 5
"""A refusal in RTU has as many bytes. Fewer are a glitch, not a message."""
ASCII_MESSAGE = re.compile(rb":((?:[0-9A-F]{2}){3,255})\r\n")
WAIT = -1
"""The size of a message that is unknown until more bytes arrive."""


@attrs.frozen
class Message:
    """A message on the line.

    Attributes:
        raw: Its bytes on the wire.
        body: Address, function code and data, without the framing and the checksum.
    """

    raw: bytes
    body: bytes

    @property
    def address(self) -> int:
        """The slave address that it names."""
        return self.body[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Function code and size of the body: all that distinguishes replies of the same address."""
        return self.body[1], len(self.body)

    @property
    def is_request(self) -> bool:
        """Whether only a master can have sent it: a read of registers, coils or inputs."""
        return self.body[1] in _READS and len(self.body) == 6 and self.body[2] != 3


def is_whole(raw: bytes, ascii_framing: bool) -> bool:
    """Return whether these bytes are one message with a matching checksum."""
    return body_of(raw, ascii_framing) is not None


def body_of(raw: bytes, ascii_framing: bool) -> bytes | None:
    """Return address, function code and data of a message; ``None`` when its checksum or framing is wrong."""
    if not ascii_framing:
        return raw[:-2] if len(raw) >= SHORTEST_MESSAGE and crc16(raw) == 0 else None
    found = ASCII_MESSAGE.fullmatch(raw)
    data = bytes.fromhex(found[1].decode("ascii")) if found else b""
    return data[:-1] if data and sum(data) & 0xFF == 0 else None


def message_at(data: bytes, place: int, ascii_framing: bool) -> "Message | int":
    """Return the message that begins at a place; ``WAIT`` while it is not complete, 0 when there is none."""
    return _ascii_at(data, place) if ascii_framing else _rtu_at(data, place)


def messages_in(data: bytes, ascii_framing: bool) -> Iterator[Message]:
    """Yield the whole messages in these bytes; bytes between them are skipped."""
    place = 0
    while place < len(data):
        found = message_at(data, place, ascii_framing)
        if isinstance(found, Message):
            yield found
            place += len(found.raw)
        else:
            place += 1


def _ascii_at(data: bytes, place: int) -> "Message | int":
    if data[place : place + 1] != b":":
        return 0
    end, restart = data.find(b"\r\n", place), data.find(b":", place + 1)
    if end < 0 or 0 <= restart < end:
        return WAIT if restart < 0 else 0
    raw = data[place : end + 2]
    body = body_of(raw, True)
    return 0 if body is None else Message(raw, body)


def _rtu_at(data: bytes, place: int) -> "Message | int":
    if not 1 <= data[place] <= _MAX_ADDRESS:
        return 0
    if place + 2 > len(data):
        return WAIT
    sizes = _rtu_sizes(data[place : place + 7])
    for size in sizes:
        raw = data[place : place + size]
        if len(raw) == size and crc16(raw) == 0:
            return Message(raw, raw[:-2])
    return WAIT if any(place + size > len(data) for size in sizes) else 0


def _rtu_sizes(head: bytes) -> tuple[int, ...]:
    """Return the sizes that an RTU message which begins like this may have, checksum included."""
    function = head[1]
    if function & 0x80:
        return (5,) if 1 <= function & 0x7F <= _WRITES[-1] else ()
    if function in _FIXED:
        return (8,)
    if function in _READS:
        count = head[2] if len(head) > 2 else 0
        return (8, 5 + count) if 1 <= count <= _MAX_DATA else (8,)
    if function in _WRITES:
        return (8, 9 + head[6]) if len(head) > 6 and head[6] else (8,)
    return ()


def crc16(data: bytes | bytearray) -> int:
    """Compute the CRC of Modbus RTU; over a message with its CRC it is 0."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
    return byte


_CRC_TABLE = tuple(map(_crc_of, range(256)))
