"""AUTO: finding the communication mode of an analyser, by reads only."""

import contextlib
from datetime import UTC, datetime

import attrs

from servomex.durations import counted
from servomex.enums import ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexError,
    ServomexFrameError,
    ServomexGatewayError,
    ServomexNotFoundError,
    ServomexParseError,
    ServomexTimeoutError,
)
from servomex.modbus.exchange import Exchange
from servomex.modbus.line import ModbusLine
from servomex.modbus.presence import await_answer
from servomex.models.frame import Frame
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.settings import rtu_hindrance
from servomex.telegram import HEADER, FrameSplitter, parse_frame
from servomex.traffic.symptoms import (
    MODBUS_TCP,
    PART_ONLY,
    Symptom,
    is_modbus_tcp,
    is_part_of_broadcast,
    modbus_tcp_probe,
    symptom_of,
)

WAITS_S = (0.3, 2.4)
"""How long a probe's reply may take to begin: in the first round, and the limit; it doubles each round."""
PROBE_WAITS = 5
"""A probe may take this many waits: three replies, and the silence between."""
PAUSES_S = (0.2, 2.0)
"""Shortest and longest pause between rounds of probes: on RS485 a probe could hit a broadcast."""

MODBUS_TCP_S = 0.5
"""How long a server may take to answer the question whether it speaks Modbus TCP."""

FRAMINGS = (ProtocolKind.MODBUS_RTU, ProtocolKind.MODBUS_ASCII)


@attrs.frozen
class Detection:
    """What was found: the mode, and in continuous mode the frame that showed it."""

    protocol: ProtocolKind
    frame: Frame | None = None


class BroadcastListener:
    """Listens for a broadcast in everything that arrives, also while Modbus is probed.

    Attributes:
        frame: The last undamaged broadcast.
        broadcast: Whether anything arrived that looks like one.
        bytes_heard: How many bytes arrived.
        gateway: The answer of a gateway in place of an analyser; ``None`` when there was none.
    """

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.broadcast: bool = False
        self.bytes_heard: int = 0
        self.gateway: Symptom | None = None
        self._splitter = FrameSplitter()
        self._pieces = self._damaged = 0
        self._joined_within = False
        self._recent = b""

    def feed(self, data: bytes, monotonic_ns: int) -> None:
        """Accept received bytes; the listener of :meth:`SerialLink.tap`."""
        self.bytes_heard += len(data)
        self._recent = (self._recent + data)[-256:]
        self.broadcast = self.broadcast or HEADER.search(self._recent) is not None
        for piece in self._splitter.feed(data):
            try:
                self.frame = parse_frame(piece, received_at=datetime.now(UTC), monotonic_ns=monotonic_ns)
            except ServomexParseError:  # damage, another protocol's bytes, or the end of a broadcast joined late
                within = not self._pieces and is_part_of_broadcast(piece)
                self._joined_within = self._joined_within or within
                self._damaged += not within
            self._pieces += 1

    def listen(self, link: SerialLink, until: float) -> None:
        """Read until an undamaged broadcast arrives, or until this time on ``time.monotonic()``."""
        while self.frame is None and time.monotonic() < until:
            link.read(until)

    @property
    def symptom(self) -> Symptom | None:
        """Wrong settings or a wrong server that the last bytes show; ``None`` when they show none."""
        return symptom_of(self._recent)

    def verdict(self, echo: bool | None) -> Symptom:
        """Return what was heard, and what to check, when no analyser was found.

        Args:
            echo: Whether the adapter sends back what is written.
        """
        if self.is_cut_off:
            longer = Argument("listen")
            return Symptom(PART_ONLY, f"Use a longer {longer}; if that does not help, check the cable")
        if self.broadcast:
            seen = "a broadcast was heard, but no undamaged frame arrived"
            return Symptom(seen, "Check the cable and the serial settings")
        if known := self.symptom or self.gateway:
            return known
        if echo:
            seen = "only the adapter's echo came back"
            return Symptom(seen, "Check the wiring, and that the analyser is on")
        if self.bytes_heard:
            seen = f"{counted(self.bytes_heard, 'byte')} arrived that fit no mode"
            return Symptom(seen, "Check the baud rate and the other serial settings")
        longer = Argument("listen")
        return Symptom(
            "nothing was received",
            "Check that the analyser is on, the wiring, the address, the baud rate and the other serial settings; "
            f"if it broadcasts, use a longer {longer}",
        )

    @property
    def is_cut_off(self) -> bool:
        """Whether part of a broadcast was heard, and nothing damaged."""
        return not self._damaged and (self._joined_within or is_part_of_broadcast(self._splitter.held))


def detect(link: SerialLink, address: int, *, listen: float) -> Detection:
    """Find the communication mode of the analyser on a line.

    Modbus RTU and ASCII are probed in turn with a read of two discrete inputs, while all incoming bytes are
    searched for a broadcast. Nothing is ever written to the analyser, and no loopback counts as presence, since
    an echoing adapter answers one as well.

    Args:
        link: An open port.
        address: The Modbus slave address to ask.
        listen: Seconds until giving up; the interval of broadcasts may be as long as 9999 s.

    Raises:
        ServomexNotFoundError: Nothing was found.
        ServomexConnectionError: The port is closed or lost.
    """
    deadline = time.monotonic() + listen
    search = Search(link, address)
    with link.conversation(deadline):
        link.read_waiting()  # and dropped: it is of unknown age
        found = _until(search, deadline)
    if found is None:
        raise search.nothing_found(listen)
    return found


class Search:
    """Probes an address and listens, in turn.

    Args:
        link: The port.
        address: The Modbus slave address to ask.

    Attributes:
        link: The port.
        address: The address.
        listener: What was heard so far. It may be replaced between two rounds, to start over.
    """

    def __init__(self, link: SerialLink, address: int) -> None:
        self.link = link
        self.address = address
        self.listener: BroadcastListener = BroadcastListener()
        self._untried = rtu_hindrance(link.settings)
        framings = FRAMINGS if self._untried is None else (ProtocolKind.MODBUS_ASCII,)
        self._probes = [(framing, Exchange(link, address, framing, retries=0)) for framing in framings]
        self._speaks_tcp: bool | None = None

    def look(self, wait_s: float, pause_s: float, deadline: float) -> Detection | None:
        """Probe each framing once, and listen; once part of a broadcast was heard, only listen.

        Args:
            wait_s: How long a reply may take to begin, unless late ones have shown that it takes longer.
            pause_s: How long to listen after the probes.
            deadline: When to give up, on ``time.monotonic()``.

        Raises:
            ServomexConnectionError: The port is closed or lost.
        """
        link, listener = self.link, self.listener
        with link.tap(listener.feed):
            for framing, exchange in self._probes:
                link.settle(link.gap_s, deadline)  # it may be a broadcast under way, which must not be disturbed
                if not listener.broadcast and _answers(
                    exchange, listener, exchange.pace.patient_s(wait_s), deadline
                ):
                    return Detection(framing)
            listener.listen(link, deadline if listener.broadcast else min(deadline, time.monotonic() + pause_s))
        return None if listener.frame is None else Detection(ProtocolKind.CONTINUOUS_ASCII, listener.frame)

    def nothing_found(self, elapsed_s: float) -> ServomexNotFoundError:
        """Return the error with what was heard. Ask a network server once whether it speaks Modbus TCP."""
        listener, verdict = self.listener, self.listener.verdict(self.link.state(ModbusLine).echo)
        if not listener.broadcast and not listener.gateway:
            if self._speaks_tcp is None:
                self._speaks_tcp = answers_modbus_tcp(self.link, self.address)
            verdict = MODBUS_TCP if self._speaks_tcp else verdict
        asked = (
            "RTU or ASCII" if self._untried is None else f"ASCII (RTU needs {self._untried}, and was not tried)"
        )
        return ServomexNotFoundError(
            f"no analyser found in {elapsed_s:.1f} s: nothing answered Modbus {asked} at address "
            f"{self.address}, and no broadcast arrived (its frame frequency may be longer, or 0); {verdict.seen}",
            ErrorContext(port=self.link.port),
            cure=verdict.cure,
            argument=Argument("listen") if listener.is_cut_off else None,
        )


def _until(search: Search, deadline: float) -> Detection | None:
    """Probe and listen in turn, each time longer, until something is found or the deadline passes."""
    pause_s, longest_pause_s = PAUSES_S
    wait_s, longest_wait_s = WAITS_S
    while time.monotonic() < deadline:
        found = search.look(wait_s, pause_s, deadline)
        if found is not None:
            return found
        pause_s, wait_s = min(longest_pause_s, 2 * pause_s), min(longest_wait_s, 2 * wait_s)
    return None


def _answers(exchange: Exchange, listener: BroadcastListener, wait_s: float, deadline: float) -> bool:
    try:
        await_answer(exchange, min(deadline, time.monotonic() + PROBE_WAITS * wait_s), wait_s)
    except ServomexGatewayError as error:
        listener.gateway = Symptom(error.message, error.cure)
        return False
    except (ServomexTimeoutError, ServomexFrameError):
        return False
    return True


def answers_modbus_tcp(link: SerialLink, address: int) -> bool:
    """Return whether the far end of a socket answers a Modbus TCP read, sent on a separate connection.

    What was sent on the link before may have left a server in the middle of a message.
    """
    if not link.port.lower().startswith("socket://"):
        return False
    came = b""
    with contextlib.suppress(ServomexError), SerialLink(link.port, link.settings, auto_reconnect=False) as other:
        until = time.monotonic() + MODBUS_TCP_S
        with other.conversation(until):
            other.write(modbus_tcp_probe(address))
            while not is_modbus_tcp(came) and time.monotonic() < until:
                came += other.read(until)
    return is_modbus_tcp(came)
