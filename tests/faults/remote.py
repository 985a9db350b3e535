"""Runs the driver in another process, stops it or puts it to sleep, and judges what it reports."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs

from tests.faults.checker import WALL_SLACK_S, Given, awake_and_asleep
from tests.faults.child import messages
from tests.faults.rig import Rig, settings_of
from tests.faults.sleeping import Slept
from tests.helpers.paths import ROOT

END_S = 30.0
ROUNDING_S = 0.005
"""What two clocks, read one after the other, may differ by."""


class Clocks:
    """Says when something happened in another process, whose monotonic clock does not see its sleeps.

    Args:
        boot_offset_s: How far the clock that goes on in sleep is before the monotonic clock, here.
    """

    def __init__(self, boot_offset_s: float) -> None:
        self._boot_offset_s = boot_offset_s
        self._sleeps: list[tuple[float, float]] = []

    def sleep(self, since: float, until: float) -> float:
        """Note that the process sleeps between two moments of the clock here; the seconds."""
        stood_at = since - sum(seconds for _, seconds in self._sleeps)
        self._sleeps.append((stood_at, until - since))
        return until - since

    def moment(self, at: float) -> float:
        """What the clock here showed at a moment of the process's."""
        return at + sum(seconds for stood_at, seconds in self._sleeps if at > stood_at)

    def seen(self, given: Given) -> Given:
        """Stamp a reading with the time that its age says: what somebody sees who looks at it."""
        return attrs.evolve(given, stamp=given.looked_at - self._boot_offset_s - given.age_s)


class Remote:
    """A process that reads what a rig has.

    Args:
        rig: What it reads.
        folder: For files.
        shim: Of the clocks, for scenes in which the computer sleeps.
    """

    def __init__(self, rig: Rig, folder: Path, shim: Path | None) -> None:
        self._rig = rig
        self._clocks = Clocks(awake_and_asleep() - time.monotonic())
        scene = rig.scene
        file = folder / f"slept-{scene.seed}-{scene.number}"
        self._slept = Slept(file, shim) if shim and scene.process == "sleep" else None
        settings = {
            "url": rig.url,
            "open": settings_of(scene),
            "populated": [*scene.channels],
            "period": scene.period,
            "users": scene.users,
            "seed": f"{scene.seed}:{scene.number}",
            "process": scene.process,
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed at the end)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.child", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=self._slept.environment if self._slept else None,
            cwd=ROOT,
        )
        self._thread = threading.Thread(target=self._judge, name="faults-remote", daemon=True)
        self._lock = threading.Lock()

    def run(self) -> None:
        """Let it read until the scene is over."""
        self._thread.start()
        self._rig.stop_process = self._stop
        while not self._rig.over and self._process.poll() is None:
            time.sleep(0.05)
        with self._lock:
            self._rig.stop_process = None
        self._end()

    def _end(self) -> None:
        tally, scenery = self._rig.tally, self._rig.scenery()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            if code := self._process.wait(END_S):
                self._errors.seek(0)
                said = self._errors.read().decode()
                tally.report("crash", f"the process of the driver ended with {code}:\n{said}\n  {scenery}")
        except subprocess.TimeoutExpired:
            tally.report("hang", f"the process of the driver did not end\n  {scenery}")
            self._process.kill()
            self._process.wait()
        self._thread.join(END_S)
        self._process.stdout.close()
        self._errors.close()
        if self._slept:
            self._slept.close()

    def _stop(self, seconds: float) -> None:
        """Stop the process for a while; where the computer sleeps, its monotonic clock does not see that."""
        with self._lock:
            if self._rig.stop_process is None or self._process.poll() is not None:
                return
            os.kill(self._process.pid, signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)
            stopped = time.monotonic()
            time.sleep(seconds)
            if self._slept:
                self._slept.add(self._clocks.sleep(stopped, time.monotonic()))
            os.kill(self._process.pid, signal.SIGCONT)
            self._rig.tally.note("times that the process stood still")

    def _judge(self) -> None:
        assert self._process.stdout is not None
        acts: dict[str, Callable[..., None]] = {
            name: getattr(self, f"_on_{name}")
            for name in "good state analyser progress blame hang begins forked tally".split()
        }
        try:
            for what, parts in messages(cast(BinaryIO, self._process.stdout)):
                acts[what](*parts)
        except Exception as error:
            self._rig.tally.report("crash", f"the campaign itself: {error!r}\n  {self._rig.scenery()}")

    def _on_good(self, at: float, where: str, given: Given, since: float, limit_s: float | None) -> None:
        checker = self._rig.checker
        checker.at, seen = self._clocks.moment(at), self._clocks.seen(given)
        now_s, wall_s = time.monotonic(), datetime.now(UTC).timestamp()
        if abs(given.received_at.timestamp() - (wall_s - (now_s - seen.stamp))) > WALL_SLACK_S:
            checker.blame("stale", f"{where}, by its UTC time", seen, self._clocks.moment(since), checker.at)
            return
        limit_s = None if limit_s is None else limit_s + ROUNDING_S
        checker.good(where, seen, self._clocks.moment(since) if since else 0.0, limit_s=limit_s)

    def _on_state(self, at: float, where: str, channel: Any, status: Any, since: float) -> None:
        self._rig.checker.at = self._clocks.moment(at)
        self._rig.checker.state(where, channel, status, self._clocks.moment(since))

    def _on_analyser(self, at: float, where: str, status: Any, since: float) -> None:
        self._rig.checker.at = self._clocks.moment(at)
        self._rig.checker.analyser(where, status, self._clocks.moment(since))

    def _on_progress(self, at: float, where: str, progress: Any, since: float) -> None:
        self._rig.checker.at = self._clocks.moment(at)
        self._rig.checker.progress(where, progress, self._clocks.moment(since))

    def _on_blame(self, until: float, kind: str, where: str, given: str, since: float) -> None:
        self._rig.checker.blame(kind, where, given, self._clocks.moment(since), self._clocks.moment(until))

    def _on_hang(self, text: str) -> None:
        self._rig.tally.report("hang", f"{text}, in {self._last}\n  {self._rig.scenery()}")

    def _on_begins(self, call: str) -> None:
        self._last = call

    def _on_forked(self, error: str) -> None:
        self._rig.tally.note(f"forked child, {error}")

    def _on_tally(self, errors: Counter[str], counts: Counter[str], findings: list[tuple[str, str]]) -> None:
        self._rig.tally.errors += errors
        self._rig.tally.counts += counts
        for kind, text in findings:
            self._rig.tally.report(kind, f"{text}\n  {self._rig.scenery()}")

    _last = "its first call"
