"""One Modbus request and its reply, and the proof that they belong together.

Neither Modbus framing has a transaction number: a late reply looks like the reply to the next request of the
same shape. What keeps another channel's value, or an older one, from being taken for the answer:

1. Before each request the line is read until it has been silent for the gap.
2. Only bytes from this request's address and function code on are looked at.
3. The reply is compared with the request: size, function, address, count.
4. After any failure nothing is believed until the line has been silent and a loopback (FC08) with a fresh
   number has been answered: the analyser answers in order, so nothing older can follow that answer.
"""

import contextlib
import secrets
from typing import Any

import attrs

from servomex import registers
from servomex.clock import time
from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexConnectionError,
    ServomexError,
    ServomexFrameError,
    ServomexIllegalDataAddressError,
    ServomexIllegalDataValueError,
    ServomexIllegalFunctionError,
    ServomexModbusError,
    ServomexTimeoutError,
)
from servomex.interruption import pass_on_interruption
from servomex.link import SerialLink
from servomex.link_client import (
    CODEC_ERRORS,
    LOOPBACK,
    MAX_REPLY,
    READ_INPUTS,
    CarriedError,
    DamagedFault,
    DoubleFault,
    EchoOnlyFault,
    LateFault,
    LinkClient,
    NoReplyFault,
    Query,
    ReplyFault,
    TimeUpFault,
    UnquietFault,
)
from servomex.registers import message_size
from servomex.telegram import HEADER

SHORTEST_MESSAGE = 5
"""Fewer bytes than this are no reply, but a glitch."""
SHORTEST_GAP_CHARS = 3.5
"""The silence that ends a message by the Modbus specification: no gap may be shorter."""
QUIET_S = 0.25
"""Silence that is waited for after a failure, before the fence."""
USUAL_WAIT_S = (0.15, 0.5)
"""Bounds of how long a reply may take to begin before it counts as lost: four times the latency that was seen."""
PATIENCE = 1.5
"""Where replies are slower than those bounds, they may take this many times what the slowest took."""
FIRST_GUESS_S = 0.12
LONGEST_S = 10.0
"""What comes later than this after a request is noise, and no late reply to it."""

_REFUSALS: dict[int, tuple[type[ServomexModbusError], str]] = {
    1: (ServomexIllegalFunctionError, "it does not support this function"),
    2: (ServomexIllegalDataAddressError, "the address is outside its range"),
    3: (ServomexIllegalDataValueError, "the data is invalid"),
}


@attrs.frozen
class Reply:
    """A reply that was checked against its request.

    Attributes:
        words: Registers of FC04.
        bits: Discrete inputs of FC02, without the padding of the last byte.
        payload: What FC08 sent back.
        raw: The bytes on the wire.
        sent_ns: When the request was sent, ``time.monotonic_ns()``.
    """

    words: tuple[int, ...]
    bits: tuple[bool, ...]
    payload: bytes
    raw: bytes
    sent_ns: int


@attrs.frozen
class _Pending:
    """A request whose reply may still come: how that begins, whether it is a fence, and when it was sent."""

    sign: bytes
    fence: bool
    sent_at: float


class Exchange:
    """Asks one address of a link, and believes only what is proven to be the answer.

    The caller holds the link's lock, see :meth:`SerialLink.conversation`.

    Args:
        link: The port.
        address: Slave address, 1 to 247.
        framing: ``MODBUS_RTU`` or ``MODBUS_ASCII``.
        retries: How often a request is repeated within its deadline.

    Attributes:
        attempts: Requests that were sent, repeated ones and fences included.
        late_replies: Replies that came too late and were refused.
        damaged_replies: Attempts that failed because what came was damaged or answered something else.
        slowest_s: How long replies have taken to begin, the slowest of the recent ones. Late replies raise it at
            once, prompt ones lower it step by step.
    """

    def __init__(self, link: SerialLink, address: int, framing: ProtocolKind, retries: int) -> None:
        self.late_replies = 0
        self.damaged_replies = 0
        self._link = link
        self._address = address
        self._framing = framing
        self._retries = retries
        self._client = LinkClient(link, address, framing)
        self.slowest_s = FIRST_GUESS_S
        self._pending: list[_Pending] = []
        self._surplus = False
        self._stray = b""
        self._fence_sign = b""
        self._answers: dict[bytes, bytes] = {}
        self._answer_before = b""
        self._gap_s = max(link.gap_s, SHORTEST_GAP_CHARS * link.settings.char_time_s)
        self.attempts = 0
        self._cause: ReplyFault | None = None
        self._unanswered_fences = 0

    def ask(self, query: Query, deadline: float) -> Reply:
        """Send a request and give its reply, repeating it until ``deadline`` (``time.monotonic()``) at most.

        A write is sent once. Whether one without a reply has been heard is for the caller to read back.

        Raises:
            ServomexTimeoutError: No reply came.
            ServomexFrameError: Only damaged or foreign bytes came.
            ServomexModbusError: The analyser refused the request.
            ServomexConnectionError: The port is closed or lost. A connection that its server closed is reopened
                once, and a read is sent again.
        """
        self._cause = None
        self._unanswered_fences = 0
        for left in range(self._retries, -1, -1):
            sent = False
            try:
                if not self._ready_for(query):
                    self._prove(deadline)
                self._settle(self._gap_s, deadline)
                if not self._ready_for(query):
                    raise DamagedFault("the adapter turned out to echo, or may do so")
                self._begin(query, self._first_wait(left or query.writes, deadline), deadline)
                sent = True
                reply = self._checked(query, self._client.execute(False, query.request(self._address)))
            except CarriedError as carried:
                raise carried.error from carried.error.__cause__
            except ServomexModbusError as error:
                pass_on_interruption(error)
                self._trust()
                raise
            except ServomexConnectionError as error:
                pass_on_interruption(error)
                if not left or (sent and query.writes) or not self._link.resume(deadline):
                    raise
            except (ReplyFault, *CODEC_ERRORS) as error:
                fault = self._fault(error)
                last = not left or (sent and query.writes) or isinstance(fault, DoubleFault)
                if last or self._unanswered_fences > self._retries or time.monotonic() >= deadline:
                    raise self._failure(query, self._cause or fault) from fault
            else:
                self._trust()
                if not query.mirrored:
                    self._answers[self._client.head(query.function)] = reply.raw
                return reply
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ready_for(self, query: Query) -> bool:
        """Whether the next answer can be believed: a write's only once it is known if the adapter echoes."""
        return self._address in self._link.proven and not (query.writes and self._link.echo is None)

    def _first_wait(self, left: int, deadline: float) -> float:
        """Decide how long the reply may take to begin, so that ``left`` more attempts fit before the deadline."""
        remaining = deadline - time.monotonic()
        if not left:
            return remaining
        shortest, longest = USUAL_WAIT_S
        share = max(shortest, min(longest, 4 * self.slowest_s, remaining / (left + 1)))
        return min(remaining, max(PATIENCE * self.slowest_s, share))

    def _prove(self, deadline: float) -> None:
        """Make sure that no reply to an earlier request can still come: silence, then the fence.

        The fence is repeated while late replies show that there is an analyser; one that nothing answers is
        repeated as often as any request.
        """
        while True:
            self._settle(QUIET_S if self._pending else self._gap_s, deadline)
            if self._link.echo is None:
                self._once(Query(READ_INPUTS, registers.ANALYSER_FLAGS), deadline)
                self._settle(self._gap_s, deadline)
            try:
                if self._address not in self._link.proven:
                    fence = Query(LOOPBACK, payload=secrets.token_bytes(2))
                    self._once(fence, deadline)
                    self._surplus = False  # whatever came behind it is dropped before the next request
                    self._trust()
                    self._fence_sign = self._client.sign(fence)
                    self._settle(self._gap_s, deadline)
            except (ReplyFault, *CODEC_ERRORS) as error:
                self._unanswered_fences += isinstance(self._fault(error), NoReplyFault)
                if self._unanswered_fences > self._retries or time.monotonic() >= deadline:
                    raise
            if self._address in self._link.proven:
                return

    def _once(self, query: Query, deadline: float) -> None:
        """Get one answer, without repeating the request; a refusal is an answer as well."""
        self._begin(query, self._first_wait(1, deadline), deadline)
        with contextlib.suppress(ServomexModbusError):
            self._checked(query, self._client.execute(False, query.request(self._address)))

    def _begin(self, query: Query, wait_s: float, deadline: float) -> None:
        """Prepare for a request. Until it is answered, whatever ends the attempt, nothing is proven."""
        if wait_s <= 0:
            raise TimeUpFault
        self.attempts += 1
        self._answer_before = self._answers.pop(self._client.head(query.function), b"")
        self._link.proven.discard(self._address)
        sign = self._client.sign(query)
        self._pending = [*self._pending[-9:], _Pending(sign, query.function == LOOPBACK, time.monotonic())]
        self._surplus = False
        self._client.begin(query, wait_s, deadline)

    def _trust(self) -> None:
        """Note that the last request was answered, and that nothing else came with the answer."""
        if not self._surplus:
            self._link.proven.add(self._address)
            self._pending = []
            self._stray = b""

    def _settle(self, silence_s: float, deadline: float) -> None:
        dropped, silent = self._link.settle(silence_s, deadline)
        self._refuse_double(dropped, *self._answers.values())
        late = self._note_late(dropped, self._pending)
        if self._fence_sign and self._fence_sign in dropped:
            # The fence was answered twice: once by the adapter's echo, taken for the analyser.
            self._link.echo = None
            self._link.proven.discard(self._address)
        self._fence_sign = b""
        if not silent and dropped and not late:
            raise UnquietFault("the line never fell silent")
        if not silent:
            raise TimeUpFault

    def _refuse_double(self, stray: bytes, *answers: bytes) -> None:
        """Look for second answers to requests that were answered, in bytes that answer nothing.

        Raises:
            DoubleFault: There is one, and it differs, so that nobody knows whose the first one was.
        """
        for answer in filter(None, answers):
            place = stray.find(answer[: self._client.head_size])
            other = stray[place : place + len(answer)] if place >= 0 else answer
            if len(other) == len(answer) and other != answer and self._client.is_message(other):
                self._answers.clear()
                self._link.proven.discard(self._address)
                raise DoubleFault

    def _note_late(self, stray: bytes, pending: "list[_Pending]") -> bool:
        """Look for late replies to ``pending`` in bytes that answer nothing; tell whether there was one.

        Each is counted and makes the exchange more patient. The reply to a fence is as good late as in time, when
        nothing but fences was sent after it: no reply to a read can follow. On a line that echoes it could be the
        fence's own echo, and is not believed.
        """
        self._stray = (self._stray + stray)[-MAX_REPLY:]
        now = time.monotonic()
        late = [item for item in pending if item.sign in stray and now - item.sent_at <= LONGEST_S]
        if not late:
            return False
        newest = late[-1]
        self.late_replies += 1
        self.slowest_s = max(self.slowest_s, now - newest.sent_at)
        later = self._pending[self._pending.index(newest) + 1 :]
        if newest.fence and all(item.fence for item in later) and self._link.echo is False:
            self._surplus = False
            self._trust()
            self._pending = later
        return True

    def _checked(self, query: Query, pdu: Any) -> Reply:
        """Compare a reply with its request, byte count and all.

        Raises:
            ServomexModbusError: It is an exception reply.
            DamagedFault: It answers something else.
        """
        client = self._client
        before = bytes(client.received[client.echo_size or 0 : client.start])
        self._refuse_double(before, *self._answers.values(), self._answer_before)
        refused = pdu.function_code == query.function | 0x80
        if not refused and pdu.function_code != query.function:
            raise DamagedFault(f"a reply to function {pdu.function_code} came")
        size = message_size(2, 0 if refused else query.data_size, client.ascii)
        raw = bytes(client.received[client.start or 0 :])
        if len(raw) < size or (client.ascii and not raw[:size].endswith(b"\r\n")):
            raise DamagedFault(f"a reply of {len(raw)} bytes came instead of {size}")
        if not client.is_message(raw[:size]):  # pymodbus goes on behind a damaged one, and decodes what is there
            raise DamagedFault("the reply is damaged, and another message came behind it")
        surplus = raw[size:]
        if not query.mirrored:
            self._check_read(query, raw, refused)
            self._refuse_double(surplus, raw[:size])
        self._note_latency(client.first_at - self._pending[-1].sent_at)
        self._surplus = len(surplus) >= SHORTEST_MESSAGE
        if refused:
            raise self._refusal(query, pdu.exception_code)
        return Reply(
            tuple(pdu.registers),
            tuple(map(bool, pdu.bits[: query.span.count])),
            getattr(pdu, "message", b""),
            raw[:size],
            client.sent_ns,
        )

    def _check_read(self, query: Query, raw: bytes, refused: bool) -> None:
        """Compare the byte count of a reply with its request's, and see whether the adapter echoes."""
        client = self._client
        if client.sent in client.received[client.echo_size or 0 :]:
            self._link.echo = None
            raise DamagedFault("the request itself came back")
        count = int(raw[5:7], 16) if client.ascii else raw[2]
        if not refused and count != query.data_size:
            raise DamagedFault(f"a reply with {count} instead of {query.data_size} bytes of data came")
        if client.echo_size:
            self._link.echo = True
        elif client.start == 0:
            self._link.echo = False  # with a glitch in front it stays open: the echo itself may be damaged

    def _refusal(self, query: Query, code: int) -> ServomexError:
        kind, why = _REFUSALS.get(code, (ServomexModbusError, "the code is not one that the manual lists"))
        return kind(f"the analyser refused the request with exception {code:02d}: {why}", self._context(query))

    def _note_latency(self, latency_s: float) -> None:
        """Learn from a reply that came in time how long to wait for the next."""
        self.slowest_s = max(latency_s, 0.9 * self.slowest_s)

    def _fault(self, error: Exception) -> ReplyFault:
        """Count what ended an attempt, and give it as a fault."""
        pass_on_interruption(error)
        fault = error if isinstance(error, ReplyFault) else DamagedFault(str(error))
        if isinstance(fault, DamagedFault):
            if self._note_late(bytes(self._client.received), self._pending[:-1]):
                fault = LateFault("only late replies came")
            else:
                self.damaged_replies += 1
        if not isinstance(fault, TimeUpFault):
            self._cause = fault
        return fault

    def _failure(self, query: Query, fault: ReplyFault) -> ServomexError:
        """Say what went wrong, who is at fault and what to do."""
        context = self._context(query)
        late = (
            f". {self.late_replies} late replies were refused: allow a longer timeout" if self.late_replies else ""
        )
        if HEADER.search(self._stray):
            return ServomexFrameError(
                "the analyser is in continuous mode: it broadcasts by itself and answers nothing. "
                "Open it with protocol='continuous'",
                context,
            )
        if isinstance(fault, DoubleFault):
            return ServomexFrameError(
                f"two different replies came to one request: another device has the address {self._address} too. "
                "Give each its own",
                context,
            )
        if isinstance(fault, UnquietFault):
            return ServomexFrameError(
                f"{fault}: the rest of a late reply, another master or noise is on it", context
            )
        if isinstance(fault, TimeUpFault):
            return ServomexTimeoutError(f"the time was up before the reading was complete{late}", context)
        if isinstance(fault, DamagedFault):
            return ServomexFrameError(
                f"only damaged replies came ({fault}): check the wiring, the gap and the serial settings{late}",
                context,
            )
        if isinstance(fault, EchoOnlyFault):
            return ServomexTimeoutError(
                f"only the adapter's echo came back: no analyser answers at address {self._address}{late}", context
            )
        return ServomexTimeoutError(
            f"no reply from address {self._address}: check that the analyser is on, its communication mode, "
            f"address and serial settings, and the wiring{late}",
            context,
        )

    def _context(self, query: Query) -> ErrorContext:
        mine = self._client.function == query.function  # else the last request was the fence
        return ErrorContext(
            port=self._link.port,
            protocol=self._framing.value,
            address=self._address,
            register=query.number,
            function_code=query.function,
            request=self._client.sent if mine else None,
            response=bytes(self._client.received) if mine else None,
            elapsed_s=time.monotonic() - self._link.talking_since,
        )
