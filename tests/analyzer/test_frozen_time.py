"""A test library that makes time stand still, or moves it, hangs nothing and falsifies no deadline."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
import servomex

mode, value = sys.argv[1:]
real = time.monotonic
port = f"sim://4100?mode={mode}&period=0.2"
value = float(value)
FROZEN = {"monotonic": lambda: value, "monotonic_ns": lambda: int(value * 1e9), "time": lambda: value}
REAL = {name: getattr(time, name) for name in FROZEN}
for module in list(sys.modules.values()):  # as such libraries do it, also where a module has imported the name
    if module.__name__ not in ("threading", "queue"):
        for name, frozen in FROZEN.items():
            if getattr(module, name, None) is REAL[name]:
                setattr(module, name, frozen)
assert time.monotonic() == value

with servomex.open_device(port, protocol=mode, timeout=2) as analyzer:
    for _ in range(3):
        frame = analyzer.poll(wait_fresh=True)
        assert frame.ok
        assert 0 <= frame.age_s < 2, frame.age_s
    with servomex.record(analyzer, **({} if mode == "continuous" else {"rate_hz": 2}), count=3) as recording:
        assert sum(1 for _ in recording) == 3
begun = real()
try:
    servomex.open_device("sim://4100?fault=silent", protocol=mode, timeout=0.3, listen=0.3)
except servomex.ServomexTimeoutError as error:
    print("in time" if real() - begun < 5 else "late")
"""


@pytest.mark.parametrize("value", ["1000", "1700000000", "0"])
@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "continuous"])
def test_calls_end_and_ages_are_true(mode: str, value: str) -> None:
    command = [sys.executable, "-c", PROGRAM, mode, value]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("in time\n", "")
