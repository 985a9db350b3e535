"""One Modbus request on a link, and its reply: pymodbus does the coding; sending, receiving and time are ours."""

from typing import NoReturn

from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadCoilsResponse,
    ReadDiscreteInputsRequest,
    ReadDiscreteInputsResponse,
    WriteSingleCoilRequest,
    WriteSingleCoilResponse,
)
from pymodbus.pdu.diag_message import ReturnQueryDataRequest, ReturnQueryDataResponse
from pymodbus.pdu.register_message import ReadInputRegistersRequest, ReadInputRegistersResponse

from servomex.enums import ProtocolKind
from servomex.modbus.faults import CutFault, DamagedFault, EchoOnlyFault, NoReplyFault, TimeUpFault
from servomex.modbus.line import ModbusLine
from servomex.modbus.query import (
    COIL_VALUES,
    LOOPBACK,
    READ_COILS,
    READ_INPUTS,
    READ_REGISTERS,
    WRITE_COIL,
    Query,
)
from servomex.port.link import SerialLink
from servomex.registers import message_size
from servomex.runtime.clock import time
from servomex.traffic.messages import WAIT, Message, body_of, message_at

MAX_RECEIVED = 1200
"""More bytes than this are neither a reply nor a reply after a few others; the longest, in ASCII, has 291."""
SHARE_OF_REST = 0.9
"""How much of the time that the rest of a reply needs on the line at least passes before it is looked for."""

_READS: dict[int, type[ModbusPDU]] = {
    READ_COILS: ReadCoilsRequest,
    READ_INPUTS: ReadDiscreteInputsRequest,
    READ_REGISTERS: ReadInputRegistersRequest,
}
_REPLIES: dict[int, type[ModbusPDU]] = {
    READ_COILS: ReadCoilsResponse,
    READ_INPUTS: ReadDiscreteInputsResponse,
    READ_REGISTERS: ReadInputRegistersResponse,
    WRITE_COIL: WriteSingleCoilResponse,
    LOOPBACK: ReturnQueryDataResponse,
}


def request_of(query: Query, address: int) -> ModbusPDU:
    """Build pymodbus's request."""
    if query.function == LOOPBACK:
        return ReturnQueryDataRequest(message=query.payload, dev_id=address)
    if query.function == WRITE_COIL:
        value = query.payload == COIL_VALUES[True]
        return WriteSingleCoilRequest(address=query.span.address, bits=[value], dev_id=address)
    return _READS[query.function](address=query.span.address, count=query.span.count, dev_id=address)


def framer_of(framing: ProtocolKind) -> FramerBase:
    """Return pymodbus's framer, which only builds requests here."""
    return (FramerAscii if framing is ProtocolKind.MODBUS_ASCII else FramerRTU)(DecodePDU(False))


def decode(body: bytes) -> ModbusPDU:
    """Decode a reply of the right size, without its framing.

    pymodbus's own client and decoder would treat an exception raised by a signal handler meanwhile as damage.
    """
    function = body[1]
    pdu = ExceptionResponse(function & 0x7F) if function & 0x80 else _REPLIES[function]()
    pdu.decode(body[2:])
    return pdu


class LinkClient:
    """Sends requests to one address, and waits for their replies.

    Args:
        link: The port.
        address: Slave address, 1 to 247.
        framing: ``MODBUS_RTU`` or ``MODBUS_ASCII``.

    Attributes:
        address: Slave address.
        sent: The last request.
        sent_ns: When it was sent, ``time.monotonic_ns()``.
        first_at: When its reply began, on ``time.monotonic()``.
        received: All bytes that arrived since it was sent.
        echo_size: How many bytes of that are the adapter's echo; ``None`` while that is not known.
        start: Where in ``received`` the reply begins; ``None`` before it has begun.
        size: How many bytes the reply has.
        others: Whole messages in front of the reply that do not answer the request.
        paused_s: The longest pause within the reply.
    """

    def __init__(self, link: SerialLink, address: int, framing: ProtocolKind) -> None:
        self.ascii: bool = framing is ProtocolKind.MODBUS_ASCII
        self.sent: bytes = b""
        self.sent_ns: int = 0
        self.first_at: float = 0.0
        self.received: bytearray = bytearray()
        self.echo_size: int | None = None
        self.start: int | None = None
        self.size: int = 0
        self.others: list[Message] = []
        self.paused_s: float = 0.0
        self._link = link
        self._line = link.state(ModbusLine)
        self._char_time_s = link.settings.char_time_s
        self.address: int = address
        self._framer: FramerBase = framer_of(framing)
        self._reads: dict[Query, tuple[bytes, bytes, bytes, bytes]] = {}
        self._request = self._body = self._head = self._refusal = self._sign = b""
        self.query: Query = Query(READ_INPUTS)
        self._wait_s = self._pause_s = 0.0
        self._deadline = 0.0
        self._limit = self._came_at = 0.0
        self._looked = 0

    def begin(self, query: Query, wait_s: float, pause_s: float, deadline: float) -> None:
        """Prepare for one request.

        Args:
            query: What will be asked.
            wait_s: How long the reply may take to begin.
            pause_s: How long it may pause once it has begun.
            deadline: The call's deadline, on ``time.monotonic()``.
        """
        self.query, self._wait_s, self._pause_s, self._deadline = query, wait_s, pause_s, deadline
        coded = self._reads.get(query) or self._coded(query)
        self._request, self._head, self._refusal, self._sign = coded
        self.first_at = self.paused_s = 0.0
        self.received.clear()
        self.others.clear()
        self.echo_size = self.start = None
        self.size = self._looked = 0

    def send(self) -> None:
        """Send the request.

        Raises:
            ServomexConnectionError: The port is closed, lost, or takes no bytes.
        """
        self.sent = self._request
        self.sent_ns = time.monotonic_ns()  # before: a pause after it would make the reply look younger
        self._link.write(self.sent, self._deadline)
        wait_s = len(self.sent) * self._char_time_s + self._wait_s
        self._limit = min(self._deadline, time.monotonic() + wait_s)

    def _coded(self, query: Query) -> tuple[bytes, bytes, bytes, bytes]:
        """Return the bytes of a request, and those with which its function, its refusal and its reply begin.

        A read is coded once: there are few, and each sweep repeats them.
        """
        head, refusal = self.head(query.function), self.head(query.function | 0x80)
        data = query.mirror or bytes((query.data_size,))
        sign = head + (data.hex().upper().encode() if self.ascii else data)
        coded = (self._framer.buildFrame(request_of(query, self.address)), head, refusal, sign)
        if not query.mirrored:
            self._reads[query] = coded
        return coded

    def receive(self) -> ModbusPDU:
        """Wait for the reply, and return it once it is whole and its checksum is right.

        Raises:
            ReplyFault: No whole reply arrived; the fault says what did.
            ServomexConnectionError: The port is closed or lost.
        """
        while True:
            data = self._link.read(self._limit)
            if data:
                self._take_in(data)
            if len(self.received) > MAX_RECEIVED:
                raise DamagedFault(f"more than {MAX_RECEIVED} bytes arrived")
            if self._look(at_end=False):
                break
            now = time.monotonic()
            if data:
                self._extend(now)
                self._leave_alone(now)
            if now >= self._limit:
                if self._look(at_end=True):
                    break
                self._give_up()
        return decode(self._body)

    def _leave_alone(self, now: float) -> None:
        """Wait while the line cannot have brought the rest: to look costs more than a character's time is worth.

        The next character is on its way already, and the clock of the analyser may run ahead of its baud rate.
        """
        missing = (self.size or message_size(2, 0, self.ascii)) - (len(self.received) - self._looked)
        if missing > 1:
            rest_s = SHARE_OF_REST * (missing - 1) * self._char_time_s
            self._link.pause(min(rest_s, self._limit - now))

    def _take_in(self, data: bytes) -> None:
        now = time.monotonic()
        if self.received and self._begun[0]:
            brought_s = (len(data) - 1) * self._char_time_s
            self.paused_s = max(self.paused_s, now - self._came_at - brought_s)
        self.received += data
        self._came_at = now

    @property
    def _begun(self) -> tuple[int, int]:
        """How many bytes of an incomplete reply have arrived, and how many it will have; two zeros for none."""
        if self.size:
            return len(self.received) - self._looked, self.size
        data = self.received[self.echo_size or 0 :]
        for sign, size in ((self._sign, self.query.data_size), (self._refusal, 0)):
            for count in range(len(sign) - 1, 0, -1):
                if data.endswith(sign[:count]):
                    return count, message_size(2, size, self.ascii)
        return 0, 0

    def _extend(self, now: float) -> None:
        """Extend the wait by the time that the rest of a reply takes once it has begun."""
        came, size = self._begun
        if size:
            rest_s = (size - came) * self._char_time_s
            self._limit = min(self._deadline, now + self._pause_s + rest_s)
        elif self._is_noise:
            self._limit = min(self._deadline, now + self._pause_s)

    @property
    def _is_noise(self) -> bool:
        """Whether the last bytes are likely a damaged reply; any are until an echo is ruled out."""
        if self.received.find(self._head, self._looked) >= 0:
            return True
        return self._line.echo is None and not self.echo_size and len(self.received) > self._explained

    @property
    def _explained(self) -> int:
        """How many bytes belong to the echo and to whole messages that answer something else."""
        return (self.echo_size or 0) + sum(len(message.raw) for message in self.others)

    def _look(self, *, at_end: bool) -> bool:
        """Look for the reply in the bytes received, after the echo and after whole messages of others.

        Raises:
            DamagedFault: Its checksum is wrong, or the request itself came back.
        """
        if self.echo_size is None:
            self.echo_size = self._measure_echo()
            self._looked = max(self._looked, self.echo_size or 0)
            if self.echo_size is None and self._line.echo:
                return False
        data = bytes(self.received)
        while self._looked < len(data):
            self.size = self._reply_size(data)
            if self.size:
                return self._take(data)
            found = message_at(data, self._looked, self.ascii)
            if isinstance(found, Message):
                self._pass(found)
            elif found == WAIT and not at_end:
                return False
            else:
                self._looked += 1
        return False

    def _reply_size(self, data: bytes) -> int:
        """Return the size of the reply if it begins here; 0 if it does not."""
        if data.startswith(self._refusal, self._looked):
            return message_size(2, 0, self.ascii)
        return (
            message_size(2, self.query.data_size, self.ascii) if data.startswith(self._sign, self._looked) else 0
        )

    def _take(self, data: bytes) -> bool:
        """Take the reply if it is complete."""
        self.first_at = self.first_at or time.monotonic()
        raw = data[self._looked : self._looked + self.size]
        if len(raw) < self.size:
            return False
        body = body_of(raw, self.ascii)
        if body is None:
            raise DamagedFault("its checksum is wrong")
        self._body = body
        self.start = self._looked
        return True

    def _pass(self, message: Message) -> None:
        """Skip a message that answers something else."""
        if message.raw == self.sent:
            self._line.echo = None
            raise DamagedFault("the request itself came back")
        self.others.append(message)
        self._looked += len(message.raw)

    def _give_up(self) -> NoReturn:
        """Raise the fault that the bytes received, if any, show."""
        if self.echo_size and not self.query.mirrored:
            self._line.echo = True
        if not self.received:
            raise NoReplyFault
        if len(self.received) == self.echo_size:
            raise EchoOnlyFault
        if self._line.echo and not self.echo_size:
            self._line.echo = None
            raise DamagedFault("the adapter's echo is missing")
        came, size = self._begun
        if size and time.monotonic() >= self._deadline:
            raise TimeUpFault
        if size:
            raise CutFault(f"a reply of {came} bytes arrived instead of {size}")
        similar = [other for other in self.others if other.body[:2] == bytes((self.address, self.query.function))]
        if similar and not self.query.mirrored:
            count = len(similar[0].body) - 3
            raise DamagedFault(f"a reply with {count} instead of {self.query.data_size} bytes of data arrived")
        if len(self.received) == self._explained:
            raise NoReplyFault
        raise DamagedFault("the bytes received are not a complete reply")

    def _measure_echo(self) -> int | None:
        """Count the bytes up to the end of the adapter's echo; ``None`` while that is not known.

        The reply to a read never equals its request, so an echo shows itself there, also after a glitch. The
        reply to a write or a loopback does equal it: that is taken for an echo only where reads have shown that
        the line has one.
        """
        if self._line.echo is False or (self.query.mirrored and not self._line.echo):
            return 0
        place = self.received.find(self.sent)
        return place + len(self.sent) if place >= 0 else None

    @property
    def function(self) -> int:
        """The function code of the last request."""
        return self.query.function

    def head(self, function: int) -> bytes:
        """Return the bytes with which a message of this address and function begins."""
        return b":%02X%02X" % (self.address, function) if self.ascii else bytes((self.address, function))
