"""How single values of a fleet file are read."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import attrs

from servomex.durations import parse_duration, parse_size
from servomex.enums import ProtocolKind
from servomex.errors import ServomexValidationError
from servomex.errors.excerpts import shown, without_password
from servomex.errors.validation import choice, flag, whole
from servomex.sinks.retention import parse_keep
from servomex.sinks.rotation import parse_rotation

T = TypeVar("T")

_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")


@attrs.frozen
class Listen:
    """Where a server listens.

    Attributes:
        host: The address of an interface.
        port: 0 to 65535; 0 for a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(value: object) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ServomexValidationError(f"it must be a text, not {shown(value)}")
    return value


def duration(value: object) -> float:
    """Read a duration such as ``"1s"``, in seconds; a number is one of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return parse_duration(f"{float(value):f}s")
    return parse_duration(text(value))


def size(value: object) -> int:
    """Read a size such as ``"2GB"``, in bytes."""
    return parse_size(text(value))


def keep(value: object) -> str:
    """Read how much of rotated files is kept: ``"90d"``, ``"20GB"`` or both, as in ``"90d,20GB"``."""
    parse_keep(text(value))
    return str(value)


def rotate(value: object) -> str:
    """Read when a file is followed by a new one: ``"1d"``, ``"100MB"`` or both."""
    parse_rotation(text(value))
    return str(value)


def free(value: object) -> str:
    """Read how much is to stay free on a disk, such as ``"1GB"``."""
    parse_size(text(value))
    return str(value)


def listen(value: object) -> Listen:
    """Read an address such as ``"127.0.0.1:9464"``; without a host, ``":9464"``, that of this computer alone."""
    found = _ADDRESS.fullmatch(text(value))
    if not found or int(found["port"]) > 65535:
        raise ServomexValidationError(f"{shown(value)} is not an address: write it as 127.0.0.1:9464")
    return Listen(found["v6"] or found["host"] or "127.0.0.1", int(found["port"]))


def web_url(value: object) -> str:
    """Read the URL of a web hook."""
    url = text(value)
    if not re.match(r"https?://[^/\s]", url):
        raise ServomexValidationError(f"{shown(without_password(url))} is not a URL that begins with http(s)://")
    return url


def boolean(value: Any) -> bool:
    """Read ``true`` or ``false``."""
    return flag(value, "it")


def number(low: int, high: int) -> Callable[[Any], int]:
    """Return what reads a whole number within bounds."""
    return lambda value: whole(value, "it", low, high)


def one_of(*words: str) -> Callable[[object], str]:
    """Return what reads one of some words."""

    def read(value: object) -> str:
        if value not in words:
            raise ServomexValidationError(f"it must be one of {', '.join(words)}, not {shown(value)}")
        return str(value)

    return read


def list_of(read: Callable[[Any], T]) -> Callable[[object], tuple[T, ...]]:
    """Return what reads a list, each item by a function; a single text counts as a list of one."""

    def read_all(value: object) -> tuple[T, ...]:
        items: Iterable[Any] = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        found = tuple(map(read, items))
        if not found:
            raise ServomexValidationError(f"it must be a list of texts, not {shown(value)}")
        return found

    return read_all


def protocol(value: Any) -> ProtocolKind:
    """Read a communication mode."""
    return choice(ProtocolKind, text(value), "protocol")


def file(value: object) -> Path:
    """Read the name of a file, with ``~`` for the home folder."""
    return Path(os.path.expanduser(text(value)))  # noqa: PTH111 (that of Path raises without a home folder)
