"""Channels of a virtual analyser: a name, a unit, a state, and a value that may move."""

import math
import random
from collections.abc import Callable

import attrs

from servomex.enums import ChannelId
from servomex.models.reading import ChannelStatus
from servomex.units import SUBSCRIPTS

Signal = Callable[[float], float | None]
"""A value as a function of the seconds since the analyser was switched on."""
_GLYPHS = str.maketrans(SUBSCRIPTS, "".join(map(chr, range(0x80, 0x8A))))


def constant(value: float | None) -> Signal:
    """Return a constant value; ``None`` for no value."""
    return lambda _seconds: value


def sine(mean: float, amplitude: float, period_s: float) -> Signal:
    """Return a value that swings by ``amplitude`` around ``mean``, once in ``period_s`` seconds."""
    return lambda seconds: mean + amplitude * math.sin(2 * math.pi * seconds / period_s)


def ramp(low: float, high: float, period_s: float) -> Signal:
    """Return a value that rises from ``low`` to ``high`` in ``period_s`` seconds, repeatedly."""
    return lambda seconds: low + (high - low) * (seconds % period_s) / period_s


def noise(mean: float, deviation: float, seed: int = 0) -> Signal:
    """Return a value with normal noise around ``mean``, new ten times a second; a seed makes it repeatable."""
    return lambda seconds: random.Random(f"{seed}:{int(seconds * 10)}").gauss(mean, deviation)  # noqa: S311


@attrs.define
class VirtualChannel:
    """One channel of a :class:`VirtualAnalyzer`. Everything except the id may be changed at any time.

    Attributes:
        channel: The channel.
        name: Its name as the display shows it; empty for none.
        unit: Its unit, up to three characters.
        signal: Its value over time.
        status: Its state.
    """

    channel: ChannelId = attrs.field(converter=ChannelId)
    name: str
    unit: str
    signal: Signal
    status: ChannelStatus = ChannelStatus()  # noqa: RUF009 (it is immutable)

    @property
    def display_name(self) -> bytes:
        """The name in the display's character set, as Modbus sends it: 0x82 is a subscript 2."""
        return self.name.translate(_GLYPHS).encode("latin-1")

    @property
    def display_unit(self) -> bytes:
        """The unit as Modbus sends it."""
        return self.unit.encode("latin-1")


def capture_channels() -> list[VirtualChannel]:
    """Return the channels of the bench 4100D, with the values of its capture."""
    return [
        VirtualChannel("I1", "Oxygen", "%", constant(20.376)),
        VirtualChannel("I2", "CO", "%", constant(0.084)),
        VirtualChannel("I3", "CO₂", "%", constant(0.25)),
        VirtualChannel("E1", "", "mA", constant(0.0)),
        VirtualChannel("E2", "", "mA", constant(0.0)),
    ]


def moving_channels() -> list[VirtualChannel]:
    """Return the same channels with values that move, and an alarm that stays raised."""
    oxygen, carbon_monoxide, carbon_dioxide, *external = capture_channels()
    oxygen.signal = sine(20.9, 0.5, 60)
    carbon_monoxide.signal = noise(0.084, 0.002, seed=1)
    carbon_monoxide.status = ChannelStatus(alarms=(True, False, False, False))
    carbon_dioxide.signal = ramp(0.03, 5.0, 120)
    external[0].signal = sine(12.0, 8.0, 30)
    return [oxygen, carbon_monoxide, carbon_dioxide, *external]
