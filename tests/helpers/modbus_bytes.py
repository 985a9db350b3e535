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


# Requests and replies with the checksums of the specification, written out.
PROBE, STATE = bytes.fromhex("01 02 03 E8 00 10 F9 B6"), bytes.fromhex("01 02 02 00 00 B9 B8")
LOOPBACK = bytes.fromhex("01 08 00 00 A5 37 DA 8D")
VALUE_OF_I1 = bytes.fromhex("01 04 00 00 00 07 B1 C8")
OXYGEN = bytes.fromhex("01 04 0E 41 A3 02 0C 4F 78 79 67 65 6E 25 00 00 00")
