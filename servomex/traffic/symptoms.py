"""Problems of a line that show in bytes of no known mode: another parity, Modbus TCP at the far end. No I/O."""

import re
from functools import lru_cache

import attrs

from servomex import registers
from servomex.traffic.messages import crc16

PART_ONLY = "part of a broadcast arrived, but no whole one before the timeout"
"""The symptom when only the time was too short."""
_PART = re.compile(rb"[ -:<-~\x80-\x89]{0,9}(?:;[ -:<-~\x80-\x89]{0,9}){2,}(?:\r\n)?")
"""Bytes from within a broadcast: short fields, at least two semicolons."""
_SHORTEST_PART = 16
_SHORTEST_TEXT = 8
"""Fewer characters could have one parity by chance."""
_TEXT = re.compile(rb"[\x20-\x7e\r\n]+")
_MBAP_HEADER = 6
_MBAP_LENGTHS = range(3, 255)
_ADDRESSES = range(1, 248)
_FEWEST_MARKED = 3
_FLAGS = range(4)
"""The two bits that a probe of an address reads."""


@attrs.frozen
class Symptom:
    """What was seen of a line, and what to do about it."""

    seen: str
    cure: str


MODBUS_TCP = Symptom(
    "the server at the far end speaks Modbus TCP, not the protocol of the serial line",
    "Set it to RTU over TCP, also called transparent, raw or TCP server mode",
)


def symptom_of(data: bytes) -> Symptom | None:
    """Return the problem that bytes of no known mode point to; ``None`` if they point to none."""
    if is_modbus_tcp(data):
        return MODBUS_TCP
    parity = _parity_of_text(data)
    if parity:
        return Symptom(
            f"text arrived whose highest bit makes the parity of each byte {parity}: the analyser sends 7 data "
            f"bits and {parity} parity",
            "Use the same settings here, or set it to 8 data bits and no parity on its panel",
        )
    parity = _parity_of_probe(data)
    if parity:
        return Symptom(
            f"replies arrived in which every byte that {parity} parity would mark is missing: the analyser sends "
            f"8 data bits and {parity} parity",
            "Use the same parity here, or set it to none on its panel",
        )
    return None


def is_part_of_broadcast(data: bytes) -> bool:
    """Return whether bytes look like part of a broadcast, as when it was joined in the middle."""
    return len(data) >= _SHORTEST_PART and _PART.fullmatch(data) is not None


def is_modbus_tcp(data: bytes) -> bool:
    """Return whether bytes are whole Modbus TCP messages: transaction, protocol 0, length, and that many bytes."""
    place = 0
    while place < len(data):
        length = int.from_bytes(data[place + 4 : place + _MBAP_HEADER], "big")
        end = place + _MBAP_HEADER + length
        if data[place + 2 : place + 4] != b"\0\0" or length not in _MBAP_LENGTHS or end > len(data):
            return False
        place = end
    return bool(data)


def modbus_tcp_probe(address: int) -> bytes:
    """Build the Modbus TCP request that reads the analyser's flags; on a serial line it is noise without a CRC."""
    span = registers.ANALYSER_FLAGS
    body = bytes((address, 2)) + span.address.to_bytes(2, "big") + span.count.to_bytes(2, "big")
    return b"\x53\x58\0\0" + len(body).to_bytes(2, "big") + body


def _parity_of_text(data: bytes) -> str:
    """Return the parity of text with 7 data bits that was received with 8; empty when it has none."""
    text = data.strip(b"\0")
    stripped = bytes(byte & 0x7F for byte in text)
    if len(text) < _SHORTEST_TEXT or not _TEXT.fullmatch(stripped):
        return ""
    return _common_parity(text) if stripped != text else ""


def _common_parity(data: bytes) -> str:
    parities = {byte.bit_count() % 2 for byte in data}
    return ("odd" if parities.pop() else "even") if len(parities) == 1 else ""


def _parity_of_probe(data: bytes) -> str:
    """Return the parity of replies to the probe whose parity bit was taken for the stop bit; empty for none."""
    return next((parity for seen, parity in _probe_replies() if seen in data), "")


@lru_cache(maxsize=1)
def _probe_replies() -> tuple[tuple[bytes, str], ...]:
    """Return the replies to the probe of any address as they look with an extra parity bit.

    A byte whose parity bit is 0 then has a stop bit of 0, and the system delivers it as a NUL.
    """
    replies = []
    for address in _ADDRESSES:
        for flags in _FLAGS:
            body = bytes((address, 2, 1, flags))
            reply = body + crc16(body).to_bytes(2, "little")
            for parity, ones in (("even", 0), ("odd", 1)):
                seen = bytes(0 if byte.bit_count() % 2 == ones else byte for byte in reply)
                if seen != reply and len(seen.strip(b"\0")) >= _FEWEST_MARKED:
                    replies.append((seen, parity))
    return tuple(replies)
