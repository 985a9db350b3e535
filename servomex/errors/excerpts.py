"""How messages show text from elsewhere: a short piece, no control characters, no password."""

import math
import re
import reprlib
from typing import Any

LONGEST = 80
"""Characters that are shown."""

_repr = reprlib.Repr()
_repr.maxother = _repr.maxlong = LONGEST


def shown(value: object) -> str:
    """Return a value as a Python literal, cut to :data:`LONGEST` characters."""
    if isinstance(value, str | bytes):
        text = repr(value[:LONGEST])
        return text if len(value) <= LONGEST else f"{text[:LONGEST]}..."
    text = _repr.repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def unicode_text(text: str) -> str:
    """Return a text that can be written as UTF-8: anything not Unicode in it becomes a ``?``.

    The name of a file or a port in another encoding may have such parts.
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def plain(text: str) -> str:
    """Return a text of another program, such as a library's message, cut to twice as many characters."""
    line = " ".join(text[: 2 * LONGEST + 1].split())
    escaped = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    return escaped if len(escaped) <= 2 * LONGEST else f"{escaped[: 2 * LONGEST]}..."


_IN_URL = re.compile(r"(://[^:@]*:).*@", re.DOTALL)
_AS_OPTION = re.compile(r"(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:\\.|\S)+)", re.IGNORECASE | re.DOTALL)


def without_password(text: str) -> str:
    """Return a URL, or a connection string of libpq, with ``***`` in place of its password.

    In doubt, as when a password is not percent-encoded, more than the password is hidden.
    """
    return _AS_OPTION.sub(r"\1***", _IN_URL.sub(r"\1***@", text))


def hex_text(data: bytes) -> str:
    """Return bytes as text for an error, long ones shortened in the middle."""
    if len(data) <= 24:
        return data.hex(" ")
    return f"{data[:16].hex(' ')} ... {data[-4:].hex(' ')} ({len(data)} bytes)"


def json_value(value: Any) -> Any:
    """Return a fact as a JSON value; anything that JSON cannot hold becomes text."""
    if isinstance(value, bytes):
        return value.hex()
    is_plain = (
        value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    )
    return value if is_plain else unicode_text(str(value))
