"""A virtual analyser on an open line, whose time stands still until it is moved."""

from typing import Any

from servomex import (
    ChannelId,
    ChannelStatus,
)
from servomex.simulator import Faults, VirtualAnalyzer, VirtualChannel, VirtualLine, constant


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A virtual analyser with a fake clock, on a line that is open."""

    def __init__(self, mode: str = "modbus_rtu", **line_options: Any) -> None:
        self.clock = Clock()
        self.analyser = VirtualAnalyzer(mode=mode, clock=self.clock)
        self.line = VirtualLine(self.analyser, clock=self.clock, **line_options)
        self.line.open(19200)

    @property
    def faults(self) -> Faults:
        return self.analyser.faults

    def pass_(self, seconds: float) -> None:
        self.clock.now += seconds

    def take(self) -> bytes:
        return self.line.take(10_000)

    def ask(self, request: bytes) -> bytes:
        """Send a request after a silence, and give what is there at once."""
        self.pass_(1.0)
        self.line.write(request)
        return self.take()


def bench(mode: str, **options: object) -> VirtualAnalyzer:
    """An analyser in which every kind of channel and state occurs."""
    channels = [
        VirtualChannel(ChannelId.I1, "Oxygen", "%", constant(20.376)),
        VirtualChannel(
            ChannelId.I2, "CO", "vpm", constant(-1.5), ChannelStatus(alarms=(False, True, False, True))
        ),
        VirtualChannel(ChannelId.I4, "SO2", "mg", constant(250.0), ChannelStatus(warming_up=True)),
        VirtualChannel(ChannelId.D1, "NOx", "vpm", constant(None), ChannelStatus(maintenance=True)),
        VirtualChannel(ChannelId.D4, "H\x1b[2J", "%", constant(99.999), ChannelStatus(calibrating=True)),
        VirtualChannel(ChannelId.E1, "", "mA", constant(12.5)),
        VirtualChannel(ChannelId.E2, "||||||", "mA", constant(4.0), ChannelStatus(fault=True)),
    ]
    if mode == "continuous":
        channels[4].name = "H"  # control characters cannot be in a broadcast
    analyser = VirtualAnalyzer(channels, mode=mode, period=0.1, **options)  # type: ignore[arg-type]
    analyser.maintenance = True
    return analyser
