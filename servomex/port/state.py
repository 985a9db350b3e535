"""PortState: what a protocol keeps for a port, beside the port itself."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servomex.port.link import SerialLink


class PortState:
    """Base of what all who speak one protocol on a port share, see :meth:`SerialLink.state`.

    Args:
        link: The port; it keeps this object, and not the other way round.
    """

    def __init__(self, link: "SerialLink") -> None:
        pass

    def note_opened(self) -> None:
        """Forget what held for the connection before: the port was opened. The caller holds its lock."""

    def note_forked(self) -> None:
        """Replace locks in a forked child: threads that do not exist there may hold them."""
