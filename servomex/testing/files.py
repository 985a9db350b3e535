"""Files for tests: captures of broadcasts, and scripts of requests and replies."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from servomex.errors import ServomexConfigurationError
from servomex.errors.excerpts import shown
from servomex.errors.validation import path_text
from servomex.telegram import FrameSplitter
from servomex.trace import is_trace, read_trace

LARGEST = 25_000_000
"""Bytes of a script: all of it is in memory."""

_SEPARATORS = re.compile(r"[\s:,]+")


def load_capture(path: str | os.PathLike[str]) -> list[bytes]:
    """Cut a file of captured broadcasts into frames and the damage between them.

    Use ``sim://replay?file=FILE`` to turn a trace or another capture into a port.

    Args:
        path: A file with the bytes as received, and nothing else.

    Returns:
        Every byte of the file, in order: whole frames with their line ends, and pieces that are not frames.

    Raises:
        ServomexConfigurationError: The file cannot be read.
    """
    splitter = FrameSplitter()
    try:
        data = Path(path_text(path, "path")).read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    return [*splitter.feed(data), *splitter.flush()]


def load_script(path: str | os.PathLike[str]) -> dict[bytes, bytes]:
    """Read requests and their replies from a file, for :class:`FakeTransport`.

    It is a text such as this one, or a wire trace, see :mod:`servomex.trace`::

        # the state of the analyser
        > 01 02 03 e8 00 02 79 bb
        < 01 02 01 00 a1 88

    A line with ``>`` is a request in hexadecimal digits, which may be separated by spaces, colons or commas. Lines
    with ``<`` are its reply, joined where there are several; a request without any is not answered. Lines that
    begin with ``#`` and empty lines are comments. Each request may occur once.

    In a trace a request may occur often. Its last reply counts, and bytes before the first request are omitted.
    A reply is everything received until the next request: late, damaged and foreign replies are in the script
    as they are. ``sim://replay?file=FILE`` plays a trace in its order and with its times.

    Args:
        path: The file.

    Raises:
        ServomexConfigurationError: It cannot be read, is larger than 25 MB or has no requests, or a line is
            neither; the error names the file and the line.
    """
    _check_size(path)
    script = _of_trace(path) if is_trace(path) else _of_text(path)
    if not script:
        raise ServomexConfigurationError(
            f"{os.fspath(path)} has no requests",
            cure="Read broadcasts with load_capture(), or play a trace of them by sim://replay?file=FILE",
        )
    return script


def _check_size(path: str | os.PathLike[str]) -> None:
    """Refuse a file that does not fit in memory or has no size, such as an endless device.

    Raises:
        ServomexConfigurationError: It does not fit, is missing, or is not a file.
    """
    try:
        size = Path(path_text(path, "path")).stat().st_size
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not Path(path).is_file():
        raise _unreadable(path, "it is not a file")
    if size > LARGEST:
        raise _unreadable(path, f"it has more than {LARGEST // 1_000_000} MB")


def _unreadable(path: str | os.PathLike[str], why: str) -> ServomexConfigurationError:
    return ServomexConfigurationError(f"cannot read {os.fspath(path)}: {why}")


def _of_trace(path: str | os.PathLike[str]) -> dict[bytes, bytes]:
    script: dict[bytes, bytes] = {}
    for request, reply in _exchanges(path):
        if reply or request not in script:
            script[request] = reply
    return script


def _exchanges(path: str | os.PathLike[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yield each request of a trace with the bytes until the next one, or until the port was lost or closed."""
    request, reply = b"", bytearray()
    for line in read_trace(path):
        if line.kind == "came":
            reply += line.data
            continue
        if request:
            yield request, bytes(reply)
        request = line.data
        reply.clear()
    if request:
        yield request, bytes(reply)


def _of_text(path: str | os.PathLike[str]) -> dict[bytes, bytes]:
    script: dict[bytes, bytearray] = {}
    request = b""
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                request = _taken(text, request, script)
            except ValueError as error:
                raise ServomexConfigurationError(f"{os.fspath(path)}, line {number}: {error}") from None
    return {asked: bytes(reply) for asked, reply in script.items()}


def _lines(path: str | os.PathLike[str]) -> Iterable[str]:
    try:
        return Path(path).read_text("utf-8-sig", "replace").split("\n")
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _bytes_of(text: str) -> bytes:
    """Return the bytes of a line.

    Raises:
        ValueError: It is neither a request nor a reply.
    """
    if text[0] not in "<>":
        raise ValueError(f"neither a request ('>') nor a reply ('<'): {shown(text)}")
    try:
        return bytes.fromhex(_SEPARATORS.sub(" ", text[1:]))
    except ValueError:
        raise ValueError(f"not bytes in hexadecimal digits: {shown(text[1:].strip())}") from None


def _taken(text: str, request: bytes, script: dict[bytes, bytearray]) -> bytes:
    """Add a line to a script, and return the request to which the replies after it belong.

    Raises:
        ValueError: It is neither a request nor a reply, or does not fit the line before it.
    """
    data = _bytes_of(text)
    if text.startswith("<"):
        if not request:
            raise ValueError("a reply without a request before it")
        script[request] += data
        return request
    if not data:
        raise ValueError("a request without bytes")
    if data in script:
        raise ValueError(f"the request {data[:24].hex(' ')} is there already: each has one reply")
    script[data] = bytearray()
    return data
