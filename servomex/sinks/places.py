"""Files by name: protected from a second writer, watched for changes by other programs, and synced."""

import contextlib
import errno
import io
import itertools
import os
import tempfile
from enum import Enum, auto
from pathlib import Path

from servomex.errors import ServomexSinkWriteError


def busy(path: Path) -> ServomexSinkWriteError:
    """Return the error for a file that another program is writing."""
    return ServomexSinkWriteError(
        f"{path} is being written by another program", cure="End that one first, or choose another name"
    )


class Place(Enum):
    """The state of a file or folder that was opened under a name."""

    HERE = auto()
    MOVED = auto()
    """It was renamed, or replaced by another one."""
    DELETED = auto()
    CUT = auto()
    """It is here, but its contents are gone."""


def place_of(descriptor: int, path: Path) -> Place:
    """Find out whether a name still leads to the file opened under it. Windows does not let an open file move.

    Raises:
        OSError: The open file cannot be examined.
    """
    if os.name == "nt":
        return Place.HERE
    try:
        held = os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return Place.DELETED
    try:
        if os.path.samestat(held, path.stat()):
            return Place.HERE
    except (FileNotFoundError, NotADirectoryError):
        return Place.MOVED if held.st_nlink else Place.DELETED
    except OSError:
        return Place.HERE  # the name cannot be examined, but the open file can be written
    return Place.MOVED if held.st_nlink else Place.DELETED


def same_place(one: Path, other: Path) -> bool:
    """Return whether two names are those of one file, links included, or will be once it is made."""
    with contextlib.suppress(OSError):
        if one.samefile(other):
            return True
    return Path(os.path.realpath(one)) == Path(os.path.realpath(other))


def check_one_name(path: Path) -> None:
    """Refuse a file that has a second name, where that would hide two writers from each other.

    Raises:
        ServomexSinkWriteError: It has one.
    """
    if path.exists() and path.stat().st_nlink > 1:
        raise ServomexSinkWriteError(
            f"{path} has a second name (a hard link), under which another program could write to it",
            cure="Remove that name, or choose another file",
        )


def unused(path: Path) -> Path:
    """Return a name that no file has: this one, or one with a number after its stem."""
    numbered = (path.with_name(f"{path.stem}{number}{path.suffix}") for number in itertools.count(2))
    return path if not path.exists() else next(name for name in numbered if not name.exists())


def real(path: Path) -> Path:
    """Return the place that a symbolic link leads to, whether a file is there or not; any other path unchanged."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def lock(descriptor: int, path: Path) -> bool:
    """Lock a file against other sinks; return whether the system has such locks.

    On Windows only files that no program reads can be locked, see :class:`LockFile`.

    Raises:
        ServomexSinkWriteError: Another sink has it open.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise busy(path) from error
    except OSError:
        return False  # a network folder without locks
    return True


def open_at_end(path: Path, *, create: bool) -> io.FileIO:
    """Open a file for reading, and for writing at its end wherever that is.

    A symbolic link that leads nowhere gets the file that it names.

    Raises:
        OSError: It cannot be opened, or exists although it must not.
    """
    return io.FileIO(real(path) if create else path, "x+" if create else "r+", opener=_opened_at_end)


def _opened_at_end(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND, 0o666)


class LockFile:
    """Keeps a second writer away from a recording of several files, by a locked file of its own.

    Args:
        path: The file, which is created and finally removed. One left by a killed program is taken over.
        recording: What it is for, for messages.

    Raises:
        OSError: It cannot be made.
        ServomexSinkWriteError: Another sink has it locked.
    """

    def __init__(self, path: Path, recording: Path) -> None:
        self._path = path
        self._file = self._locked(recording)
        while place_of(self._file.fileno(), path) is not Place.HERE:  # its last owner has just removed it
            self._file.close()
            self._file = self._locked(recording)

    def _locked(self, recording: Path) -> io.FileIO:
        file = io.FileIO(self._path, "a")
        try:
            if not lock(file.fileno(), recording):
                _lock_first_byte(file.fileno(), recording)
        except BaseException:
            file.close()
            raise
        return file

    @property
    def is_kept(self) -> bool:
        """Whether it is still in the place where others look for it before they write."""
        return place_of(self._file.fileno(), self._path) is Place.HERE

    def close(self) -> None:
        """Remove it, and let others in."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):  # Windows, while it is open
            if self.is_kept:
                self._path.unlink()
        self._file.close()
        if os.name == "nt":
            with contextlib.suppress(OSError):
                self._path.unlink()

    def let_go(self) -> None:
        """Leave it to the process that this one was forked from."""
        self._file.close()


def _lock_first_byte(descriptor: int, path: Path) -> None:
    """Lock a file on Windows, where others cannot even read what is locked."""
    try:
        from msvcrt import LK_NBLCK, locking  # type: ignore[attr-defined,unused-ignore]  # Windows
    except ImportError:
        return
    try:
        locking(descriptor, LK_NBLCK, 1)
    except PermissionError as error:
        raise busy(path) from error


class OpenFolder:
    """A folder that is held open: files are made in it even after it was moved, which Windows prevents.

    Args:
        path: The folder.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = None if os.name == "nt" else os.open(path, os.O_RDONLY)

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self._path / name)

    def create(self, name: str) -> io.BufferedWriter:
        """Open a new file in it.

        Raises:
            OSError: It cannot be made, or is there already.
        """
        return open(self._at(name), "xb", opener=self._opened)

    def _opened(self, path: str, flags: int) -> int:
        return os.open(path, flags, 0o666, dir_fd=self._descriptor)

    def sync(self, name: str) -> None:
        """Wait until a file survives a loss of power.

        Raises:
            OSError: That failed.
        """
        descriptor = self._opened(self._at(name), os.O_RDWR)
        try:
            sync_file(descriptor)
        finally:
            os.close(descriptor)

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """Return the bytes of a file.

        Raises:
            OSError: There is none.
        """
        return os.stat(self._at(name), dir_fd=self._descriptor).st_size

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file in it.

        Raises:
            OSError: It cannot be read.
        """
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as items:
            return {item.name: item.stat().st_size for item in items}

    def rename(self, name: str, target: str | Path) -> None:
        """Rename a file within this folder or, given a path, into another one; replace any file of that name.

        Raises:
            OSError: That failed.
        """
        if isinstance(target, str):
            os.replace(self._at(name), self._at(target), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        else:
            os.replace(self._at(name), target, src_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one.

        Raises:
            OSError: That failed.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    @property
    def place(self) -> Place:
        """The state of the folder.

        Raises:
            OSError: It cannot be examined.
        """
        if self._descriptor is None:
            return Place.HERE if self._path.exists() else Place.DELETED
        return place_of(self._descriptor, self._path)

    def close(self) -> None:
        """Close it. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def check_folder(path: Path) -> None:
    """Check that a file can be made in its place.

    Raises:
        OSError: Its folder is missing or may not be written.
    """
    with tempfile.TemporaryFile(dir=path.parent):
        return


def sync_file(descriptor: int) -> None:
    """Wait until what was written to a file survives a loss of power.

    Raises:
        OSError: That failed.
    """
    try:
        from fcntl import F_FULLFSYNC, fcntl  # type: ignore[attr-defined,unused-ignore]  # macOS
    except ImportError:
        os.fsync(descriptor)
        return
    try:
        fcntl(descriptor, F_FULLFSYNC)  # fsync() there leaves it in the memory of the disk
    except OSError:  # a disk or network folder that does not know it
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
