"""The recorder: how long after their moments readings begin, and whether any is lost."""

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from servomex import AcquisitionSummary, ProtocolKind, Recorder
from servomex.models.sample import Sample
from tests.benchmarks.figures import Goal, Result, figure, tail
from tests.benchmarks.machine import Settings, busy_cores
from tests.benchmarks.samples import numbered_frames

RATES = (1, 10, 50, 100)
LATE_MS = Goal(1.0)
NONE_LOST = Goal(1.0)
"""Fewer than one."""
REFERENCE_HZ = 50


class Source:
    """Five channels that take no time to read, so that lateness is the recorder's own."""

    name = "rig"
    protocol = ProtocolKind.CONTINUOUS_ASCII

    def __init__(self) -> None:
        self._frame = numbered_frames(1)[0]

    def poll_samples(self, *, names: Sequence[str] | None = None, timeout: float | None = None) -> list[Sample]:
        """Give the samples of a frame that has come just now."""
        frame = attrs.evolve(self._frame, received_at=datetime.now(UTC), monotonic_ns=time.monotonic_ns())
        return frame.as_samples(device=self.name)


def recorder(settings: Settings) -> Iterator[Result]:
    """Record to CSV at several rates, alone and beside a busy process on every core."""
    seconds = settings.choose(20, 0.3)
    for load in ("alone", "cores busy"):
        with busy_cores() if load == "cores busy" else contextlib.nullcontext():
            for rate in settings.choose(RATES, (50,)):
                settings.say(f"{rate} Hz, {load}, {seconds} s")
                yield from _recorded(f"{rate} Hz, {load}", rate, seconds, load)
            settings.say(f"bare thread, {load}")
            late = _bare_thread(REFERENCE_HZ, seconds)
            name = f"bare thread at {REFERENCE_HZ} Hz, {load}"
            yield from tail(name, "ms late", late)
            yield figure(
                f"{name}, a period late", f"of {len(late)}", [sum(item > 1000 / REFERENCE_HZ for item in late)]
            )


def _recorded(name: str, rate: int, seconds: float, load: str) -> Iterator[Result]:
    source = Source()
    with tempfile.TemporaryDirectory() as folder:
        with Recorder(source, [Path(folder) / "run.csv"], rate_hz=rate, duration=seconds) as running:
            running.join()
        summary = running.summary
    expected = max(1, round(rate * seconds))
    if summary.slots != expected or summary.errors:
        raise RuntimeError(f"{expected} moments were due, and the summary tells of {summary}")
    promised = load == "alone" and rate == REFERENCE_HZ
    yield from _lateness(name, summary, LATE_MS if promised else None)
    lost = summary.samples_late + summary.dropped
    yield figure(f"{name}, lost moments", f"of {expected}", [lost], goal=NONE_LOST if load != "alone" else None)


def _lateness(name: str, summary: AcquisitionSummary, goal: Goal | None) -> Iterator[Result]:
    for part, value_ms in (
        ("p50", summary.lateness_ms_p50),
        ("p99", summary.lateness_ms_p99),
        ("max", summary.max_drift_ms),
    ):
        yield figure(f"{name}, {part}", "ms late", [value_ms], goal=goal if part == "p99" else None)


def _bare_thread(rate: int, seconds: float) -> list[float]:
    """Tell how late a thread is that does nothing but wait for its moments: what the system gives at best."""
    late: list[float] = []
    never = threading.Event()

    def wait() -> None:
        begun = time.monotonic()
        for slot in range(max(1, round(rate * seconds))):
            due = begun + slot / rate
            never.wait(max(0.0, due - time.monotonic()))
            late.append(1000 * (time.monotonic() - due))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    return late
