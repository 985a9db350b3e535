"""A line on which the driver is not alone: another master, a gateway in between, a network that stands still."""

from random import Random

import attrs

from servomex.enums import ProtocolKind
from servomex.simulator import VirtualAnalyzer
from tests.faults.line import WorstLine, body_of
from tests.faults.lively import LivelyTruth
from tests.faults.truth import Said
from tests.fuzz import oracle

CACHED_S = 2.0
"""How long a gateway that keeps replies answers an equal request with the one that it has."""
CACHED_EQUAL = "values from a gateway's cache that answered an equal request, which no driver can know"
BUSY_CODES = (10, 11)
"""Exception codes of gateways: no path to the device, and no answer from it."""


@attrs.frozen
class Between:
    """What stands between the driver and the analyser. Chances are 0 to 1, for each message; times in seconds.

    Attributes:
        turnaround: What the analyser needs for each request.
        deaf: It does not hear a request that comes while it is busy with one; else it answers all in order.
        again: Chance that a reply comes once more, after ``again_s``.
        again_s: How much later, at least and at most.
        gives_up: Chance that a gateway answers with exception 0A or 0B, and that the reply itself comes late.
        late_s: How late that is, at least and at most; also of replies in front of a gateway with ``loopback``.
        replay: Chance that a gateway answers a request with its last reply to another one.
        cache: Chance that a gateway answers an equal request from its memory.
        loopback: A gateway answers function 08 itself; some replies (by this chance) are late behind it.
    """

    turnaround: float = 0.0
    deaf: bool = False
    again: float = 0.0
    again_s: tuple[float, float] = (0.05, 3.0)
    gives_up: float = 0.0
    late_s: tuple[float, float] = (0.05, 1.5)
    replay: float = 0.0
    cache: float = 0.0
    loopback: float = 0.0

    def __str__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in attrs.fields(Between)}
        usual = attrs.asdict(Between())
        return ", ".join(f"{name} {value}" for name, value in given.items() if value != usual[name]) or "nothing"


class CrowdedLine(WorstLine):
    """A line with whatever is :class:`Between`, and on which others may speak.

    Args:
        analysers: The analysers on it.
        dice: Where chance comes from.
        between: What is between them and the driver.
    """

    def __init__(self, *analysers: LivelyTruth, dice: Random, between: Between, baudrate: int = 19200) -> None:
        super().__init__(*analysers, dice=dice, baudrate=baudrate)
        self.between = between
        self._free_at = 0.0
        self._stalled_until = 0.0
        self._held: list[bytes] = []
        self._last_reply = b""
        self._cached: dict[bytes, tuple[float, bytes, Said]] = {}
        self._asked = b""

    def others_ask(self, request: bytes, *, heard: bool) -> None:
        """Let another master ask; the driver hears the reply, and the request if it is ``heard``."""
        with self.changed:
            now = self.clock()
            self.log.append((now, "other >", request))
            if heard:
                self._send(self._ghost, now, request)
            for analyser in self.analysers:
                self._ask_device(analyser, request, now)
            self.changed.notify_all()

    def stall(self, seconds: float) -> None:
        """Let nothing through, either way, for a while; then all of it comes at once."""
        with self.changed:
            self._stalled_until = self.clock() + seconds
            for burst in self._bursts:
                burst.start = max(burst.start, self._stalled_until)

    def lag(self, analyser: VirtualAnalyzer, seconds: float) -> None:
        """Let its broadcasts come at other moments than those of the others."""
        with self.changed:
            self._broadcast_at[analyser] += seconds

    def write(self, data: bytes) -> None:
        with self.changed:
            if self.clock() < self._stalled_until:
                self._held.append(data)
            else:
                self._let_through()
                super().write(data)

    def take(self, size: int) -> bytes:
        with self.changed:
            self._let_through()
            return super().take(size)

    def waiting(self) -> int:
        with self.changed:
            self._let_through()
            return super().waiting()

    def next_due(self) -> float | None:
        due = super().next_due()
        with self.changed:
            held = max(0.0, self._stalled_until - self.clock()) if self._held else None
        return min((item for item in (due, held) if item is not None), default=None)

    def _let_through(self) -> None:
        while self._held and self.clock() >= self._stalled_until:
            super().write(self._held.pop(0))

    def _send(self, source: VirtualAnalyzer | None, start: float, data: bytes) -> None:
        super()._send(source, max(start, self._stalled_until), data)

    def _ask(self, analyser: VirtualAnalyzer, data: bytes, now: float) -> None:
        """Let the driver's request meet the gateway, if there is one, and then the analyser."""
        body = body_of(data, analyser.mode is ProtocolKind.MODBUS_ASCII)
        if body and self._answer_instead(analyser, body, now):
            return
        self._ask_device(analyser, data, now)

    def _ask_device(self, analyser: VirtualAnalyzer, data: bytes, now: float) -> None:
        if self.between.deaf and now < self._free_at:
            return
        self._asked = body_of(data, analyser.mode is ProtocolKind.MODBUS_ASCII)
        super()._ask(analyser, data, now)

    def _answer_instead(self, analyser: VirtualAnalyzer, body: bytes, now: float) -> bool:
        """Let the gateway answer a request itself; whether it did."""
        between, dice = self.between, self._dice
        if between.loopback and body[1] == 8:
            self._send(self._ghost, now + 0.005, self._framed(analyser, body))
            return True
        kept = self._cached.get(body)
        if kept and now - kept[0] <= CACHED_S and dice.random() < between.cache:
            self._send(self._ghost, now + 0.005, kept[1])
            assert isinstance(analyser, LivelyTruth)
            analyser.replayed.append(attrs.evolve(kept[2], at=now))
            return True
        another = self._last_reply and self._asked != body  # else it is the answer, from the gateway's memory
        if another and body[1] in (1, 2, 4) and dice.random() < between.replay:
            self._send(self._ghost, now + 0.005, self._last_reply)
            return True
        return False

    def _framed(self, analyser: VirtualAnalyzer, body: bytes) -> bytes:
        ascii_framing = analyser.mode is ProtocolKind.MODBUS_ASCII
        return (oracle.ascii_frame if ascii_framing else oracle.rtu_frame)(body)

    def _send_faulty(self, analyser: VirtualAnalyzer, start: float, message: bytes) -> None:
        if analyser.mode is ProtocolKind.CONTINUOUS_ASCII:
            super()._send_faulty(analyser, start, message)
            return
        between, dice = self.between, self._dice
        start = self._free_at = max(start, self._free_at) + between.turnaround
        self._remember(analyser, start, message)
        if dice.random() < between.gives_up:
            asked = self._asked or bytes([analyser.address, 4])
            refusal = bytes([analyser.address, asked[1] | 0x80, dice.choice(BUSY_CODES)])
            self._send(self._ghost, start, self._framed(analyser, refusal))
            start += dice.uniform(*between.late_s)
        elif dice.random() < between.loopback:
            start += dice.uniform(*between.late_s)
        super()._send_faulty(analyser, start, message)
        if dice.random() < between.again:
            self._send(self._ghost, start + dice.uniform(*between.again_s), message)

    def _remember(self, analyser: VirtualAnalyzer, now: float, message: bytes) -> None:
        self._last_reply = message
        assert isinstance(analyser, LivelyTruth)
        if self._asked[1:2] in (b"\2", b"\4") and analyser.said:
            self._cached[self._asked] = (now, message, analyser.said[-1])


def request(kind: str, address: int, mode: str, dice: Random) -> bytes:
    """Build what another master asks.

    Args:
        kind: ``block``, ``all``, ``state``, ``analyser``, ``states``, ``coils``, or ``mixed`` for any of them.
        address: Of the analyser.
        mode: Its framing.
        dice: Chooses which channel.
    """
    chosen = dice.choice(("block", "all", "state", "analyser", "states", "coils")) if kind == "mixed" else kind
    place = dice.randrange(10)
    function, first, count = {
        "block": (4, 7 * place, 7),
        "all": (4, 0, 70),
        "state": (2, 8 * place, 8),
        "analyser": (2, 1000, 16),
        "states": (2, 0, 80),
        "coils": (1, 0, 9),
    }[chosen]
    body = bytes([address, function]) + first.to_bytes(2, "big") + count.to_bytes(2, "big")
    return (oracle.ascii_frame if mode == "modbus_ascii" else oracle.rtu_frame)(body)
