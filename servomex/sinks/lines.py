"""The lines of a text file, plain or gz, as far as they are whole."""

import io
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path

from servomex.errors import ServomexSinkSchemaError

BLOCK = 65_536
LONGEST_LINE = 1_000_000
"""Bytes; what has no line end for longer is no recording."""
GZIP = 31
"""The ``wbits`` of zlib that mean a gz header and trailer."""


class Lines:
    """The whole lines of a file, plain or gz, without their line ends.

    Attributes:
        count: Lines given so far.
        rest: At the end: what follows the last line end, the half line that a kill can leave.
        ended: At the end: whether a gz file was ended properly.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.rest = b""
        self.ended = True

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._unpacked() if is_packed(self.path) else self._plain()
        for chunk in chunks:
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            for line in lines:
                self.count += 1
                yield line
            if len(self.rest) > LONGEST_LINE:
                raise ServomexSinkSchemaError(f"{self.path}, line {self.count + 1}: no line is that long")

    def _plain(self) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                yield block

    def _unpacked(self) -> Iterator[bytes]:
        """Give the text of a gz file of any number of members as far as it goes."""
        unpacker = zlib.decompressobj(GZIP)
        blocks = self._plain()
        for block in blocks:
            data = block
            while data:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(GZIP)
                spare = unpacker.copy()
                try:
                    yield unpacker.decompress(data)
                except zlib.error as error:
                    left = yield from _before_damage(spare, data)
                    self._check_zeros(left, blocks, error)
                    return
                data = unpacker.unused_data
        self.ended = unpacker.eof

    def _check_zeros(self, left: bytes, blocks: Iterator[bytes], error: zlib.error) -> None:
        """Refuse damage, but not the zeros that a file may end with after a loss of power."""
        if left.strip(b"\0") or any(block.strip(b"\0") for block in blocks):
            raise ServomexSinkSchemaError(f"{self.path}, line {self.count + 1}: damaged: {error}") from error
        self.ended = False


def is_packed(path: Path) -> bool:
    """Whether a file is gz, by its name."""
    return path.suffix.lower() == ".gz"


def _before_damage(unpacker: "zlib._Decompress", data: bytes) -> Generator[bytes, None, bytes]:
    """Give the text in front of the damage, and return the bytes from there on."""
    for place in range(len(data)):
        try:
            yield unpacker.decompress(data[place : place + 1])
        except zlib.error:
            return data[place:]
    return b""


def count_lines(file: io.FileIO, start: int) -> int:
    """Count the line ends from a place on."""
    file.seek(start)
    return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def end_of_last_line(file: io.FileIO, size: int) -> int:
    """Find the place behind the last line end; 0 when there is none."""
    end = size
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0
