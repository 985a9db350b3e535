"""Others on a line: what was heard of a second master, or of another program on the same serial server. No I/O."""

from collections import Counter

from servomex.durations import counted
from servomex.port.names import is_network
from servomex.traffic.messages import Message

CURE = "Let one program ask at a time, or poll less often"


class Others:
    """Evidence that others use the line, and what they ask for.

    Modbus replies on a serial line do not say which request they answer. On a line that is shared, a reply to
    another program's request may be taken for one's own; see
    :mod:`servomex.modbus.exchange` for what is done about it.

    Args:
        port: The port's name: one on a network counts as shared unless it is declared private.
        shared: What the user has declared; ``None`` for nothing.

    Attributes:
        network: Whether the port is on a network.
        asked: The slave addresses that this program has asked on this line.
        messages: Messages heard that this program cannot have caused.
        requests: How many of them were requests of another master.
        duplicates: Replies that arrived twice, byte for byte.
        doubles: Requests that got two different replies.
        heard: Whether a message was heard that only another master or program explains.
        shared: Whether a reply must be proven to be one's own: declared so, on a network, or others were noticed.
    """

    def __init__(self, port: str, shared: bool | None = None) -> None:
        self.network: bool = is_network(port)
        self.asked: set[int] = set()
        self.messages: int = 0
        self.requests: int = 0
        self.duplicates: int = 0
        self.doubles: int = 0
        self.heard: bool = False
        self.shared: bool = self.network if shared is None else shared
        self._shapes: Counter[tuple[int, int]] = Counter()

    def note(self, message: Message) -> None:
        """Count a message that this program did not cause."""
        self.note_unseen()
        if message.is_request:
            self.requests += 1
        else:
            self._shapes[message.shape] += 1

    def note_unseen(self) -> None:
        """Count a message that must have been sent: another program on the same serial server got it."""
        self.messages += 1
        self.heard = self.shared = True

    def note_duplicate(self) -> None:
        """Count a reply that was repeated."""
        self.duplicates += 1
        self.shared = True

    def note_double(self) -> None:
        """Count a second, different reply to one request."""
        self.doubles += 1
        self.shared = True

    def ask_for(self, shape: tuple[int, int]) -> bool:
        """Return whether others were heard to get replies of this function code and body size."""
        return shape in self._shapes

    @property
    def seen(self) -> str:
        """What was heard, in words; empty when nothing was."""
        if not self.heard:
            return ""
        what = counted(self.messages, "message")
        who = "another master" if self.requests else "another master, or another program on the serial server,"
        return f"{who} is asking on this line ({what} that this program did not cause)"
