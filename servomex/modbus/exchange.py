"""One Modbus request and its reply, and the proof that they belong together.

Neither Modbus framing has a transaction number: a late reply, or the reply to another master's request, looks like
the reply to the next request of the same shape. What keeps another channel's value, or an older one, from being
taken for the answer:

1. Before each request the line is read until it has been silent for the gap.
2. Of what comes, only a whole message of this address and function and of the right size is looked at.
3. After any failure nothing is believed until the line has been silent and a loopback (FC08) with a fresh
   number has been answered: the analyser answers in order, so nothing older can follow that answer.
4. A reply that changes what was known, where its size alone does not show what was asked, is asked for again.
5. Where the line has other users, the last reply of a call is followed by such a loopback as well.
"""

import contextlib
import random
import secrets
from typing import Any

from servomex.enums import ProtocolKind
from servomex.errors import ServomexConnectionError, ServomexError, ServomexModbusError
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
from servomex.modbus.replies import Pending, Reply, is_glitch
from servomex.modbus.timing import Pace
from servomex.port.link import SerialLink
from servomex.registers import Span
from servomex.runtime.clock import time
from servomex.runtime.signals import pass_on_interruption
from servomex.traffic.messages import messages_in
from servomex.traffic.words import refusal

SHORTEST_MESSAGE = 5
"""Fewer bytes than this are no reply, but a glitch."""
SHORTEST_GAP_CHARS = 3.5
"""The silence that ends a message by the Modbus specification: no gap may be shorter."""
MOST_TRIES = 10
"""How often a request is repeated whose replies differ from one to the next."""
REPEATS_AMONG_OTHERS = 8
"""How often a request is repeated on a line with another master, unless its deadline comes first."""
PROVING = (1, 2, 3)
"""The exceptions that the analyser itself sends (manual, Appendix B): each answers a request for certain."""
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
        evidence: What the analyser was seen to show, and how much a reply proves.
        damaged_replies: Attempts that failed because what came was damaged or answered something else.
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
        self._doubtful = False
        self._cause: ReplyFault | None = None
        self._unanswered_fences = 0
        self._last_try = False
        self._probe_wait_s: float | None = None
        self._proves = True

    @property
    def late_replies(self) -> int:
        """Replies that came too late and were refused."""
        return self._ledger.late_replies

    def ask(self, query: Query, deadline: float) -> Reply:
        """Send a request and return its reply, repeating it until ``deadline`` (``time.monotonic()``) at most.

        A reply that proves too little by itself is asked for again, until as many agree as are needed. A write is
        sent once; whether one without a reply has been heard is for the caller to read back.

        Raises:
            ServomexTimeoutError: No reply came.
            ServomexFrameError: Only damaged or foreign bytes came, or replies that differ each time.
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
        """Return the first reply to a request: a sign of life, and the time it took. What it says may be wrong.

        Args:
            query: What is asked.
            deadline: When to give up, on ``time.monotonic()``.
            wait_s: How long a reply may take to begin; as for any request when ``None``.
            prove: Pass a fence first where the address is not proven. Without, the request is the only one that
                is sent, and the address is not proven by its answer.

        Raises:
            ServomexError: As :meth:`ask` does.
        """
        self._probe_wait_s, self._proves = wait_s, prove
        try:
            return self._answer(query, deadline)
        finally:
            self._probe_wait_s, self._proves = None, True
            if not prove:
                self._line.proven.discard(self._address)

    def conclude(self, deadline: float) -> bool:
        """Make sure that the last reply was to the last request, where others may ask; ``False`` when it was not.

        A loopback is answered after everything that was asked before it. A second reply of a size that does not
        show what it answers comes in front of that.

        Raises:
            ServomexError: As :meth:`ask` does.
        """
        if not (self._others.shared or self._doubtful):
            return True
        self._unanswered_fences, self._last_try = 0, False
        self._line.proven.discard(self._address)
        try:
            self._prove(deadline)
        except ServomexConnectionError as error:
            pass_on_interruption(error)
            if not self._link.resume(deadline):
                raise
            return False
        except ReplyFault as error:
            fault = self._fault(error)
            if isinstance(fault, DoubleFault) and not self._two_answer(deadline):
                return False
            raise self._failure(Query(LOOPBACK), fault, deadline) from error
        mine, self._ledger.contested, self._doubtful = not self._ledger.contested, False, False
        if self._others.heard:  # what comes between two calls answers others
            self._ledger.forget_answers()
        return mine

    def _answer(self, query: Query, deadline: float) -> Reply:
        """Ask until there is an answer that is not older than the request."""
        self._cause = None
        self._unanswered_fences = 0
        refused = False
        for left in range(self._most_repeats, -1, -1):
            sent, self._last_try = False, not left
            try:
                if not self._ready_for(query):
                    self._prove(deadline)
                self._settle(self._silence_s, deadline)
                if not self._ready_for(query):
                    raise DamagedFault("the adapter turned out to echo, or may do so")
                self._begin(query, self._first_wait(left or query.writes, deadline), deadline)
                sent = True
                self._client.send()
                reply = self._checked(query, self._client.receive())
            except ServomexModbusError as error:
                pass_on_interruption(error)
                self._ledger.trust()
                if refused or query.writes or not left or not self._others.shared:
                    raise
                refused = True  # it may have been another program's request that was refused
            except ServomexConnectionError as error:
                pass_on_interruption(error)
                if not left or (sent and query.writes) or not self._link.resume(deadline):
                    raise
                self.repeats += 1
            except ReplyFault as error:
                fault = self._fault(error)
                if isinstance(fault, DoubleFault) and not self._two_answer(deadline):
                    fault = self._cause = DamagedFault("the reply to another program's request came as well")
                last = not left or (sent and query.writes) or not fault.passing
                if last or self._unanswered_fences > self._retries or time.monotonic() >= deadline:
                    raise self._failure(query, self._cause or fault, deadline) from fault
                self.repeats += 1
                self._make_way(fault)
            else:
                self._ledger.trust()
                return reply
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ready_for(self, query: Query) -> bool:
        """Whether the next answer can be believed: a write's only once it is known if the adapter echoes."""
        proven = self._address in self._line.proven or not self._proves
        return proven and not (query.writes and self._line.echo is None)

    @property
    def _most_repeats(self) -> int:
        """How often a request is repeated: with another master about, collisions are the usual case."""
        return max(self._retries, REPEATS_AMONG_OTHERS) if self._others.heard and self._retries else self._retries

    @property
    def _silence_s(self) -> float:
        """The silence before a request. With another master about, not all may wait equally long."""
        return self._gap_s * (1 + random.random()) if self._others.heard else self._gap_s  # noqa: S311

    def _make_way(self, fault: ReplyFault) -> None:
        if isinstance(fault, GatewayFault):  # it is busy
            self._link.pause(self._timing.busy_s)

    def _first_wait(self, left: int, deadline: float) -> float:
        """Decide how long the reply may take to begin, so that ``left`` more attempts fit before the deadline."""
        remaining = deadline - time.monotonic()
        if self._probe_wait_s is not None:
            return min(remaining, self._probe_wait_s)
        return min(remaining, self.pace.wait_s(remaining / (left + 1))) if left else remaining

    def _longest_pause(self, query: Query, deadline: float) -> float:
        """Decide how long a reply that has begun may pause: for long where nothing is tried after it.

        A network may hold back the rest of a reply: there the pause is a share of the time that is left.
        """
        if self._probe_wait_s is not None:
            return self.pace.pause_s
        if self._last_try or query.writes:
            return self._timing.longest_pause_s
        share = (deadline - time.monotonic()) / (2 * (self._retries + 2)) if self._others.network else 0.0
        return max(self.pace.pause_s, min(share, self._timing.longest_pause_s))

    def _fence_wait(self, deadline: float) -> float:
        """Decide how long a fence may take. The last one gets half of what is left: the analyser may be slow."""
        last = self._last_try or self._unanswered_fences >= self._retries
        if not last or self._probe_wait_s is not None:
            return self._first_wait(1, deadline)
        return max(self._first_wait(1, deadline), min(self._timing.longest_s, (deadline - time.monotonic()) / 2))

    def _prove(self, deadline: float) -> None:
        """Make sure that no reply to an earlier request can still come: silence, then the fence.

        The fence is repeated while late replies show that there is an analyser; one that nothing answers is
        repeated as often as any request.
        """
        while True:
            if self._ledger.pending and not self._others.heard:
                self._drop(self._timing.quiet_s, min(deadline, time.monotonic() + self._timing.restless_s))
            self._settle(self._silence_s, deadline)
            outstanding = self._ledger.pending
            if self._line.echo is None:
                self._once(PROBE, deadline)
                self._settle(self._gap_s, deadline)
            try:
                if self._address not in self._line.proven:
                    self._pass_fence(outstanding, deadline)
            except ReplyFault as error:
                fault = self._fault(error)
                self._unanswered_fences += isinstance(fault, NoReplyFault | GatewayFault)
                self._make_way(fault)
                if self._unanswered_fences > self._retries or time.monotonic() >= deadline:
                    raise
            if self._address in self._line.proven:
                return

    def _pass_fence(self, outstanding: list[Pending], deadline: float) -> None:
        """Have a loopback answered. A gateway may answer one by itself: it is asked for registers as well."""
        fence = Query(LOOPBACK, payload=secrets.token_bytes(2))
        self._once(fence, deadline)
        if outstanding and (self._ledger.gateway or self._others.network):
            self._settle(self._gap_s, deadline)
            self._odd_count = self._odd_count % ODD_COUNTS + 1
            self._once(Query(READ_REGISTERS, Span(0, self._odd_count)), deadline)
        self._ledger.note_fenced(outstanding)
        self._ledger.surplus = False  # whatever came after it is dropped before the next request
        self._ledger.trust()
        self._fence = self._client.head(LOOPBACK) + self._on_wire(fence.mirror)
        self._settle(self._gap_s, deadline)

    def _on_wire(self, data: bytes) -> bytes:
        return data.hex().upper().encode() if self._client.ascii else data

    def _two_answer(self, deadline: float) -> bool:
        """Find out who doubles the replies: two devices of one address both answer a fence.

        Otherwise another master, or another program on the same serial server, got the second one.
        """
        try:
            self._settle(self._gap_s, deadline)
            fence = Query(LOOPBACK, payload=secrets.token_bytes(2))
            self._once(fence, deadline)
            came = bytes(self._client.received[(self._client.start or 0) + self._client.size :])
            until = time.monotonic() + self._timing.linger_s
            came += self._link.settle(self._timing.linger_s, min(deadline, until + self._timing.linger_s))[0]
        except ReplyFault:
            return True  # as long as nothing shows who it is
        sign = self._client.head(LOOPBACK) + self._on_wire(fence.mirror)
        if sign in came or time.monotonic() < until:
            return True
        self._others.note_unseen()
        return False

    def _once(self, query: Query, deadline: float) -> None:
        """Get one answer, without repeating the request; a refusal is an answer as well."""
        self._begin(query, self._fence_wait(deadline), deadline)
        with contextlib.suppress(ServomexModbusError):
            self._client.send()
            self._checked(query, self._client.receive())

    def _begin(self, query: Query, wait_s: float, deadline: float) -> None:
        """Prepare for a request. Until it is answered, whatever ends the attempt, nothing is proven."""
        if wait_s <= 0:
            raise TimeUpFault
        self._ledger.begin(query)
        self._client.begin(query, wait_s, self._longest_pause(query, deadline), deadline)

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
        """Drop what comes, and find out what it was.

        Returns:
            What was dropped; whether the line fell silent; whether late replies were among it.
        """
        dropped, silent = self._link.settle(silence_s, deadline)
        self._ledger.note_stray(dropped)
        messages = messages_in(dropped, self._client.ascii) if dropped else []
        late = self._ledger.weigh(messages, self._ledger.pending)
        if self._fence and self._fence in dropped:
            # The fence was answered twice: once by the adapter's echo, taken for the analyser.
            self._line.echo = None
            self._line.proven.discard(self._address)
        self._fence = b""
        return dropped, silent, late

    def _checked(self, query: Query, pdu: Any) -> Reply:
        """Make a reply of what pymodbus has decoded, and look at what came around it.

        Raises:
            ServomexModbusError: It is an exception reply.
            GatewayFault: It is one that no analyser sends.
            DoubleFault: Two different replies came.
        """
        client = self._client
        place = client.start or 0
        raw, surplus = bytes(client.received[place : place + client.size]), client.received[place + client.size :]
        ledger, sent_at = self._ledger, self._ledger.pending[-1].sent_at
        early = self.pace.note_latency(client.first_at - sent_at)
        self._doubtful = self._doubtful or early
        ledger.surplus = len(surplus) >= SHORTEST_MESSAGE
        refused = pdu.function_code == query.function | 0x80
        if not query.mirrored:
            self._note_echo()
        ledger.weigh(client.others, ledger.pending[:-1])
        if query.mirrored and not refused:
            self.evidence.pass_by(raw)
        elif not refused:
            ledger.note_answer(raw, self.evidence.tells_itself(query, tuple(pdu.registers)))
            self.evidence.take(raw)
        if surplus:
            ledger.weigh(messages_in(bytes(surplus), client.ascii), [])
        if refused and pdu.exception_code not in PROVING:
            ledger.gateway = True
            raise GatewayFault(pdu.exception_code)
        ledger.pending.pop()  # what else of its size comes is a second reply, and no late one
        if refused:
            raise refusal(pdu.exception_code, self._circumstances(query).context)
        self.pace.note_pause(client.paused_s)
        return Reply(
            tuple(pdu.registers),
            tuple(map(bool, pdu.bits[: query.span.count])),
            getattr(pdu, "message", b""),
            raw,
            client.sent_ns,
        )

    def _note_echo(self) -> None:
        """See from the reply to a read whether the adapter echoes; a glitch in front of it is no echo."""
        client = self._client
        if client.echo_size:
            self._line.echo = True
        elif not client.others and is_glitch(bytes(client.received[: client.start]), client.sent):
            self._line.echo = False  # with more in front it stays open: that may be the echo, damaged

    def _fault(self, fault: ReplyFault) -> ReplyFault:
        """Count what ended an attempt, and return it as the fault that it turns out to be."""
        if isinstance(fault, DamagedFault | NoReplyFault):
            self._ledger.note_stray(bytes(self._client.received))
            if self._ledger.were_late(self._client.others):
                fault = LateFault("only late replies came")
            else:
                self.damaged_replies += isinstance(fault, DamagedFault)
        if isinstance(fault, CutFault):
            self.pace.note_cut()
        if not isinstance(fault, TimeUpFault):
            self._cause = fault
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
