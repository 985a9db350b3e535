"""What it takes to begin: imports, the first reading, and the commands, each in a fresh process."""

import time
from collections.abc import Iterator

from tests.benchmarks.figures import Goal, Result, Skipped, figure
from tests.benchmarks.machine import Settings, probe, run_fresh, version_of

FIRST_NAME_MS = Goal(55.0)
HELP_MS = Goal(200.0)
NONE = Goal(1.0)
"""Fewer than one."""
IMPORTS = {
    "from servomex import open_device": "servomex",
    "import attrs": "attrs",
    "import serial": "pyserial",
    "import minimalmodbus": "minimalmodbus",
    "import pymodbus.client": "pymodbus",
}
"""The first name that a program can use, and what else it could import: each with its package."""
READ = "import sys; sys.argv[0] = 'servomex-read'; from servomex.cli import read_main; read_main()"
COUNT = """
import sys
from servomex import open_device
print(sum(name.partition('.')[0] == 'pymodbus' for name in sys.modules))
"""


def startup(settings: Settings) -> Iterator[Result]:
    """Start Python again and again, with and without us."""
    rounds = settings.choose(15, 2)
    run_fresh("-c", READ, "sim://4100")  # compiles what was not compiled yet
    codes = [code for code, package in IMPORTS.items() if version_of(package) is not None]
    bare, taken = list[float](), {code: list[float]() for code in codes}
    for number in range(rounds):
        settings.say(f"imports, round {number + 1} of {rounds}")
        bare.append(_milliseconds("pass"))
        for code in codes:
            taken[code].append(_milliseconds(code) - bare[-1])
    yield figure("bare Python", "ms", bare)
    for code, package in IMPORTS.items():
        name = f"{code}, more than bare"
        if code in taken:
            yield figure(name, "ms", taken[code], goal=FIRST_NAME_MS if package == "servomex" else None)
        else:
            yield Skipped(name, f"{package} is not installed")
    yield figure("modules of pymodbus that open_device brings", "", [int(run_fresh("-c", COUNT))], goal=NONE)
    settings.say("first Modbus open")
    opened = [probe("modbus_open") for _ in range(rounds)]
    yield figure("first Modbus open of sim://4100", "ms", [1000 * item["seconds"] for item in opened])
    for arguments, goal in (("--help", HELP_MS), ("sim://4100", None)):
        settings.say(f"servomex-read {arguments}")
        values = [_milliseconds(READ, arguments) for _ in range(rounds)]
        yield figure(f"servomex-read {arguments}", "ms", values, goal=goal)


def _milliseconds(code: str, *arguments: str) -> float:
    begun = time.perf_counter()
    run_fresh("-c", code, *arguments)
    return 1000 * (time.perf_counter() - begun)
