"""The other programs that have a port open, as far as the system shows them: only on Linux."""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

PROC = "/proc"
"""Where Linux shows the open files of each process."""

_PTY_MASTER = (5, 2)
_PTY_MAJORS = range(136, 144)


class PortUser(NamedTuple):
    """A program that has a port open."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})"


def users_of(device: str) -> list[PortUser]:
    """Return the other programs that have a device open; those of other users only with sufficient permission.

    A program that serves a pseudo-terminal keeps both of its ends open, and is not a rival for either.
    """
    wanted = _number(device)
    if wanted is None:
        return []
    served = wanted[0] in _PTY_MAJORS
    found = []
    for pid in _other_processes():
        opened = set(_open_devices(pid))
        if wanted in opened and not (served and _PTY_MASTER in opened):
            found.append(PortUser(pid, _program(pid)))
    return found


def _number(path: str) -> tuple[int, int] | None:
    """Return the number of a character device, shared by all its names; ``None`` where there is none."""
    try:
        state = os.stat(path)
        return (os.major(state.st_rdev), os.minor(state.st_rdev)) if stat.S_ISCHR(state.st_mode) else None
    except (OSError, ValueError, AttributeError):  # Windows has no such numbers
        return None


def _other_processes() -> list[int]:
    try:
        names = os.listdir(PROC)
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdecimal() and int(name) != os.getpid())


def _open_devices(pid: int) -> Iterator[tuple[int, int]]:
    """Return the numbers of the devices that a process has open; none when it ended, or may not be read."""
    try:
        paths = [f"{PROC}/{pid}/fd/{name}" for name in os.listdir(f"{PROC}/{pid}/fd")]
    except OSError:
        return
    for path in paths:
        try:
            target = os.readlink(path)
        except OSError:
            continue  # closed since it was listed
        number = _number(path) if "/dev/" in target else None  # files on a dead network drive would block
        if number:
            yield number


def _program(pid: int) -> str:
    try:
        with open(f"{PROC}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a program"
