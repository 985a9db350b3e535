"""What is fuzzed of the Modbus modes: the answer to one request, and what is read of a whole analyser."""

import itertools
from collections.abc import Callable, Iterator

import attrs

from servomex import ServomexError, ServomexModbusError, registers
from servomex.enums import ChannelId, ProtocolKind
from servomex.modbus import framing as link_client
from servomex.modbus.client import ModbusClient
from servomex.modbus.exchange import Exchange
from servomex.modbus.line import ModbusLine
from servomex.modbus.query import LOOPBACK, READ_COILS, READ_INPUTS, READ_REGISTERS, Query
from servomex.modbus.replies import Reply
from servomex.registers import Span
from servomex.simulator import VirtualAnalyzer, VirtualChannel
from servomex.simulator.slave import ModbusSlave
from tests.fuzz import oracle
from tests.fuzz.virtual_time import timeless_link
from tests.fuzz.wrong import need

QUERIES = (
    Query(READ_REGISTERS, Span(0, 7)), Query(READ_REGISTERS, registers.ALL_REGISTERS),
    Query(READ_INPUTS, Span(8, 8)), Query(READ_INPUTS, registers.ALL_STATES),
    Query(READ_INPUTS, registers.ALL_ANALYSER), Query(READ_COILS, Span(0, 4)),
    Query(LOOPBACK, payload=b"\x12\x34"),
)  # fmt: skip
SEPARATOR = b"\xf5\x5f"


def unframed(sent: bytes, ascii_framing: bool) -> bytes:
    """The request that was written, from its address on, without its check."""
    return bytes.fromhex(sent[1:-4].decode()) if ascii_framing else sent[:-2]


class FuzzedEnd:
    """A far end that says what the input says: a new piece for each request, some of them in several chunks.

    Loopbacks that are no part of the input are answered as an analyser does, so that the rest is reached.
    """

    def __init__(self, script: bytes, ascii_framing: bool, honest_fence: bool) -> None:
        self._pieces = iter(script.split(SEPARATOR))
        self._ascii = ascii_framing
        self._honest = honest_fence
        self.requests: list[bytes] = []

    def __call__(self, sent: bytes) -> list[tuple[float, bytes]]:
        request = unframed(sent, self._ascii)
        self.requests.append(request)
        if self._honest and request[1] == LOOPBACK and request[4:] != b"\x12\x34":
            return [(0.02, sent)]
        piece = next(self._pieces, b"")
        if not piece:
            return []
        delay, size = piece[0] / 200, 1 + piece[0] % 97
        chunks = [piece[place : place + size] for place in range(1, len(piece), size)]
        return [(delay + 0.003 * number, chunk) for number, chunk in enumerate(chunks)]


def run_exchange(data: bytes) -> bool:
    """Ask once, whatever comes: what is believed stands in what came, as a whole message with its check."""
    if len(data) < 2:
        return False
    ascii_framing, proven = bool(data[0] & 1), bool(data[0] & 2)
    query = QUERIES[(data[0] >> 3) % len(QUERIES)]
    end = FuzzedEnd(data[2:], ascii_framing, honest_fence=bool(data[0] & 4))
    with timeless_link(end) as (link, port):
        if proven:
            link.state(ModbusLine).proven.add(1)
            link.state(ModbusLine).echo = False if data[1] & 1 else None
        kind = ProtocolKind.MODBUS_ASCII if ascii_framing else ProtocolKind.MODBUS_RTU
        talk = Exchange(link, 1, kind, data[1] >> 1 & 3)
        deadline = port.clock.monotonic() + 3.0
        with link.conversation(deadline):
            try:
                reply = talk.ask(query, deadline)
            except ServomexModbusError:
                asked = end.requests[-1] if end.requests else b"\1\0"
                need(bool(oracle.refusals(port.came, asked, ascii_framing)), "an exception was made up")
                return True
            except ServomexError:
                return False
            finally:
                need(len(talk._client.received) <= link_client.MAX_RECEIVED + 4096, "the buffer grows")
    found = oracle.answers(port.came, end.requests[-1], ascii_framing)
    need(bool(found), "a reply was believed that never came", reply.raw)
    need(any(_carries(reply, query, item) for item in found), "a reply was misread", reply, found)
    return True


def _carries(reply: Reply, query: Query, data: bytes) -> bool:
    if query.function == READ_REGISTERS:
        words = [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]
        return list(reply.words) == words
    if query.function == LOOPBACK:
        return reply.payload == data
    bits = [bool(byte >> place & 1) for byte in data for place in range(8)]
    return list(reply.bits) == bits[: query.span.count]


class CountingEnd:
    """An analyser whose values count its requests, and damage to its replies as the input says.

    Each reply takes two bytes of the input: what is done to it, and where. ``valid`` collects the data of damaged
    replies that a checksum does not show: what is read from one of those is the format's limit.
    """

    def __init__(self, script: bytes, ascii_framing: bool) -> None:
        self.count = 0
        self.came_by: list[bytes] = []
        self.limit_passed = False
        channels = [
            VirtualChannel(ChannelId(name), f"gas {place}", "%", self._signal(place))
            for place, name in enumerate(("I1", "I2", "D1"), 1)
        ]
        mode = ProtocolKind.MODBUS_ASCII if ascii_framing else ProtocolKind.MODBUS_RTU
        self.analyser = VirtualAnalyzer(channels, mode=mode)
        self._slave = ModbusSlave(self.analyser)
        self._script = iter(zip(script[::2], script[1::2], strict=False))
        self._ascii = ascii_framing
        self._earlier: list[bytes] = []

    def _signal(self, place: int) -> Callable[[float], float]:
        return lambda _seconds: float(place * 100_000 + self.count)

    def __call__(self, sent: bytes) -> list[tuple[float, bytes]]:
        self.count += 1
        for channel in self.analyser.channels.values():
            odd = bool(self.count & 1)
            channel.status = attrs.evolve(channel.status, alarms=(odd, not odd, odd, False))
        reply = self._slave.answer(sent)[1]
        act, place = next(self._script, (0, 0))
        pieces = list(self._damaged(reply, act, place))
        request = unframed(sent, self._ascii)
        stream = b"".join(piece for _, piece in pieces)
        true = oracle.answers(reply, request, self._ascii)
        if any(item not in true for item in oracle.answers(stream, request, self._ascii)):
            self.limit_passed |= act % 12 != 9  # an earlier reply is no damage
        self._earlier = [*self._earlier[-5:], reply]
        return pieces

    def _damaged(self, reply: bytes, act: int, place: int) -> Iterator[tuple[float, bytes]]:
        at = place % max(1, len(reply))
        changed = bytearray(reply)
        if act % 12 == 1:
            changed[at] ^= 1 << (act // 12) % 8
        elif act % 12 == 2:
            del changed[at : at + 1 + act // 60]
        elif act % 12 == 3:
            changed[at:at] = bytes([act, place, at][: 1 + act // 90])
        elif act % 12 == 4:
            return
        elif act % 12 == 5:
            yield 0.01, bytes([act, place]) * (1 + place % 5)
        elif act % 12 == 6:
            yield 0.01, reply
        elif act % 12 == 7:
            yield 0.01, self._slave.foreign(reply, 2 + place % 200) if reply else b""
        elif act % 12 == 8:
            yield 0.01, reply[:at]
            yield 0.01 + place / 500, reply[at:]
            return
        elif act % 12 == 9 and self._earlier:
            yield 0.02 + place / 250, self._earlier[place % len(self._earlier)]
            return
        elif act % 12 == 10:
            changed[at] ^= 0xFF
            changed[at // 2] ^= act
        yield (0.02 if act % 12 != 11 else 0.02 + place / 60), bytes(changed)


def run_sweep(data: bytes) -> bool:
    """Read from an analyser whose replies are damaged, lost, late, doubled or another's.

    A reply that is repeated as it was, instead of the true one, cannot be told from it when it answers the same
    request; a frame from such a one is looked at for its shape only.
    """
    if len(data) < 3:
        return False
    ascii_framing = bool(data[0] & 1)
    end = CountingEnd(data[2:], ascii_framing)
    replayed = any(act % 12 == 9 for act in data[2::2])
    with timeless_link(end) as (link, port):
        client = ModbusClient(link, 1, end.analyser.mode, retries=data[1] & 3)
        if data[0] & 2:
            link.state(ModbusLine).proven.add(1)
        turns = range(1 + (data[1] >> 2 & 3))
        single = [("I1", "I2")[turn & 1] if data[0] & 4 or turn & 1 else "" for turn in turns]
        return (
            sum(_read_once(client, end, channel, port.clock.now + 2.0, ignore=replayed) for channel in single) > 0
        )


def _read_once(client: ModbusClient, end: CountingEnd, channel: str, deadline: float, *, ignore: bool) -> bool:
    """Read one channel, or all when none is named."""
    first = end.count + 1
    try:
        one = [client.read_channel(ChannelId(channel), deadline)] if channel else []
        readings = one or [*client.read_frame(deadline)]
    except ServomexError:
        return False
    if ignore or end.limit_passed:
        return False
    for reading in readings:
        if str(reading.channel) in ("E1", "E2"):
            continue
        place = ("I1", "I2", "D1").index(reading.channel)
        need(reading.value is not None, "a value was lost", reading)
        count = int(reading.value or 0) - 100_000 * (place + 1)
        need(first <= count <= end.count, "a value of another request or channel", reading, first, end.count)
        need(reading.status.alarms[0] != reading.status.alarms[1], "a state was put together", reading)
    return True


def script_seeds(first: int) -> tuple[bytes, ...]:
    acts = [bytes([first, 8]) + bytes([act + 12 * high, 7 * act]) * 8 for act in range(12) for high in (0, 3)]
    mixed = [bytes([first, 15]) + bytes(itertools.chain(*((act, 31 * act % 256) for act in range(12))))]
    late = [bytes([first, 12]) + bytes([11, place] * 12) for place in (60, 125, 240)]
    return (*acts, *mixed, *late, bytes([first, 12]) + bytes(40))


def exchange_seeds() -> Iterator[bytes]:
    """True replies to all queries, in both framings, and what may surround them."""
    for ascii_framing in (False, True):
        analyser = VirtualAnalyzer(mode="modbus_ascii" if ascii_framing else "modbus_rtu")
        slave, framed = ModbusSlave(analyser), oracle.ascii_frame if ascii_framing else oracle.rtu_frame
        for number, query in enumerate(QUERIES):
            count = query.payload if query.mirrored else query.span.count.to_bytes(2, "big")
            request = bytes([1, query.function]) + query.span.address.to_bytes(2, "big") + count
            reply = slave.answer(framed(request))[1]
            for options in (2 | 4, 4, 0, 2):
                first = bytes([number << 3 | options | ascii_framing, 5])
                yield first + b"\x04" + reply
                yield first + b"\x04" + framed(request) + reply
            yield bytes([number << 3 | 6 | ascii_framing, 7]) + b"\x04" + reply[:-1] + SEPARATOR + b"\x05" + reply
            refusal = bytes([1, query.function | 0x80, 2])
            yield bytes([number << 3 | 6 | ascii_framing, 5]) + b"\x01" + framed(refusal)
