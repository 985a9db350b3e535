"""Sinks that write lines of text, plain or as gz: appending to files after a kill, and reading them."""

import contextlib
import io
import os
import shutil
import zlib
from abc import abstractmethod
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from servomex.errors import ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.errors.excerpts import shown
from servomex.models.sample import Sample
from servomex.runtime.logs import package_log
from servomex.sinks.files import FileSink, explained, explained_reading, lost
from servomex.sinks.lines import (
    BLOCK,
    GZIP,
    LONGEST_LINE,
    Lines,
    check_encoding,
    count_lines,
    end_of_last_line,
    is_packed,
)
from servomex.sinks.places import Place, lock, open_at_end, place_of, real, sync_file, sync_folder

_log = package_log("servomex")

TAIL = 64
"""Bytes at the end of a file by which it is recognised."""
LONG_ROW = 1_000
"""Bytes: most rows are shorter."""


class _CutError(ServomexSinkWriteError):
    """Another program has cut the file since it was checked; what was written since is undone."""


class TextSink(FileSink):
    """A sink whose file is lines of text in UTF-8. A subclass knows what a line looks like."""

    _header: bytes = b""
    _beginnings: ClassVar[tuple[bytes, ...]]
    """How the first line of such a file can begin."""

    def _open(self) -> None:
        create = not ((self.append or self.overwrite) and self.path.exists())
        with explained(self.name):
            self._take(create=create)
            self._held.callback(lambda: self._file.close())
            if self.overwrite and self._is_locked:
                self._file.truncate(0)
            elif self.overwrite and not create:  # it may be in use, which Windows refuses
                self._file.close()
                real(self.path).unlink()
                self._take(create=True)
        with self._creating() if create else contextlib.nullcontext():
            try:
                self._begin()
            except BaseException:
                self._file.close()  # Windows does not remove an open file
                raise

    def _take(self, *, create: bool) -> None:
        """Open the file, and keep other recordings away from it."""
        while True:
            self._file = open_at_end(self.path, create=create)
            try:
                self._is_locked = lock(self._file.fileno(), self.path)
                if place_of(self._file.fileno(), self.path) is Place.HERE:
                    return
            except BaseException:
                self._file.close()
                raise
            self._file.close()  # just replaced by the sink that had it locked

    def _begin(self) -> None:
        """Prepare to write after the end of the file."""
        self._packer = zlib.compressobj(wbits=GZIP) if is_packed(self.path) else None
        self._lines_before = 0
        with explained(self.name):
            if self._file.seek(0, os.SEEK_END):
                self._resume()
            self._size = self._file.seek(0, os.SEEK_END)
            self._file.seek(max(0, self._size - TAIL))
            self._tail = self._file.read(TAIL)
            if self._fsync_s is not None:
                sync_folder(real(self.path).parent)
        if not self._size:
            self._put(self._header)
            self._lines_before = bool(self._header)
        self._begun_at, self._rows = self._size, 0

    def _check_place(self) -> None:
        """Continue in a new file when this one was deleted or moved, and at its end when it was cut."""
        if self._file.closed:  # no new one could be made yet
            self._start_over()
            return
        with explained(self.name):
            place = place_of(self._file.fileno(), self.path)
            size = os.fstat(self._file.fileno()).st_size
        if place is Place.HERE:
            if size != self._size:
                self._resume_changed(size)
            return
        if place is Place.MOVED:
            self._finish()
        self._note_place(place, self._rows)
        self._file.close()
        self._start_over()

    def _start_over(self) -> None:
        with self._starting_over():
            with explained(self.name):
                try:
                    self._take(create=True)
                except FileExistsError:  # put there by another program, such as an empty one by logrotate
                    self._take(create=False)
            try:
                self._begin()
            except BaseException:
                self._file.close()
                raise

    def _resume_changed(self, size: int) -> None:
        """Continue in a file that another program has made longer or shorter, if it is still ours."""
        if size < self._size:
            self._resume_cut()
            return
        with explained(self.name):
            self._file.seek(self._size - len(self._tail))
            is_ours = self._file.read(len(self._tail)) == self._tail
        if is_ours:
            self._resume_longer(size)
        else:
            self._resume_cut(nothing_is_left=True)

    def _resume_cut(self, *, nothing_is_left: bool = False) -> None:
        """Continue after the part of the file that another program left, and count the rows that it removed."""
        begun_at, lines_before, rows = self._begun_at, self._lines_before, self._rows
        with self._starting_over():
            try:
                self._begin()
            except ServomexSinkSchemaError:  # it was overwritten with something else
                self._removed += rows
                self._file.close()
                raise
        if nothing_is_left:
            left = 0
        elif is_packed(self.path):
            left = sum(1 for _ in Lines(self.path)) - lines_before
        else:
            left = count_lines(self._file, begun_at)
        self._begun_at, self._lines_before, self._rows = min(begun_at, self._size), lines_before, max(0, left)
        self._removed += rows - self._rows
        _log.warning(
            "%s was cut by another program while it was written: %s, and it continues after the rest",
            self.name,
            lost(rows - self._rows),
        )

    def _resume_longer(self, size: int) -> None:
        """Continue after text that another program has added, such as a note, unless that may be another recorder.

        Raises:
            ServomexSinkError: It may be one, or the file is gz, to which no other program can append meanwhile.
        """
        if self._packer or not self._is_locked:
            self._leave_to_another()
        _log.warning(
            "%s: another program has added %d bytes while it was written, which load() may refuse; "
            "the recording continues after them",
            self.name,
            size - self._size,
        )
        with explained(self.name):
            self._size = size
            self._file.seek(max(0, size - TAIL))
            self._tail = self._file.read(TAIL)
        if not self._tail.endswith(b"\n"):
            self._put(b"\n")

    @property
    def size(self) -> int:
        """Bytes that its file has so far."""
        return self._size

    def _store(self, rows: list[Any]) -> None:
        data = self._encoded(rows)
        try:
            self._put(data)
        except _CutError:
            self._check_place()
            self._put(data)
        self._rows += len(rows)

    def _put(self, text: bytes, *, last: bool = False) -> None:
        """Write text at the end of the file: all of it, or nothing and an error."""
        packer = self._packer and self._packer.copy()
        data = text
        if packer:
            data = packer.compress(text) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
        with explained(self.name):
            try:
                _write_all(self._file, data)
            except BaseException:
                self._file.truncate(min(self._size, os.fstat(self._file.fileno()).st_size))
                raise
            end = os.fstat(self._file.fileno()).st_size
            if end < self._size + len(data):
                self._file.truncate(max(0, end - len(data)))
                raise _CutError(f"{self.name} was cut by another program")
        self._packer = packer
        self._size += len(data)
        self._tail = (self._tail + data)[-TAIL:]

    def _sync(self) -> None:
        with explained(self.name):
            sync_file(self._file.fileno())

    def _finish(self) -> None:
        if self._packer:
            self._put(b"", last=True)

    @classmethod
    def _check_writable(cls, path: Path) -> None:
        with open_at_end(path, create=False) as file:
            lock(file.fileno(), path)

    def _encoded(self, lines: list[str]) -> bytes:
        return "".join(lines).encode("utf-8")

    @classmethod
    @abstractmethod
    def _reader_for(cls, path: Path, line: bytes) -> Callable[[str], Sample]:
        """Check the first line of a file; return the reader of its rows, which raises ``ValueError`` for damage.

        Raises:
            ServomexSinkSchemaError: It is not as this sink writes it.
        """

    @classmethod
    def _check_half(cls, path: Path, line: bytes) -> None:
        """Check the first line of a file that ends within it."""
        check_encoding(path, line)
        begun = line.removeprefix(BOM_UTF8)
        if not any(beginning.startswith(begun[: len(beginning)]) for beginning in cls._beginnings):
            raise ServomexSinkSchemaError(f"{path} was not written by this package: it begins with {shown(line)}")

    @classmethod
    @abstractmethod
    def _is_whole(cls, line: bytes) -> bool:
        """Return whether a last line without a line end is a whole row, and not the part left by a kill."""

    def _resume(self) -> None:
        """Check that this package wrote the file, and cut off an incomplete line at its end."""
        if is_packed(self.path):
            self._resume_packed()
            return
        size = self._file.seek(0, os.SEEK_END)
        whole = end_of_last_line(self._file, size)
        self._file.seek(0)
        first, end, _ = self._file.read(min(size, BLOCK)).partition(b"\n")
        self._check_beginning(first, whole=bool(end))
        if whole < size:
            self._file.seek(whole)
            if self._is_whole(self._file.read(min(size - whole, LONGEST_LINE))):
                self._file.seek(size)
                _write_all(self._file, b"\n")
                return
            self._file.truncate(whole)
            _warn_of_cut(self.path, size - whole)

    def _resume_packed(self) -> None:
        lines = Lines(self.path, self._is_whole)
        whole = 0
        for line in lines:
            if not whole:
                self._check_beginning(line, whole=True)
            whole += len(line) + 1
        self._lines_before = lines.count
        if not whole:
            self._check_beginning(lines.rest, whole=False)
            self._file.truncate(0)
        elif lines.rest or lines.completed or not lines.ended:
            self._rewrite()
        if lines.rest or not lines.ended:
            _warn_of_cut(self.path, len(lines.rest))

    def _rewrite(self) -> None:
        """Write a gz file again with only its whole lines, ended properly, locked throughout."""
        path = real(self.path)
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.unlink(missing_ok=True)  # left by a sink that was killed here
        file = open_at_end(temporary, create=True)
        try:
            lock(file.fileno(), self.path)
            packer = zlib.compressobj(wbits=GZIP)
            for line in Lines(self.path, self._is_whole):
                _write_all(file, packer.compress(line + b"\n"))
            _write_all(file, packer.flush())
            sync_file(file.fileno())
            shutil.copymode(path, temporary)
            if os.name == "nt":  # where no open file can be replaced
                file.close()
                self._file.close()
            temporary.replace(path)
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
        before, self._file = self._file, file
        before.close()
        if file.closed:
            self._take(create=False)

    def _check_beginning(self, line: bytes, *, whole: bool) -> None:
        if whole:
            self._reader_for(self.path, line)
        else:
            self._check_half(self.path, line)

    @classmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Return the samples of a file; an incomplete line at its end is omitted with a warning."""
        lines = Lines(path, cls._is_whole)
        with explained_reading(path):
            for line in lines:
                if lines.count == 1:
                    read_sample = cls._reader_for(path, line.removesuffix(b"\r"))
                    if cls._header:
                        continue
                if line.strip():
                    try:
                        sample = read_sample(line.removesuffix(b"\r").decode("utf-8"))
                    except ValueError as error:
                        raise ServomexSinkSchemaError(f"{path}, line {lines.count}: {error}") from error
                    yield sample
        if not lines.count:
            cls._check_half(path, lines.rest)
        if lines.rest or not lines.ended:
            _log.warning(
                "%s was not ended properly: it has %d whole rows, and %d bytes after them are omitted",
                path,
                max(0, lines.count - bool(cls._header)),
                len(lines.rest),
            )

    @classmethod
    def read_last(cls, path: Path, most: int) -> list[Sample]:
        """Return the newest samples of a file; of a plain one, only its end is read.

        Raises:
            ServomexSinkError: See :meth:`read`.
        """
        with explained_reading(path), path.open("rb") as file:
            first = file.readline(LONGEST_LINE)
            begin = max(0, file.seek(0, os.SEEK_END) - (most + 1) * LONG_ROW)
            file.seek(begin)
            lines = file.read().split(b"\n")[:-1] if not is_packed(path) else []
        if begin or cls._header:
            del lines[:1]
        if is_packed(path) or (begin and len(lines) < most):
            return [*deque(cls.read(path), most)]
        if not lines:
            return []
        read_sample = cls._reader_for(path, first.rstrip(b"\r\n"))
        try:
            return [
                read_sample(line.removesuffix(b"\r").decode("utf-8")) for line in lines[-most:] if line.strip()
            ]
        except ValueError as error:
            raise ServomexSinkSchemaError(f"{path}, near its end: {error}") from error


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Write everything, even if the system takes it in pieces."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _warn_of_cut(path: Path, size: int) -> None:
    what = f"{size} bytes of an incomplete line were cut off" if size else "its end was completed"
    _log.warning("%s was not ended properly: %s", path, what)
