"""A line that does all the harm which a line can do, by chance, and remembers the bytes that passed it."""

import itertools
import time
from collections import deque
from random import Random

import attrs

from servomex.enums import ProtocolKind
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.simulator.slave import ModbusSlave
from tests.faults.truth import Truth
from tests.fuzz import oracle

GHOST_ADDRESS = 200
BYTES_KEPT = 4000
MOST_DRAWS = 50


@attrs.frozen
class Mix:
    """What goes wrong for a while. Chances are 0 to 1, for each message; times are in seconds.

    Attributes:
        late: Every message is late by this much.
        jitter: And by up to this much more, each by another time.
        drop: Chance that a message is lost.
        damage: Chance that bits are flipped, or that bytes are replaced, cut out or put in.
        noise: Chance of random bytes in front of a message.
        duplicate: Chance that a message comes twice.
        foreign: Chance that another address answers the same question, before or after.
        chunked: Messages come in pieces.
        gap: A request that follows sooner than this is not heard.
        silent: Nothing is sent.
    """

    late: float = 0.0
    jitter: float = 0.0
    drop: float = 0.0
    damage: float = 0.0
    noise: float = 0.0
    duplicate: float = 0.0
    foreign: float = 0.0
    chunked: bool = False
    gap: float = 0.0
    silent: bool = False

    def __str__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in attrs.fields(Mix)}
        return ", ".join(f"{name} {value:g}" for name, value in given.items() if value) or "nothing"


CLEAN = Mix()


class WorstLine(VirtualLine):
    """A virtual line with a :class:`Mix` of faults.

    Args:
        analysers: The analysers on it.
        dice: Where chance comes from.

    Attributes:
        mix: What goes wrong now.
        log: The bytes that passed: when, which way (``>`` is to the analysers), which.
        limits: Damaged broadcasts that nobody can tell from good ones, as they must be read.
        unseen: Damaged Modbus replies that were not sent, since no check would have shown the damage.
        messages: How many messages were sent, and how many of them damaged.
    """

    def __init__(self, *analysers: Truth, dice: Random, baudrate: int = 19200, pace: bool = False) -> None:
        super().__init__(*analysers, baudrate=baudrate, pace=pace)
        self.mix = CLEAN
        self.log: deque[tuple[float, str, bytes]] = deque(maxlen=BYTES_KEPT)
        self.limits: list[oracle.Broadcast] = []
        self.unseen = 0
        self.messages = [0, 0]
        self._dice = dice
        self._request = b""
        self._ghost = Truth(0, ["I1", "I2", "D1"], "modbus_rtu", GHOST_ADDRESS, 1.0)
        self._ghost_slave = ModbusSlave(self._ghost)

    def set_mix(self, mix: Mix) -> None:
        """Let other things go wrong from now on."""
        with self.changed:
            self.mix = mix
            for analyser in self.analysers:
                analyser.faults.gap = mix.gap

    def babble(self, data: bytes) -> None:
        """Let bytes arrive that nobody has sent."""
        with self.changed:
            self._send(self._ghost, self.clock(), data)
            self.changed.notify_all()

    def write(self, data: bytes) -> None:
        self.log.append((time.monotonic(), ">", data))
        super().write(data)

    def take(self, size: int) -> bytes:
        data = super().take(size)
        if data:
            self.log.append((time.monotonic(), "<", data))
        return data

    def _ask(self, analyser: VirtualAnalyzer, data: bytes, now: float) -> None:
        ascii_framing = analyser.mode is ProtocolKind.MODBUS_ASCII
        self._request = body_of(data, ascii_framing)
        if analyser is self.analysers[0] and self._dice.random() < self.mix.foreign and self._request:
            self._ghost.mode = analyser.mode
            framed = oracle.ascii_frame if ascii_framing else oracle.rtu_frame
            reply = self._ghost_slave.answer(framed(bytes([GHOST_ADDRESS]) + self._request[1:]))[1]
            self._send(self._ghost, now + self._dice.uniform(0, self.mix.late + self.mix.jitter + 0.03), reply)
        super()._ask(analyser, data, now)

    def _send_faulty(self, analyser: VirtualAnalyzer, start: float, message: bytes) -> None:
        mix, dice = self.mix, self._dice
        if mix.silent or dice.random() < mix.drop:
            return
        start += mix.late + dice.uniform(0, mix.jitter)
        if dice.random() < mix.noise:
            self._send(analyser, start, dice.randbytes(dice.randint(1, 12)))
        self.messages[0] += 1
        if dice.random() < mix.damage:
            self.messages[1] += 1
            message = self._damaged(analyser, message)
        for _ in range(1 + (dice.random() < mix.duplicate)):
            for delay, piece in self._cut(message):
                self._send(analyser, start + delay, piece)
        if isinstance(analyser, Truth) and analyser.mode is ProtocolKind.CONTINUOUS_ASCII and analyser.said:
            analyser.said[-1].arrives = self._busy_until.get(analyser, start)

    def _cut(self, message: bytes) -> list[tuple[float, bytes]]:
        if not self.mix.chunked:
            return [(0.0, message)]
        size = self._dice.randint(5, 60)
        starts = range(0, len(message), size)
        return [(0.012 * number, message[place : place + size]) for number, place in enumerate(starts)]

    def _damaged(self, analyser: VirtualAnalyzer, message: bytes) -> bytes:
        if analyser.mode is ProtocolKind.CONTINUOUS_ASCII:
            damaged = damage(message, self._dice)
            if (seen := oracle.broadcast(damaged)) and seen != oracle.broadcast(message):
                self.limits.append(seen)
            return damaged
        ascii_framing = analyser.mode is ProtocolKind.MODBUS_ASCII
        for _ in range(MOST_DRAWS):
            damaged = damage(message, self._dice)
            if not self._could_be_true(damaged, message, ascii_framing):
                return damaged
            self.unseen += 1
        return message[: len(message) // 2]

    def _could_be_true(self, damaged: bytes, message: bytes, ascii_framing: bool) -> bool:
        """Whether what was damaged is a good answer to the request, and another one."""
        for reader in (oracle.answers, oracle.refusals):
            true = reader(message, self._request, ascii_framing)
            if any(item not in true for item in reader(damaged, self._request, ascii_framing)):
                return True
        return False


def body_of(data: bytes, ascii_framing: bool) -> bytes:
    """A request without its check; empty when it is none of the framing."""
    if not ascii_framing:
        return data[:-2] if len(data) >= 8 and data[:1] != b":" else b""
    try:
        return bytes.fromhex(data[1:-4].decode("ascii")) if data[:1] == b":" else b""
    except ValueError:
        return b""


def damage(message: bytes, dice: Random) -> bytes:
    """Do to a message what lines do."""
    kind = dice.choice(("bits", "bits", "byte", "bytes", "cut", "put in", "torn", "swap"))
    changed = bytearray(message)
    place = dice.randrange(len(message))
    if kind == "bits":
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    elif kind in ("byte", "bytes"):
        for at in range(place, min(len(changed), place + (1 if kind == "byte" else dice.randint(2, 6)))):
            changed[at] = dice.randrange(256)
    elif kind == "cut":
        del changed[max(1, place) : max(1, place) + dice.randint(1, 6)]
    elif kind == "put in":
        changed[place:place] = dice.randbytes(dice.randint(1, 6))
    elif kind == "torn":
        del changed[max(1, place) :]
    else:
        other = min(len(changed) - 1, place + dice.randint(1, 3))
        changed[place], changed[other] = changed[other], changed[place]
    return bytes(changed)


def shown(log: "deque[tuple[float, str, bytes]]", since: float, until: float, most: int = 60) -> list[str]:
    """Write the bytes that passed in this time."""
    passed = [item for item in list(log) if since <= item[0] <= until]
    return [f"{at:.4f} {way} {data.hex(' ')}" for at, way, data in itertools.islice(reversed(passed), most)][::-1]
