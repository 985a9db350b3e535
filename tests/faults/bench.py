"""One analyser, its line and its judge, for looking at the parts of the campaign alone."""

import time
from datetime import UTC, datetime, timedelta
from random import Random

from servomex.telegram import parse_frame
from tests.faults.checker import Given
from tests.faults.crowd import Between, CrowdedLine
from tests.faults.lively import LivelyTruth
from tests.faults.strict import StrictChecker
from tests.faults.tally import Tally


class Judge(StrictChecker):
    """A judge with the line at hand."""

    line: CrowdedLine


def judged(mode: str, *, between: Between | None = None, number: int = 1) -> tuple[LivelyTruth, Judge, Tally]:
    """Set up an analyser, its line and its judge."""
    truth, tally = LivelyTruth(number, ["I1", "I2", "I3"], mode, 3, 0.2), Tally()
    line = CrowdedLine(truth, dice=Random(1), between=between or Between())
    checker = Judge(truth, line, tally, 0, str)
    checker.line = line
    return truth, checker, tally


def broadcast(truth: LivelyTruth, late_s: float = 0.0) -> Given:
    """Let an analyser say something, and stamp it so much later."""
    raw = truth.broadcast()
    at = datetime.now(UTC) + timedelta(seconds=late_s)
    frame = parse_frame(raw, received_at=at, monotonic_ns=time.monotonic_ns() + int(late_s * 1e9))
    return Given.frame(frame)
