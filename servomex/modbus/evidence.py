"""Evidence: how much a reply proves by itself, and how often it must be repeated before it is believed. No I/O."""

from collections import deque

from servomex import registers
from servomex.modbus.known import Known, same_labels
from servomex.modbus.others import Others
from servomex.modbus.query import READ_INPUTS, READ_REGISTERS, Query
from servomex.modbus.replies import Reply
from servomex.runtime.clock import time

RECENT_KEPT = 1024
"""Number of replies that are remembered, to notice a repeated one."""
PASSED_KEPT = 16
"""The same for replies that identify nothing, or were not taken for an answer."""
_TELLING = {
    (READ_REGISTERS, 2 * registers.ALL_REGISTERS.count),
    (READ_INPUTS, (registers.ALL_STATES.count + 7) // 8),
}
"""Function code and data bytes of the reads that cover everything: no other read returns as much."""


class Evidence:
    """Compares each reply of one analyser with what is known of it, of its line, and of earlier replies.

    Args:
        others: What was heard of other masters and programs on the line.
        longest_s: How late a reply, or its repetition, may arrive.

    Attributes:
        known: What the analyser's replies have shown.
    """

    def __init__(self, others: Others, longest_s: float) -> None:
        self.known: Known = Known()
        self._others = others
        self._longest_s = longest_s
        self._passed: deque[bytes] = deque(maxlen=PASSED_KEPT)
        self._recent: deque[tuple[bytes, float]] = deque(maxlen=RECENT_KEPT)

    def take(self, query: Query, raw: bytes, words: tuple[int, ...]) -> bool:
        """Remember a reply that was taken for an answer, to notice when it is repeated.

        Returns:
            Whether it alone shows what it answers, see :meth:`identifies_itself`.
        """
        self._recent.append((raw, time.monotonic()))
        return self.identifies_itself(query, words)

    def pass_by(self, raw: bytes) -> None:
        """Remember the reply to a loopback or a write, or one that was not taken: it may be repeated as well."""
        self._passed.append(raw)

    def further_proofs(self, query: Query, reply: Reply) -> int:
        """Return how many equal replies are still needed before one is believed.

        The size of a reply shows what it answers if only one read has it; names and units show it where they are
        known and tell the channels apart. Bits show nothing, but those that have not changed do no harm.
        """
        if query.mirrored:
            return 0
        if self.may_be_old(reply):
            return 1
        if query.paired or self.identifies_itself(query, reply.words):
            return 0
        shared = self._others.shared
        if query.function == READ_REGISTERS:
            return int(shared or not self.known.fits_words(query.span, reply.words))
        contested = self._others.ask_for((query.function, 3 + query.data_size))
        if self.known.fits_bits(query.function, query.span, reply.bits):
            return int(contested)
        return 3 if contested else int(shared or query.function == READ_INPUTS)

    def identifies_itself(self, query: Query, words: tuple[int, ...]) -> bool:
        """Return whether a reply shows what it answers: by a size of its own, or by its names and units."""
        if (query.function, query.data_size) in _TELLING:
            return bool(words) or not self._others.ask_for((query.function, 3 + query.data_size))
        if query.function != READ_REGISTERS:
            return False
        return bool(self.known.fits_words(query.span, words)) and self.known.distinguishes(query.span)

    def note(self, query: Query, reply: Reply) -> None:
        """Remember the contents of a reply that is believed."""
        if query.function == READ_REGISTERS:
            self.known.note_words(query.span, reply.words)
        elif not query.mirrored:
            self.known.note_bits(query.function, query.span, reply.bits)

    def may_be_old(self, reply: Reply) -> bool:
        """Return whether a reply may be an earlier one repeated, on a line that repeats replies."""
        return self._others.duplicates > 0 and self.was_taken(reply.raw, 2)

    def came_before(self, raw: bytes) -> bool:
        """Return whether the same reply arrived recently, byte for byte, whether it was taken or not."""
        return raw in self._passed or self.was_taken(raw)

    def was_taken(self, raw: bytes, times: int = 1) -> bool:
        """Return whether the same reply was recently taken for an answer this many times."""
        since = time.monotonic() - self._longest_s
        return sum(at >= since and seen == raw for seen, at in self._recent) >= times

    def agree(self, query: Query, left: Reply, right: Reply) -> bool:
        """Return whether two replies agree; the values may have moved meanwhile."""
        return same_labels(query.span, left.words, right.words) and left.bits == right.bits
