"""A virtual analyser whose values tell who said them and when, and who remembers all that it ever said."""

import contextlib
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import attrs

from servomex.enums import ChannelId, ProtocolKind
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer, VirtualChannel

RATE_HZ = 50
"""How often all values change."""
ORDER = list(ChannelId)
CLOCK_START = datetime(2026, 3, 1, 12, 0, 0)  # noqa: DTZ001 (the instrument's clock has no zone)
EXTERNAL = (ChannelId.E1, ChannelId.E2)
BROADCAST = 0
"""Stands for the function code of what was sent unasked."""


@attrs.frozen
class Block:
    """What one channel has at one moment. The value of an external input counts only while it is valid."""

    name: str | None
    value: float | None
    unit: str
    status: ChannelStatus


@attrs.frozen
class Moment:
    """What an analyser has at one moment: all its channels, also those without a name, and its own state.

    Attributes:
        unnamed: Whether channels without a name are in what is said.
    """

    blocks: dict[ChannelId, Block]
    fault: bool
    maintenance: bool
    groups: str
    clock: datetime | None
    unnamed: bool = False

    @property
    def populated(self) -> list[ChannelId]:
        """The channels that a reader should see, in their order."""
        return [
            item
            for item in ORDER
            if item in EXTERNAL or (item in self.blocks and (self.unnamed or self.blocks[item].name))
        ]


@attrs.define
class Said:
    """Something that an analyser said.

    Attributes:
        at: When, on the monotonic clock; all of it is of this moment.
        function: The function code that asked for it, or ``BROADCAST``.
        first: The first address.
        end: The address behind the last.
        moment: What it had then.
        arrives: When the last byte of a broadcast reaches the port.
    """

    at: float
    function: int
    first: int
    end: int
    moment: Moment
    arrives: float = 0.0

    def __str__(self) -> str:
        parts = "; ".join(
            f"{channel.value} {block.name} {block.value} {block.unit} {' '.join(block.status.words)}".strip()
            for channel, block in self.moment.blocks.items()
        )
        now = self.moment
        what = f"FC{self.function:02d} {self.first}-{self.end - 1}" if self.function else f"due {self.arrives:.4f}"
        state = f"fault {now.fault} maintenance {now.maintenance} {now.groups} {now.clock}"
        return f"{self.at:.4f} {what}: {parts} {state}"


class Truth(VirtualAnalyzer):
    """A virtual analyser that remembers.

    A value has the channel in its first digit or in its sign, the analyser's number in its last digit, and between
    them a counter that goes on fifty times a second and starts again after 20 s. It does not depend on when the
    analyser was switched on. Each reply and each broadcast is of one moment, and all of them are kept.

    Args:
        number: 0 to 9; a digit of all its values.
        channels: Which channels are populated beside E1 and E2.
        mode: Communication mode.
        address: Slave address.
        period: Seconds between broadcasts.
    """

    def __init__(self, number: int, channels: list[str], mode: str, address: int, period: float) -> None:
        self.number = number
        self.said: list[Said] = []
        self.modes: list[tuple[float, ProtocolKind]] = []
        self.ever_absent: set[ChannelId] = set()
        self.clock_offset_s: float | None = 0.0
        self._times: list[float] = []
        self._epoch = time.monotonic()
        self._frozen: float | None = None
        self._latch = threading.RLock()
        every = [*channels, "E1", "E2"]
        super().__init__(map(self._channel, every), mode=mode, address=address, period=period, clock=self.now)
        self.modes.append((0.0, self.mode))

    def _channel(self, name: str) -> VirtualChannel:
        channel = ChannelId(name)
        label = {"I1": "Oxygen", "I2": "CO", "I3": "CO₂"}.get(name, "" if name[0] == "E" else f"gas {name}"[:6])
        unit = "mA" if name[0] == "E" else ("%", "vpm", "ppm")[ORDER.index(channel) % 3]
        return VirtualChannel(channel, label, unit, self._signal(ORDER.index(channel)))

    def _signal(self, place: int) -> Callable[[float], float | None]:
        def value(_seconds: float) -> float | None:
            count = int((self.now() - self._epoch) * RATE_HZ)
            told = count % 1000 * 10 + self.number
            if place == 1:
                return -told / 100
            if place == 2 and count // 25 % 8 == 3:
                return None
            return float(place * 10_000 + told) / (10, 100, 1000)[place % 3]

        return value

    def now(self) -> float:
        """The moment of what is being said, else the monotonic clock."""
        return time.monotonic() if self._frozen is None else self._frozen

    @contextlib.contextmanager
    def panel(self) -> Iterator[None]:
        """Change several things at one moment; whatever is said is of before or of after."""
        with self._latch:
            outer, self._frozen = self._frozen, self.now()
            try:
                yield
            finally:
                self._frozen = outer

    def switch(self, mode: str | None) -> None:
        """Switch it off and on, in another mode if one is given."""
        with self.panel():
            self.power_cycle(mode)
            self.modes.append((self.now(), self.mode))

    def modes_between(self, since: float, until: float) -> set[ProtocolKind]:
        """The modes that it was in."""
        before = [mode for at, mode in self.modes if at <= since][-1:]
        return {*before, *(mode for at, mode in self.modes if since < at <= until)}

    def input_registers(self, address: int, count: int) -> list[int]:
        with self.panel():
            words = super().input_registers(address, count)
            self._note(4, address, count)
        return words

    def discrete_inputs(self, address: int, count: int) -> list[bool]:
        with self.panel():
            bits = super().discrete_inputs(address, count)
            self._note(2, address, count)
        return bits

    def broadcast(self) -> bytes:
        with self.panel():
            raw = super().broadcast()
            self._note(BROADCAST, 0, 0)
        return raw

    def frame(self) -> Frame:
        frame = super().frame()
        populated = tuple(item for item in frame if item.name is not None or item.channel in EXTERNAL)
        return attrs.evolve(frame, readings=populated)

    def analyser_status(self) -> AnalyserStatus:
        return attrs.evolve(super().analyser_status(), clock=self._device_clock())

    def _device_clock(self) -> datetime | None:
        if self.clock_offset_s is None:
            return None
        seconds = int(self.now() - self._epoch + self.clock_offset_s)
        return CLOCK_START + timedelta(seconds=seconds)

    def moment(self) -> Moment:
        """What it has now, as a reader should see it in its mode."""
        state = self.analyser_status()
        continuous = self.mode is ProtocolKind.CONTINUOUS_ASCII
        blocks = {}
        for channel, item in self.channels.items():
            name = item.name.replace("₂", "2") if continuous else item.name
            blocks[channel] = Block(name or None, self.value(channel), item.unit, self.status(channel))
        return Moment(blocks, state.fault, state.maintenance, state.cal_text, state.clock)

    def _note(self, function: int, first: int, count: int) -> None:
        now, moment = self.now(), self.moment()
        self.ever_absent |= self.channels.keys() - moment.populated
        self.said.append(Said(now, function, first, first + count, moment, now))
        self._times.append(now)

    def between(self, since: float, until: float) -> list[Said]:
        """What it said in this time."""
        with self._latch:
            return self.said[bisect_left(self._times, since) : bisect_right(self._times, until)]
