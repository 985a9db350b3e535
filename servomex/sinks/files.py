"""The base of all sinks that write a file: when a file may be written, and errors that say what to do."""

import abc
import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from servomex.durations import counted
from servomex.errors import (
    Argument,
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.errors.excerpts import unicode_text
from servomex.errors.validation import flag, path_text
from servomex.models.sample import Sample
from servomex.runtime.logs import package_log
from servomex.sinks.base import FLUSH_S, FSYNC_S, BufferedSink
from servomex.sinks.places import Place, check_folder, real

_log = package_log("servomex")

_FORBIDDEN = (
    "{path} cannot be written: permission denied",
    "Check the permissions of the file and its folder"
    + (", and close other programs that have it open" if os.name == "nt" else ""),
)
_FULL = ("the disk of {path} is full", "Free some space there, or write to another disk")
_WRITING = {
    errno.ENOENT: ("there is no folder {folder}", "Create it, or choose another"),
    errno.ENOTDIR: ("{folder} is not a folder", "Choose another"),
    errno.EISDIR: ("{path} is a folder", "Add the name of a file"),
    errno.EEXIST: (
        "{path} exists already",
        "Append to it with {append}, replace it with {overwrite}, or choose another name",
    ),
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: ("{path} is on a read-only disk", "Choose another"),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "{path} has reached the largest size that this system allows",
        "Rotate the files, or choose another disk",
    ),
    errno.ELOOP: ("{path} is a symbolic link that leads to itself", "Choose another name"),
}
_APPEND, _OVERWRITE = Argument("append", True), Argument("overwrite", True)
_READING = {
    errno.ENOENT: ("there is no file {path}", ""),
    errno.EISDIR: ("{path} is a folder", "Name a file in it"),
    errno.EACCES: ("{path} cannot be read: permission denied", "Check its permissions"),
}


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn an error of the system while a file is written into one that says what to do.

    Raises:
        ServomexSinkWriteError: Something in the block raised an ``OSError``.
    """
    try:
        yield
    except ServomexSinkError:
        raise
    except OSError as error:
        message, cure = _explanation(_WRITING, Path(name), error, "cannot be written")
        raise ServomexSinkWriteError(message, cure=cure) from error


@contextlib.contextmanager
def explained_reading(path: Path) -> Iterator[None]:
    """Turn an error of the system while a file is read into one that says what to do.

    Raises:
        ServomexSinkReadError: Something in the block raised an ``OSError``.
    """
    try:
        yield
    except ServomexSinkError:
        raise
    except OSError as error:
        message, cure = _explanation(_READING, path, error, "cannot be read")
        raise ServomexSinkReadError(message, cure=cure) from error


def _explanation(
    words: Mapping[int, tuple[str, str]], path: Path, error: OSError, otherwise: str
) -> tuple[str, str]:
    """Return what happened, and what to do."""
    message, cure = words.get(error.errno or 0, (f"{{path}} {otherwise}: {error.strerror or error}", ""))
    known = {"path": path, "folder": path.parent, "append": _APPEND, "overwrite": _OVERWRITE}
    return message.format(**known), cure.format(**known)


def lost(rows: int) -> str:
    """Return a text such as ``3 rows are lost``."""
    return f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'} lost"


def _check_choice(path: str | os.PathLike[str], *, append: bool, overwrite: bool) -> None:
    flag(append, "append")
    flag(overwrite, "overwrite")
    if append and overwrite:
        raise ServomexValidationError(f"{path} can be appended to or overwritten, not both")


def plain_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return metadata that every format can hold: the name of a port may not be valid Unicode."""
    return {unicode_text(key): unicode_text(text) for key, text in (metadata or {}).items()}


class FileSink(BufferedSink):
    """A sink that writes one file, and can read it back.

    Args:
        path: The file.
        append: Append to the file if it exists.
        overwrite: Replace the file if it exists.
        flush_s: Seconds until a row survives the death of the process, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once; ``None`` leaves that to the system.

    Raises:
        ServomexSinkWriteError: The file exists already, or cannot be written.
        ServomexSinkSchemaError: The file to append to has other columns.
        ServomexSinkDependencyError: A package that the format needs is not installed.
        ServomexValidationError: An argument is out of range, or both ``append`` and ``overwrite`` are given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        overwrite: bool = False,
        flush_s: float = FLUSH_S,
        fsync_s: float | None = FSYNC_S,
    ) -> None:
        _check_choice(path, append=append, overwrite=overwrite)
        self.path: Path = Path(path_text(path, "path")).absolute()  # the program may change directory
        self.append = append
        self.overwrite = overwrite
        self.check_installed()
        super().__init__(str(path), flush_s=flush_s, fsync_s=fsync_s)

    def _note_place(self, place: Place, rows: int) -> None:
        """Count and report that this file, which holds ``rows`` rows of this run, was moved or changed."""
        if place in (Place.DELETED, Place.CUT):
            self._removed += rows
            done = "deleted" if place is Place.DELETED else "emptied by another program"
            _log.warning(
                "%s was %s while it was written, with %s: the rest goes to a new file",
                self.name,
                done,
                counted(rows, "row"),
            )
        else:
            _log.warning(
                "%s was renamed, moved or replaced while it was written: the rest goes to a new file, and the "
                "%s so far are in the old file",
                self.name,
                counted(rows, "row"),
            )

    @contextlib.contextmanager
    def _starting_over(self) -> Iterator[None]:
        """Create the folder again if needed, and do not report another file at that path as damaged.

        Raises:
            ServomexSinkWriteError: No file can be made there, or another one has taken its place.
        """
        with explained(self.name):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except ServomexSinkSchemaError as error:
            raise ServomexSinkWriteError(
                f"{self.name} was replaced by another file while it was written ({error.message})",
                cure="Move that one away",
            ) from error

    @contextlib.contextmanager
    def _creating(self) -> Iterator[None]:
        """Remove the new file if it cannot be prepared, so that another attempt can create it."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                real(self.path).unlink()
            raise

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Bytes that its file has so far, without the rows that wait for the next flush."""

    @classmethod
    def check(cls, path: Path, *, append: bool = False, overwrite: bool = False, **_others: Any) -> None:
        """Check whether a file can be written, as far as possible without changing anything.

        Raises:
            ServomexSinkError: It cannot; the errors are those of the constructor.
            ServomexValidationError: Both ``append`` and ``overwrite`` are given.
        """
        _check_choice(path, append=append, overwrite=overwrite)
        cls.check_installed()
        with explained(str(path)):
            if not cls.exists(path):
                check_folder(path)
                return
            if not (append or overwrite):
                raise FileExistsError(errno.EEXIST, "exists")
            if path.exists():
                cls._check_existing(path, overwrite=overwrite)
        if append:
            cls._check_columns(path)

    @classmethod
    def _check_existing(cls, path: Path, *, overwrite: bool) -> None:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if not path.is_file():
            raise ServomexSinkWriteError(f"{path} is a device or a pipe", cure="Choose another name")
        cls._check_writable(path)
        if overwrite:
            cls._check_unused(path)

    @classmethod
    def _check_unused(cls, path: Path) -> None:
        """Check that no other program writes to a file to be replaced, if the format has no lock of its own.

        Raises:
            ServomexSinkWriteError: Another program has it open.
        """

    @classmethod
    def _check_writable(cls, path: Path) -> None:
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, "not permitted")

    @classmethod
    def _check_columns(cls, path: Path) -> None:
        """Check that the file to append to was written by this package."""
        for _ in cls.read(path):
            return

    @classmethod
    def check_installed(cls) -> None:
        """Check that what the format needs is installed.

        Raises:
            ServomexSinkDependencyError: It is not; the error names the extra to install.
        """

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Return whether any part of a recording is at this path."""
        return path.exists()

    @classmethod
    def is_blank(cls, path: Path) -> bool:  # noqa: ARG003 (for formats that can be)
        """Return whether a file is blank, as a new one may be after a loss of power: that is not an error."""
        return False

    @classmethod
    @abc.abstractmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Return the samples of a file in the order in which they were written.

        Raises:
            ServomexSinkReadError: It cannot be read.
            ServomexSinkSchemaError: It is damaged or has other columns; the error names the line or row.
        """

    @classmethod
    def read_metadata(cls, path: Path) -> dict[str, str]:  # noqa: ARG003 (for formats that have a place for it)
        """Return the metadata of the whole recording.

        Raises:
            ServomexSinkReadError: It cannot be read.
        """
        return {}
