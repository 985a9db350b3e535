"""Typical mistakes of users: each answer names the mistake and the cure in the words of whoever made it.

Who types a command sees options and commands, who writes a program sees arguments and calls; never the other way
round. A command that ends so leaves stdout empty, shows no traceback, and has the exit code that is documented.
"""

import re
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy
import pytest

import servomex
from servomex import (
    Analyzer,
    Recorder,
    SerialSettings,
    ServomexError,
    ServomexManager,
    find_devices,
    open_continuous,
    open_device,
    record,
)
from servomex.cli import servomex_group
from servomex.simulator import PtyServer, VirtualAnalyzer, VirtualLine
from tests.helpers.commands import invoke
from tests.helpers.platforms import needs_pty

pytestmark = pytest.mark.virtual_time

USAGE, PORT, NO_ANSWER = 2, 3, 4
PORTS = "Ports present|plugged in"
SIM, RTU = "sim://4100", "--protocol modbus_rtu"
BROADCASTS = "sim://4100?mode=continuous&period=0.2"
SLOW = "sim://4100?mode=continuous&period=1&baudrate=2400&pace=1"
OPTION = re.compile(r"(?<![\w-])--[a-z]")
KEYWORD = re.compile(r"\b[a-z_]+=['\"A-Z0-9]|\b[a-z_]+\(\)|ServomexManager|SerialLink|SerialSettings|rate_hz|sink")


def typed(mistake: str, line: str, code: int, *named: str) -> Any:
    """Return a row of the command line: what was done wrong, what was typed, and what the answer must say."""
    marks = [pytest.mark.real_time] if "socket" in line else []
    return pytest.param(line.split(" "), code, named, id=mistake.replace(" ", "-"), marks=marks)


# A tilde in what is typed stands for the folder of the test, an underscore within an argument for a space.
TYPED = [
    typed("a port that is not there", "read /dev/ttyUSB77", PORT, "no port /dev/ttyUSB77", PORTS),
    typed("a file for a port", "read ~run.csv", PORT, "not a serial port", PORTS),
    typed("no port at all", "read", USAGE, "PORT", "SERVOMEX_PORT"),
    typed("an adapter that is not there", "read usb:A1", PORT, "serial number A1", PORTS),
    typed(
        "a server without its port", "read socket://192.168.0.7", USAGE, "host and port", "socket://192.168.0.7:"
    ),
    typed("a server that is not running", "read socket://127.0.0.1:1", PORT, "cannot be reached", "server runs"),
    typed("a URL of the web", "read http://192.168.0.7:4001", USAGE, "http://", "socket://"),
    typed("a virtual analyser of another name", "read sim://4200", USAGE, "4200", "4100, moving"),
    typed("a fault that takes no number", f"read {SIM}?fault=silent:1", USAGE, "silent takes no number", "silent"),
    typed("a wrong baud rate", f"read {SIM}?baudrate=9600 --listen 2", NO_ANSWER, "baud rate", "servomex doctor"),
    typed("a wrong address", f"read {SIM}?address=3 --listen 2", NO_ANSWER, "address 1", "servomex discover"),
    typed(
        "a wrong address in a named mode",
        f"read {SIM}?address=3 {RTU}",
        NO_ANSWER,
        "address 1",
        "servomex discover",
        "servomex doctor",
    ),
    typed(
        "Modbus for broadcasts", f"read {BROADCASTS} {RTU}", NO_ANSWER, "continuous mode", "--protocol continuous"
    ),
    typed(
        "broadcasts for Modbus",
        f"read {SIM} --protocol continuous --listen 2",
        NO_ANSWER,
        "no broadcast",
        "servomex doctor",
    ),
    typed(
        "too short a time to listen",
        f"read {SLOW} --baudrate 2400 --listen 1.5 --protocol continuous",
        NO_ANSWER,
        "part of a broadcast",
        "longer --listen",
    ),
    typed(
        "too short a time to find the mode",
        f"read {SLOW} --baudrate 2400 --listen 1.5",
        NO_ANSWER,
        "part of a broadcast",
        "longer --listen",
    ),
    typed("an address that no Modbus device has", f"read {SIM} --address 300", USAGE, "300", "247"),
    typed("a misspelt mode", f"read {SIM} --protocol rut", USAGE, "'rut'", "modbus_rtu"),
    typed("a misspelt option", f"read {SIM} --protocl auto", USAGE, "--protocl", "--protocol"),
    typed("a misspelt command", f"raed {SIM}", USAGE, "'raed'", "read"),
    typed("a unit that is none", f"read {SIM} --timeout 5sec", USAGE, "'5sec'", "500ms or 2m"),
    typed("a decimal comma", f"read {SIM} --watch 0,5", USAGE, "'0,5'", "seconds as in 0.5"),
    typed("an abbreviated baud rate", f"read {SIM} --baudrate 19k2", USAGE, "'19k2'", "integer|number"),
    typed("a gas for a channel", f"read {SIM} --channels O2", USAGE, "'O2'", r"I1 \(Oxygen\)"),
    typed("a channel that is not there", f"read {SIM} {RTU} --channels I4", USAGE, "I4", r"I1 \(Oxygen\)"),
    typed("no OUT", f"record {SIM}", USAGE, "OUT", r"run\.csv"),
    typed("no PORT before OUT", "record run.csv", USAGE, "PORT is missing", r"PORT run\.csv"),
    typed("OUT before PORT", f"record ~run.csv {SIM}", USAGE, SIM, "PORT"),
    typed("an unknown suffix", f"record {SIM} ~run.xlsx", USAGE, r"run\.xlsx", r"\.csv"),
    typed("no suffix", f"record {SIM} ~run", USAGE, "run", r"\.csv"),
    typed("a file that exists", f"record {SIM} ~run.csv", USAGE, "exists", "append", "overwrite"),
    typed("one file twice", f"record {SIM} ~a.csv ~a.csv", USAGE, r"a\.csv", "twice"),
    typed("a rate of 0", f"record {SIM} ~a.csv --rate 0", USAGE, "--rate", "at least"),
    typed("a duration in words", f"record {SIM} ~a.csv --duration 5_minutes", USAGE, "'5 minutes'", "15m"),
    typed("a duration without a unit", f"record {SIM} ~a.csv --duration 90", USAGE, "'90'", "90s"),
    typed("a rate for broadcasts", f"stream {BROADCASTS} --rate 5", USAGE, "continuous", "--rate"),
    typed("a calibration that is not confirmed", f"calibrate start {SIM} 1", USAGE, "gas", "--yes"),
    typed("GROUP before PORT", f"calibrate start 1 {SIM} --yes", USAGE, SIM, "GROUP"),
    typed(
        "a calibration of broadcasts",
        f"calibrate start {BROADCASTS} 1 --yes",
        NO_ANSWER,
        "continuous mode",
        "Modbus on its panel",
    ),
    typed("a list of gaps with units", f"diag gap {SIM} --gaps 10ms,20ms", USAGE, "10ms", r"0\.02"),
    typed(
        "a recording that is not there", "convert ~no.csv ~b.csv", USAGE, r"no\.csv", "no file|not exist|no such"
    ),
]


@pytest.mark.parametrize(("line", "code", "named"), TYPED)
def test_a_command_names_the_mistake_and_the_cure(
    line: list[str], code: int, named: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "run.csv").write_text("kept")
    args = [item.replace("~", f"{tmp_path}/").replace("5_minutes", "5 minutes") for item in line]
    result = invoke(*args, command=servomex_group)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    said = " ".join(result.stderr.split())
    for pattern in named:
        assert re.search(pattern, said), f"{pattern} is not in: {said}"
    assert not KEYWORD.search(re.sub(rf"sim://\S+|{re.escape(str(tmp_path))}", "", said)), said
    assert "env var" not in said or not set(line) & {"--protocol", "--address", "--timeout"}, said
    assert (tmp_path / "run.csv").read_text() == "kept"


def test_a_value_of_the_environment_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVOMEX_ADDRESS", "first")
    result = invoke("read", SIM, command=servomex_group)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert "'first'" in result.stderr
    assert "SERVOMEX_ADDRESS" in result.stderr


def test_a_format_whose_package_is_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = invoke("record", SIM, str(tmp_path / "a.parquet"), command=servomex_group)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert "servomex[parquet]" in result.stderr


@needs_pty
@pytest.mark.real_time
def test_a_port_in_use_is_named_to_both() -> None:
    with (
        PtyServer(VirtualLine(VirtualAnalyzer())) as server,
        open_device(server.port, identify=False, protocol="modbus_rtu"),
    ):
        result = invoke("read", server.port, command=servomex_group)
        assert (result.exit_code, result.stdout) == (PORT, "")
        with pytest.raises(ServomexError) as caught:
            open_device(server.port)
    for said in (result.stderr, str(caught.value)):
        assert "in use by another program" in said
        assert "Close" in said


Call = Callable[[Analyzer, Path], object]


def called(mistake: str, call: Call, *named: str) -> Any:
    """Return a row of the programs: what was done wrong, the call, and what the error must say."""
    return pytest.param(call, named, id=mistake.replace(" ", "-"))


def closed(analyzer: Analyzer) -> Analyzer:
    analyzer.close()
    return analyzer


def never_started(analyzer: Analyzer, folder: Path) -> object:
    recorder = Recorder(analyzer, [folder / "a.csv"], rate_hz=1)
    try:
        return recorder.join()
    finally:
        recorder.close()


def odd(value: object) -> Any:
    """Return what a type checker would have refused."""
    return value


CALLED = [
    called("a port that is not there", lambda _, __: open_device("/dev/ttyUSB77"), "no port /dev/ttyUSB77", PORTS),
    called(
        "bytes for a port", lambda _, __: open_device(odd(b"/dev/ttyUSB0")), "b'/dev/ttyUSB0'", "'/dev/ttyUSB0'"
    ),
    called("a number for a port", lambda _, __: open_device(odd(3)), "3", "'COM3'"),
    called("an empty port", lambda _, __: open_device(""), "empty", "COM"),
    called("None for a port", lambda _, __: open_device(odd(None)), "None", "path"),
    called("a misspelt mode", lambda _, __: open_device(SIM, protocol="rtu"), "'rtu'", "modbus_rtu"),
    called(
        "a dictionary for settings",
        lambda _, __: open_device(SIM, serial_settings=odd({"baudrate": 9600})),
        "serial_settings",
        r"SerialSettings\(baudrate=9600\)",
    ),
    called(
        "a number for settings",
        lambda _, __: open_device(SIM, serial_settings=odd(9600)),
        "serial_settings",
        r"SerialSettings\(baudrate=9600\)",
    ),
    called("a parity in words", lambda _, __: SerialSettings(parity=odd("even")), "'even'", "E"),
    called("a baud rate as text", lambda _, __: SerialSettings(baudrate=odd("9600")), "baudrate", "'9600'"),
    called("a timeout as text", lambda _, __: open_device(SIM, timeout=odd("5")), "timeout", "number of seconds"),
    called("a timeout of 0", lambda _, __: open_device(SIM, timeout=0), "timeout", "more than 0"),
    called("the broadcast address", lambda _, __: open_device(SIM, address=0), "address", "1 to 247"),
    called("text for a list of channels", lambda _, __: open_device(SIM, channels="I1"), "'I1'", r"\['I1'"),
    called("a gas for a channel", lambda _, __: open_device(SIM, channels=["O2"]), "'O2'", r"I1 \(Oxygen\)"),
    called(
        "a channel that is not there",
        lambda _, __: open_device(SIM, protocol="modbus_rtu", channels=["I4"]),
        "I4",
        r"I1 \(Oxygen\)",
    ),
    called(
        "a wrong address",
        lambda _, __: open_device(f"{SIM}?address=3", protocol="modbus_rtu"),
        "address 1",
        "servomex discover",
    ),
    called(
        "Modbus for broadcasts",
        lambda _, __: open_device(BROADCASTS, protocol="modbus_rtu"),
        "continuous mode",
        "protocol='continuous'",
    ),
    called(
        "broadcasts for Modbus", lambda _, __: open_continuous(SIM, listen=1), "no broadcast", "servomex doctor"
    ),
    called(
        "too short a time to listen",
        lambda _, __: open_continuous(SLOW, listen=1.5, serial_settings=SerialSettings(baudrate=2400)),
        "part of a broadcast",
        "longer listen",
    ),
    called(
        "a gas that is not there", lambda analyzer, _: analyzer.read_channel("Argon"), "'Argon'", r"I1 \(Oxygen\)"
    ),
    called("a list for a channel", lambda analyzer, _: analyzer.read_channel(odd(["I1"])), r"\['I1'\]", "I1, I2"),
    called(
        "a channel of the frame that is not there",
        lambda analyzer, _: analyzer.poll()["I4"],
        "I4",
        r"I1 \(Oxygen\)",
    ),
    called("an analyser that was closed", lambda analyzer, _: closed(analyzer).poll(), "closed", "open_device"),
    called(
        "a calibration that is not confirmed",
        lambda analyzer, _: analyzer.start_calibration(1),
        "gas",
        "confirm=True",
    ),
    called(
        "a confirmation in words",
        lambda analyzer, _: analyzer.calibrate(1, timeout=9, confirm=odd("yes")),
        "gas",
        "confirm=True",
    ),
    called(
        "a group that no analyser has",
        lambda analyzer, _: analyzer.start_calibration(5, confirm=True),
        "group",
        "1 to 4",
    ),
    called("None for a callback", lambda analyzer, _: analyzer.subscribe(odd(None)), "callback", "None"),
    called("a called callback", lambda analyzer, _: analyzer.subscribe(odd("show()")), "callback", "call"),
    called("no rate over Modbus", lambda analyzer, _: record(analyzer), "rate", "rate_hz=1"),
    called("a rate of 0", lambda analyzer, _: record(analyzer, rate_hz=0), "rate_hz", "at least"),
    called(
        "a duration in words",
        lambda analyzer, _: record(analyzer, rate_hz=1, duration=odd("5 minutes")),
        "duration",
        "number of seconds",
        "'5 minutes'",
    ),
    called(
        "an unknown suffix",
        lambda analyzer, folder: Recorder(analyzer, [folder / "a.xlsx"], rate_hz=1),
        r"a\.xlsx",
        r"\.csv",
    ),
    called("no file", lambda analyzer, _: Recorder(analyzer, [], rate_hz=1), "sink", r"\['run\.csv'\]"),
    called(
        "an open file for its name",
        lambda analyzer, _: Recorder(analyzer, odd(StringIO()), rate_hz=1),
        "file name",
        r"\['run\.csv'\]",
    ),
    called("a recorder that was not started", never_started, "not started", "with"),
    called(
        "text for a list of ports", lambda _, __: find_devices(odd("/dev/ttyUSB0")), "ports", r"\['/dev/ttyUSB0'\]"
    ),
    called("an analyser that is not in the manager", lambda _, __: ServomexManager().get("a"), "'a'", "add"),
    called("an age below 0", lambda analyzer, _: analyzer.poll(max_age=-1), "max_age", "0 or more"),
]


@pytest.fixture
def analyzer() -> Iterator[Analyzer]:
    with open_device(SIM, protocol="modbus_rtu") as opened:
        yield opened


@pytest.mark.parametrize(("call", "named"), CALLED)
def test_a_call_names_the_mistake_and_the_cure(
    call: Call, named: tuple[str, ...], analyzer: Analyzer, tmp_path: Path
) -> None:
    (tmp_path / "run.csv").write_text("kept")
    with pytest.raises(ServomexError) as caught:
        call(analyzer, tmp_path)
    said = str(caught.value)
    for pattern in named:
        assert re.search(pattern, said), f"{pattern} is not in: {said}"
    assert not OPTION.search(said), said
    assert "\n" not in said


def test_what_can_mean_one_thing_only_is_taken(tmp_path: Path) -> None:
    settings = SerialSettings(baudrate=odd(numpy.int64(19200)))
    with open_device(SIM, protocol="modbus_rtu", address=odd(numpy.uint8(1)), timeout=odd(numpy.float32(2.5)),
                     serial_settings=settings) as opened:  # fmt: skip
        for target in (str(tmp_path / "a.csv"), tmp_path / "b.csv"):
            with Recorder(opened, target, rate_hz=odd(numpy.int32(5)), count=odd(numpy.int16(2))) as recorder:
                recorder.join()
            assert len(list(servomex.load(target))) == 10
    with pytest.raises(ServomexError, match="timeout must be a number of seconds, not True"):
        open_device(SIM, timeout=True)
