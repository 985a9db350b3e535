"""Ledger: which requests may still be answered, and so what each incoming message may be. No I/O.

Late replies are counted, second replies disputed; a message that no request of ours explains is another master's.
"""

from collections.abc import Iterable

from pymodbus.pdu import ModbusPDU

from servomex.modbus.evidence import Evidence
from servomex.modbus.faults import DoubleFault, GatewayFault
from servomex.modbus.framing import MAX_RECEIVED, LinkClient
from servomex.modbus.line import ModbusLine
from servomex.modbus.query import LOOPBACK, Query
from servomex.modbus.replies import Answer, Pending, Reply, is_glitch
from servomex.modbus.timing import Pace
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.traffic.messages import SHORTEST_MESSAGE, Message, messages_in

PROVING = (1, 2, 3)
"""The exceptions that the analyser itself sends (manual, Appendix B): each certainly answers a request."""
MOST_PENDING = 10
"""This many requests whose replies may still arrive are remembered."""


class Ledger:
    """Keeps the requests of one address and their answers, and weighs every message against them.

    Args:
        link: The port.
        client: Sends the requests and receives the replies.
        evidence: What the analyser's replies have shown.
        pace: How fast the analyser answers; late replies raise it.

    Attributes:
        late_replies: Replies that arrived too late and were refused.
        surplus: Whether something arrived after the last answer, so that it proves nothing.
        gateway: Whether something between here and the analyser was seen to answer by itself.
        doubtful: Whether an answer arrived so early that it may be another master's.
        contested: Whether a second reply has put an answer in doubt.
        pending: The requests whose replies may still arrive.
        stray: Bytes that arrived since the last answer and answered nothing.
    """

    def __init__(self, link: SerialLink, client: LinkClient, evidence: Evidence, pace: Pace) -> None:
        self.late_replies: int = 0
        self.surplus: bool = False
        self.gateway: bool = False
        self.doubtful: bool = False
        self.contested: bool = False
        self.pending: list[Pending] = []
        self.stray: bytes = b""
        self._link = link
        self._line = link.state(ModbusLine)
        self._others = self._line.others
        self._client = client
        self._address = client.address
        self._evidence = evidence
        self._pace = pace
        self._longest_s = self._line.timing.longest_s
        self._fenced: list[Pending] = []
        self._answers: dict[bytes, Answer] = {}
        self._generation = -1
        self._unanswered = 0

    def begin(self, query: Query) -> None:
        """Note that a request is sent now. Until it is answered nothing is proven."""
        self._unanswered += 1
        self._others.asked.add(self._address)
        self._line.proven.discard(self._address)
        self.pending = [*self.pending[1 - MOST_PENDING :], Pending(query, time.monotonic())]
        self.surplus = False

    def trust(self) -> None:
        """Note that the last request was answered, and that nothing else arrived with the answer."""
        if not self.surplus:
            self._generation = self._link.generation
            self._unanswered = 0
            self._line.proven.add(self._address)
            self.pending = []
            self.stray = b""

    def accept(self, query: Query, pdu: ModbusPDU) -> Reply | None:
        """Return what pymodbus decoded as a reply, ``None`` for a refusal, and weigh the bytes around it.

        Raises:
            GatewayFault: It is an exception that no analyser sends.
            DoubleFault: Two different replies arrived.
        """
        client = self._client
        place = client.start or 0
        raw, surplus = bytes(client.received[place : place + client.size]), client.received[place + client.size :]
        early = self._pace.note_reply(client.first_at - self.pending[-1].sent_at, client.paused_s)
        self.doubtful = self.doubtful or early
        self.surplus = len(surplus) >= SHORTEST_MESSAGE
        refused = pdu.function_code == query.function | 0x80
        if not query.mirrored and (client.echo_size or self._line.echo is not False):
            self._note_echo()
        if client.others:
            self.weigh(client.others, self.pending[:-1])
        if not refused:
            if query.mirrored:
                self._evidence.pass_by(raw)
            else:
                shape, identifies_itself = (
                    self._shape_of(raw),
                    self._evidence.take(query, raw, tuple(pdu.registers)),
                )
                self._answers[shape] = Answer(raw, identifies_itself)
        if surplus:
            self.weigh(messages_in(bytes(surplus), client.ascii), [])
        if refused and pdu.exception_code not in PROVING:
            self.gateway = True
            raise GatewayFault(pdu.exception_code)
        self.pending.pop()  # anything else of its size is a second reply, not a late one
        if refused:
            return None
        return Reply(
            tuple(pdu.registers),
            tuple(pdu.bits[: query.span.count]),
            getattr(pdu, "message", b""),
            raw,
            client.sent_ns,
        )

    def _note_echo(self) -> None:
        """Learn from the reply to a read whether the adapter echoes; a glitch in front of it is not an echo."""
        client = self._client
        if client.echo_size:
            self._line.echo = True
        elif not client.others and is_glitch(bytes(client.received[: client.start]), client.sent):
            self._line.echo = False  # with more in front it stays open: that may be the echo, damaged

    def note_stray(self, data: bytes) -> None:
        """Keep the last bytes that answered nothing, for the message of an error."""
        self.stray = (self.stray + data)[-MAX_RECEIVED:]

    def note_fenced(self, outstanding: list[Pending]) -> None:
        """Note that a fence was passed: a reply to a request from before it is not the analyser's."""
        self._fenced = outstanding

    def forget_answers(self) -> None:
        """Expect no second replies: what arrives between two calls answers others."""
        self._answers.clear()

    def weigh(self, messages: Iterable[Message], pending: list[Pending]) -> bool:
        """Explain messages that answer nothing; return whether one is a late answer to ``pending``.

        Raises:
            DoubleFault: One is a second, different reply to a request that was answered.
        """
        late = False
        for message in messages:
            mine = message.address == self._address
            answer = self._answers.get(self._shape_of(message.raw)) if mine else None
            if mine and self._note_late(message, pending):
                late = True
            elif answer is not None and answer.raw != message.raw:
                self._dispute(message)
            elif answer is not None or self._evidence.came_before(message.raw):
                if not self._others.ask_for(message.shape) and message.raw != self._client.sent:
                    self._others.note_duplicate()  # no equal request of another program explains it
            elif self._is_foreign(message, pending):
                self._others.note(message)
        return late

    def were_late(self, messages: Iterable[Message]) -> bool:
        """Find out what arrived in place of a reply; return whether late replies were among it."""
        late, pending = False, self.pending[:-1]
        for message in messages:
            if message.address == self._address and self._note_late(message, pending):
                late = True
            elif message.body[1] != self._client.function and self._is_foreign(message, pending):
                self._others.note(message)
        return late

    def _shape_of(self, raw: bytes) -> bytes:
        """Return the bytes that all replies of one shape begin with: address, function and byte count."""
        return raw[: 7 if self._client.ascii else 3]

    def _is_foreign(self, message: Message, pending: list[Pending]) -> bool:
        """Return whether nothing that this program has asked on this line explains a message."""
        if message.is_request:
            return self._line.echo is False and message.raw != self._client.sent
        if message.address == self._address:
            return not (self._may_be_forgotten(pending) or message.body[1] & 0x80)
        return message.address in self._line.proven or message.address not in self._others.asked

    def _may_be_forgotten(self, pending: list[Pending]) -> bool:
        """Return whether a request of our own that is not remembered any more may still be answered."""
        if self._generation != self._link.generation or self._unanswered >= MOST_PENDING:
            return True
        now = time.monotonic()
        return any(now - item.sent_at > self._longest_s for item in pending)

    def _dispute(self, message: Message) -> None:
        """Count a second reply of one size. Where others ask, it may be to the same request of theirs."""
        first = self._answers[self._shape_of(message.raw)].raw
        repeats = self._others.duplicates > 0
        again = self._evidence.came_before(message.raw) or (repeats and self._evidence.was_taken(first, 2))
        if again:
            self._others.note_duplicate()
        else:
            self._others.note_double()
        if not (self._others.heard or again):
            self._answers.clear()
            self._line.proven.discard(self._address)
            raise DoubleFault
        if again:
            self._evidence.pass_by(message.raw)
        else:
            self._others.note(message)
        identifies_itself = self._answers.pop(self._shape_of(message.raw)).identifies_itself
        # Where replies are repeated later, the first of two may be an old one.
        self.contested = self.contested or not identifies_itself or self._others.duplicates > 0

    def _note_late(self, message: Message, pending: list[Pending]) -> bool:
        """Return whether a message is the late reply to a request; if so, count it and wait longer in future.

        The reply to a fence is as good late as in time, if only fences were sent after it: no reply to a
        read can follow. On a line that echoes it could be the fence's own echo, and is not believed.
        """
        now = time.monotonic()
        recent = [item for item in pending if now - item.sent_at <= self._longest_s]
        late = [item for item in recent if item.is_answered_by(message.body)]
        if not late:
            return self._shape_of(message.raw) not in self._answers and self._note_overtaken(message, now)
        newest = late[-1]
        self.late_replies += 1
        self._evidence.pass_by(message.raw)
        self._pace.note_late(now - newest.sent_at)
        if newest not in self.pending:  # a fence that was answered since has settled it
            return True
        later = self.pending[self.pending.index(newest) + 1 :]
        fences = newest.query.function == LOOPBACK and all(item.query.function == LOOPBACK for item in later)
        if fences and self._line.echo is False:
            self.surplus = False
            self.trust()
            self.pending = later
        return True

    def _note_overtaken(self, message: Message, now: float) -> bool:
        """Return whether a message is the reply to a request from before the last fence.

        If so, it was not the analyser that answered the fence, but a gateway.
        """
        fenced = [item for item in self._fenced if now - item.sent_at <= self._longest_s]
        overtaken = any(item.is_answered_by(message.body) for item in fenced)
        self.gateway = self.gateway or overtaken
        self.late_replies += overtaken
        return overtaken
