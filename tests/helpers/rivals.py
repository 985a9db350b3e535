"""Other programs that have a port open."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex.port.users import PortUser

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a port open")
OPEN = "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print(flush=True); sys.stdin.read()"
LOCK = "import serial, sys; port = serial.Serial(sys.argv[1], exclusive=True); print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def program(source: str, *args: str) -> Iterator[tuple[PortUser, str]]:
    """Run a program until the end of the block: who it is, and the line that it writes when it is ready."""
    command = [sys.executable, "-c", source, *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline().strip()
        name = Path(f"/proc/{child.pid}/comm").read_text().strip()
        try:
            yield PortUser(child.pid, name), line
        finally:
            child.communicate()
