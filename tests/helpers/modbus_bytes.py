"""Modbus messages from the specification, without the codec that the driver and the virtual analyser share."""

import struct
from collections.abc import Callable


def crc(body: bytes) -> bytes:
    """CRC-16 of the Modbus serial line specification, low byte first."""
    value = 0xFFFF
    for byte in body:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return struct.pack("<H", value)


Framing = Callable[[str], bytes]


def rtu(text: str) -> bytes:
    body = bytes.fromhex(text)
    return body + crc(body)


def ascii_(text: str) -> bytes:
    body = bytes.fromhex(text)
    return b":" + (body + bytes([-sum(body) & 0xFF])).hex().upper().encode() + b"\r\n"
