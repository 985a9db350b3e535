"""The driver in a process of its own: ``python -m tests.faults.child SETTINGS``. Reports what it reads by stdout.

It ends when its stdin does. It is stopped, put to sleep, or forks itself; whoever started it judges.
"""

import contextlib
import json
import os
import pickle
import select
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

from servomex import Analyzer, ServomexError, open_device
from servomex.calibration.report import CalibrationProgress
from servomex.enums import ChannelId
from servomex.models.analyser import AnalyserStatus
from servomex.models.reading import ChannelStatus
from tests.faults.busy import BUSY
from tests.faults.checker import Given
from tests.faults.line import WorstLine
from tests.faults.lively import LivelyTruth
from tests.faults.mixture import MixedReaders
from tests.faults.strict import StrictChecker
from tests.faults.tally import Tally

FORK_EVERY_S = 0.7
FORK_S = 8.0
"""A forked child that goes on for longer hangs: each of its calls has half a second."""
Message = tuple[str, tuple[Any, ...]]


class Reporter:
    """Writes messages to a file, each as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, what: str, *parts: Any) -> None:
        """Write one."""
        data = pickle.dumps((what, parts))
        with self._lock:
            self._file.write(data)
            self._file.flush()


def messages(file: BinaryIO) -> Iterator[Message]:
    """Read what a reporter has written, to its end."""
    with contextlib.suppress(EOFError, pickle.UnpicklingError):  # it was killed in the middle of one
        while True:
            yield pickle.load(file)


class FarChecker(StrictChecker):
    """Hands on what was read, for somebody who knows the truth."""

    def __init__(self, reporter: Reporter, settings: dict[str, Any], tally: Tally) -> None:
        truth = LivelyTruth(1, settings["populated"], settings["open"]["protocol"], 1, settings["period"])
        super().__init__(truth, WorstLine(truth, dice=Random(0)), tally, 0, str)
        self._reporter = reporter

    def good(self, where: str, given: Given, since: float, *, limit_s: float | None = None) -> None:
        self._reporter.send("good", time.monotonic(), where, given, since, limit_s)

    def state(self, where: str, channel: ChannelId, status: ChannelStatus, since: float) -> None:
        self._reporter.send("state", time.monotonic(), where, channel, status, since)

    def analyser(self, where: str, status: AnalyserStatus, since: float) -> None:
        self._reporter.send("analyser", time.monotonic(), where, status, since)

    def progress(self, where: str, progress: CalibrationProgress, since: float) -> None:
        self._reporter.send("progress", time.monotonic(), where, progress, since)

    def blame(self, kind: str, where: str, given: object, since: float, until: float) -> None:
        calls = [text for at, text in list(self.calls) if since - 3.0 <= at]
        self._reporter.send("blame", until, kind, where, "\n    ".join([str(given), *calls]), since)

    def failed(self, at: float) -> None:
        """Leave recoveries to the other campaign."""


def read(settings: dict[str, Any], reporter: Reporter) -> None:
    """Read until stdin ends."""
    tally = Tally()
    checker = FarChecker(reporter, settings, tally)
    while not _stdin_ends(0.0):
        try:
            analyzer = open_device(settings["url"], **settings["open"])
        except ServomexError as error:
            tally.note_error(error)
            continue
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(analyzer):
            readers = MixedReaders(
                analyzer, checker, tally, settings["seed"], Path(folder), tuple(settings["users"])
            )
            readers.start()
            while not _stdin_ends(FORK_EVERY_S):
                if settings["process"] == "fork":
                    _fork(analyzer, settings, reporter)
            readers.stop()
            readers.join()
    reporter.send("tally", tally.errors, tally.counts, [(item.kind, item.text) for item in tally.findings])


def _stdin_ends(wait_s: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(readable)


def _fork(analyzer: Analyzer, settings: dict[str, Any], reporter: Reporter) -> None:
    """Fork, let the child read, and hand on what it wrote; one that does not end is killed."""
    with tempfile.NamedTemporaryFile() as report:
        child = os.fork()
        if not child:
            signal.alarm(int(2 * FORK_S))  # if nobody is left who could kill it
            try:
                with open(report.name, "wb") as file:  # noqa: PTH123 (nothing more than needed, behind a fork)
                    _read_forked(analyzer, settings, Reporter(file))
            finally:
                os._exit(0)
        ended = _ends(child)
        with open(report.name, "rb") as file:  # noqa: PTH123
            for what, parts in messages(file):
                reporter.send(what, *parts)
        if not ended:
            reporter.send("hang", f"a forked child did not end in {FORK_S:g} s")


def _ends(child: int) -> bool:
    """Whether a child ends by itself in time; else it is killed."""
    until = time.monotonic() + FORK_S
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.02)
    return True


def _read_forked(analyzer: Analyzer, settings: dict[str, Any], reporter: Reporter) -> None:
    checker = FarChecker(reporter, settings, Tally())
    first = ChannelId(settings["populated"][0])

    def poll() -> None:
        checker.good("poll, forked", Given.frame(analyzer.poll(timeout=0.5)), begun)

    def channel() -> None:
        checker.good("read_channel, forked", Given.reading(analyzer.read_channel(first, timeout=0.5)), begun)

    def status() -> None:
        checker.state("status, forked", first, analyzer.status(first, timeout=0.5), begun)

    calls: tuple[Callable[[], None], ...] = (poll, channel, status, analyzer.close)
    for call in calls:
        begun = time.monotonic()
        reporter.send("begins", call.__name__)
        try:
            call()
        except ServomexError as error:
            reporter.send("forked", type(error).__name__)
        except BaseException as error:
            checker.blame("crash", f"{call.__name__}, forked", repr(error), begun, time.monotonic())


def main() -> None:
    """Do what is asked for."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork in a process with threads, which is the point
    with BUSY.watched():
        read(json.loads(sys.argv[1]), Reporter(sys.stdout.buffer))


if __name__ == "__main__":
    main()
