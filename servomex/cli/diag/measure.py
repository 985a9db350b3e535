"""How regularly readings arrive. The functions are iterators: each step is one reading."""

from collections.abc import Iterator

from servomex.analyzer.analyzer import Analyzer
from servomex.checkup.losses import FAILURES
from servomex.cli.diag.figures import Cadence
from servomex.errors import ServomexConnectionError, ServomexError, ServomexTimeoutError
from servomex.runtime.clock import time
from servomex.runtime.locks import pause


def intervals(analyzer: Analyzer, count: int, cadence: Cadence, timeout: float | None = None) -> Iterator[None]:
    """Measure the time between the arrivals of broadcasts.

    Raises:
        ServomexTimeoutError: None arrived.
        ServomexConnectionError: The port was lost.
    """
    before = analyzer.snapshot().monotonic_ns
    failure: ServomexError | None = None
    for _ in range(count):
        try:
            arrived = analyzer.poll(wait_fresh=True, timeout=timeout).monotonic_ns
        except ServomexTimeoutError as error:
            failure = error
            cadence.failures += 1
        else:
            cadence.seconds.append((arrived - before) / 1e9)
            before = arrived
        yield
    if failure is not None and not cadence.seconds:
        raise failure


def sweeps(analyzer: Analyzer, count: int, cadence: Cadence, timeout: float | None = None) -> Iterator[None]:
    """Time readings that follow each other without a pause.

    Raises:
        ServomexError: None succeeded; the error of the last.
        ServomexConnectionError: The port was lost.
    """
    failure: ServomexError | None = None
    for _ in range(count):
        begun = time.monotonic()
        try:
            analyzer.poll(timeout=timeout)
        except ServomexConnectionError:
            raise
        except FAILURES as error:
            failure = error
            cadence.failures += 1
        else:
            cadence.seconds.append(time.monotonic() - begun)
        yield
    if failure is not None and not cadence.seconds:
        raise failure


def paced(
    analyzer: Analyzer, count: int, rate_hz: float, cadence: Cadence, timeout: float | None = None
) -> Iterator[None]:
    """Measure the time between the starts of readings requested at fixed moments, ``count`` of them.

    A moment that has passed when its turn comes is counted as late, as in a recording.

    Raises:
        ServomexError: None succeeded; the error of the last.
        ServomexConnectionError: The port was lost.
    """
    begun, slot, succeeded = time.monotonic(), 0, False
    before: float | None = None
    failure: ServomexError | None = None
    for _ in range(count):
        pause(max(0.0, begun + slot / rate_hz - time.monotonic()))
        moment = time.monotonic()
        if before is not None:
            cadence.seconds.append(moment - before)
        before = moment
        try:
            analyzer.poll(timeout=timeout)
        except ServomexConnectionError:
            raise
        except FAILURES as error:
            failure = error
            cadence.failures += 1
        else:
            succeeded = True
        slot += 1
        passed = int((time.monotonic() - begun) * rate_hz)
        cadence.late += max(0, passed - slot)
        slot = max(slot, passed)
        yield
    if failure is not None and not succeeded:
        raise failure
