"""PortState: what a protocol keeps for a port, beside the port itself."""

from typing import Protocol


class StateOwner(Protocol):
    """What a protocol's state may read of the port that keeps it; a :class:`SerialLink` has it."""

    @property
    def port(self) -> str:
        """The name of the port."""

    @property
    def shared_line(self) -> bool | None:
        """Whether others ask on the line; ``None`` when that is not known."""


class PortState:
    """Base of what all who speak one protocol on a port share, see :meth:`SerialLink.state`.

    Args:
        link: The port; it keeps this object, and not the other way round.
    """

    def __init__(self, link: StateOwner) -> None:
        pass

    def note_opened(self) -> None:
        """Forget what held for the connection before: the port was opened. The caller holds its lock."""

    def note_forked(self) -> None:
        """Replace locks in a forked child: threads that do not exist there may hold them."""
