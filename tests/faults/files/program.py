"""A program that records: how it is started, watched and ended, and what it says."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from tests.faults.files.child import NUMBERED
from tests.faults.files.numbered import Given, read_log
from tests.helpers.paths import ROOT

STARTS_S = 60.0
LOOK_S = 0.004
SIGNALLED = 128
"""What a shell adds to the number of a signal for the exit code."""
NEVER_SEEN = ("Traceback", "Exception ignored", "Warning:", "unexpected ", "Fatal Python error", " died")
_COUNTS = re.compile(r"^(\d+) readings?, (\d+) failed.*?, (\d+) dropped")
_UNWRITTEN = re.compile(r"(\d+) rows? not written")


class NotReadyError(Exception):
    """A program ended, or never came so far, before what was waited for."""


@attrs.frozen
class End:
    """How a program ended.

    Attributes:
        code: Its exit code, as a shell shows it; of a kill, the number of the signal below zero.
        stderr: What it said.
        hung: Whether it had to be killed, since it did not end.
        at_ns: When that was, on the monotonic clock.
    """

    code: int
    stderr: str
    hung: bool
    at_ns: int

    @property
    def crash(self) -> str:
        """What it wrote, when that shows an error that it did not expect; otherwise empty."""
        return self.stderr if any(word in self.stderr for word in NEVER_SEEN) else ""

    @property
    def readings(self) -> int | None:
        """Readings that it says it handed on, failed ones included; ``None`` when it says nothing."""
        found = self._counts
        return int(found[1]) + int(found[2]) if found else None

    @property
    def dropped(self) -> int:
        """Readings that it says it gave up."""
        return int(self._counts[3]) if self._counts else 0

    @property
    def unwritten(self) -> int:
        """Rows that it says are not written."""
        lines = [line for line in self.stderr.splitlines() if _COUNTS.match(line)]
        found = _UNWRITTEN.search(lines[-1]) if lines else None
        return int(found[1]) if found else 0

    @property
    def _counts(self) -> re.Match[str] | None:
        found = [match for line in self.stderr.splitlines() if (match := _COUNTS.match(line))]
        return found[-1] if found else None


class Program:
    """One start of the recording program.

    Args:
        run: The name of its source, or a port as ``sim://...``.
        target: What it records to.
        aside: Where it says what it does; not on the disk that is disturbed.
        options: Further words of its command line.
        environment: What is set for it beside the usual.
        before: What comes before it in the command.
    """

    def __init__(
        self,
        run: str,
        target: Path,
        aside: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> None:
        self.run = run
        self.target = target
        name = re.sub(r"\W", "-", run)
        self._log, self._ready, self._stderr = (aside / f"{name}.{end}" for end in ("log", "ready", "stderr"))
        port = run if "://" in run else f"{NUMBERED}{run}"
        command = [*before, sys.executable, "-m", "tests.faults.files.child"]
        command += map(str, (self._log, self._ready, port, target, *options))
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=os.environ
                | {"PYTHONPATH": paths, "PYTHONWARNINGS": "default::ResourceWarning"}
                | dict(environment or {}),
                cwd=aside,
            )

    def given(self) -> list[Given]:
        """Return what its source has given so far."""
        return read_log(self._log, self.run)

    def stderr(self) -> str:
        """Return what it has said so far."""
        return self._stderr.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Wait until the command begins."""
        self.wait(self._ready.exists, "it began")

    def wait_given(self, count: int) -> None:
        """Wait until its source has given this number of readings."""
        self.wait(lambda: self._log.exists() and self._log.read_bytes().count(b"\n") >= count, "readings came")

    def wait(self, condition: Callable[[], object], what: str, limit_s: float = STARTS_S) -> None:
        """Wait for something.

        Raises:
            NotReadyError: The program has ended, or it took too long.
        """
        deadline = time.monotonic() + limit_s
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise NotReadyError(f"not before {what}: exit code {self.process.poll()}, {self.stderr()}")
            time.sleep(LOOK_S)

    def wait_said(self, since: int, limit_s: float) -> float | None:
        """Wait until it says something of its file, or of its folder, after ``since`` characters.

        Returns:
            Seconds that it took; ``None`` when it said nothing in that time.
        """
        begun = time.monotonic()
        while time.monotonic() < begun + limit_s:
            ended = self.process.poll() is not None
            if str(self.target.parent) in self.stderr()[since:]:
                return time.monotonic() - begun
            if ended:
                return None
            time.sleep(LOOK_S)
        return None

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> End:
        """Kill it."""
        self.send(signal.SIGKILL)
        return self.end(STARTS_S)

    def end(self, limit_s: float) -> End:
        """Wait for its end; one that hangs is killed."""
        hung = False
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            hung = True
            self.process.kill()
            self.process.wait()
        code = self.process.returncode
        if -code in (signal.SIGINT, signal.SIGTERM):  # in the last moment of Python, when the command had ended
            code = SIGNALLED - code
        return End(code, self.stderr(), hung, time.monotonic_ns())

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
