"""Listening on a line without opening an analyser: its messages, and an adapter's echo."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import attrs

from servomex.enums import ProtocolKind
from servomex.modbus.query import PROBE
from servomex.runtime.clock import time
from servomex.traffic import Message, TrafficDecoder

if TYPE_CHECKING:
    from servomex.port.link import SerialLink

MESSAGE_SILENCE_S = 0.05
"""Silence that ends a message. Adapters and networks may pause for some milliseconds within one."""
ECHO_WAIT_S = 1.0
"""How long an echo or a reply may take to begin."""
ECHO_SILENCE_S = 0.3
"""Silence after which neither an echo nor a reply will follow."""
ECHO_GAP_S = 0.1
LONGEST_ECHO_S = 1.0
"""How long an echo and a reply may last on a line that never falls silent."""

Verdict = Literal["echoes", "does not echo", "cannot tell"]

_ON_AND_WIRED = "check that the analyser is on, its mode, address and serial settings, and the wiring"


def messages(link: "SerialLink", until: float | None = None) -> Iterator[tuple[datetime, Message]]:
    """Yield each message on an open port with its arrival, UTC. Nothing is sent.

    Args:
        link: The port; the caller holds its lock.
        until: When to end, on ``time.monotonic()``; never, when ``None``.

    Raises:
        ServomexConnectionError: The port is closed or was unplugged.
    """
    decoder = TrafficDecoder()
    arrived_at = datetime.now(UTC)
    while until is None or time.monotonic() < until:
        data = link.read(time.monotonic() + MESSAGE_SILENCE_S)
        if data:
            arrived_at = datetime.now(UTC)
        for message in decoder.feed(data) if data else decoder.flush():
            yield arrived_at, message
    for message in decoder.flush():
        yield arrived_at, message


@attrs.frozen
class Echo:
    """The bytes returned for a request.

    Attributes:
        verdict: ``echoes``, ``does not echo`` or ``cannot tell``.
        answered: Whether an analyser was heard.
        sent: The request.
        received: The bytes received.
        advice: What this means, and what to do.
    """

    verdict: Verdict
    answered: bool
    sent: bytes
    received: bytes
    advice: str


def echo(link: "SerialLink", address: int, framings: Iterable[ProtocolKind], wait_s: float = ECHO_WAIT_S) -> Echo:
    """Send a read and check whether it comes back, in each framing until an analyser answers.

    Args:
        link: An open port; the caller holds its lock.
        address: Modbus slave address.
        framings: ``MODBUS_RTU``, ``MODBUS_ASCII``, or both in turn.
        wait_s: How long an echo or a reply may take to begin.

    Raises:
        ServomexConnectionError: The port is closed or was unplugged.
    """
    tries = []
    for framing in framings:
        request = read_request(address, framing)
        link.settle(ECHO_GAP_S, time.monotonic() + wait_s)
        link.write(request)
        tries.append(judge(request, _collect(link, len(request) * link.settings.char_time_s + wait_s)))
        if tries[-1].answered:
            return tries[-1]
    return max(tries, key=lambda found: len(found.received))


def read_request(address: int, framing: ProtocolKind) -> bytes:
    """Frame a read of the analyser's two flags: its reply never equals it, and it changes nothing."""
    from servomex.modbus.framing import framer_of, request_of

    return framer_of(framing).buildFrame(request_of(PROBE, address))


def _collect(link: "SerialLink", wait_s: float) -> bytes:
    """Read until the line has fallen silent again."""
    received, now = b"", time.monotonic()
    limit, end = now + wait_s, now + wait_s + LONGEST_ECHO_S
    while (data := link.read(limit)) and time.monotonic() < end:
        received += data
        limit = time.monotonic() + ECHO_SILENCE_S
    return received


def judge(sent: bytes, received: bytes) -> Echo:
    """Return what a request and the bytes that came back show."""
    before, echoed, after = received.partition(sent)
    decoder = TrafficDecoder()
    rest = [*decoder.feed(before + after), *decoder.flush()]
    answered = any(message.kind != "noise" for message in rest)
    verdict: Verdict = "echoes" if echoed else "does not echo" if answered else "cannot tell"
    return Echo(verdict, answered, sent, received, _advice(verdict, answered, received))


def _advice(verdict: Verdict, answered: bool, received: bytes) -> str:
    if verdict == "echoes":
        known = "the driver detects and strips the echo automatically: no action is needed"
        silent = f"no analyser was heard after the echo: {_ON_AND_WIRED}"
        return known if answered else f"{known}. But {silent}"
    if verdict == "does not echo":
        return "an analyser was heard, but not the request: no action is needed"
    if received:
        return (
            f"{len(received)} bytes arrived that are neither the request nor a message: check the baud rate, the "
            "other serial settings and the wiring"
        )
    return (
        "nothing came back, so no analyser answers and the adapter may not echo: "
        f"{_ON_AND_WIRED}, then run it again"
    )
