"""AUTO: find out in which communication mode an analyser is, by reads only."""

from datetime import UTC, datetime

import attrs

from servomex import registers
from servomex.clock import time
from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexFrameError,
    ServomexModbusError,
    ServomexParseError,
    ServomexTimeoutError,
)
from servomex.exchange import PATIENCE, Exchange
from servomex.link import SerialLink
from servomex.link_client import READ_INPUTS, Query
from servomex.models import Frame
from servomex.telegram import HEADER, FrameSplitter, parse_frame

WAITS_S = (0.3, 2.4)
"""How long a probe's reply may take to begin, in the first round and at most; it doubles from round to round."""
PROBE_WAITS = 5
"""A probe may take this many waits: three replies, and the silence between."""
PAUSES_S = (0.2, 2.0)
"""Shortest and longest pause between rounds of probes: on RS485 a probe could hit a broadcast."""

PROBE = Query(READ_INPUTS, registers.ANALYSER_FLAGS)
"""What an address is asked to find out whether an analyser is there."""
FRAMINGS = (ProtocolKind.MODBUS_RTU, ProtocolKind.MODBUS_ASCII)


@attrs.frozen
class Detection:
    """What was found: the mode, and in continuous mode the frame that showed it."""

    protocol: ProtocolKind
    frame: Frame | None = None


class Ear:
    """Listens for a broadcast in everything that comes, also while Modbus is probed.

    Attributes:
        frame: The last broadcast that came undamaged.
        broadcast: Whether anything came that looks like one.
        bytes_heard: How many bytes came.
    """

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.broadcast = False
        self.bytes_heard = 0
        self._splitter = FrameSplitter()
        self._recent = b""

    def hear(self, data: bytes, monotonic_ns: int) -> None:
        """Take bytes that came; the listener of :meth:`SerialLink.tap`."""
        self.bytes_heard += len(data)
        self._recent = (self._recent + data)[-256:]
        self.broadcast = self.broadcast or HEADER.search(self._recent) is not None
        for piece in self._splitter.feed(data):
            try:
                self.frame = parse_frame(piece, received_at=datetime.now(UTC), monotonic_ns=monotonic_ns)
            except ServomexParseError:
                continue  # damage, or another protocol's bytes: nothing that speaks for a broadcast

    def listen(self, link: SerialLink, until: float) -> None:
        """Read until a broadcast has come undamaged, or until this time on ``time.monotonic()``."""
        while self.frame is None and time.monotonic() < until:
            link.read(until)

    def verdict(self, echo: bool | None) -> str:
        """Say what was heard, and what to check, when no analyser was found.

        Args:
            echo: Whether the adapter sends back what is written.
        """
        if self.broadcast:
            return "A broadcast was heard, but no frame came undamaged: check the cable and the serial settings"
        if echo:
            return "Only the adapter's echo came back: check the wiring, and that the analyser is on"
        if self.bytes_heard:
            came = f"{self.bytes_heard} bytes came that fit no mode"
            return f"{came}: check the baud rate and the other serial settings"
        return "Not one byte came: check that the analyser is on, the wiring, the address and the serial settings"


def detect(link: SerialLink, address: int, *, listen: float) -> Detection:
    """Find the communication mode of the analyser on a line.

    Modbus RTU and ASCII are probed in turn with a read of two discrete inputs, while every byte that comes is
    searched for a broadcast. Nothing is ever written to the analyser, and no loopback counts as presence, since
    an echoing adapter answers one as well.

    Args:
        link: An open port.
        address: The Modbus slave address to ask.
        listen: Seconds until giving up; a broadcast may come as rarely as every 9999 s.

    Raises:
        ServomexTimeoutError: Nothing was found.
        ServomexConnectionError: The port is closed or lost.
    """
    deadline = time.monotonic() + listen
    ear = Ear()
    with link.conversation(deadline):
        link.discard_input()
        with link.tap(ear.hear):
            found = _search(link, address, ear, deadline)
    if found is None:
        raise _nothing_found(link, address, ear, listen)
    return found


def _search(link: SerialLink, address: int, ear: Ear, deadline: float) -> Detection | None:
    """Probe and listen in turn until something is found or the deadline passes."""
    probes = [(framing, Exchange(link, address, framing, retries=0)) for framing in FRAMINGS]
    pause_s, longest_pause_s = PAUSES_S
    wait_s, longest_wait_s = WAITS_S
    while time.monotonic() < deadline:
        for framing, exchange in probes:
            link.settle(link.gap_s, deadline)  # what is under way may be a broadcast: nothing is to be probed then
            if not ear.broadcast and _answers(exchange, wait_s, deadline):
                return Detection(framing)
        ear.listen(link, deadline if ear.broadcast else min(deadline, time.monotonic() + pause_s))
        if ear.frame is not None:
            return Detection(ProtocolKind.CONTINUOUS_ASCII, ear.frame)
        pause_s, wait_s = min(longest_pause_s, 2 * pause_s), min(longest_wait_s, 2 * wait_s)
    return None


def _answers(exchange: Exchange, wait_s: float, deadline: float) -> bool:
    exchange.slowest_s = wait_s / PATIENCE
    try:
        exchange.ask(PROBE, min(deadline, time.monotonic() + PROBE_WAITS * wait_s))
    except ServomexModbusError:
        return True  # it refused, in this framing
    except (ServomexTimeoutError, ServomexFrameError):
        return False
    return True


def _nothing_found(link: SerialLink, address: int, ear: Ear, elapsed_s: float) -> ServomexTimeoutError:
    return ServomexTimeoutError(
        f"no analyser found in {elapsed_s:.1f} s: nothing answered Modbus RTU or ASCII at address {address}, and "
        f"no broadcast came (its frame frequency may be longer, or 0). {ear.verdict(link.echo)}",
        ErrorContext(port=link.port),
    )
