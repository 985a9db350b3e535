"""Sinks that write lines of text, plain or as gz: what a kill can leave, and how it is continued and read."""

import contextlib
import io
import os
import shutil
import zlib
from abc import abstractmethod
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, ClassVar

from servomex.errors import ServomexSinkSchemaError
from servomex.logs import package_log
from servomex.models import Sample
from servomex.rows import sample_of
from servomex.sinks.files import FileSink, explained, explained_reading, open_locked, sync_folder

_log = package_log("servomex")

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
        chunks = self._unpacked() if _is_packed(self.path) else self._plain()
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


class TextSink(FileSink):
    """A sink whose file is lines of text in UTF-8. A subclass knows what a line looks like."""

    _header: ClassVar[bytes] = b""
    _beginning: ClassVar[bytes]
    """How the first line of every such file begins."""

    def _open(self) -> None:
        self._packer = zlib.compressobj(wbits=GZIP) if _is_packed(self.path) else None
        create = not ((self.append or self.overwrite) and self.path.exists())
        with explained(self.name):
            self._file = open_locked(self.path, create=create)
            self._held.callback(lambda: self._file.close())
            if self.overwrite:
                self._file.truncate(0)
            elif not create:
                self._resume()
            self._size = self._file.seek(0, os.SEEK_END)
            if self._fsync_s is not None:
                sync_folder(self.path.parent)
        if not self._size:
            with self._creating() if create else contextlib.nullcontext():
                self._put(self._header)

    @property
    def size(self) -> int:
        """Bytes that its file has so far."""
        return self._size

    def _store(self, rows: list[Any]) -> None:
        self._put(self._encoded(rows))

    def _put(self, text: bytes, *, last: bool = False) -> None:
        """Write text at the end of the file: all of it, or nothing and an error."""
        packer = self._packer and self._packer.copy()
        data = text
        if packer:
            data = packer.compress(text) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
        with explained(self.name):
            try:
                self._file.seek(self._size)
                _write_all(self._file, data)
            except BaseException:
                self._file.truncate(self._size)
                raise
        self._packer = packer
        self._size += len(data)

    def _sync(self) -> None:
        with explained(self.name):
            os.fsync(self._file.fileno())

    def _finish(self) -> None:
        if self._packer:
            self._put(b"", last=True)

    @classmethod
    def _check_writable(cls, path: Path) -> None:
        open_locked(path, create=False).close()

    @abstractmethod
    def _encoded(self, rows: list[Any]) -> bytes:
        """Write rows as lines."""

    @classmethod
    @abstractmethod
    def _check_first(cls, path: Path, line: bytes) -> None:
        """Check the first line of a file.

        Raises:
            ServomexSinkSchemaError: It is not as this sink writes it.
        """

    @classmethod
    @abstractmethod
    def _row(cls, line: str) -> dict[str, Any]:
        """Read a line.

        Raises:
            ValueError: It is damaged.
        """

    @classmethod
    def _check_half(cls, path: Path, line: bytes) -> None:
        """Check the first line of a file that has only a part of it."""
        if not cls._beginning.startswith(line[: len(cls._beginning)]):
            raise ServomexSinkSchemaError(f"{path} was not written by this package: it begins with {line[:40]!r}")

    def _resume(self) -> None:
        """Check that the file is one of ours, and cut off the half line at its end."""
        if _is_packed(self.path):
            self._resume_packed()
            return
        size = self._file.seek(0, os.SEEK_END)
        whole = _end_of_last_line(self._file, size)
        self._file.seek(0)
        first, end, _ = self._file.read(min(size, BLOCK)).partition(b"\n")
        self._check_beginning(first, whole=bool(end))
        if whole < size:
            self._file.truncate(whole)
            _warn_of_cut(self.path, size - whole)

    def _resume_packed(self) -> None:
        lines = Lines(self.path)
        whole = 0
        for line in lines:
            if not whole:
                self._check_beginning(line, whole=True)
            whole += len(line) + 1
        if not whole:
            self._check_beginning(lines.rest, whole=False)
            self._file.truncate(0)
        elif lines.rest or not lines.ended:
            self._file.close()
            _write_anew(self.path)
            self._file = open_locked(self.path, create=False)
        if lines.rest or not lines.ended:
            _warn_of_cut(self.path, len(lines.rest))

    def _check_beginning(self, line: bytes, *, whole: bool) -> None:
        if whole:
            self._check_first(self.path, line)
        else:
            self._check_half(self.path, line)

    @classmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Give the samples of a file; a half line at its end is left out with a warning."""
        lines = Lines(path)
        with explained_reading(path):
            for line in lines:
                if lines.count == 1:
                    cls._check_first(path, line.removesuffix(b"\r"))
                    if cls._header:
                        continue
                if line.strip():
                    yield cls._sample(path, lines.count, line)
        if not lines.count:
            cls._check_half(path, lines.rest)
        if lines.rest or not lines.ended:
            _log.warning(
                "%s was not ended properly: it has %d whole rows, and %d bytes behind them are left out",
                path,
                max(0, lines.count - bool(cls._header)),
                len(lines.rest),
            )

    @classmethod
    def _sample(cls, path: Path, number: int, line: bytes) -> Sample:
        try:
            return sample_of(cls._row(line.removesuffix(b"\r").decode("utf-8")))
        except ValueError as error:
            raise ServomexSinkSchemaError(f"{path}, line {number}: {error}") from error


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _before_damage(unpacker: "zlib._Decompress", data: bytes) -> Generator[bytes, None, bytes]:
    """Give the text in front of the damage, and return the bytes from there on."""
    for place in range(len(data)):
        try:
            yield unpacker.decompress(data[place : place + 1])
        except zlib.error:
            return data[place:]
    return b""


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Write everything; the system may take it in pieces."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _end_of_last_line(file: io.FileIO, size: int) -> int:
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


def _write_anew(path: Path) -> None:
    """Write a gz file again with its whole lines only, ended properly."""
    temporary = path.with_name(f"{path.name}.tmp")
    packer = zlib.compressobj(wbits=GZIP)
    try:
        with temporary.open("wb") as file:
            for line in Lines(path):
                file.write(packer.compress(line + b"\n"))
            file.write(packer.flush())
            os.fsync(file.fileno())
        shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _warn_of_cut(path: Path, size: int) -> None:
    _log.warning("%s was not ended properly: %d bytes of a half line were cut off", path, size)
