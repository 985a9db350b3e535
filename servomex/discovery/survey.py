"""Survey: which devices are on a line at one baud rate, found by listening and by reads only."""

from collections.abc import Callable, Sequence

import attrs

from servomex.analyzer.analyzer import Analyzer
from servomex.analyzer.detect import BroadcastListener
from servomex.analyzer.modbus_mode import OPENING_S
from servomex.analyzer.opening import open_device
from servomex.continuous.reader import ContinuousReader
from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexError,
    ServomexForeignDeviceError,
    ServomexFrameError,
    ServomexGatewayError,
    ServomexProtocolError,
    ServomexTimeoutError,
)
from servomex.modbus.exchange import Exchange
from servomex.modbus.line import ModbusLine
from servomex.modbus.presence import await_answer
from servomex.modbus.query import PROBE
from servomex.modbus.timing import line_timing
from servomex.models.info import DeviceInfo
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.traffic.symptoms import Symptom, symptom_of

WAIT_S = 0.25
"""How long the answer of an address may take to begin."""
LATE_WAIT_S = 2.0
"""The same if an apparent answer of it arrived too late."""
RESTLESS_S = 0.5
"""A line that takes this much longer to fall silent is not asked."""
LONGEST_ANSWERS = 64
"""More bytes than this are not the answers of two devices and the echo of the question."""
RESTLESS_PLACES = 5
"""After this many places in a row at which only unrequested bytes arrived, no more are asked."""
_KEPT = 4096
_RECENT = 64


@attrs.frozen
class Place:
    """Where an analyser may be: a Modbus address, in one of the framings."""

    address: int
    framing: ProtocolKind

    @property
    def signs(self) -> tuple[bytes, bytes]:
        """The first bytes of its answer, and those of its refusal."""
        answer = bytes((self.address, PROBE.function, PROBE.data_size))
        refusal = bytes((self.address, PROBE.function | 0x80))
        if self.framing is ProtocolKind.MODBUS_RTU:
            return answer, refusal
        return b":" + answer.hex().upper().encode(), b":" + refusal.hex().upper().encode()


@attrs.frozen
class Found:
    """What was found at an address (``None`` for a broadcast): an analyser, or what answers there instead."""

    address: int | None
    info: DeviceInfo | None = None
    error: ServomexError | None = None


class _RestlessError(ServomexTimeoutError):
    """Unrequested bytes arrive, from which an answer cannot be distinguished."""


class Survey:
    """Asks every place on a line, and listens to every byte meanwhile.

    A place is asked by a read of two discrete inputs, which changes nothing, and never by a loopback, which an
    echoing adapter would answer as well. Once a broadcast is heard, nothing more is sent.

    Args:
        link: The port; it must be open.
        places: The places to ask.
        listen: Seconds to listen for a broadcast, from the start and again once one is heard; ``None`` for no
            longer than the questions take.
        step: Called after each place.

    Attributes:
        findings: What was found.
        listener: What was heard.
        echo: Whether the adapter sends back what is written; ``None`` when nothing has shown it.
    """

    def __init__(
        self, link: SerialLink, places: Sequence[Place], listen: float | None, step: Callable[[], None]
    ) -> None:
        self.findings: list[Found] = []
        self.listener: BroadcastListener = BroadcastListener()
        self.echo: bool | None = None
        self._link = link
        self._places = places
        self._listen_s = listen
        self._step = step
        self._quiet_s = link.state(ModbusLine).timing.quiet_s  # a second device would answer in it
        self._heard = bytearray()
        self._recent = b""
        self._silent: dict[Place, None] = {}
        self._late: list[Place] = []
        self._were_late: set[Place] = set()
        self._restless = 0

    @property
    def successful(self) -> bool:
        """Whether an analyser was found."""
        return any(item.info for item in self.findings)

    def run(self) -> None:
        """Ask and listen.

        Raises:
            ServomexConnectionError: The port was lost, or closed by another thread.
        """
        until = time.monotonic() + (self._listen_s or 0.0)
        with self._link.conversation(until + RESTLESS_S), self._link.tap(self._hear):
            for place in self._places:
                self._look_at(place)
                self._step()
            if self._listen_s is not None and not self.successful:
                self._await_broadcast(until, self._listen_s)
            self.echo = self._link.state(ModbusLine).echo

    def _hear(self, data: bytes, monotonic_ns: int) -> None:
        """Note every byte that arrives, and the places whose answer was too late."""
        self.listener.feed(data, monotonic_ns)
        self._heard = (self._heard + data)[-_KEPT:]
        recent, self._recent = self._recent + data, (self._recent + data)[-_RECENT:]
        late = [place for place in self._silent if any(sign in recent for sign in place.signs)]
        self._late += [place for place in late if place not in self._were_late]
        self._were_late.update(late)

    def _await_broadcast(self, until: float, listen_s: float) -> None:
        """Listen until a time; if that leaves enough time, ask again, since a first request may get lost."""
        round_s = sum(self._answer_s(place, WAIT_S) for place in self._silent)
        if time.monotonic() + round_s < until:
            self.listener.listen(self._link, until - round_s)
            for place in list(self._silent):
                self._look_at(place)
        if not self.successful:
            self.listener.listen(self._link, time.monotonic() + listen_s if self.listener.broadcast else until)
        if self.listener.frame is not None:  # whatever looked like an answer was part of a broadcast
            reader = ContinuousReader(self._link, first=self.listener.frame)
            with Analyzer(self._link, reader, owns_link=False) as analyzer:
                self.findings = [Found(None, info=analyzer.identify())]

    def _look_at(self, place: Place) -> None:
        """Find out what is at a place, then at those that have meanwhile answered late."""
        self._meet(place, WAIT_S)
        while self._late:
            self._meet(self._late.pop(), LATE_WAIT_S)

    def _meet(self, place: Place, wait_s: float) -> None:
        answered = any(item.address == place.address for item in self.findings)
        if answered or self.listener.broadcast or self._restless >= RESTLESS_PLACES:
            return
        try:
            self._ask_until_clear(place, wait_s)
        except ServomexTimeoutError as error:
            self._silent[place] = None
            self._restless = self._restless + 1 if isinstance(error, _RestlessError) else 0
        except ServomexGatewayError as error:
            self.listener.gateway = Symptom(error.message, error.cure)
            self._restless = 0
        except ServomexFrameError as error:
            self.findings.append(self._misfit(place, error))
        else:
            self.findings.append(self._identified(place))

    def _ask_until_clear(self, place: Place, wait_s: float) -> None:
        """Ask until an answer is undamaged and arrives only once, waiting longer each time.

        Raises:
            ServomexTimeoutError: No device answers; any bytes that arrive were not requested.
            ServomexFrameError: All answers were damaged or arrived twice.
            ServomexGatewayError: A gateway reports that no device answers.
        """
        for patience_s in (wait_s, 2 * wait_s, 4 * wait_s):
            try:
                return self._ask(place, patience_s)
            except ServomexFrameError as error:
                if (
                    self.listener.broadcast
                    or not self._silence(self._quiet_s)
                    or len(self._heard) > LONGEST_ANSWERS
                ):
                    raise _RestlessError("what arrived was not an answer") from error
                damage = error
        if self._link.read(time.monotonic() + patience_s):
            raise _RestlessError("bytes also arrive when nothing was requested") from damage
        raise damage

    def _ask(self, place: Place, wait_s: float) -> None:
        """Ask once. The answer is only a sign of life, and is accepted without the fence, which is a loopback."""
        if not self._silence(self._link.gap_s):
            raise _RestlessError("the line never fell silent")
        self._heard.clear()
        exchange = Exchange(self._link, place.address, place.framing, retries=0)
        await_answer(exchange, time.monotonic() + self._answer_s(place, wait_s), prove=False)
        self._silence(self._quiet_s)
        if self._heard.count(place.signs[0]) > 1:
            context = ErrorContext(self._link.port, place.framing, place.address)
            raise ServomexFrameError("two replies arrived for one request", context)

    def _silence(self, silence_s: float) -> bool:
        """Wait until the line has been silent for this long; ``False`` when that takes too long."""
        return self._link.settle(silence_s, time.monotonic() + silence_s + RESTLESS_S)[1]

    def _answer_s(self, place: Place, wait_s: float) -> float:
        """Return the longest time from a question to the end of its answer, in seconds."""
        return line_timing(self._link.settings, place.framing, 0.0, wait_s).exchange(PROBE.data_size)

    def _identified(self, place: Place) -> Found:
        """Read the channels at a place; those of another instrument are refused."""
        link = self._link
        try:
            with open_device(link, protocol=place.framing, address=place.address, identify=False) as analyzer:
                return Found(place.address, analyzer.identify(timeout=max(OPENING_S, analyzer.timeout_s)))
        except (ServomexProtocolError, ServomexTimeoutError) as error:
            self._silence(LATE_WAIT_S)  # what it still sends must not be taken for the answers of others
            return self._misfit(place, error)

    def _misfit(self, place: Place, error: ServomexProtocolError | ServomexTimeoutError) -> Found:
        """Return the finding that the device at a place is not an analyser, or not alone there."""
        who = f"a Modbus device answers at address {place.address}"
        symptom = symptom_of(bytes(self._heard))
        cure = error.cure or "Check which instrument this cable leads to"
        if isinstance(error, ServomexForeignDeviceError):
            text = f"{who}, but {error.message}"
        elif isinstance(error, ServomexFrameError) and symptom:
            text, cure = f"only damaged replies arrive from address {place.address}: {symptom.seen}", symptom.cure
        elif isinstance(error, ServomexFrameError):
            text = (
                f"only damaged or doubled replies arrive from address {place.address}: most likely two "
                "devices there have the same address"
            )
            cure = (
                "Switch one of them off, and give each an address of its own on its panel; else check the wiring"
            )
        elif isinstance(error, ServomexGatewayError):
            text = f"{who}, but cannot be identified: {error.message}"
        elif isinstance(error, ServomexTimeoutError):
            text = f"{who}, but cannot be identified: {error.message}"
            cure = "Check the wiring, and its gap with 'servomex diag gap'"
        else:
            text = f"{who}, but not like a SERVOPRO 4000: {error.message}"
        return Found(place.address, error=type(error)(text, error.context, cure=cure))
