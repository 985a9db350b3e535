"""Live: the board of the page, and the readings that are held for its charts and for download."""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import attrs

from servomex.errors.validation import whole
from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.rows.formats import CSV
from servomex.views.board import Board, Figures
from servomex.views.web.messages import encoded, of_frame

HOLD = 100_000
"""How many rows are held unless another number is wanted."""
MOST_HELD = 10_000_000
HEADER = (",".join(ROW_COLUMNS) + "\n").encode()


@attrs.frozen
class Entry:
    """One reading of an analyser, as it is held.

    Attributes:
        number: 1 for the first, and so on, without a gap.
        rows: How many rows of a recording it is.
        message: What the page is sent, as JSON.
        csv: The rows, as lines of csv.
    """

    number: int
    rows: int
    message: bytes
    csv: bytes


class Live:
    """Takes readings for a page, and holds the newest of them. Any thread may use it.

    Add each analyser with :meth:`add`, and pass :meth:`take` to a :class:`Gathering`.

    Args:
        hold: How many rows are held; the oldest go first. A row takes about half a kilobyte.

    Attributes:
        board: What the analysers show now.
        run: Names this object: a number of an entry means nothing to another one.

    Raises:
        ServomexValidationError: ``hold`` is out of range.
    """

    def __init__(self, hold: int = HOLD) -> None:
        self.hold: int = whole(hold, "hold", 1, MOST_HELD)
        self.board: Board = Board()
        self.run: str = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._rows = 0
        self._number = 0
        self._listener: Callable[[], object] | None = None

    @property
    def rows(self) -> int:
        """How many rows are held."""
        return self._rows

    @property
    def number(self) -> int:
        """The number of the newest entry; 0 before the first."""
        return self._number

    def add(self, name: str, where: str, figures: Callable[[], Figures]) -> None:
        """Add an analyser, as :meth:`Board.add` does."""
        self.board.add(name, where, figures)

    def listen(self, listener: Callable[[], object] | None) -> None:
        """Have a function called after each reading, by the thread that took it; ``None`` ends that."""
        self._listener = listener

    def take(self, samples: Sequence[Sample]) -> None:
        """Take the samples of one reading."""
        by_device: dict[str, list[Sample]] = {}
        for sample in samples:
            by_device.setdefault(sample.device, []).append(sample)
        for device, batch in by_device.items():
            events = self.board.take(batch)
            view = self.board.view_of(device)
            if view is not None:
                self._hold(encoded(of_frame(view, batch, events)), batch)
        listener = self._listener
        if listener is not None:
            listener()

    def _hold(self, message: bytes, batch: list[Sample]) -> None:
        lines = "".join(CSV["."].rows(batch)).encode()
        with self._lock:
            self._number += 1
            self._entries.append(Entry(self._number, len(batch), message, lines))
            self._rows += len(batch)
            while self._rows > self.hold and len(self._entries) > 1:
                self._rows -= self._entries.popleft().rows

    def after(self, number: int, most: int) -> list[Entry]:
        """Return the entries after a number, the oldest first, and at most so many."""
        with self._lock:
            wanted = min(self._number - number, len(self._entries))
            if wanted <= 0:
                return []
            if wanted > len(self._entries) // 2:
                start = len(self._entries) - wanted
                return list(islice(self._entries, start, start + most))
            newest = list(islice(reversed(self._entries), wanted))
        return newest[::-1][:most]

    def oldest(self) -> int:
        """Return the number of the oldest entry that is held; the next one's if there is none."""
        with self._lock:
            return self._entries[0].number if self._entries else self._number + 1

    def csv(self) -> Iterator[bytes]:
        """Yield what is held now as a csv file, in pieces: a header, then the rows of a recording."""
        with self._lock:
            held = tuple(self._entries)
        yield HEADER
        for start in range(0, len(held), 100):
            yield b"".join(entry.csv for entry in held[start : start + 100])
