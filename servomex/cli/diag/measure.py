"""What is measured on a line with an analyser: loopbacks, the gap that requests need, and the cadence of readings.

The functions that measure are iterators: each step is one request, and the results grow with it, so that what was
measured before an interruption is there.
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping

from servomex.analyzer.analyzer import Analyzer
from servomex.cli.diag.figures import Cadence, Tally
from servomex.enums import ProtocolKind
from servomex.errors import (
    ServomexConnectionError,
    ServomexError,
    ServomexFrameError,
    ServomexModbusError,
    ServomexTimeoutError,
    ServomexTransportError,
)
from servomex.modbus.client import ModbusClient
from servomex.modbus.query import LOOPBACK, PROBE, Query
from servomex.modbus.timing import line_timing
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.runtime.locks import pause

STEADY_GAP_S = 0.1
"""Silence before the requests that are not counted: twice what the bench unit needed."""
RECOVERY_S = 10.0
"""How long the line may take to answer again after a request that failed."""
TRY_PATIENCES = 3
"""One try at that takes as long as this many requests: silence, the loopback that proves the line, and a read."""

_LONGEST = Query(LOOPBACK, payload=bytes(2))


def loopbacks(client: ModbusClient, count: int, tally: Tally, timeout: float | None = None) -> Iterator[None]:
    """Send loopbacks with fresh numbers, one attempt each.

    Args:
        client: The analyser; without retries.
        count: How many.
        tally: Where they are counted.
        timeout: Seconds for each, the gap included; what suits the line when ``None``.

    Raises:
        ServomexTimeoutError: The analyser does not answer any more.
        ServomexFrameError: Only damaged replies come any more.
        ServomexConnectionError: The port was lost.
    """
    for _ in range(count):
        with client.link.conversation(time.monotonic() + RECOVERY_S):
            _recover(client)
            tally.late = client.exchange.late_replies
            query = Query(LOOPBACK, payload=secrets.token_bytes(2))
            _ask_once(client, query, tally, _patience_s(client) if timeout is None else timeout)
        yield
    with client.link.conversation(time.monotonic() + RECOVERY_S), contextlib.suppress(*_FAILURES):
        _recover(client)  # or a late reply to the last one would not be noticed
    tally.late = client.exchange.late_replies


def gaps(
    client: ModbusClient, count: int, tallies: Mapping[float, Tally], timeout: float | None = None
) -> Iterator[None]:
    """Send reads without repetition, each right after the exchange before it with a certain gap.

    After a failure the line is made to answer again with a long gap first, and what that takes is not counted.

    Args:
        client: The analyser.
        count: How many for each gap.
        tallies: Where they are counted: one for each gap in seconds.
        timeout: Seconds for each, the gap included; what suits the line when ``None``.

    Raises:
        ServomexTimeoutError: The analyser does not answer any more.
        ServomexFrameError: Only damaged replies come any more.
        ServomexConnectionError: The port was lost.
    """
    link = client.link
    steady = single_attempts(link, client.address, client.protocol, max(STEADY_GAP_S, link.gap_s, *tallies))
    for gap_s, tally in tallies.items():
        tested = single_attempts(link, client.address, client.protocol, gap_s)
        client.line.proven.discard(
            client.address
        )  # the first one must follow an exchange as closely as the others
        for _ in range(count):
            with link.conversation(time.monotonic() + RECOVERY_S):
                _recover(steady)
                # Only the steady client learns how fast the analyser is where all counted requests are lost.
                _ask_once(tested, PROBE, tally, _patience_s(steady) if timeout is None else timeout)
            yield


def intervals(analyzer: Analyzer, count: int, cadence: Cadence, timeout: float | None = None) -> Iterator[None]:
    """Measure the time between the arrivals of broadcasts.

    Raises:
        ServomexTimeoutError: Not one came.
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
        ServomexError: Not one succeeded; the error of the last.
        ServomexConnectionError: The port was lost.
    """
    failure: ServomexError | None = None
    for _ in range(count):
        begun = time.monotonic()
        try:
            analyzer.poll(timeout=timeout)
        except ServomexConnectionError:
            raise
        except _FAILURES as error:
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
        ServomexError: Not one succeeded; the error of the last.
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
        except _FAILURES as error:
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


_FAILURES = (ServomexTransportError, ServomexFrameError, ServomexModbusError)


def single_attempts(
    link: SerialLink, address: int, protocol: ProtocolKind, gap_s: float | None = None
) -> ModbusClient:
    """Return a client of an analyser that repeats nothing; with a gap of its own unless it is ``None``."""
    return ModbusClient(link, address, protocol, retries=0, gap_s=gap_s)


def _recover(client: ModbusClient) -> None:
    """Get an answer from the analyser after a failure, so that nothing older can disturb what is measured next."""
    deadline = time.monotonic() + RECOVERY_S
    while client.address not in client.line.proven:
        try:
            client.exchange.probe(PROBE, min(deadline, time.monotonic() + TRY_PATIENCES * _patience_s(client)))
        except ServomexModbusError:
            return
        except (ServomexTimeoutError, ServomexFrameError):
            if time.monotonic() >= deadline:
                raise
        else:
            return


def _ask_once(client: ModbusClient, query: Query, tally: Tally, timeout: float) -> None:
    tally.sent += 1
    try:
        reply = client.exchange.probe(query, time.monotonic() + timeout)
    except ServomexModbusError:
        tally.refused += 1
    except ServomexTimeoutError:
        tally.lost += 1
    except ServomexFrameError:
        tally.damaged += 1
    else:
        tally.round_trips_s.append((time.monotonic_ns() - reply.sent_ns) / 1e9)
        tally.answered += 1


def _patience_s(client: ModbusClient) -> float:
    """Seconds in which a request is answered, unless it is lost: as the driver waits before it repeats one."""
    wait_s = client.exchange.pace.wait_s()
    timing = line_timing(client.link.settings, ProtocolKind.MODBUS_ASCII, client.gap_s, wait_s)  # the longer one
    return timing.exchange(_LONGEST.data_size)
