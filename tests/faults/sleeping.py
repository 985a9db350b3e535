"""The sleep of a computer, played for one process: a shim of its clocks, built when there is a C compiler."""

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("sleepshim.c")
ENVIRONMENT = "FAULTS_SLEPT"
COMPILES_S = 60.0


def compiler() -> str | None:
    """Find a C compiler for what can be preloaded here; ``None`` when there is none."""
    if not sys.platform.startswith("linux"):
        return None
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def build_shim(folder: Path) -> Path | None:
    """Build the shim in a folder; ``None`` when there is no compiler here.

    Raises:
        subprocess.CalledProcessError: There is one, and it failed.
    """
    command, library = compiler(), folder / "sleepshim.so"
    if command is None:
        return None
    subprocess.run(
        [command, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", "-lpthread"],
        check=True,
        timeout=COMPILES_S,
    )
    return library


class Slept:
    """How long a process has slept: a number in a file that its shim reads."""

    def __init__(self, file: Path, shim: Path) -> None:
        file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 8)
        self.environment = {**os.environ, "LD_PRELOAD": str(shim), ENVIRONMENT: str(file)}

    def add(self, seconds: float) -> None:
        """Let the clock of the process be behind by so much more."""
        slept_ns = int.from_bytes(self._page[:8], sys.byteorder) + int(seconds * 1e9)
        self._page[:8] = slept_ns.to_bytes(8, sys.byteorder)

    def close(self) -> None:
        """Forget it."""
        self._page.close()
