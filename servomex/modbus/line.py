"""ModbusLine: what the Modbus clients of one line know of it. No I/O."""

from servomex.modbus.others import Others
from servomex.modbus.timing import Timing
from servomex.port.state import PortState, StateOwner


class ModbusLine(PortState):
    """What the Modbus clients of one port share: ``link.state(ModbusLine)``.

    Attributes:
        timing: How long things may take on it; a client keeps the timing that applied when it began to ask.
        others: What was heard of other masters and programs on the line.
        echo: Whether the adapter sends back what is written; ``None`` until a reply has shown it.
        proven: Addresses from which no late reply can arrive, since the last answer was to the last request.
    """

    timing: Timing = Timing()

    def __init__(self, link: StateOwner) -> None:
        super().__init__(link)
        self.others: Others = Others(link.port, link.shared_line)
        self.echo: bool | None = None
        self.proven: set[int] = set()

    def note_opened(self) -> None:
        """Forget echo and proof: the adapter may be another, and a program before may have left a request."""
        self.echo = None
        self.proven.clear()
