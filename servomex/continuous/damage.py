"""Damage: which damaged input counts as a missing broadcast. No I/O, no clock of its own."""

import re

from servomex.telegram import HEADER, HEADER_SIZE, MAX_CHANNELS, frame_size

LINE_END = 2
"""Bytes of CR LF, which end a broadcast and are not part of its frame."""
UNKNOWN_S = 0.5
"""How long a damaged broadcast may take to arrive when no period is known; else it is half a period."""
_BEGINNING = re.compile(rb" [0-9]{2}-")


class Damage:
    """Distinguishes damaged broadcasts from further parts of the same one, and from noise between them.

    A byte that has become a line end cuts a broadcast into two pieces, and a damaged line end is a piece
    by itself. What follows a piece closely, and fits into the same broadcast, belongs to it.
    """

    def __init__(self) -> None:
        self._size = frame_size(MAX_CHANNELS) + LINE_END
        self._room = 0
        self._until_s = 0.0

    def note_good(self, size: int, at_s: float) -> None:
        """Note a good frame, whose line end may be damaged.

        Args:
            size: Its bytes, the line end not included.
            at_s: When it arrived.
        """
        self._size = size + LINE_END
        self._room, self._until_s = LINE_END, at_s + UNKNOWN_S

    def is_broadcast(self, piece: bytes, at_s: float, period_s: float | None) -> bool:
        """Return whether a damaged piece is the first of its broadcast.

        Args:
            piece: The bytes, its line end included if it has one.
            at_s: When they arrived.
            period_s: Seconds between broadcasts; ``None`` when that is not known.
        """
        if len(piece) <= self._room and at_s <= self._until_s and HEADER.match(piece) is None:
            self._room -= len(piece)
            return False
        if len(piece) < HEADER_SIZE and not piece.endswith(b"\n") and _BEGINNING.match(piece) is None:
            return False
        self._room = self._size - len(piece)
        self._until_s = at_s + (UNKNOWN_S if period_s is None else period_s / 2)
        return True
