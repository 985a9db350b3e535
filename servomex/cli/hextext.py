"""Bytes typed in hexadecimal digits: ``20 30 0d``, ``20:30:0D``, ``0x20, 0x30``, ``2030``."""

import re
from collections.abc import Iterable, Iterator

import click

from servomex.errors.excerpts import shown

_BESIDE = re.compile(rb"[\s:,]+|0[xX]")
"""Characters allowed between and before the digits. Dropping ``0x`` loses no digit: it would be a leading 0."""
_NO_DIGIT = re.compile(rb"[^0-9a-fA-F]")
_EXCERPT = 10


def bytes_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a hexadecimal text in chunks, as soon as they are complete.

    Raises:
        UsageError: It is not hexadecimal text, or ends in the middle of a byte.
    """
    digits = waiting = b""
    for chunk in chunks:
        text = waiting + chunk
        waiting = b"0" if text.endswith(b"0") else b""  # an x may follow
        digits += _digits(text.removesuffix(waiting))
        even = len(digits) - len(digits) % 2
        yield bytes.fromhex(digits[:even].decode("ascii"))
        digits = digits[even:]
    digits += waiting
    if len(digits) % 2:
        raise click.UsageError("the hexadecimal text ends in the middle of a byte")
    yield bytes.fromhex(digits.decode("ascii"))


def _digits(text: bytes) -> bytes:
    digits = _BESIDE.sub(b"", text)
    if wrong := _NO_DIGIT.search(digits):
        excerpt = digits[max(0, wrong.start() - _EXCERPT) : wrong.start() + _EXCERPT].decode("utf-8", "replace")
        raise click.UsageError(f"not hexadecimal text: {shown(excerpt)}. Write bytes as in '20 30 0d'")
    return digits
