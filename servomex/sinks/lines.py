"""The whole lines of a text file, plain or gz."""

import io
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from servomex.errors import ServomexSinkSchemaError

BLOCK = 65_536
LONGEST_LINE = 1_000_000
"""Bytes; a file with a longer line is not a recording."""
MOST_EMPTY = 1_000
"""Empty lines, or empty members of a gz file, in a row; more of them are not a recording."""
GZIP = 31
"""The ``wbits`` of zlib that mean a gz header and trailer."""


class Lines:
    """The whole lines of a file, plain or gz, without their line ends.

    Args:
        path: The file.
        is_whole: Whether text after the last line end is a whole line nevertheless; ``None`` when it never is.

    Attributes:
        count: Lines yielded so far.
        rest: At the end: the text after the last line end, such as the half line that a kill can leave.
        completed: At the end: whether the last line was whole, but had no line end.
        ended: At the end: whether a gz file was ended properly.
    """

    def __init__(self, path: Path, is_whole: Callable[[bytes], bool] | None = None) -> None:
        self.path = path
        self.count: int = 0
        self.rest: bytes = b""
        self.completed: bool = False
        self.ended: bool = True
        self._is_whole = is_whole

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._unpacked() if is_packed(self.path) else self._plain()
        empty = 0
        for chunk in chunks:
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            for line in lines:
                self.count += 1
                empty = empty + 1 if not line or line.isspace() else 0
                if empty > MOST_EMPTY:
                    raise self._damage(f"more than {MOST_EMPTY} empty lines")
                yield line
            if len(self.rest) > LONGEST_LINE:
                self.count += 1
                raise self._damage(f"longer than {LONGEST_LINE} bytes")
        if self.rest and self._is_whole and self._is_whole(self.rest):
            line, self.rest, self.completed = self.rest, b"", True
            self.count += 1
            yield line

    def _plain(self) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                yield block

    def _unpacked(self) -> Iterator[bytes]:
        """Yield the text of a gz file of any number of members as far as it goes, in pieces that fit in memory."""
        unpacker = zlib.decompressobj(GZIP)
        blocks = self._plain()
        empty, has_text = 0, False
        for block in blocks:
            data, waiting = block, False
            while data or waiting:
                if unpacker.eof:
                    empty = 0 if has_text else empty + 1
                    if empty > MOST_EMPTY:
                        raise self._damage(f"more than {MOST_EMPTY} empty members")
                    unpacker, has_text = zlib.decompressobj(GZIP), False
                spare = unpacker.copy()
                try:
                    text = unpacker.decompress(data, BLOCK)
                except zlib.error as error:
                    left = yield from _before_damage(spare, data)
                    self._check_zeros(left, blocks, error)
                    return
                has_text = has_text or bool(text)
                yield text
                data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                waiting = len(text) == BLOCK and not unpacker.eof
        self.ended = unpacker.eof

    def _check_zeros(self, left: bytes, blocks: Iterator[bytes], error: zlib.error) -> None:
        """Refuse damage, but not the zeros that a file may end with after a loss of power."""
        if left.strip(b"\0") or any(block.strip(b"\0") for block in blocks):
            self.count += 1
            raise self._damage(f"damaged: {error}") from error
        self.ended = False

    def _damage(self, what: str) -> ServomexSinkSchemaError:
        return ServomexSinkSchemaError(f"{self.path}, line {self.count}: {what}")


def is_packed(path: Path) -> bool:
    """Return whether a file is gz, by its name."""
    return path.suffix.lower() == ".gz"


def _before_damage(unpacker: "zlib._Decompress", data: bytes) -> Generator[bytes, None, bytes]:
    """Yield the text before the damage, and return the bytes from there on."""
    for place in range(len(data)):
        try:
            yield unpacker.decompress(data[place : place + 1])
        except zlib.error:
            return data[place:]
    return b""


def check_encoding(path: Path, line: bytes) -> None:
    """Refuse text that another program has saved as UTF-16, by the first line of a file.

    Raises:
        ServomexSinkSchemaError: It is UTF-16.
    """
    if line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise ServomexSinkSchemaError(
            f"{path} is in UTF-16, as Windows PowerShell writes it with '>': save it as UTF-8, for example with "
            "Get-Content IN | Set-Content -Encoding utf8 OUT"
        )


def count_lines(file: io.FileIO, start: int) -> int:
    """Count the line ends from ``start`` on."""
    file.seek(start)
    return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def end_of_last_line(file: io.FileIO, size: int) -> int:
    """Find the place after the last line end; 0 when there is none."""
    end = size
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0
