"""How many requests to an analyser are lost: loopbacks, reads with the gap in use, reads with each of some gaps.

The functions are iterators: each step is one request, and the tally grows with it, so that what was counted before
an interruption is there.
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping

from servomex.checkup.tally import Tally
from servomex.enums import ProtocolKind
from servomex.errors import (
    ServomexFrameError,
    ServomexGatewayError,
    ServomexModbusError,
    ServomexTimeoutError,
    ServomexTransportError,
)
from servomex.modbus.client import ModbusClient, state_s
from servomex.modbus.presence import await_answer
from servomex.modbus.query import LOOPBACK, PROBE, Query
from servomex.modbus.timing import line_timing
from servomex.port.link import SerialLink
from servomex.runtime.clock import time

STEADY_GAP_S = 0.1
"""Silence before the requests that are not counted: twice that needed by the bench unit."""
ANSWER_S = 0.5
"""How long the answer to a read of the state may take to begin."""
RECOVERY_S = 10.0
"""How long the line may take to answer again after a failed request."""
TRY_PATIENCES = 3
"""One attempt takes as long as this many requests: silence, the loopback that proves the line, and a read."""

FAILURES = (ServomexTransportError, ServomexFrameError, ServomexModbusError)
"""What a request may end with in place of an answer."""
_LONGEST = Query(LOOPBACK, payload=bytes(2))


def loopbacks(client: ModbusClient, count: int, tally: Tally, timeout: float | None = None) -> Iterator[None]:
    """Send loopbacks with fresh numbers, one attempt each.

    Args:
        client: The analyser; without retries.
        count: The number of loopbacks.
        tally: Where they are counted.
        timeout: Seconds for each, the gap included; a value that suits the line when ``None``.

    Raises:
        ServomexTimeoutError: The analyser no longer answers.
        ServomexFrameError: Only damaged replies arrive.
        ServomexConnectionError: The port was lost.
    """
    for _ in range(count):
        with client.link.conversation(time.monotonic() + RECOVERY_S):
            _recover(client)
            tally.late = client.exchange.late_replies
            query = Query(LOOPBACK, payload=secrets.token_bytes(2))
            _ask_once(client, query, tally, _patience_s(client) if timeout is None else timeout)
        yield
    with client.link.conversation(time.monotonic() + RECOVERY_S), contextlib.suppress(*FAILURES):
        _recover(client)  # or a late reply to the last one would not be noticed
    tally.late = client.exchange.late_replies


def reads(client: ModbusClient, count: int, tally: Tally) -> Iterator[None]:
    """Read the analyser's state, one attempt each, as a program does: with the gap in use, also after a failure.

    Args:
        client: The analyser; without retries.
        count: The number of reads.
        tally: Where the reads are counted.

    Raises:
        ServomexConnectionError: The port was lost.
    """
    for _ in range(count):
        with _counted(tally):
            wait_s = client.exchange.pace.patient_s(ANSWER_S)
            client.read_analyser(time.monotonic() + state_s(client, 2, wait_s))  # a loss costs a loopback as well
        tally.late = client.exchange.late_replies
        yield


def gaps(
    client: ModbusClient, count: int, tallies: Mapping[float, Tally], timeout: float | None = None
) -> Iterator[None]:
    """Send reads without retries, each a given gap after the previous exchange.

    After a failure the line is first made to answer again with a long gap, which is not counted.

    Args:
        client: The analyser.
        count: The number of reads for each gap.
        tallies: The counts, one for each gap in seconds.
        timeout: Seconds for each, the gap included; a value that suits the line when ``None``.

    Raises:
        ServomexTimeoutError: The analyser no longer answers.
        ServomexFrameError: Only damaged replies arrive.
        ServomexConnectionError: The port was lost.
    """
    link = client.link
    steady = single_attempts(link, client.address, client.protocol, max(STEADY_GAP_S, link.gap_s, *tallies))
    for gap_s, tally in tallies.items():
        tested = single_attempts(link, client.address, client.protocol, gap_s)
        # The first one must follow an exchange as closely as the others.
        client.line.proven.discard(client.address)
        for _ in range(count):
            with link.conversation(time.monotonic() + RECOVERY_S):
                _recover(steady)
                # If all counted requests are lost, only the steady client learns how fast the analyser is.
                _ask_once(tested, PROBE, tally, _patience_s(steady) if timeout is None else timeout)
            yield


def single_attempts(
    link: SerialLink, address: int, protocol: ProtocolKind, gap_s: float | None = None
) -> ModbusClient:
    """Return a client of an analyser that does not retry, with its own gap unless that is ``None``."""
    return ModbusClient(link, address, protocol, retries=0, gap_s=gap_s)


def _recover(client: ModbusClient) -> None:
    """Get an answer from the analyser after a failure, so that nothing older can disturb the next measurement."""
    deadline = time.monotonic() + RECOVERY_S
    while client.address not in client.line.proven:
        try:
            await_answer(client.exchange, min(deadline, time.monotonic() + TRY_PATIENCES * _patience_s(client)))
        except ServomexGatewayError:
            return
        except (ServomexTimeoutError, ServomexFrameError):
            if time.monotonic() >= deadline:
                raise
        else:
            return


def _ask_once(client: ModbusClient, query: Query, tally: Tally, timeout: float) -> None:
    with _counted(tally):
        reply = client.exchange.probe(query, time.monotonic() + timeout)
        tally.round_trips_s.append((time.monotonic_ns() - reply.sent_ns) / 1e9)


@contextlib.contextmanager
def _counted(tally: Tally) -> Iterator[None]:
    """Count a request that is sent within, and what becomes of it."""
    tally.sent += 1
    try:
        yield
    except ServomexModbusError:
        tally.refused += 1
    except ServomexTimeoutError:
        tally.lost += 1
    except ServomexFrameError:
        tally.damaged += 1
    else:
        tally.answered += 1


def _patience_s(client: ModbusClient) -> float:
    """Return the seconds in which a request is answered unless lost: as long as the driver waits for it."""
    wait_s = client.exchange.pace.wait_s()
    timing = line_timing(client.link.settings, ProtocolKind.MODBUS_ASCII, client.gap_s, wait_s)  # the longer one
    return timing.exchange(_LONGEST.data_size)
