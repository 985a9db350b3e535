"""PortState: the state that a protocol keeps for a port."""

from typing import Protocol


class StateOwner(Protocol):
    """What a protocol's state may read of the port that keeps it; implemented by :class:`SerialLink`."""

    @property
    def port(self) -> str:
        """The name of the port."""

    @property
    def shared_line(self) -> bool | None:
        """Whether others use the line; ``None`` when that is not known."""


class PortState:
    """Base class of the state shared by all users of one protocol on a port, see :meth:`SerialLink.state`.

    Args:
        link: The port; it keeps this object, and not the other way round.
    """

    def __init__(self, link: StateOwner) -> None:
        pass

    def note_opened(self) -> None:
        """Forget what applied to the previous connection: the port was opened. The caller holds its lock."""

    def note_forked(self) -> None:
        """Replace locks in a forked child: threads that do not exist there may hold them."""
