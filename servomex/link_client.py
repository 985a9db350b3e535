"""One Modbus request on a link, framed by pymodbus. The only module that imports pymodbus's client."""

import contextlib
import logging
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

import attrs
from pymodbus import ModbusException
from pymodbus.client import ModbusSerialClient
from pymodbus.framer import FramerType
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.diag_message import ReturnQueryDataRequest
from pymodbus.pdu.register_message import ReadInputRegistersRequest

from servomex import registers
from servomex.clock import time
from servomex.enums import ProtocolKind
from servomex.interruption import pass_on_interruption
from servomex.link import SerialLink
from servomex.registers import Span

logging.getLogger("pymodbus").addHandler(logging.NullHandler())  # its errors would reach stderr otherwise

SILENCE_S = 0.1
"""Silence that ends a reply once it has begun."""
MAX_REPLY = 600
"""More bytes than this are no reply; the longest, 70 registers in ASCII, has 291."""

READ_COILS = 1
READ_INPUTS = 2
READ_REGISTERS = 4
WRITE_COIL = 5
LOOPBACK = 8

COIL_VALUES = {False: b"\x00\x00", True: b"\xff\x00"}
"""How function 05 writes a coil."""


class ReplyFault(Exception):  # noqa: N818 (it never leaves the package; errors do)
    """An attempt failed. Not a TimeoutError: pymodbus takes those for its own and swallows them."""


class NoReplyFault(ReplyFault):
    """Not one byte of a reply came."""


class EchoOnlyFault(NoReplyFault):
    """Only the adapter's echo of the request came."""


class LateFault(ReplyFault):
    """Only replies to earlier requests came."""


class DamagedFault(ReplyFault):
    """Bytes came that are no reply to the request."""


class DoubleFault(ReplyFault):
    """Two different replies came to one request."""


class UnquietFault(ReplyFault):
    """The line did not fall silent."""


class TimeUpFault(ReplyFault):
    """The deadline of the call passed before the request could be sent, or in the middle of the reply."""


class CarriedError(BaseException):
    """Carries a TimeoutError that a signal handler raised past pymodbus, which takes those for its own."""

    def __init__(self, error: TimeoutError) -> None:
        super().__init__()
        self.error = error


@contextlib.contextmanager
def _carried() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise CarriedError(error) from error


# What pymodbus lets out when a reply is damaged in a way that its framers do not expect.
CODEC_ERRORS = (ModbusException, ValueError, IndexError, struct.error)


@attrs.frozen
class Query:
    """A request: to read ``span`` (01, 02, 04), to write ``payload`` to its coil (05), to send it around (08)."""

    function: int
    span: Span = registers.NOTHING
    payload: bytes = b""

    @property
    def writes(self) -> bool:
        """Whether it changes something, so that it must not be repeated by itself."""
        return self.function == WRITE_COIL

    @property
    def mirrored(self) -> bool:
        """Whether the reply equals the request, as an adapter's echo does."""
        return self.function in (WRITE_COIL, LOOPBACK)

    @property
    def number(self) -> int | None:
        """The maker's number of the first coil, input or register."""
        first = {
            READ_COILS: registers.COIL_NUMBER,
            WRITE_COIL: registers.COIL_NUMBER,
            READ_INPUTS: registers.INPUT_NUMBER,
            READ_REGISTERS: registers.REGISTER_NUMBER,
        }
        return first[self.function] + self.span.address if self.function in first else None

    @property
    def mirror(self) -> bytes:
        """What the reply carries behind the function code when it is the request's own data; else empty."""
        if self.function == LOOPBACK:
            return b"\0\0" + self.payload
        return self.span.address.to_bytes(2, "big") + self.payload if self.function == WRITE_COIL else b""

    @property
    def data_size(self) -> int:
        """Bytes that the reply carries behind the function code and one more byte."""
        if self.mirrored:
            return len(self.mirror) - 1
        return 2 * self.span.count if self.function == READ_REGISTERS else (self.span.count + 7) // 8

    def request(self, address: int) -> ModbusPDU:
        """Build pymodbus's request."""
        if self.function == LOOPBACK:
            return ReturnQueryDataRequest(message=self.payload, dev_id=address)
        if self.function == WRITE_COIL:
            value = self.payload == COIL_VALUES[True]
            return WriteSingleCoilRequest(address=self.span.address, bits=[value], dev_id=address)
        return _READS[self.function](address=self.span.address, count=self.span.count, dev_id=address)


_READS: dict[int, type[ModbusPDU]] = {
    READ_COILS: ReadCoilsRequest,
    READ_INPUTS: ReadDiscreteInputsRequest,
    READ_REGISTERS: ReadInputRegistersRequest,
}


class LinkClient(ModbusSerialClient):
    """pymodbus's client with a link under it: pymodbus does the framing; sending, receiving and time are ours."""

    def __init__(self, link: SerialLink, address: int, framing: ProtocolKind) -> None:
        self.ascii = framing is ProtocolKind.MODBUS_ASCII
        super().__init__(
            link.port, framer=FramerType.ASCII if self.ascii else FramerType.RTU, retries=0, timeout=3600
        )
        self.sent = b""
        self.sent_ns = 0
        self.first_at = 0.0
        self.received = bytearray()
        self.echo_size: int | None = None
        self.start: int | None = None
        self._link = link
        self._address = address
        self.query = Query(READ_INPUTS)
        self._wait_s = 0.0
        self._deadline = 0.0
        self._limit = 0.0
        self._handed = 0

    def begin(self, query: Query, wait_s: float, deadline: float) -> None:
        """Prepare for one request: how long its reply may take to begin, and the call's deadline."""
        self.query, self._wait_s, self._deadline = query, wait_s, deadline
        self.first_at = 0.0
        self.received.clear()
        self.echo_size = self.start = None
        self._handed = 0

    @_carried()
    def send(self, request: bytes, addr: tuple[Any, ...] | None = None) -> int:  # noqa: ARG002 (pymodbus's)
        """Send a request that pymodbus has framed."""
        self.sent = request
        self._link.write(request, self._deadline)
        self.sent_ns = time.monotonic_ns()
        wait_s = len(request) * self._link.settings.char_time_s + self._wait_s
        self._limit = min(self._deadline, time.monotonic() + wait_s)
        return len(request)

    @_carried()
    def recv(self, size: int | None) -> bytes:  # noqa: ARG002 (pymodbus's)
        """Wait for more of the reply: what came from its start on and was not handed out yet."""
        while True:
            data = self._link.read(self._limit)
            if data:
                self.received += data
            elif not self._decide_no_echo():
                self._give_up()
            if len(self.received) > MAX_REPLY:
                raise DamagedFault(f"more than {MAX_REPLY} bytes came")
            fresh = self._fresh()
            now = time.monotonic()
            if self.start is not None or self._undecided:
                self._limit = min(self._deadline, now + SILENCE_S)
            if now >= (self._deadline if fresh else self._limit):
                self._give_up()
            if fresh:
                return fresh

    def _give_up(self) -> NoReturn:
        """Say what the bytes that came, if any, amount to."""
        if self.echo_size and not self.query.mirrored:
            self._link.echo = True
        if not self.received:
            raise NoReplyFault
        if len(self.received) == self.echo_size:
            raise EchoOnlyFault
        if self._link.echo and not self.echo_size:
            self._link.echo = None
            raise DamagedFault("the adapter's echo is missing")
        if self.start is not None and time.monotonic() >= self._deadline:
            raise TimeUpFault
        raise DamagedFault("bytes came that are no complete reply")

    def _fresh(self) -> bytes:
        if self.echo_size is None:
            self.echo_size = self._measure_echo()
        if self.start is None and self.echo_size is not None:
            self.start = self._find_start(self.echo_size)
            self._handed = self.start or 0
        if self.start is None:
            return b""
        self.first_at = self.first_at or time.monotonic()
        fresh = bytes(self.received[self._handed :])
        self._handed = len(self.received)
        return fresh

    @property
    def _undecided(self) -> bool:
        """Whether bytes came of which it is not known yet if they are an echo."""
        return bool(self.received) and self.echo_size is None and self._link.echo is None

    def _measure_echo(self) -> int | None:
        """Count the bytes up to the end of the adapter's echo; ``None`` while that cannot be told.

        The reply to a read never equals its request, so an echo shows itself there, also behind a glitch. The
        reply to a write or a loopback does equal it: that is taken for an echo only where reads have shown that
        the line has one. On a line of which nothing is known yet, silence decides.
        """
        if self._link.echo is False or (self.query.mirrored and not self._link.echo):
            return 0
        place = self.received.find(self.sent)
        return place + len(self.sent) if place >= 0 else None

    def _decide_no_echo(self) -> bool:
        """Take it, at the end of what came, that there is no echo in it; tell whether that was still open."""
        if not self._undecided:
            return False
        self.echo_size = 0
        return True

    def _find_start(self, begin: int) -> int | None:
        signs = (self.sign(self.query), self.head(self.function | 0x80))
        places = [self.received.find(sign, begin) for sign in signs]
        return min((place for place in places if place >= 0), default=None)

    @property
    def function(self) -> int:
        """The function code of the last request."""
        return self.query.function

    def head(self, function: int) -> bytes:
        """The bytes with which a reply to this function begins."""
        return b":%02X%02X" % (self._address, function) if self.ascii else bytes((self._address, function))

    @property
    def head_size(self) -> int:
        """Bytes of address, function and byte count, with which every reply to a read begins."""
        return 7 if self.ascii else 3

    def sign(self, query: Query) -> bytes:
        """The bytes by which a reply to this query is known; a mirrored one's hold all its data."""
        data = query.mirror
        return self.head(query.function) + (data.hex().upper().encode() if self.ascii else data)

    def is_message(self, data: bytes) -> bool:
        """Whether these bytes are a whole message with a fitting checksum."""
        try:
            used, _, _, body = self.framer.decode(data)
        except CODEC_ERRORS as error:
            pass_on_interruption(error)
            return False
        return used == len(data) and bool(body)

    def connect(self) -> bool:
        """Say that the port is open: the link sees to that."""
        return True

    def close(self) -> None:
        """Leave the port open: it belongs to the link."""
