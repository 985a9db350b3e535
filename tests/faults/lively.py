"""A virtual analyser whose states tell which channel has them and when, and that remembers when gas flowed."""

import attrs

from servomex.enums import ChannelId
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer
from tests.faults.truth import EXTERNAL, ORDER, Moment, Said, Truth

TURN_S = 0.5
"""How long all states stay as they are."""
SELF_CLEAR_S = 0.02


class LivelyTruth(Truth):
    """A virtual analyser that remembers, with states that no other channel has at the same time.

    The four alarms of a channel are a number of four bits: its place in the series and three times the count of
    half seconds. Its other flags, and those of the analyser, change with that count as well.

    Args:
        number: 0 to 9; a digit of all its values.
        channels: Which channels are populated beside E1 and E2.
        mode: Communication mode.
        address: Slave address.
        period: Seconds between broadcasts.

    Attributes:
        clears_coils: A start or stop coil goes back to 0 by itself.
        frozen: Each broadcast is the last one once more, byte by byte.
        replayed: What somebody else has said again in its place, as the answer to an equal request.
        steady: States that stay, by channel, whatever the time is.
    """

    def __init__(self, number: int, channels: list[str], mode: str, address: int, period: float) -> None:
        self.clears_coils = False
        self.frozen = False
        self.replayed: list[Said] = []
        self.steady: dict[ChannelId, ChannelStatus] = {}
        self._turn = -1
        self._raw = b""
        super().__init__(number, channels, mode, address, period)

    def live(self) -> None:
        """Bring all states to those of this moment."""
        turn = int((self.now() - self._epoch) / TURN_S)
        if turn == self._turn:
            return
        self._turn = turn
        self.fault, self.maintenance = turn % 2 == 1, turn % 3 == 1
        for channel, item in self.channels.items():
            item.status = self.steady.get(channel) or _state(channel, turn)

    def input_registers(self, address: int, count: int) -> list[int]:
        with self.panel():
            self.live()
            return super().input_registers(address, count)

    def discrete_inputs(self, address: int, count: int) -> list[bool]:
        with self.panel():
            self.live()
            return super().discrete_inputs(address, count)

    def coils(self, address: int, count: int) -> list[bool]:
        with self.panel():
            if self.clears_coils:
                self._clear_coils()
            return super().coils(address, count)

    def broadcast(self) -> bytes:
        with self.panel():
            if not (self.frozen and self._raw):
                self.live()
                self._raw = super().broadcast()
            return self._raw

    def frame(self) -> Frame:
        """What a reader should see, channels without a name included: they have a value and a state."""
        return VirtualAnalyzer.frame(self)

    def moment(self) -> Moment:
        return attrs.evolve(super().moment(), unnamed=self.mode == "continuous")

    def halt(self) -> None:
        """Stop all calibrations, as at the panel."""
        with self.panel(), self._lock:
            self._cycles.clear()

    def zero_coils(self) -> None:
        """Write zeros to the coils of all starts and of the stop, as another master does that keeps an image."""
        with self._lock:
            self._coils = dict.fromkeys(self._coils, False)

    def gases(self) -> list[int]:
        """The gas that flows for each group now; 0 for sample."""
        with self.panel():
            return [self.cal_gas(group) for group in range(1, 5)]

    def _clear_coils(self) -> None:
        for at, coil, value in self.coil_log[-4:]:
            if value and self.now() - at >= SELF_CLEAR_S:
                self._coils[coil] = False


def _state(channel: ChannelId, turn: int) -> ChannelStatus:
    bits = (ORDER.index(channel) + 3 * turn) % 16
    alarms = (bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8))
    fault, maintenance, warming = turn // 3 % 4 == 1, turn % 4 == 2, turn % 5 == 3
    if channel in EXTERNAL:  # the manual reserves their other bits
        maintenance = warming = False
    return ChannelStatus(fault, maintenance, False, warming, alarms)
