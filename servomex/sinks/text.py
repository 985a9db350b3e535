"""Sinks that write lines of text, plain or as gz: what a kill can leave, and how it is continued and read."""

import contextlib
import io
import os
import shutil
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from servomex.errors import ServomexSinkSchemaError
from servomex.logs import package_log
from servomex.models import Sample
from servomex.rows import sample_of
from servomex.sinks.files import (
    FileSink,
    Place,
    explained,
    explained_reading,
    open_locked,
    place_of,
    sync_folder,
)
from servomex.sinks.lines import BLOCK, GZIP, Lines, count_lines, end_of_last_line, is_packed

_log = package_log("servomex")


class TextSink(FileSink):
    """A sink whose file is lines of text in UTF-8. A subclass knows what a line looks like."""

    _header: bytes = b""
    _beginnings: ClassVar[tuple[bytes, ...]]
    """How the first line of such a file can begin."""

    def _open(self) -> None:
        create = not ((self.append or self.overwrite) and self.path.exists())
        with explained(self.name):
            self._file = open_locked(self.path, create=create)
            self._held.callback(lambda: self._file.close())
            if self.overwrite:
                self._file.truncate(0)
        self._begin(create=create)

    def _begin(self, *, create: bool) -> None:
        """Get ready to write behind what is in the file."""
        self._packer = zlib.compressobj(wbits=GZIP) if is_packed(self.path) else None
        self._lines_before = 0
        with explained(self.name):
            if self._file.seek(0, os.SEEK_END):
                self._resume()
            self._size = self._file.seek(0, os.SEEK_END)
            if self._fsync_s is not None:
                sync_folder(self.path.parent)
        if not self._size:
            with self._creating() if create else contextlib.nullcontext():
                self._put(self._header)
            self._lines_before = bool(self._header)
        self._begun_at, self._rows = self._size, 0

    def _check_place(self) -> None:
        """Go on in a new file when this one was deleted or moved, and at its end when it was cut."""
        if self._file.closed:  # since no new one could be made so far
            self._begin_anew()
            return
        with explained(self.name):
            place = place_of(self._file.fileno(), self.path)
            if place is Place.HERE:
                if os.fstat(self._file.fileno()).st_size < self._size:
                    self._resume_cut()
                return
            if place is Place.MOVED:
                self._finish()
        self._note_place(place, self._rows)
        self._file.close()
        self._begin_anew()

    def _begin_anew(self) -> None:
        with self._beginning_anew():
            with explained(self.name):
                try:
                    self._file = open_locked(self.path, create=True)
                except FileExistsError:  # put there by another program, such as an empty one by logrotate
                    self._file = open_locked(self.path, create=False)
            try:
                self._begin(create=False)
            except BaseException:
                self._file.close()
                raise

    def _resume_cut(self) -> None:
        """Go on behind what another program has left of the file, and count what it took away."""
        begun_at, lines_before, rows = self._begun_at, self._lines_before, self._rows
        with self._beginning_anew():
            self._begin(create=False)
        if is_packed(self.path):
            left = sum(1 for _ in Lines(self.path)) - lines_before
        else:
            left = count_lines(self._file, begun_at)
        self._begun_at, self._lines_before, self._rows = min(begun_at, self._size), lines_before, max(0, left)
        self._removed += rows - self._rows
        _log.warning(
            "%s was cut by another program while it was written: %d rows are lost, and it goes on behind the rest",
            self.name,
            rows - self._rows,
        )

    @property
    def size(self) -> int:
        """Bytes that its file has so far."""
        return self._size

    def _store(self, rows: list[Any]) -> None:
        self._put(self._encoded(rows))
        self._rows += len(rows)

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
    def _reader_for(cls, path: Path, line: bytes) -> Callable[[str], dict[str, Any]]:
        """Check the first line of a file, and return what reads its rows; that raises ``ValueError`` for damage.

        Raises:
            ServomexSinkSchemaError: It is not as this sink writes it.
        """

    @classmethod
    def _check_half(cls, path: Path, line: bytes) -> None:
        """Check the first line of a file that has only a part of it."""
        if not any(beginning.startswith(line[: len(beginning)]) for beginning in cls._beginnings):
            raise ServomexSinkSchemaError(f"{path} was not written by this package: it begins with {line[:40]!r}")

    def _resume(self) -> None:
        """Check that the file is one of ours, and cut off the half line at its end."""
        if is_packed(self.path):
            self._resume_packed()
            return
        size = self._file.seek(0, os.SEEK_END)
        whole = end_of_last_line(self._file, size)
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
        self._lines_before = lines.count
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
            self._reader_for(self.path, line)
        else:
            self._check_half(self.path, line)

    @classmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Give the samples of a file; a half line at its end is left out with a warning."""
        lines = Lines(path)
        with explained_reading(path):
            for line in lines:
                if lines.count == 1:
                    read_row = cls._reader_for(path, line.removesuffix(b"\r"))
                    if cls._header:
                        continue
                if line.strip():
                    yield _sample(path, lines.count, line, read_row)
        if not lines.count:
            cls._check_half(path, lines.rest)
        if lines.rest or not lines.ended:
            _log.warning(
                "%s was not ended properly: it has %d whole rows, and %d bytes behind them are left out",
                path,
                max(0, lines.count - bool(cls._header)),
                len(lines.rest),
            )


def _sample(path: Path, number: int, line: bytes, read_row: Callable[[str], dict[str, Any]]) -> Sample:
    try:
        return sample_of(read_row(line.removesuffix(b"\r").decode("utf-8")))
    except ValueError as error:
        raise ServomexSinkSchemaError(f"{path}, line {number}: {error}") from error


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Write everything; the system may take it in pieces."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


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
