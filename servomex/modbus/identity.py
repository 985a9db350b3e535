"""Whether what answers is an analyser of the 4000 series, recognised by its input registers. No I/O.

The maker's newer instruments (MultiExact, OxyDetect, Laser 3 Plus) speak Modbus too, but with another map: input
registers 1 to 7 hold the serial number and 8 to 15 the software version, as text, where the 4000 series has I1
and I2. Their unassigned registers read as 0, or are refused with exception 02. Decoded with the wrong map, such
text is a channel with a name, a small value and no error.

A known unit (%, vpm, ppm, mA) in any block identifies the series: E1 and E2 have mA, and no text ends in a unit
and a NUL by chance. Where no unit is known, something that reads like a unit does too, unless the registers
that would hold a value and a name hold text from their first byte on.
"""

import re
import struct
from collections.abc import Mapping

from servomex.enums import EXTERNAL_CHANNELS, ChannelId
from servomex.errors import ErrorContext, ServomexForeignDeviceError
from servomex.registers import REGISTERS, Span, is_named
from servomex.units import Unit, display_text, unit_and_text

SERIAL_NUMBER = Span(0, 7)
"""Where the newer map has the serial number, two characters a register."""
SOFTWARE_VERSION = Span(7, 8)
"""Where the newer map has the software version."""
_ADDRESSES = {channel: span.addresses for channel, span in reversed(REGISTERS.items())}
"""E1 and E2, which every analyser has, are checked first."""
SERIES = "the SERVOPRO 4000 series (4100, 4200, 4900)"

# Up to three characters after padding, then NUL or a space: not only digits, and no control character.
_UNIT_LIKE = re.compile(rb"(?=.*[^\d\s.\-+\0])[ ]*[\x21-\x7e\x82\xa1-\xff][\x20-\x7e\x82\xa1-\xff]{0,2}[ \0]+")
_TEXT = re.compile(rb"[\x20-\x7e]{4,}[ \0]*")


def is_ours(words: Mapping[int, int], *, complete: bool = False) -> bool:
    """Return whether input registers, by address, can only be those of the 4000 series.

    Args:
        words: What was read; a block that is missing or not whole does not count.
        complete: All blocks that the device lets read are there, so that weaker signs decide. Without, those are
            not looked at, and ``False`` means that more must be read.
    """
    blocks: dict[ChannelId, list[int]] = {}
    for channel, addresses in _ADDRESSES.items():
        block = [word for word in map(words.get, addresses) if word is not None]
        if len(block) == len(addresses):
            blocks[channel] = block
            unit = _unit(block)
            if unit[3] in b" \0" and unit_and_text(unit)[0] is not Unit.UNKNOWN:
                return True
    labelled = {channel for channel, block in blocks.items() if channel in EXTERNAL_CHANNELS or is_named(block)}
    if not complete or _text_in(words, SERIAL_NUMBER):
        return False
    return any(_UNIT_LIKE.fullmatch(_unit(blocks[channel])) for channel in labelled)


def foreign_device(words: Mapping[int, int], context: ErrorContext) -> ServomexForeignDeviceError:
    """Build the error for a device whose input registers are not those of the series."""
    serial, version = _text_in(words, SERIAL_NUMBER), _text_in(words, SOFTWARE_VERSION)
    if serial:
        texts = " and ".join(repr(text) for text in (serial, version) if text)
        why = (
            f"its first input registers hold text, {texts}, as the maker's newer instruments (MultiExact, "
            "OxyDetect, Laser 3 Plus) keep their serial number and software version there"
        )
    elif words:
        why = "none of the channels in its registers has a known unit"
    else:
        why = (
            "it refuses to read its channels with exception 02; the maker's newer instruments (MultiExact, "
            "OxyDetect, Laser 3 Plus) do that"
        )
    return ServomexForeignDeviceError(
        f"this is not an analyser of {SERIES}, which this driver is for: {why}",
        context,
        cure="Check which instrument this cable leads to",
    )


def _text_in(words: Mapping[int, int], span: Span) -> str:
    """Return the text that fills a span from its first byte on; empty when that is not text."""
    if not words.keys() >= set(span.addresses):
        return ""
    raw = _bytes([words[address] for address in span.addresses])
    return display_text(raw) if _TEXT.fullmatch(raw) and raw.strip(b" \0") else ""


def _unit(block: list[int]) -> bytes:
    return _bytes(block[5:7])


def _bytes(words: list[int]) -> bytes:
    return struct.pack(f">{len(words)}H", *words)
