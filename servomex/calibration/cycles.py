"""The autocalibrations started here: whether one is still running while its group is on sample. No I/O."""

from typing import TYPE_CHECKING

from servomex.enums import CalPhase
from servomex.port.state import PortState, StateOwner
from servomex.runtime.clock import time
from servomex.runtime.locks import PortLock

if TYPE_CHECKING:
    from servomex.modbus.client import ModbusClient

SAMPLE_LOOKS = 2
"""One reading may be wrong: a group counts as on sample after this many in a row."""


class Cycle:
    """One autocalibration of a group, from its start until the group has settled on sample.

    A group may be on sample for a while between its gases, so that only time shows that it has ended.

    Args:
        settle_s: Seconds on sample after which it counts as ended.
        longest_gap_s: For a watched one: after a longer time without a reading there may have been gas in between,
            and the seconds on sample start again.

    Attributes:
        looks: How many times in a row the group was seen on sample.
        seconds: The time from the first to the last of them.
        watched: Whether :meth:`Analyzer.calibrate` follows it, so that other readings are not noted.
    """

    def __init__(self, settle_s: float, longest_gap_s: float | None = None) -> None:
        self.looks: int = 0
        self.seconds: float = 0.0
        self.watched: bool = longest_gap_s is not None
        self._settle_s = settle_s
        self._longest_gap_s = longest_gap_s
        self._begun = False
        self._since = self._last = 0.0

    @property
    def over(self) -> bool:
        """Whether the group has settled on sample."""
        return self.looks >= SAMPLE_LOOKS and self.seconds >= self._settle_s

    def phase(self, shown: CalPhase) -> CalPhase:
        """Return the phase of the group from its state: sample is ``SAMPLING`` until it has settled."""
        goes_on = self._begun and not self.over
        return CalPhase.SAMPLING if shown is CalPhase.IDLE and goes_on else shown

    def note(self, shown: CalPhase) -> None:
        """Take one more reading of the state into account."""
        now = time.monotonic()
        if shown is not CalPhase.IDLE:
            self.looks, self.seconds, self._begun = 0, 0.0, True
            return
        broken = self.watched and self._longest_gap_s is not None and now - self._last > self._longest_gap_s
        if not self.looks or broken:
            self.looks, self._since = 0, now
        self.looks, self.seconds, self._last = self.looks + 1, now - self._since, now


class Underway:
    """The autocalibrations at one Modbus address of a port, shared by all callers that start, watch or stop them.

    Attributes:
        stops: How often they were stopped.
        cycles: Those started here that have not settled, by group.
        pulse_lock: Held while a coil is pulsed; others may use the port meanwhile.
        start_lock: Held while an autocalibration is started or watched.
    """

    def __init__(self) -> None:
        self.stops: int = 0
        self.cycles: dict[int, Cycle] = {}
        self.pulse_lock: PortLock = PortLock()
        self.start_lock: PortLock = PortLock()


class _Addresses(PortState):
    """The autocalibrations under way on a port, by Modbus address."""

    def __init__(self, link: StateOwner) -> None:
        super().__init__(link)
        self._found: dict[int, Underway] = {}

    def at(self, address: int) -> Underway:
        """Return the one object for an address."""
        return self._found.setdefault(address, Underway())

    def note_forked(self) -> None:
        """Leave them to the parent, with their locks."""
        self._found = {}


def underway(client: "ModbusClient") -> Underway:
    """Return the autocalibrations under way at the address of an analyser."""
    return client.link.state(_Addresses).at(client.address)
