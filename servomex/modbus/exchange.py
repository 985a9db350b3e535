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
from collections import deque
from collections.abc import Iterable
from typing import Any

from servomex import registers
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
from servomex.modbus.framing import MAX_RECEIVED, SILENCE_S, LinkClient
from servomex.modbus.line import ModbusLine
from servomex.modbus.query import LOOPBACK, READ_INPUTS, READ_REGISTERS, Query
from servomex.modbus.replies import LONGEST_S, Answer, Pending, Reply, is_glitch
from servomex.port.link import SerialLink
from servomex.registers import Span
from servomex.runtime.clock import time
from servomex.runtime.signals import pass_on_interruption
from servomex.traffic.messages import Message, messages_in
from servomex.traffic.words import refusal

SHORTEST_MESSAGE = 5
"""Fewer bytes than this are no reply, but a glitch."""
SHORTEST_GAP_CHARS = 3.5
"""The silence that ends a message by the Modbus specification: no gap may be shorter."""
QUIET_S = 0.25
"""Silence that is waited for after a failure, before the fence."""
RESTLESS_S = 1.0
"""How long such a silence is waited for: another master may leave none."""
LINGER_S = 0.5
"""How long a second answer to a fence is waited for, when it is to be found out who doubles the replies."""
USUAL_WAIT_S = (0.15, 0.5)
"""Bounds of how long a reply may take to begin before it counts as lost: four times the latency that was seen."""
PATIENCE = 1.5
"""Where replies are slower than those bounds, they may take this many times what the slowest took."""
FIRST_GUESS_S = 0.12
LONGEST_PAUSE_S = 2.0
"""The longest pause within a reply that is waited for, where replies were cut short before."""
MOST_TRIES = 10
"""How often a request is repeated whose replies differ from one to the next."""
BUSY_S = 0.1
"""Pause before a request is repeated that a gateway or a busy analyser answered with 05, 06, 0A or 0B."""
REPEATS_AMONG_OTHERS = 8
"""How often a request is repeated on a line with another master, unless its deadline comes first."""
MOST_PENDING = 10
"""So many requests are remembered whose replies may still come."""
LATENCIES_KEPT = 32
EARLY = 0.9
"""A reply that takes less than this share of the fastest of so many replies may be another master's."""
JITTER_S = 0.005
"""Latencies that are shorter say nothing: a virtual line has them."""
PROVING = (1, 2, 3)
"""The exceptions that the analyser itself sends (manual, Appendix B): each answers a request for certain."""
ODD_COUNTS = 6
"""So many registers, or fewer, are read by no master: a reply of that size answers the read that is the fence."""


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
        late_replies: Replies that came too late and were refused.
        damaged_replies: Attempts that failed because what came was damaged or answered something else.
        slowest_s: How long replies have taken to begin, the slowest of the recent ones. Late replies raise it at
            once, prompt ones lower it step by step.
    """

    def __init__(
        self, link: SerialLink, address: int, framing: ProtocolKind, retries: int, gap_s: float | None = None
    ) -> None:
        self._line = link.state(ModbusLine)
        self.repeats: int = 0
        self.evidence: Evidence = Evidence(self._line.others)
        self.late_replies: int = 0
        self.damaged_replies: int = 0
        self.slowest_s: float = FIRST_GUESS_S
        self._link = link
        self._others = self._line.others
        self._address = address
        self._framing = framing
        self._retries = retries
        self._client = LinkClient(link, address, framing)
        self._pending: list[Pending] = []
        self._fenced: list[Pending] = []
        self._surplus = False
        self._stray = b""
        self._fence = b""
        self._answers: dict[bytes, Answer] = {}
        self._gap_s = max(link.gap_s if gap_s is None else gap_s, SHORTEST_GAP_CHARS * link.settings.char_time_s)
        self._pause_s = SILENCE_S
        self._latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._gateway = False
        self._generation = -1
        self._unanswered = 0
        self._odd_count = 0
        self._doubtful = self._contested = False
        self._cause: ReplyFault | None = None
        self._unanswered_fences = 0
        self._last_try = False
        self._probe_wait_s: float | None = None
        self._proves = True

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
        mine, self._contested, self._doubtful = not self._contested, False, False
        if self._others.heard:  # what comes between two calls answers others
            self._answers.clear()
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
                self._trust()
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
                self._trust()
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
        if isinstance(fault, GatewayFault):
            self._link.pause(BUSY_S)

    def _first_wait(self, left: int, deadline: float) -> float:
        """Decide how long the reply may take to begin, so that ``left`` more attempts fit before the deadline."""
        remaining = deadline - time.monotonic()
        if self._probe_wait_s is not None:
            return min(remaining, self._probe_wait_s)
        if not left:
            return remaining
        shortest, longest = USUAL_WAIT_S
        share = max(shortest, min(longest, 4 * self.slowest_s, remaining / (left + 1)))
        return min(remaining, max(PATIENCE * self.slowest_s, share))

    def _longest_pause(self, query: Query, deadline: float) -> float:
        """Decide how long a reply that has begun may pause: for long where nothing is tried after it.

        A network may hold back the rest of a reply: there the pause is a share of the time that is left.
        """
        if self._probe_wait_s is not None:
            return self._pause_s
        if self._last_try or query.writes:
            return LONGEST_PAUSE_S
        share = (deadline - time.monotonic()) / (2 * (self._retries + 2)) if self._others.network else 0.0
        return max(self._pause_s, min(share, LONGEST_PAUSE_S))

    def _fence_wait(self, deadline: float) -> float:
        """Decide how long a fence may take. The last one gets half of what is left: the analyser may be slow."""
        last = self._last_try or self._unanswered_fences >= self._retries
        if not last or self._probe_wait_s is not None:
            return self._first_wait(1, deadline)
        return max(self._first_wait(1, deadline), min(LONGEST_S, (deadline - time.monotonic()) / 2))

    def _prove(self, deadline: float) -> None:
        """Make sure that no reply to an earlier request can still come: silence, then the fence.

        The fence is repeated while late replies show that there is an analyser; one that nothing answers is
        repeated as often as any request.
        """
        while True:
            if self._pending and not self._others.heard:
                self._drop(QUIET_S, min(deadline, time.monotonic() + RESTLESS_S))
            self._settle(self._silence_s, deadline)
            outstanding = self._pending
            if self._line.echo is None:
                self._once(Query(READ_INPUTS, registers.ANALYSER_FLAGS), deadline)
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
        if outstanding and (self._gateway or self._others.network):
            self._settle(self._gap_s, deadline)
            self._odd_count = self._odd_count % ODD_COUNTS + 1
            self._once(Query(READ_REGISTERS, Span(0, self._odd_count)), deadline)
        self._fenced = outstanding
        self._surplus = False  # whatever came behind it is dropped before the next request
        self._trust()
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
            until = time.monotonic() + LINGER_S
            came += self._link.settle(LINGER_S, min(deadline, until + LINGER_S))[0]
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
        self._unanswered += 1
        self._others.asked.add(self._address)
        self._line.proven.discard(self._address)
        self._pending = [*self._pending[1 - MOST_PENDING :], Pending(query, time.monotonic())]
        self._surplus = False
        self._client.begin(query, wait_s, self._longest_pause(query, deadline), deadline)

    def _trust(self) -> None:
        """Note that the last request was answered, and that nothing else came with the answer."""
        if not self._surplus:
            self._generation = self._link.generation
            self._unanswered = 0
            self._line.proven.add(self._address)
            self._pending = []
            self._stray = b""

    def _settle(self, silence_s: float, deadline: float) -> None:
        """Wait for silence.

        Raises:
            ReplyFault: There was none until ``deadline``, or see :meth:`_weigh`.
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
        self._stray = (self._stray + dropped)[-MAX_RECEIVED:]
        late = bool(dropped) and self._weigh(messages_in(dropped, self._client.ascii), self._pending)
        if self._fence and self._fence in dropped:
            # The fence was answered twice: once by the adapter's echo, taken for the analyser.
            self._line.echo = None
            self._line.proven.discard(self._address)
        self._fence = b""
        return dropped, silent, late

    def _weigh(self, messages: Iterable[Message], pending: list[Pending]) -> bool:
        """Find out what messages are that answer nothing; tell whether a late reply to ``pending`` is among them.

        Raises:
            DoubleFault: A second, different reply to a request that was answered is among them.
        """
        late = False
        for message in messages:
            mine = message.address == self._address
            answer = self._answers.get(self._shape_of(message.raw)) if mine else None
            if mine and self._note_late(message, pending):
                late = True
            elif answer is not None and answer.raw != message.raw:
                self._dispute(message)
            elif answer is not None or self.evidence.came_before(message.raw):
                self._note_again(message)
            elif self._is_foreign(message, pending):
                self._others.note(message)
        return late

    def _note_again(self, message: Message) -> None:
        """Count a reply that came again, unless another program's equal request explains it."""
        if not self._others.ask_for(message.shape) and message.raw != self._client.sent:
            self._others.note_duplicate()

    def _shape_of(self, raw: bytes) -> bytes:
        """Return the bytes that all replies of one shape begin with: address, function and byte count."""
        return raw[: 7 if self._client.ascii else 3]

    def _is_foreign(self, message: Message, pending: list[Pending]) -> bool:
        """Whether nothing that this program has asked on this line explains a message."""
        if message.is_request:
            return self._line.echo is False and message.raw != self._client.sent
        if message.address == self._address:
            return not (self._may_be_forgotten(pending) or message.body[1] & 0x80)
        return message.address in self._line.proven or message.address not in self._others.asked

    def _may_be_forgotten(self, pending: list[Pending]) -> bool:
        """Whether a request of our own that is not remembered any more may still be answered."""
        if self._generation != self._link.generation or self._unanswered >= MOST_PENDING:
            return True
        now = time.monotonic()
        return any(now - item.sent_at > LONGEST_S for item in pending)

    def _dispute(self, message: Message) -> None:
        """Take note of a second reply of one size. Where others ask, it may be to the same request of theirs."""
        first = self._answers[self._shape_of(message.raw)].raw
        repeats = self._others.duplicates > 0
        again = self.evidence.came_before(message.raw) or (repeats and self.evidence.was_taken(first, 2))
        if again:
            self._others.note_duplicate()
        else:
            self._others.note_double()
        if not (self._others.heard or again):
            self._answers.clear()
            self._line.proven.discard(self._address)
            raise DoubleFault
        if again:
            self.evidence.pass_by(message.raw)
        else:
            self._others.note(message)
        tells_itself = self._answers.pop(self._shape_of(message.raw)).tells_itself
        # Where replies come again later, the first of two may be an old one.
        self._contested = self._contested or not tells_itself or self._others.duplicates > 0

    def _note_late(self, message: Message, pending: list[Pending]) -> bool:
        """Tell whether a message is the late reply to a request; if so, count it and become more patient.

        The reply to a fence is as good late as in time, when nothing but fences was sent after it: no reply to a
        read can follow. On a line that echoes it could be the fence's own echo, and is not believed.
        """
        now = time.monotonic()
        recent = [item for item in pending if now - item.sent_at <= LONGEST_S]
        late = [item for item in recent if item.is_answered_by(message.body)]
        if not late:
            return self._shape_of(message.raw) not in self._answers and self._note_overtaken(message, now)
        newest = late[-1]
        self.late_replies += 1
        self.evidence.pass_by(message.raw)
        self.slowest_s = max(self.slowest_s, now - newest.sent_at)
        if newest not in self._pending:  # a fence that was answered since has settled it
            return True
        later = self._pending[self._pending.index(newest) + 1 :]
        fences = newest.query.function == LOOPBACK and all(item.query.function == LOOPBACK for item in later)
        if fences and self._line.echo is False:
            self._surplus = False
            self._trust()
            self._pending = later
        return True

    def _note_overtaken(self, message: Message, now: float) -> bool:
        """Tell whether a message is the reply to a request from before the last fence.

        If so, it was not the analyser that answered the fence, but a gateway.
        """
        fenced = [item for item in self._fenced if now - item.sent_at <= LONGEST_S]
        overtaken = any(item.is_answered_by(message.body) for item in fenced)
        self._gateway = self._gateway or overtaken
        self.late_replies += overtaken
        return overtaken

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
        self._note_latency(client.first_at - self._pending[-1].sent_at)
        self._surplus = len(surplus) >= SHORTEST_MESSAGE
        refused = pdu.function_code == query.function | 0x80
        if not query.mirrored:
            self._note_echo()
        self._weigh(client.others, self._pending[:-1])
        if query.mirrored and not refused:
            self.evidence.pass_by(raw)
        elif not refused:
            self._answers[self._shape_of(raw)] = Answer(
                raw, self.evidence.tells_itself(query, tuple(pdu.registers))
            )
            self.evidence.take(raw)
        self._weigh(messages_in(bytes(surplus), client.ascii), [])
        if refused and pdu.exception_code not in PROVING:
            self._gateway = True
            raise GatewayFault(pdu.exception_code)
        self._pending.pop()  # what else of its size comes is a second reply, and no late one
        if refused:
            raise refusal(pdu.exception_code, self._circumstances(query).context)
        self._pause_s = max(SILENCE_S, PATIENCE * client.paused_s, 0.9 * self._pause_s)
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

    def _note_latency(self, latency_s: float) -> None:
        """Learn from a reply how long to wait for the next, and whether it came sooner than this analyser can."""
        fastest_s = min(self._latencies, default=0.0) if len(self._latencies) == LATENCIES_KEPT else 0.0
        self._doubtful = self._doubtful or (fastest_s > JITTER_S and latency_s < EARLY * fastest_s)
        self._latencies.append(latency_s)
        self.slowest_s = max(latency_s, 0.9 * self.slowest_s)

    def _fault(self, fault: ReplyFault) -> ReplyFault:
        """Count what ended an attempt, and return it as the fault that it turns out to be."""
        if isinstance(fault, DamagedFault | NoReplyFault):
            self._stray = (self._stray + bytes(self._client.received))[-MAX_RECEIVED:]
            if self._were_late(self._client.others):
                fault = LateFault("only late replies came")
            else:
                self.damaged_replies += isinstance(fault, DamagedFault)
        if isinstance(fault, CutFault):
            self._pause_s = min(LONGEST_PAUSE_S, 4 * self._pause_s)
        if not isinstance(fault, TimeUpFault):
            self._cause = fault
        return fault

    def _were_late(self, messages: Iterable[Message]) -> bool:
        """Find out what came in the place of a reply; tell whether late replies were among it."""
        late, pending = False, self._pending[:-1]
        for message in messages:
            if message.address == self._address and self._note_late(message, pending):
                late = True
            elif message.body[1] != self._client.function and self._is_foreign(message, pending):
                self._others.note(message)
        return late

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
            self._stray,
            self.late_replies,
            retries,
        )
