"""Checks of arguments, with the same wording everywhere."""

import math
import operator
import os
from enum import StrEnum
from numbers import Real
from typing import TypeVar

from servomex.errors.tree import Argument, ServomexValidationError

LONGEST_S = 1_000_000.0
FASTEST_HZ = 1000.0
_RATE = Argument("rate_hz")
SLOWEST_HZ = 1 / LONGEST_S

E = TypeVar("E", bound=StrEnum)


def choice(kind: type[E], value: E | str, what: str) -> E:
    """Return the enum member that a plain string means.

    Raises:
        ServomexValidationError: No member has this value; the error lists those that exist.
    """
    # Without a try: an exception of a signal handler in between is not a failure of the search.
    found = next((member for member in kind if member == value), None) or kind._missing_(value)
    if not isinstance(found, kind):
        raise ServomexValidationError(f"unknown {what} {value!r}; known are {', '.join(kind)}")
    return found


def flag(value: bool, what: str) -> bool:
    """Check a ``bool``: any text, even ``"no"``, would otherwise count as true.

    Raises:
        ServomexValidationError: It is something else.
    """
    if not isinstance(value, bool):
        raise ServomexValidationError(f"{what} must be True or False, not {value!r}")
    return value


def path_text(value: str | os.PathLike[str], what: str) -> str:
    """Check the name of a file, and return it as text.

    Raises:
        ServomexValidationError: It is neither a text nor a path, or contains a NUL.
    """
    name = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(name, str) or "\0" in name:
        raise ServomexValidationError(f"{what} must be the name of a file or a path, not {value!r}")
    return name


def seconds(value: float, what: str, *, zero: bool = False, longest: float = LONGEST_S) -> float:
    """Check a duration in seconds: finite, positive (or 0 where ``zero`` allows it), at most ``longest``.

    Raises:
        ServomexValidationError: It is not a number, not finite, too small or too large.
    """
    if not _is_number(value):
        raise ServomexValidationError(f"{what} must be a number of seconds, not {value!r}")
    if not _is_finite(value) or value < 0 or (value == 0 and not zero):
        raise ServomexValidationError(
            f"{what} must be {'0 or more' if zero else 'more than 0'} seconds, not {value!r}"
        )
    if value > longest:
        raise ServomexValidationError(f"{what} must be at most {longest:,.0f} seconds, not {value!r}")
    return float(value)


def number(value: float, what: str) -> float:
    """Check a number of any kind, which may be infinite or NaN, and return it as a ``float``.

    Raises:
        ServomexValidationError: It is not a number, or a whole number beyond the range of ``float``.
    """
    if not _is_number(value):
        raise ServomexValidationError(f"{what} must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ServomexValidationError(f"{what} is too large for a number with a decimal point") from None


def _is_number(value: object) -> bool:
    """Return whether it is a number, of whatever library; ``True`` and ``False`` do not count."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of a float
        return False


def whole(value: int, what: str, low: int, high: int) -> int:
    """Check a whole number from ``low`` to ``high``.

    Raises:
        ServomexValidationError: It is not a whole number or out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise ServomexValidationError(f"{what} must be a whole number from {low} to {high}, not {value!r}")
    return number


def rate(value: float) -> float:
    """Check a number of readings per second.

    Raises:
        ServomexValidationError: It is not a number, less than one in 11 days, or more than 1000.
    """
    if not _is_number(value) or not _is_finite(value):
        raise ServomexValidationError(f"{_RATE} must be a number of readings per second, not {value!r}")
    if not SLOWEST_HZ <= value <= FASTEST_HZ:
        raise ServomexValidationError(
            f"{_RATE} must be at least {SLOWEST_HZ:g} and at most {FASTEST_HZ:g}, not {value!r}"
        )
    return float(value)
