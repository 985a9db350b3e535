"""Lines and managers that several tests use: each analyser measures its own number."""

import re
import threading
from typing import Any

from servomex import (
    Analyzer,
    ChannelId,
    SerialLink,
    ServomexConnectionError,
    ServomexError,
    ServomexManager,
    ServomexTimeoutError,
)
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


SOON_S = 2.0
"""How soon an analyser is read after it has appeared."""


def line_in(mode: str, number: int) -> VirtualLine:
    """A line with an analyser in a mode that ``auto`` may have to find, and which measures that number."""
    return VirtualLine(unit(number, mode.removeprefix("auto "), period=0.25), pace=True)


def read(manager: ServomexManager, name: str) -> bool:
    return manager.poll([name])[name].ok


def silenced(line: VirtualLine) -> VirtualLine:
    line.analysers[0].faults.silent = True
    return line


def unplugged(line: VirtualLine) -> VirtualLine:
    line.unplug()
    return line


def silence(manager: ServomexManager, line: VirtualLine, number: int = 0) -> ServomexError:
    """Let an analyser die, and the manager find out; give its error."""
    manager.poll()
    line.analysers[number].faults.silent = True
    name = f"a{line.analysers[number].address}"
    return failure(manager, name, timeout=0.1)


def failure(manager: ServomexManager, name: str, timeout: float | None = None) -> ServomexError:
    error = manager.poll([name], timeout=timeout)[name].error
    assert isinstance(error, ServomexError)
    return error


def pause_of(manager: ServomexManager) -> float:
    """How long an analyser is left out, as its error says."""
    return float(re.findall(r"asked again in ([0-9.]+) s", str(failure(manager, "a1")))[0])


def unanswered(_analyzer: Analyzer) -> None:
    raise ServomexTimeoutError("no reply")


MODES = ["modbus_rtu", "modbus_ascii", "continuous", "auto modbus_rtu", "auto modbus_ascii", "auto continuous"]


def added(manager: ServomexManager, name: str, line: VirtualLine, mode: str, **options: Any) -> Analyzer | None:
    """Add the analyser of a line without waiting for it."""
    protocol = "auto" if mode.startswith("auto") else mode
    address = options.pop("address", line.analysers[0].address)
    return manager.add(name, line.url, protocol=protocol, address=address, wait=False, **options)
