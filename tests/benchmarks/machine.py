"""The machine that measures: what it is, what a process costs on it, and processes that are started fresh."""

import contextlib
import importlib.metadata
import json
import mmap
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tests.helpers.paths import ROOT

PACKAGES = ("servomex", "pymodbus", "pyserial", "attrs", "click", "minimalmodbus", "pandas", "pyarrow")

BUSY = """
import os, sys, threading

def end():
    sys.stdin.read()
    os._exit(0)

threading.Thread(target=end, daemon=True).start()
while True:
    pass
"""
"""A program that does nothing but work, until whoever has started it has ended."""


@attrs.frozen
class Settings:
    """How a benchmark is to run.

    Attributes:
        quick: To see that it works, rather than to measure.
        idle_s: How long to look at a reader that nobody asks; what suits, when ``None``.
        rows: The most rows that 'growth' writes into a file; what suits, when ``None``.
        say: Reports how far it is.
    """

    quick: bool = False
    idle_s: float | None = None
    rows: int | None = None
    say: Callable[[str], object] = lambda _text: None

    def choose(self, full: Any, quick: Any) -> Any:
        """Give the one or the other."""
        return quick if self.quick else full


def facts() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu_count": os.cpu_count(),
        "busy_processes": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: version_of(name) for name in PACKAGES},
    }


def described(machine: dict[str, Any]) -> list[str]:
    """Write these facts as lines."""
    busy = "" if machine["busy_processes"] is None else f", {machine['busy_processes']} processes busy before it"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    return [
        f"machine  {machine['cpu_count']} cores, {machine['machine']}, {machine['system']}{busy}",
        f"python   {machine['implementation']} {machine['python']}",
        f"with     {packages}",
    ]


def version_of(package: str) -> str | None:
    """The version of a package that is installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def resident_mib() -> float | None:
    """The memory of this process that is in use now; ``None`` where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * mmap.PAGESIZE / 2**20


class Usage:
    """Time that passes, and time that this process spends computing, from the making of the object on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def wall_s(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._wall

    @property
    def cpu_s(self) -> float:
        """Seconds that this process has computed since, all threads together."""
        return time.process_time() - self._cpu

    @property
    def percent(self) -> float:
        """The same as a part of one core."""
        return 100 * self.cpu_s / self.wall_s


def environment() -> dict[str, str]:
    """The environment of a fresh process: without settings of the commands, and compiled once as everywhere."""
    left_out = ("SERVOMEX_", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(left_out)}


def run_fresh(*arguments: str) -> str:
    """Run Python in a process of its own and give what it writes.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment(), capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def probe(name: str, **options: Any) -> dict[str, Any]:
    """Run a function of :mod:`tests.benchmarks.probe` in a process of its own and give its findings."""
    found: dict[str, Any] = json.loads(run_fresh("-m", "tests.benchmarks.probe", name, json.dumps(options)))
    return found


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy with a process that does nothing else."""
    busy: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(os.cpu_count() or 1):
            busy.append(subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE))  # noqa: PERF401
        time.sleep(0.2)
        yield
    finally:
        for process in busy:
            process.kill()
            process.communicate()
