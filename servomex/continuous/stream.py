"""BroadcastStream: the broadcasts in the bytes of a line, and the damage among them. No I/O, no clock."""

from collections.abc import Iterator
from datetime import datetime

from servomex.continuous.damage import Damage
from servomex.errors import ServomexParseError
from servomex.models.frame import Frame
from servomex.runtime.suspend import Moment
from servomex.telegram import FrameSplitter, parse_frame
from servomex.traffic.symptoms import is_part_of_broadcast


class BroadcastStream:
    """Finds frames in a stream of bytes, which may begin in the middle of a frame.

    Attributes:
        discarded_bytes: Bytes that were part of no good frame.
    """

    def __init__(self) -> None:
        self.discarded_bytes: int = 0
        self._splitter = FrameSplitter()
        self._damage = Damage()
        self._joined = self._joined_within = False

    @property
    def pending(self) -> int:
        """How many bytes are held that are not a whole frame yet."""
        return self._splitter.pending

    @property
    def has_part(self) -> bool:
        """Whether part of a broadcast was received: it was joined in the middle, or is not whole yet."""
        return self._joined_within or is_part_of_broadcast(self._splitter.held)

    def feed(
        self, data: bytes, received_at: datetime, now: Moment, period_s: float | None
    ) -> Iterator[Frame | ServomexParseError]:
        """Yield the frames that are whole now, and an error in place of each damaged one.

        Args:
            data: The bytes received.
            received_at: When they arrived, UTC.
            now: The same on the other clocks.
            period_s: Seconds between broadcasts; ``None`` when that is not known.
        """
        for piece in self._splitter.feed(data):
            try:
                frame = parse_frame(piece, received_at=received_at, monotonic_ns=now.monotonic_ns).populated()
            except ServomexParseError as error:
                error.received_at, error.monotonic_ns = received_at, now.monotonic_ns
                self.discarded_bytes += len(piece)
                if self._joined and self._damage.is_broadcast(piece, now.lasting_s, period_s):
                    yield error
                elif not self._joined:  # what joining in the middle cuts off is not the line's fault
                    self._joined_within = self._joined_within or is_part_of_broadcast(piece)
            else:
                self._damage.note_good(len(piece), now.lasting_s)
                yield frame
            self._joined = True

    def restart(self) -> None:
        """Drop what was half received: the next bytes may begin in the middle of a frame."""
        self._splitter.flush()
        self._joined = False
