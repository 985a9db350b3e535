"""A line on which a second master asks as well, in a time that only reading moves on.

Replies reach both masters, as on RS485 with four wires or behind a serial server; requests of the other are heard
or not. The values tell channel and moment, the states change every 1.3 s: whatever is read can be judged.
"""

import collections
import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from unittest import mock

import attrs

from servomex import ChannelId, ChannelStatus, ProtocolKind, SerialLink, SerialSettings, ServomexError
from servomex.modbus import exchange
from servomex.modbus.client import ModbusClient
from servomex.models.analyser import AnalyserStatus
from servomex.models.reading import Reading
from servomex.simulator import VirtualAnalyzer, VirtualChannel
from servomex.simulator.channels import Signal
from servomex.simulator.slave import ModbusSlave
from tests.fuzz.virtual_time import Clock, take
from tests.helpers.line_clock import line_clock
from tests.helpers.modbus_bytes import ascii_, rtu

CHAR_S = 10 / 19200
PIECE = 8
"""So many bytes come at once, as through a USB adapter."""
NAMES = ("I1", "I2", "D1")
STEP_S = 0.02
STATE_S = 1.3
NEVER = float("inf")


def request(function: int, address: int, count: int) -> str:
    return f"01 {function:02X} {address:04X} {count:04X}"


EVERYTHING = (request(4, 0, 70), request(2, 0, 80), request(2, 1000, 16))
MIXES = {
    "one channel each": (request(4, 0, 7), request(4, 7, 7), request(4, 56, 7)),
    "always the same channel": (request(4, 7, 7),),
    "one state each": (request(2, 0, 8), request(2, 8, 8), request(2, 16, 8)),
    "two states at once": (request(2, 16, 16),),
    "the same driver": EVERYTHING,
    "coils": (request(1, 0, 8), request(1, 0, 9)),
    "everything": (*EVERYTHING, request(4, 7, 7), request(2, 8, 8), request(2, 16, 16), request(4, 200, 7)),
}


@attrs.frozen(kw_only=True)
class Manners:
    """How the second master asks, and what the device makes of it.

    Attributes:
        mix: What it asks for, one of them at random.
        every_s: How often, 20 % more or less; ``NEVER`` for a private line.
        deaf: The device ignores what comes while it answers; otherwise it answers one after the other.
        heard: Whether its requests are heard.
        double: Chance that a reply comes again, up to 3 s later.
        swallow: Chance that a reply is lost.
    """

    mix: Sequence[str] = ()
    every_s: float = NEVER
    deaf: bool = False
    heard: bool = False
    double: float = 0.0
    swallow: float = 0.0


class SharedLine:
    """A port of that line, for a :class:`SerialLink`.

    Attributes:
        steady: The states never change.
        requests: How many were written to it.
    """

    def __init__(self, manners: Manners, mode: str, seed: int) -> None:
        self.port = "shared"
        self.timeout: float | None = 0.05
        self.clock = Clock()
        self.random = random.Random(seed)
        self.steady = False
        self.requests = 0
        self._manners = manners
        self._begun = self.clock.now
        self._frame = ascii_ if mode == "modbus_ascii" else rtu
        self._sampled_at = self.clock.now
        channels = [VirtualChannel(ChannelId(name), f"gas {name}", "%", self._signal(name)) for name in NAMES]
        self._analyser = VirtualAnalyzer(channels, mode=mode, clock=self.clock.monotonic)
        self._slave = ModbusSlave(self._analyser)
        self._coming: list[tuple[float, bytes]] = []
        self._busy_until = 0.0
        self._next = self.clock.now + self.random.random() * manners.every_s if manners.every_s < NEVER else NEVER

    def _signal(self, name: str) -> Signal:
        return lambda _seconds: (1 + NAMES.index(name)) * 100_000.0 + self.step(self._sampled_at)

    def step(self, moment: float) -> int:
        return int((moment - self._begun) / STEP_S) % 100_000

    def states(self, moment: float) -> dict[str, tuple[bool, bool]]:
        """Alarm 1 and maintenance of each channel, fault and maintenance of the analyser, at a moment."""
        drawn = random.Random(0 if self.steady else int((moment - self._begun) / STATE_S))
        return {name: (drawn.random() < 0.3, drawn.random() < 0.3) for name in (*NAMES, "analyser")}

    def write(self, data: bytes) -> int:
        self.requests += 1
        self._let_others_ask(self.clock.now)
        self._serve(bytes(data), self.clock.now + len(data) * CHAR_S)
        return len(data)

    def _serve(self, asked: bytes, sent_at: float) -> None:
        if sent_at < self._busy_until and self._manners.deaf:
            return
        reply_at = max(sent_at, self._busy_until) + self.random.uniform(0.02, 0.04)
        self._sampled_at = reply_at - 0.002
        states = self.states(self._sampled_at)
        for name in NAMES:
            alarm, maintenance = states[name]
            self._analyser[name].status = ChannelStatus(
                maintenance=maintenance, alarms=(alarm, False, False, False)
            )
        self._analyser.fault, self._analyser.maintenance = states["analyser"]
        reply = self._slave.answer(asked)[1]
        self._busy_until = reply_at + len(reply) * CHAR_S
        if self.random.random() >= self._manners.swallow:
            self._send(reply_at, reply)
        if self.random.random() < self._manners.double:
            self._send(reply_at + self.random.uniform(0.05, 3.0), reply)

    def _send(self, moment: float, data: bytes) -> None:
        ends = range(PIECE, len(data) + PIECE, PIECE)
        pieces = ((moment + min(end, len(data)) * CHAR_S, data[end - PIECE : end]) for end in ends)
        self._coming = sorted([*self._coming, *pieces], key=lambda piece: piece[0])

    def _let_others_ask(self, until: float) -> None:
        while self._next <= until:
            asked = self._frame(self.random.choice(self._manners.mix))
            if self._manners.heard:
                self._send(self._next, asked)
            self._serve(asked, self._next + len(asked) * CHAR_S)
            self._next += self._manners.every_s * self.random.uniform(0.8, 1.2)

    @property
    def in_waiting(self) -> int:
        self._let_others_ask(self.clock.now)
        now = self.clock.now
        return sum(len(piece) for due, piece in itertools.takewhile(lambda item: item[0] <= now, self._coming))

    def read(self, size: int = 1) -> bytes:
        latest = self.clock.now + (self.timeout or 0.0)
        while not self.in_waiting and self.clock.now < latest:
            due = self._coming[0][0] if self._coming else latest
            self.clock.now = min(latest, due, max(self._next, self.clock.now))
        return take(self._coming, self.clock.now, size)

    def reset_input_buffer(self) -> None:
        self._coming.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Stand in for the wait of a link's signal."""
        self.clock.now += timeout or 0.0
        return False


@contextlib.contextmanager
def client_on(
    line: SharedLine, mode: str, *, shared_line: bool | None = None, channels: frozenset[ChannelId] | None = None
) -> Iterator[ModbusClient]:
    """A client on the line, for which waiting takes no time."""
    with contextlib.ExitStack() as undo:
        undo.enter_context(line_clock(line.clock))
        undo.enter_context(mock.patch.object(exchange, "random", line.random))  # the same dice each time
        made = SerialLink(line, SerialSettings(), gap=0.05, shared_line=shared_line)
        made.open()
        undo.callback(made.close)
        undo.enter_context(mock.patch.object(made._closed, "wait", line.wait))
        yield ModbusClient(made, 1, ProtocolKind(mode), channels=channels)


@attrs.define
class Outcome:
    """What became of many calls.

    Attributes:
        values: How many values were judged.
        states: How many states were judged.
        errors: The messages of calls that failed, and how often.
        wrong: What was wrong.
    """

    values: int = 0
    states: int = 0
    errors: "collections.Counter[str]" = attrs.field(factory=collections.Counter)
    wrong: list[str] = attrs.field(factory=list)


class Judge:
    """Makes calls of a client at random, and holds what they return against what was true meanwhile."""

    def __init__(self, line: SharedLine, client: ModbusClient) -> None:
        self.outcome = Outcome()
        self._line = line
        self._client = client

    def call(self, what: str, timeout: float = 3.0) -> None:
        """Make one call."""
        begun = self._line.clock.now
        deadline = begun + timeout
        name = self._line.random.choice(NAMES)
        try:
            if what == "read_frame":
                frame = self._client.read_frame(deadline)
                self._judge_analyser(begun, frame.analyser)
                self._judge(begun, [*frame])
                self._need([*map(str, frame.channels)] == [*NAMES, "E1", "E2"], f"channels {frame.channels}")
            elif what == "read_channel":
                self._judge(begun, [self._client.read_channel(ChannelId(name), deadline)])
            elif what == "read_status":
                self._judge_state(begun, name, self._client.read_status(ChannelId(name), deadline))
            else:
                self._judge_analyser(begun, self._client.read_analyser(deadline))
        except ServomexError as error:
            self.outcome.errors[error.message] += 1
        self._need(self._line.clock.now < deadline + 0.1, f"{what} ended {self._line.clock.now - deadline} s late")

    def _judge(self, begun: float, readings: Sequence[Reading]) -> None:
        for reading in readings:
            name = str(reading.channel)
            if name not in NAMES or reading.value is None:
                self._need(name not in NAMES, f"{name} has no value")
                continue
            steps = [self._line.step(moment) for moment in (begun, self._line.clock.now)]
            step = reading.value - (1 + NAMES.index(name)) * 100_000
            self.outcome.values += 1
            self._need(steps[0] - 1 <= step <= steps[1], f"{name} reads {reading.value}, not {steps}")
            self._judge_state(begun, name, reading.status)

    def _judge_state(self, begun: float, name: str, status: ChannelStatus) -> None:
        self._judge_pair(begun, name, (status.alarms[0], status.maintenance))

    def _judge_analyser(self, begun: float, status: AnalyserStatus) -> None:
        self._judge_pair(begun, "analyser", (status.fault, status.maintenance))
        self._need(status.cal_text == "S1S1S1S1", f"groups {status.cal_text}")

    def _judge_pair(self, begun: float, name: str, pair: tuple[bool, bool]) -> None:
        took = self._line.clock.now - begun
        moments = [begun + took * part / 50 for part in range(51)]
        self.outcome.states += 1
        self._need(
            any(self._line.states(moment)[name] == pair for moment in moments),
            f"state of {name}: {pair} at {begun}",
        )

    def _need(self, good: bool, what: str) -> None:
        if not good:
            self.outcome.wrong.append(what)


CALLS = ("read_frame", "read_channel", "read_status", "read_analyser")


def outcome_of(
    manners: Manners, mode: str, seed: int, calls: int = 60, *, shared_line: bool | None = None
) -> Outcome:
    """Make calls at random times on a line with a second master."""
    line = SharedLine(manners, mode, seed)
    with client_on(line, mode, shared_line=shared_line) as client:
        judge = Judge(line, client)
        for _ in range(calls):
            line.clock.now += line.random.uniform(0.0, 0.5)
            judge.call(line.random.choice(CALLS))
    return judge.outcome
