"""Lines and managers that several tests use: each analyser measures its own number."""

import threading
from typing import Any

from servomex import ChannelId, SerialLink, ServomexConnectionError, ServomexManager
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant

RTU: dict[str, Any] = {"protocol": "modbus_rtu", "gap": 0.005, "identify": False}
"""How most tests open an analyser: in a known mode, with little silence, and without a first look."""


def unit(number: int, mode: str = "modbus_rtu", period: float = 0.05) -> VirtualAnalyzer:
    """An analyser at this address, whose only channel measures that number."""
    channel = VirtualChannel(ChannelId.I1, "Oxygen", "%", constant(float(number)))
    return VirtualAnalyzer([channel], mode=mode, address=min(number, 247), period=period)


def line_of(*numbers: int, **options: Any) -> VirtualLine:
    """A line with these analysers."""
    return VirtualLine(*map(unit, numbers), **options)


def filled(manager: ServomexManager, line: VirtualLine, **options: Any) -> VirtualLine:
    """Let a manager open all analysers of a line; they are named by their numbers."""
    for analyser in line.analysers:
        manager.add(f"a{analyser.address}", line.url, address=analyser.address, **RTU, **options)
    return line


def values(manager: ServomexManager, *names: str, timeout: float | None = None) -> dict[str, float | None]:
    """What the analysers read, ``None`` for those that failed."""
    results = manager.poll(names or None, timeout=timeout)
    return {name: result.value["I1"].value if result.value else None for name, result in results.items()}


def heard(line: VirtualLine, address: int) -> list[tuple[float, bytes]]:
    """The requests to an address, each once, with the time: every analyser on a line hears all of them."""
    return [item for item in line.heard[:: len(line.analysers)] if item[1][0] == address]


def workers() -> list[str]:
    """The names of the threads of ports."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("servomex-port")]


def is_free(line: VirtualLine) -> bool:
    """Whether a line can be opened: one that is in use cannot."""
    try:
        with SerialLink(line.url):
            return True
    except ServomexConnectionError:
        return False
