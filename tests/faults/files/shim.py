"""A disk and a clock that misbehave for one process, as ``fileshim.c`` plays them."""

import enum
import mmap
import os
import struct
import subprocess
from pathlib import Path

from tests.faults.sleeping import COMPILES_S, compiler

SOURCE = Path(__file__).with_name("fileshim.c")
_PAGE = struct.Struct("=qq")


class Disk(enum.IntEnum):
    """What a disk does."""

    WORKS = 0
    HANGS = 1
    FULL = 2


def build_shim(folder: Path) -> Path | None:
    """Build the shim in a folder; ``None`` when there is no compiler here.

    Raises:
        subprocess.CalledProcessError: There is one, and it failed.
    """
    command, library = compiler(), folder / "fileshim.so"
    if command is None:
        return None
    subprocess.run(
        [command, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True, timeout=COMPILES_S
    )
    return library


class Machine:
    """The disk that a folder is on, and the clock, as one process sees them.

    Args:
        file: What its shim reads; it is made here.
        folder: What is on the disk.
        shim: The shim.
    """

    def __init__(self, file: Path, folder: Path, shim: Path) -> None:
        file.write_bytes(bytes(_PAGE.size))
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), _PAGE.size)
        self._state: tuple[int, int] = (Disk.WORKS, 0)
        self.environment = {
            "LD_PRELOAD": str(shim),
            "FAULTS_FILES": str(file),
            "FAULTS_FOLDER": f"{folder.resolve()}{os.sep}",
        }

    def set_disk(self, disk: Disk) -> None:
        """Change what the disk does."""
        self._set(disk, self._state[1])

    def set_clock(self, off_s: float) -> None:
        """Set the clock, this far from the true time."""
        self._set(self._state[0], int(off_s * 1e9))

    def _set(self, disk: int, off_ns: int) -> None:
        self._state = disk, off_ns
        self._page[:] = _PAGE.pack(*self._state)

    def close(self) -> None:
        """Repair the disk, and let go of it."""
        self.set_disk(Disk.WORKS)
        self._page.close()
