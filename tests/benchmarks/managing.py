"""The manager: rounds over several analysers on a line and over several ports, and what a port costs."""

import time
from collections.abc import Iterator

from servomex import ServomexManager
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.benchmarks.far_end import far_end
from tests.benchmarks.figures import Goal, Result, Skipped, figure
from tests.benchmarks.machine import Settings, probe, resident_mib
from tests.benchmarks.wire import GAP_S, TURNAROUND_S, Line

ON_A_LINE = (1, 2, 4, 8)
PORTS = (1, 4, 16, 32)
PERIOD_S = 2.0
LATE_S = 0.08
"""As long as the turn-around and 100 characters at 19200 baud take."""
ALL_PORTS_PERCENT = Goal(5.0)


def manager(settings: Settings) -> Iterator[Result]:
    """Read rounds, and let time pass with many ports open."""
    line = Line(19200, ascii=False)
    for count in settings.choose(ON_A_LINE, (2,)):
        settings.say(f"{count} analysers on a line")
        values = _rounds_on_a_line(count, settings.choose(5, 1))
        bound = 1000 * count * line.seconds(line.cheapest())
        yield figure(f"{count} on a line of 19200 baud, a round", "ms", values, bound=bound)
    for ports in settings.choose(PORTS, (2,)):
        settings.say(f"{ports} Modbus ports")
        yield from _modbus_ports(ports, settings)
    for ports in settings.choose(PORTS, (2,)):
        settings.say(f"{ports} broadcasting ports")
        yield from _broadcasting_ports(ports, settings)


def _rounds_on_a_line(count: int, rounds: int) -> list[float]:
    wire = VirtualLine(
        *(VirtualAnalyzer(address=address) for address in range(1, count + 1)), pace=True, turnaround=TURNAROUND_S
    )
    values = []
    with ServomexManager() as several:
        for analyser in wire.analysers:
            several.add(f"a{analyser.address}", wire.url, protocol="modbus_rtu", address=analyser.address)
        several.poll()
        for _ in range(rounds):
            begun = time.monotonic()
            several.poll()
            values.append(1000 * (time.monotonic() - begun))
    return values


def _modbus_ports(ports: int, settings: Settings) -> Iterator[Result]:
    with far_end("serve", ports=ports, late=LATE_S) as served:
        found = probe("rounds", ports=served.ports, protocol="modbus_rtu", period=PERIOD_S, **_rounds(settings))
    bound = 1000 * (3 * LATE_S + 2 * GAP_S)  # the line was silent before the round
    yield figure(f"{_ports(ports)}, a round of Modbus", "ms", found["rounds_ms"], bound=bound)
    yield from _costs(f"{_ports(ports)}, Modbus every 2 s", ports, found)


def _broadcasting_ports(ports: int, settings: Settings) -> Iterator[Result]:
    with far_end("send", ports=ports, baudrate=19200, period=PERIOD_S) as sender:
        sender.go()
        found = probe("rounds", ports=sender.ports, protocol="continuous", period=PERIOD_S, **_rounds(settings))
        sender.go()
    yield from _costs(f"{_ports(ports)}, broadcasts every 2 s", ports, found)


def _ports(number: int) -> str:
    return "1 port" if number == 1 else f"{number} ports"


def _rounds(settings: Settings) -> dict[str, int]:
    return {"rounds": settings.choose(8, 1)}


def _costs(name: str, ports: int, found: dict[str, list[float]]) -> Iterator[Result]:
    goal = ALL_PORTS_PERCENT if ports == max(PORTS) else None
    yield figure(f"{name}, CPU", "% of a core", found["percent"], goal=goal)
    if resident_mib() is None:
        yield Skipped(f"{name}, memory a port", "this system does not tell how much memory is in use")
    elif found["a_port_mib"]:
        yield figure(f"{name}, memory a port more", "MiB", found["a_port_mib"])
