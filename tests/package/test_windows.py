"""Waits, signals and the console as they are on Windows, in programs that look as if they ran there.

See ``tests/windows`` for what is simulated. The rest of the suite runs like that by ``python -m tox -e windows``.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import servomex
from servomex.cli.errors import SIGNALLED
from servomex.recording.load import load
from tests.helpers.background import ended
from tests.helpers.commands import NEVER_SEEN
from tests.helpers.paths import ROOT

SIGINT, SIGBREAK = 2, 21
ENDS_WITHIN_S = 2.0
"""Most waits here are of a minute. Alone each ends within 0.4 s; this computer may be busy."""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Windows is simulated on Linux, with its signals and /proc"
)

PRELUDE = """
import contextlib, os, signal, socket, sys, threading, time
import servomex, servomex.simulator.urls
from servomex.simulator import VirtualAnalyzer, VirtualLine
from simulated_windows import press

loaded, kept, pressed = [getattr(servomex, name) for name in servomex.__all__], [], []

def press_later(number):
    def act():
        time.sleep(1.0)
        pressed.append(time.perf_counter())
        press(number)
    threading.Thread(target=act, daemon=True).start()

def opened(mode="continuous", silent=False, **options):
    analyser = VirtualAnalyzer(mode=mode, period=0.2)
    analyser.cal_phase_s = 60.0
    kept.append(VirtualLine(analyser))
    found = servomex.open_device(kept[-1].url, protocol=mode, **options)
    if silent:
        analyser.faults.silent = True
        found.link.pause(0.5)
    return found

def held(analyzer):
    kept.append(analyzer)
    taken = threading.Event()
    def act():
        with analyzer.link.lock_held():
            taken.set()
            time.sleep(20)
    threading.Thread(target=act, daemon=True).start()
    taken.wait()
    return analyzer

def full_server():
    kept.append(socket.create_server(("127.0.0.1", 0), backlog=0))
    address = kept[-1].getsockname()
    kept.append(socket.create_connection(address))
    return f"socket://127.0.0.1:{address[1]}"

def managed(url):
    manager = servomex.ServomexManager()
    kept.append(manager)
    manager.add("a", url, protocol="modbus_rtu", identify=False, retries=0)
    return manager
"""

SCENE = """
press_later(signal.SIGINT)
try:
    scene()
except KeyboardInterrupt:
    print(time.perf_counter() - pressed[0])
else:
    print("it was not interrupted")
sys.stdout.flush()
os._exit(0)
"""

WAITS = {
    "a poll": "with opened(silent=True) as analyzer: analyzer.poll(wait_fresh=True, timeout=60)",
    "a poll over Modbus": "with opened('modbus_rtu', silent=True) as analyzer: analyzer.poll(timeout=60)",
    "a stream": "with opened() as analyzer, analyzer.stream() as session: [*session]",
    "a stream at a rate": "with opened('modbus_rtu') as a, a.stream(rate_hz=0.001) as session: [*session]",
    "a recording": "with opened('modbus_rtu') as a, servomex.record(a, rate_hz=0.001) as recording: [*recording]",
    "pipe": "with opened('modbus_rtu') as analyzer, servomex.record(analyzer, rate_hz=0.001) as recording: "
    "servomex.pipe(recording, 'run.csv')",
    "a recorder's join": "with opened('modbus_rtu') as a, servomex.Recorder(a, ['run.csv'], rate_hz=0.001) as it: "
    "it.join()",
    "the reader's queue": "with opened() as analyzer: queue = analyzer.reader.subscribe(); "
    "[*iter(queue.get, None)]",
    "a subscription": "with opened() as analyzer, analyzer.subscribe(lambda _: None): analyzer.link.pause(60)",
    "open_continuous": "servomex.open_continuous('sim://4100?mode=continuous&period=0', listen=60)",
    "open_device": "servomex.open_device('sim://4100?fault=silent', listen=60, timeout=60)",
    "find_devices": "servomex.find_devices(['sim://4100?fault=silent'], listen=60)",
    "find_devices on two ports": "servomex.find_devices(['sim://4100?fault=silent', 'sim://moving?fault=silent'], "
    "listen=60)",
    "a manager's poll": "managed('sim://4100?fault=silent').poll(timeout=60)",
    "a manager's operation": "managed('sim://4100').execute_each(lambda analyzer: time.sleep(20))",
    "a port that another thread has": "held(opened('modbus_rtu')).poll(timeout=60)",
    "a network that does not answer": "servomex.open_device(full_server(), timeout=60)",
}
COMMANDS = {
    "read": "read sim://4100 --protocol modbus_rtu --watch 3600",
    "read in continuous mode": "read sim://4100?mode=continuous&period=0 --protocol continuous --listen 60",
    "stream": "stream sim://4100 --protocol modbus_rtu --rate 0.001",
    "record": "record sim://4100 run.csv --protocol modbus_rtu --rate 0.001",
    "simulate": "simulate --tcp 0",
    "discover": "discover sim://4100?fault=silent --listen 60",
    "doctor": "doctor sim://4100?fault=silent --listen 60",
    "replay": "replay slow.trace",
    "diag tap": "diag tap sim://4100?mode=continuous&period=0",
}


def looks_like_windows(code: str, folder: Path) -> tuple[int, str, str]:
    """Run a program in a process of its own: exit code, stdout, stderr."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "windows"), str(ROOT)])}
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=folder, env=env)) as child:
        stdout, stderr = child.communicate(timeout=60)
    assert not any(word in stderr.decode("cp1252") for word in NEVER_SEEN), stderr.decode("cp1252")
    return child.returncode, stdout.decode("cp1252"), stderr.decode("cp1252")


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_every_wait(wait: str, tmp_path: Path) -> None:
    code, stdout, stderr = looks_like_windows(f"def scene():\n    {WAITS[wait]}\n{SCENE}", tmp_path)
    assert (code, stderr) == (0, "")
    assert float(stdout) < ENDS_WITHIN_S


def test_a_broadcast_of_the_moment_of_a_call_is_not_fresh(tmp_path: Path) -> None:
    scene = """
from tests.helpers.broadcasts import Sender
from servomex.testing import ScriptedPort
with ScriptedPort() as port, servomex.open_continuous(port, identify=False) as analyzer:
    for second in range(50):  # until both fall into one tick of the clock
        port.feed(Sender().at(second))
        frame = analyzer.poll(wait_fresh=True, timeout=30)
        if time.monotonic_ns() == frame.monotonic_ns:
            try:
                analyzer.poll(wait_fresh=True, timeout=0.05)
            except servomex.ServomexStaleError:
                print("stale")
            else:
                print("the same once more")
            break
"""
    assert {*looks_like_windows(scene, tmp_path)[1].split("\r\n")} == {"stale", ""}


def test_ctrl_c_stops_the_gas_of_a_calibration_that_is_waited_for(tmp_path: Path) -> None:
    scene = """
with opened('modbus_rtu') as analyzer:
    press_later(signal.SIGINT)
    try:
        analyzer.calibrate(1, confirm=True, timeout=300)
    except KeyboardInterrupt:
        analyser, = kept[0].analysers
        print(analyser.cal_gas(1), [place for _, place, is_on in analyser.coil_log if is_on])
"""
    assert looks_like_windows(scene, tmp_path)[1] == "0 [0, 8]\r\n"


@pytest.mark.parametrize(
    ("number", "code"), [(SIGINT, 130), (SIGBREAK, SIGNALLED + SIGBREAK)], ids=["Ctrl-C", "Ctrl-Break"]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_ended_by(command: str, number: int, code: int, tmp_path: Path) -> None:
    if command == "replay":
        record_slowly(tmp_path / "slow.trace")
    scene = f"""
from servomex.cli import main
sys.argv = ["servomex", *{COMMANDS[command].split()}]
press_later({number})
try:
    main()
finally:
    print(f"after {{time.perf_counter() - pressed[0]}}", file=sys.stderr)
"""
    exit_code, _, stderr = looks_like_windows(scene, tmp_path)
    assert exit_code == (0 if command == "simulate" else code), stderr
    assert float(stderr.rpartition("after ")[2]) < ENDS_WITHIN_S
    if command == "record":
        assert stderr.startswith("1 reading, 0 failed")
        assert len([*load(tmp_path / "run.csv")]) == 5


def test_ctrl_break_stops_the_gas_of_a_calibration_that_the_command_watches(tmp_path: Path) -> None:
    scene = """
from servomex.cli import main
sys.argv = ["servomex", *"calibrate start sim://4100?cal=60 1 --yes --wait".split()]
press_later(signal.SIGBREAK)
main()
"""
    code, _, stderr = looks_like_windows(scene, tmp_path)
    assert code == SIGNALLED + SIGBREAK
    assert "it was stopped, and the analyser is on sample again" in stderr


def record_slowly(path: Path) -> None:
    """Make the trace of a program that reads an analyser once, and again an hour later."""
    with servomex.open_device("sim://4100", protocol="modbus_rtu", gap=0, identify=False, trace=path) as analyzer:
        analyzer.poll()
        analyzer.poll()
    lines = path.read_text(encoding="utf-8").splitlines()
    later = max(number for number, line in enumerate(lines) if "> 01 04" in line)
    for number in range(later, len(lines)):
        seconds, _, rest = lines[number].partition(" ")
        lines[number] = f"{float(seconds) + 3600:.9f} {rest}"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8", newline="")


def test_closing_the_console_ends_a_recording_with_everything_written(tmp_path: Path) -> None:
    scene = """
from servomex.cli import main
from simulated_windows import close_console
sys.argv = ["servomex", *"record sim://4100 run.csv --protocol modbus_rtu --rate 0.001 --flush 3600".split()]
threading.Timer(1.0, close_console).start()
main()
"""
    code, _, stderr = looks_like_windows(scene, tmp_path)
    assert code == SIGNALLED + SIGBREAK
    assert stderr.startswith("1 reading, 0 failed")
    assert len([*load(tmp_path / "run.csv")]) == 5


def test_closing_the_console_is_left_to_a_program_that_runs_no_command(tmp_path: Path) -> None:
    scene = """
from servomex.cli.console import end_with_console
from simulated_windows import close_console
end_with_console()
close_console()
time.sleep(3)
"""
    assert looks_like_windows(scene, tmp_path)[0] == 58
