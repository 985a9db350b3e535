"""One Modbus request and its reply, and the proof that they belong together.

Neither Modbus framing has a transaction number: a late reply, or the reply to another master's request, looks like
the reply to the next request of the same shape. What keeps another channel's value, or an older one, from being
taken for the answer:

1. Before each request the line is read until it has been silent for the gap.
2. Of the bytes that arrive, only a whole message of this address and function and of the right size counts.
3. After any failure no reply is believed until the line has been silent and a loopback (FC08) with a fresh
   number has been answered: the analyser answers in order, so nothing older can follow that answer.
4. A reply that changes what was known, where its size alone does not show what was asked, is asked for again.
5. Where the line has other users, the last reply of a call is followed by such a loopback as well.
"""

import random
import secrets

from servomex.enums import ProtocolKind
from servomex.errors import ServomexConnectionError, ServomexError
from servomex.modbus.evidence import Evidence
from servomex.modbus.failures import Circumstances, failure_of
from servomex.modbus.faults import (
    CutFault,
    DamagedFault,
    DisputeFault,
    DoubleFault,
    GatewayFault,
    LateFault,
    NoReplyFault,
    ReplyFault,
    TimeUpFault,
    UnquietFault,
)
from servomex.modbus.framing import LinkClient
from servomex.modbus.ledger import Ledger
from servomex.modbus.line import ModbusLine
from servomex.modbus.query import LOOPBACK, PROBE, READ_REGISTERS, Query
from servomex.modbus.replies import Pending, Reply
from servomex.modbus.timing import Call, Pace
from servomex.port.link import SerialLink
from servomex.registers import Span
from servomex.runtime.clock import time
from servomex.runtime.signals import pass_on_interruption
from servomex.traffic.messages import messages_in
from servomex.traffic.words import refusal

SHORTEST_GAP_CHARS = 3.5
"""The silence that ends a message by the Modbus specification: no gap may be shorter."""
MOST_TRIES = 10
"""How often a request is repeated when its replies differ from one to the next."""
REPEATS_AMONG_OTHERS = 8
"""How often a request is repeated on a line with another master, unless its deadline passes first."""
ODD_COUNTS = 6
"""No master reads this many registers or fewer: a reply of that size answers the read that is the fence."""


class Exchange:
    """Asks one address of a link, and believes only what is proven to be the answer.

    The caller holds the link's lock, see :meth:`SerialLink.conversation`.

    Args:
        link: The port.
        address: Slave address, 1 to 247.
        framing: ``MODBUS_RTU`` or ``MODBUS_ASCII``.
        retries: How often a request is repeated within its deadline.
        gap_s: Seconds of silence kept before each request; those of the link when ``None``.

    Attributes:
        repeats: How often a request had to be repeated, so that what was read before it may be outdated.
        evidence: What the analyser's replies have shown, and how much a reply proves.
        damaged_replies: Attempts that failed because the reply was damaged or answered something else.
        pace: How fast the analyser answers, and so how long its next reply may take.
    """

    def __init__(
        self, link: SerialLink, address: int, framing: ProtocolKind, retries: int, gap_s: float | None = None
    ) -> None:
        self._line = link.state(ModbusLine)
        self._timing = self._line.timing
        self.repeats: int = 0
        self.evidence: Evidence = Evidence(self._line.others, self._timing.longest_s)
        self.damaged_replies: int = 0
        self.pace: Pace = Pace(self._timing)
        self._link = link
        self._others = self._line.others
        self._address = address
        self._framing = framing
        self._retries = retries
        self._client = LinkClient(link, address, framing)
        self._ledger = Ledger(link, self._client, self.evidence, self.pace)
        self._fence = b""
        self._gap_s = max(link.gap_s if gap_s is None else gap_s, SHORTEST_GAP_CHARS * link.settings.char_time_s)
        self._odd_count = 0

    @property
    def late_replies(self) -> int:
        """Replies that arrived too late and were refused."""
        return self._ledger.late_replies

    def ask(self, query: Query, deadline: float) -> Reply:
        """Send a request, repeated until ``deadline`` (``time.monotonic()``) if need be, and return its reply.

        A reply that proves too little by itself is asked for again, until as many agree as are needed. A write is
        sent once; if there is no reply, the caller must read back whether it took effect.

        Raises:
            ServomexTimeoutError: There was no reply.
            ServomexFrameError: Only damaged or foreign bytes arrived, or replies that differ each time.
            ServomexModbusError: The analyser refused the request.
            ServomexConnectionError: The port is closed or lost. A connection that its server closed is reopened
                once, and a read is sent again unless there are no ``retries``.
        """
        reply = self._answer(query, deadline)
        needed = self.evidence.further_proofs(query, reply)
        for _ in range(MOST_TRIES):
            if not needed:
                self.evidence.note(query, reply)
                return reply
            before, reply = reply, self._answer(query, deadline)
            agree = self.evidence.agree(query, before, reply)
            if before.raw != reply.raw and self.evidence.may_be_old(reply):
                needed = max(1, needed)
            else:
                needed = needed - 1 if agree else max(1, self.evidence.further_proofs(query, reply))
        raise self._failure(query, DisputeFault(), deadline)

    def probe(self, query: Query, deadline: float, wait_s: float | None = None, *, prove: bool = True) -> Reply:
        """Return the first reply to a request: a sign of life, and the time it took. Its contents may be wrong.

        Args:
            query: What is asked.
            deadline: When to give up, on ``time.monotonic()``.
            wait_s: How long a reply may take to begin; as for any request when ``None``.
            prove: Pass a fence first where the address is not proven. Without, the request is the only one that
                is sent, and the address is not proven by its answer.

        Raises:
            ServomexError: As :meth:`ask` does.
        """
        try:
            return self._answer(query, deadline, wait_s, proves=prove)
        finally:
            if not prove:
                self._line.proven.discard(self._address)

    def conclude(self, deadline: float) -> bool:
        """Make sure that the last reply was to the last request, where others may ask; ``False`` when it was not.

        A loopback is answered after everything that was asked before it. A second reply of a size that does not
        show what it answers arrives before that.

        Raises:
            ServomexError: As :meth:`ask` does.
        """
        if not (self._others.shared or self._ledger.doubtful):
            return True
        self._line.proven.discard(self._address)
        call = Call(deadline, self._retries, self.pace, self._timing, self._others)
        try:
            self._prove(call)
        except ServomexConnectionError as error:
            pass_on_interruption(error)
            if not self._link.resume(deadline):
                raise
            return False
        except ReplyFault as error:
            fault = self._fault(error, call)
            if isinstance(fault, DoubleFault) and not self._two_answer(call):
                return False
            raise self._failure(Query(LOOPBACK), fault, deadline) from error
        mine, self._ledger.contested, self._ledger.doubtful = not self._ledger.contested, False, False
        if self._others.heard:  # what arrives between two calls answers others
            self._ledger.forget_answers()
        return mine

    def _answer(self, query: Query, deadline: float, wait_s: float | None = None, *, proves: bool = True) -> Reply:
        """Ask until there is an answer that is not older than the request."""
        call = Call(deadline, self._retries, self.pace, self._timing, self._others, wait_s, proves=proves)
        repeats, refused = self._retries, False
        if repeats and self._others.heard:  # collisions are the usual case
            repeats = max(repeats, REPEATS_AMONG_OTHERS)
        for left in range(repeats, -1, -1):
            sent, call.last_try = False, not left
            try:
                if not self._ready_for(query, call) and (seen := self._prove(call)) and query is PROBE:
                    return seen
                self._settle(self._silence_s, deadline)
                if not self._ready_for(query, call):
                    raise DamagedFault("the adapter turned out to echo, or may do so")
                self._begin(query, call.first_wait(left or query.writes), call)
                sent = True
                self._client.send()
                pdu = self._client.receive()
                reply = self._ledger.accept(query, pdu)
            except ServomexConnectionError as error:
                pass_on_interruption(error)
                if not left or (sent and query.writes) or not self._link.resume(deadline):
                    raise
                self.repeats += 1
            except ReplyFault as error:
                fault = self._fault(error, call)
                if isinstance(fault, DoubleFault) and not self._two_answer(call):
                    fault = call.cause = DamagedFault("the reply to another program's request arrived as well")
                last = not left or (sent and query.writes) or not fault.passing
                if last or call.is_over:
                    raise self._failure(query, call.cause or fault, deadline) from fault
                self.repeats += 1
                self._make_way(fault)
            else:
                self._ledger.trust()
                if reply is not None:
                    return reply
                if refused or query.writes or not left or not self._others.shared:
                    raise refusal(pdu.exception_code, self._circumstances(query).context)
                refused = True  # it may have been another program's request that was refused
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ready_for(self, query: Query, call: Call) -> bool:
        """Return whether the next answer can be believed: a write's only once echoing is known."""
        proven = self._address in self._line.proven or not call.proves
        return proven and not (query.writes and self._line.echo is None)

    @property
    def _silence_s(self) -> float:
        """The silence before a request. With another master about, not all may wait equally long."""
        return self._gap_s * (1 + random.random()) if self._others.heard else self._gap_s  # noqa: S311

    def _make_way(self, fault: ReplyFault) -> None:
        if isinstance(fault, GatewayFault):  # it is busy
            self._link.pause(self._timing.busy_s)

    def _prove(self, call: Call) -> Reply | None:
        """Make sure that no reply to an earlier request can still arrive: silence, then the fence.

        The fence is repeated while late replies show that there is an analyser; one that nothing answers is
        repeated as often as any request.

        Returns:
            The reply to :data:`PROBE` just before the fence, where it was needed to find out about an echo.
        """
        while True:
            seen = None
            if self._ledger.pending and not self._others.heard:
                self._drop(self._timing.quiet_s, min(call.deadline, time.monotonic() + self._timing.restless_s))
            self._settle(self._silence_s, call.deadline)
            outstanding = self._ledger.pending
            if self._line.echo is None:
                seen = self._once(PROBE, call)
                self._settle(self._gap_s, call.deadline)
            try:
                if self._address not in self._line.proven:
                    self._pass_fence(outstanding, call)
            except ReplyFault as error:
                fault = self._fault(error, call)
                call.unanswered_fences += isinstance(fault, NoReplyFault | GatewayFault)
                self._make_way(fault)
                if call.is_over:
                    raise
            if self._address in self._line.proven:
                return seen

    def _pass_fence(self, outstanding: list[Pending], call: Call) -> None:
        """Pass a fence: a loopback that is answered. A gateway may answer it by itself: registers are read too."""
        fence = Query(LOOPBACK, payload=secrets.token_bytes(2))
        self._once(fence, call)
        if outstanding and (self._ledger.gateway or self._others.network):
            self._settle(self._gap_s, call.deadline)
            self._odd_count = self._odd_count % ODD_COUNTS + 1
            self._once(Query(READ_REGISTERS, Span(0, self._odd_count)), call)
        self._ledger.note_fenced(outstanding)
        self._ledger.surplus = False  # whatever arrived after it is dropped before the next request
        self._ledger.trust()
        self._fence = self._client.head(LOOPBACK) + self._on_wire(fence.mirror)
        self._settle(self._gap_s, call.deadline)

    def _on_wire(self, data: bytes) -> bytes:
        return data.hex().upper().encode() if self._client.ascii else data

    def _two_answer(self, call: Call) -> bool:
        """Find out where the second reply came from: two devices with one address both answer a fence.

        Otherwise another master, or another program on the same serial server, got the second one.
        """
        try:
            self._settle(self._gap_s, call.deadline)
            fence = Query(LOOPBACK, payload=secrets.token_bytes(2))
            self._once(fence, call)
            came = bytes(self._client.received[(self._client.start or 0) + self._client.size :])
            until = time.monotonic() + self._timing.linger_s
            came += self._link.settle(self._timing.linger_s, min(call.deadline, until + self._timing.linger_s))[0]
        except ReplyFault:
            return True  # as long as nothing shows which
        sign = self._client.head(LOOPBACK) + self._on_wire(fence.mirror)
        if sign in came or time.monotonic() < until:
            return True
        self._others.note_unseen()
        return False

    def _once(self, query: Query, call: Call) -> Reply | None:
        """Get one answer without repeating the request; a refusal is an answer too."""
        self._begin(query, call.fence_wait(), call)
        self._client.send()
        return self._ledger.accept(query, self._client.receive())

    def _begin(self, query: Query, wait_s: float, call: Call) -> None:
        """Prepare for a request. Until it is answered, whatever ends the attempt, nothing is proven."""
        if wait_s <= 0:
            raise TimeUpFault
        self._ledger.begin(query)
        self._client.begin(query, wait_s, call.longest_pause(once=query.writes), call.deadline)

    def _settle(self, silence_s: float, deadline: float) -> None:
        """Wait for silence.

        Raises:
            ReplyFault: There was none until ``deadline``, or see :meth:`Ledger.weigh`.
        """
        dropped, silent, late = self._drop(silence_s, deadline)
        if not silent and dropped and not late:
            raise UnquietFault("the line never fell silent")
        if not silent:
            raise TimeUpFault

    def _drop(self, silence_s: float, deadline: float) -> tuple[bytes, bool, bool]:
        """Drop incoming bytes, and find out what they were.

        Returns:
            What was dropped; whether the line fell silent; whether late replies were among it.
        """
        dropped, silent = self._link.settle(silence_s, deadline)
        late = False
        if dropped:
            self._ledger.note_stray(dropped)
            late = self._ledger.weigh(messages_in(dropped, self._client.ascii), self._ledger.pending)
        if self._fence and self._fence in dropped:
            # The fence was answered twice: once by the adapter's echo, taken for the analyser.
            self._line.echo = None
            self._line.proven.discard(self._address)
        self._fence = b""
        return dropped, silent, late

    def _fault(self, fault: ReplyFault, call: Call) -> ReplyFault:
        """Count the fault that ended an attempt, and return it, or the fault that it turns out to be."""
        if isinstance(fault, DamagedFault | NoReplyFault):
            self._ledger.note_stray(bytes(self._client.received))
            if self._ledger.were_late(self._client.others):
                fault = LateFault("only late replies arrived")
            else:
                self.damaged_replies += isinstance(fault, DamagedFault)
        if isinstance(fault, CutFault):
            self.pace.note_cut()
        if not isinstance(fault, TimeUpFault):
            call.cause = fault
        return fault

    def _failure(self, query: Query, fault: ReplyFault, deadline: float) -> ServomexError:
        early = time.monotonic() < deadline and isinstance(fault, NoReplyFault)
        return failure_of(fault, self._circumstances(query, self._retries if early else None))

    def _circumstances(self, query: Query, retries: int | None = None) -> Circumstances:
        return Circumstances(
            self._link,
            self._framing,
            self._address,
            query,
            self._client if self._client.function == query.function else None,  # else the last was the fence
            self._ledger.stray,
            self.late_replies,
            retries,
        )
