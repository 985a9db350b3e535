"""What it takes to begin: imports, the first reading, and the commands, each in a fresh process."""

import time
from collections.abc import Iterator

from tests.benchmarks.figures import Goal, Result, Skipped, figure
from tests.benchmarks.machine import Settings, probe, run_fresh, version_of

IMPORT_MS = Goal(40.0)
HELP_MS = Goal(200.0)
NONE = Goal(1.0)
"""Fewer than one."""
IMPORTS = {
    "servomex": "servomex",
    "pymodbus": "pymodbus.client",
    "minimalmodbus": "minimalmodbus",
    "pyserial": "serial",
}
READ = "import sys; sys.argv[0] = 'servomex-read'; from servomex.cli import read_main; read_main()"
COUNT = "import sys, servomex; print(sum(name.partition('.')[0] == 'pymodbus' for name in sys.modules))"


def startup(settings: Settings) -> Iterator[Result]:
    """Start Python again and again, with and without us."""
    rounds = settings.choose(15, 2)
    run_fresh("-c", READ, "sim://4100")  # compiles what was not compiled yet
    bare = [_milliseconds("pass") for _ in range(rounds)]
    yield figure("bare Python", "ms", bare)
    for package, module in IMPORTS.items():
        settings.say(f"import {module}")
        if version_of(package) is None and package != "servomex":
            yield Skipped(f"import {module}", f"{package} is not installed")
            continue
        pairs = [(_milliseconds(f"import {module}"), _milliseconds("pass")) for _ in range(rounds)]
        goal = IMPORT_MS if package == "servomex" else None
        yield figure(f"import {module}, more than bare", "ms", [one - other for one, other in pairs], goal=goal)
    yield figure("modules of pymodbus that import servomex loads", "", [int(run_fresh("-c", COUNT))], goal=NONE)
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
