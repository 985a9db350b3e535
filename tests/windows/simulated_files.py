"""Files as Windows has them: what is open stays where it is, and text is cp1252 with CR LF."""

import builtins
import errno
import fcntl
import io
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
ENCODING = "cp1252"
NOT_IN_NAMES = {*'<>:"|?*', *map(chr, range(32))}


def is_ours(names: Mapping[str, Any] | None) -> bool:
    """Whether a module is to see Windows, by its namespace."""
    name, file = (names or {}).get("__name__") or "", (names or {}).get("__file__")
    if name == __name__ or (file and "site-packages" in file and "servomex" not in file):
        return False
    if name.partition(".")[0] in ("servomex", "tests", "examples"):
        return True
    return (name == "__main__" and not file) or bool(file and Path(file).is_relative_to(ROOT / "examples"))


def guard_files() -> None:
    """Let a file that is open here be neither removed nor renamed, nor replaced, and no folder be opened."""
    removing, renaming, replacing, opening, syncing = os.unlink, os.rename, os.replace, os.open, os.fsync

    def unlink(path: Any, *, dir_fd: int | None = None) -> None:
        _refuse_open(path, dir_fd)
        removing(path, dir_fd=dir_fd)

    def rename(source: Any, target: Any, **options: Any) -> None:
        _refuse_open(source, options.get("src_dir_fd"))
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
        renaming(source, target, **options)

    def replace(source: Any, target: Any, **options: Any) -> None:
        _refuse_open(source, options.get("src_dir_fd"))
        _refuse_open(target, options.get("dst_dir_fd"))
        replacing(source, target, **options)

    def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if is_ours(sys._getframe(1).f_globals) and Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opening(path, flags, mode, dir_fd=dir_fd)

    def fsync(file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        syncing(file)

    module: Any = os
    module.unlink = module.remove = unlink
    module.rename, module.replace, module.open, module.fsync = rename, replace, open_, fsync
    shutil._use_fd_functions = False  # type: ignore[attr-defined]


def _refuse_open(path: Any, folder: int | None) -> None:
    """Refuse to touch a file that this process has open, or a folder in which it has one open."""
    where = Path(f"/proc/self/fd/{folder}").readlink() if folder is not None else Path.cwd()
    name = str(where / os.fsdecode(path))
    parent = os.path.realpath(os.path.dirname(name))  # noqa: PTH120 (of a link itself, not of what it leads to)
    name = os.path.join(parent, os.path.basename(name))  # noqa: PTH118, PTH119
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")  # noqa: PTH115
        except OSError:
            continue
        if target == name or target.startswith(f"{name}/"):
            text = "The process cannot access the file because it is being used by another process"
            error = PermissionError(errno.EACCES, text, os.fsdecode(path))
            error.winerror = 32  # type: ignore[attr-defined]
            raise error


def encode_text() -> None:
    """Let text be cp1252 with CR LF unless the program says otherwise."""
    opening = io.open

    def open_(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if "b" not in mode:
            encoding = ENCODING if encoding in (None, "locale") else encoding
            newline = "\r\n" if newline is None and {*mode} & {*"wax"} else newline
        makes = opener is None and not isinstance(file, int) and {*mode} & {*"wax"}
        if makes and NOT_IN_NAMES & {*Path(os.fsdecode(file)).name}:
            raise OSError(errno.EINVAL, "Invalid argument", file)
        try:
            return opening(file, mode, buffering, encoding, errors, newline, closefd, opener)
        except IsADirectoryError as error:
            raise PermissionError(errno.EACCES, "Permission denied", file) from error

    def text_encoding(encoding: str | None, _level: int = 2) -> str:
        return encoding or ENCODING

    module: Any = io
    module.open = builtins.open = open_
    module.text_encoding = text_encoding
    if "pytest" in " ".join(sys.orig_argv) or "PYTHONIOENCODING" in os.environ:
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding=ENCODING, newline="\r\n")
