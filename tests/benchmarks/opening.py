"""What it takes to get to the first reading: opening an analyser, and a whole program that reads once."""

import time
from collections.abc import Iterator

from servomex import open_device
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.benchmarks.far_end import far_end
from tests.benchmarks.figures import Goal, Result, Skipped, figure, ratio
from tests.benchmarks.machine import Settings, run_fresh
from tests.benchmarks.peers import missing_clients
from tests.benchmarks.wire import ALL_AT_ONCE, GAP_S, READ_REGISTERS

WAYS = {"RTU named": "modbus_rtu", "AUTO": "auto"}
AT_BOUND = Goal(10.0, over_bound=True)

_PEER_READS = "\n".join(
    f"time.sleep({GAP_S}); {'words' if function == READ_REGISTERS else 'bits'}({address}, {count})"
    for function, address, count in ALL_AT_ONCE
)
PROGRAMS = {
    "servomex": """
import sys
from servomex import open_device
with open_device(sys.argv[1], protocol="modbus_rtu") as analyzer:
    analyzer.poll()
""",
    "servomex, identify=False": """
import sys
from servomex import open_device
with open_device(sys.argv[1], protocol="modbus_rtu", identify=False) as analyzer:
    analyzer.poll()
""",
    "pymodbus": f"""
import sys, time
from pymodbus.client import ModbusSerialClient
client = ModbusSerialClient(sys.argv[1], baudrate=19200)
client.connect()
words = lambda address, count: client.read_input_registers(address, count=count, device_id=1).registers
bits = lambda address, count: client.read_discrete_inputs(address, count=count, device_id=1).bits
{_PEER_READS}
client.close()
""",
    "minimalmodbus": f"""
import sys, time
from minimalmodbus import Instrument
client = Instrument(sys.argv[1], 1)
client.serial.timeout = 3
words = lambda address, count: client.read_registers(address, count, functioncode=4)
bits = lambda address, count: client.read_bits(address, count, functioncode=2)
{_PEER_READS}
client.serial.close()
""",
}
"""Programs that open a port, read everything once, and end; the others keep the same gap before each request."""


def opening(settings: Settings) -> Iterator[Result]:
    """Open an analyser that answers at once, and identify it; the bound is the silence before each request."""
    rounds = settings.choose(15, 1)
    values: dict[str, list[float]] = {way: [] for way in WAYS}
    with far_end("serve") as served:
        for number in range(-1, rounds):  # the first one imports what opening needs
            settings.say(f"round {number + 1} of {rounds}")
            for way, protocol in WAYS.items():
                begun = time.monotonic()
                with open_device(served.ports[0], protocol=protocol):
                    passed = time.monotonic() - begun
                if number >= 0:
                    values[way].append(passed)
    for way, protocol in WAYS.items():
        requests = _requests(protocol)
        yield figure(f"{way}, requests", "", [requests])
        yield figure(f"{way}, identified", "s", values[way], bound=requests * GAP_S, goal=AT_BOUND)


def _requests(protocol: str) -> int:
    """Count the requests of opening, each of which has a gap before it."""
    wire = VirtualLine(VirtualAnalyzer(mode="modbus_rtu"))
    with open_device(wire.url, protocol=protocol):
        return len(wire.heard)


def once(settings: Settings) -> Iterator[Result]:
    """Run whole programs that read an analyser once: start-up, imports, opening, reading, closing."""
    rounds = settings.choose(15, 1)
    missing = missing_clients()
    programs = {name: code for name, code in PROGRAMS.items() if name not in missing}
    found: dict[str, list[float]] = {name: [] for name in programs}
    with far_end("serve") as served:
        for number in range(-1, rounds):  # the first one compiles
            settings.say(f"round {number + 1} of {rounds}")
            for name, code in programs.items():
                begun = time.perf_counter()
                run_fresh("-c", code, served.ports[0])
                if number >= 0:
                    found[name].append(1000 * (time.perf_counter() - begun))
    for name, values in found.items():
        yield figure(f"a program that reads once, {name}", "ms", values)
    for name, values in found.items():
        if name != "servomex":
            yield ratio(f"a program that reads once, servomex / {name}", found["servomex"], values)
    for name in missing:
        yield Skipped(f"a program that reads once, {name}", "it is not installed")
