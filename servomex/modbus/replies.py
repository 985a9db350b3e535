"""Replies, the requests that they may answer, and the bytes in front of them. No I/O."""

import attrs

from servomex.modbus.query import Query

LONGEST_GLITCH = 3
"""At most this many stray bytes precede a reply when an RS485 driver switches; an echo has at least 8."""


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
class Pending:
    """A request whose reply may still arrive, and when it was sent."""

    query: Query
    sent_at: float

    def is_answered_by(self, body: bytes) -> bool:
        """Return whether a message from the same address is the reply to it, or its refusal."""
        if body[1] == self.query.function | 0x80:
            return True
        mirror = self.query.mirror
        return body[1] == self.query.function and (
            body[2:] == mirror if mirror else len(body) == 3 + self.query.data_size
        )


@attrs.frozen
class Answer:
    """The last reply of one size, and whether it shows by itself what it answers."""

    raw: bytes
    identifies_itself: bool


def is_glitch(front: bytes, sent: bytes) -> bool:
    """Return whether bytes before a reply, if any, are too few for an echo, and not the end of one."""
    return not front or (len(front) <= LONGEST_GLITCH and not sent.endswith(front) and not sent.startswith(front))
