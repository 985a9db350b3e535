"""Durations, sizes and counts in human-readable form: ``500ms 90s 15m 8h 2d``, ``100MB 1GB``, ``1 reading``."""

import re

from servomex.errors import ServomexValidationError
from servomex.errors.excerpts import shown

SECONDS: dict[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
BYTES: dict[str, int] = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000, "tb": 1_000_000_000_000}
MS = 1e3
"""Milliseconds in a second."""
LONGEST_S: float = 3650.0 * SECONDS["d"]
LARGEST_BYTES = 1_000_000 * BYTES["tb"]

_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]+)")


def parse_duration(text: str) -> float:
    """Return a duration such as ``500ms``, ``90s``, ``15m``, ``8h``, ``2d`` or ``1.5h`` in seconds.

    Raises:
        ServomexValidationError: It is not such a text, 0, or longer than ``3650d``.
    """
    duration_s = parse_time(text)
    if not 0 < duration_s <= LONGEST_S:
        raise ServomexValidationError(f"a duration must be more than 0 and at most 3650d, not {shown(text)}")
    return duration_s


def parse_time(text: str) -> float:
    """Return a duration such as ``500ms`` or ``90s`` in seconds; it may be 0.

    Raises:
        ServomexValidationError: It is not such a text.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if not found or found[2] not in SECONDS:
        raise ServomexValidationError(
            f"{shown(text)} is not a duration", cure="Write it as 500ms, 90s, 15m, 8h or 2d"
        )
    return float(found[1]) * SECONDS[found[2]]


def parse_size(text: str) -> int:
    """Return a size such as ``500kB``, ``100MB`` or ``1GB`` in bytes; a kB is 1000 bytes.

    Raises:
        ServomexValidationError: It is not such a text, less than a byte, or more than ``1000000TB``.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if not found or found[2].lower() not in BYTES:
        raise ServomexValidationError(f"{shown(text)} is not a size", cure="Write it as 500kB, 100MB or 1GB")
    size = float(found[1]) * BYTES[found[2].lower()]
    if not 0.5 < size <= LARGEST_BYTES:
        raise ServomexValidationError(f"a size must be from 1 byte to 1000000TB, not {shown(text)}")
    return round(size)


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as ``1 reading`` and ``2 readings``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
