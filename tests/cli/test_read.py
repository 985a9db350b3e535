"""``servomex read`` and ``servomex-read``: what they print, what they say when it goes wrong, how they end."""

import itertools
import json
import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import serial

import servomex
from servomex.cli.interrupts import interrupts_wait
from servomex.models.columns import ROW_COLUMNS
from servomex.models.reading import ChannelStatus
from servomex.simulator import PtyServer, VirtualLine
from tests.helpers.commands import (
    FAST,
    MODES,
    NO_PORT,
    VALUES,
    finish,
    invoke,
    line_with,
    program,
    rows_of,
    run,
    start,
)
from tests.helpers.platforms import needs_pty, needs_signals
from tests.helpers.unprivileged import unprivileged

pytestmark = pytest.mark.virtual_time

UNITS = {"I1": "%", "I2": "%", "I3": "%", "E1": "mA", "E2": "mA"}
SILENT = "sim://4100?fault=silent"


def url(mode: str, options: str = "") -> str:
    return f"sim://4100?mode={mode}&period=0.1{options}"


def named(mode: str) -> dict[str, str]:
    return {"I1": "Oxygen", "I2": "CO", "I3": "CO2" if mode == "continuous" else "CO₂", "E1": "", "E2": ""}


@pytest.mark.parametrize("mode", MODES)
class TestFormats:
    def test_table(self, mode: str) -> None:
        result = invoke(url(mode), "--protocol", mode)
        head, times, *table = result.stdout.splitlines()
        address = "" if mode == "continuous" else ", address 1"
        assert head.startswith(f"{url(mode)}, {mode}{address}: analyser ok")
        assert ("its clock 2" in head) == (mode == "continuous")
        received, latency = re.match(r"received (.*) UTC, [01]\.\d s ago(.*)", times).groups()  # type: ignore[union-attr]
        assert abs(datetime.fromisoformat(f"{received}+00:00") - datetime.now(UTC)) < timedelta(seconds=5)
        assert re.fullmatch("" if mode == "continuous" else r", read in 0\.\d\d s", latency)
        assert table == [
            "channel  name    value   unit  state  quality",
            "I1       Oxygen  20.376  %     ok     good",
            "I2       CO       0.084  %     ok     good",
            f"I3       {named(mode)['I3']}      0.25   %     ok     good",
            "E1                0.0    mA    ok     good",
            "E2                0.0    mA    ok     good",
        ]
        assert (result.exit_code, result.stderr) == (0, "")

    def test_csv(self, mode: str) -> None:
        result = invoke(url(mode), "--protocol", mode, "--gap", "0", "--format", "csv")
        assert "\r" not in result.stdout
        rows = rows_of(result.stdout)
        assert list(rows[0]) == ROW_COLUMNS
        assert {row["channel"]: float(row["value"]) for row in rows} == VALUES
        assert {row["channel"]: row["unit"] for row in rows} == UNITS
        assert {row["channel"]: row["name"] for row in rows} == named(mode)
        for row in rows:
            assert (row["protocol"], row["quality"], row["ok"], row["alarm4"]) == (mode, "good", "1", "0")
            assert (row["cal_groups"], row["analyser_fault"], row["error"]) == ("S1S1S1S1", "0", "")
            assert datetime.fromisoformat(row["received_at"]).utcoffset() == timedelta(0)
            assert bool(row["requested_at"]) == bool(row["latency_s"]) == (mode != "continuous")
            assert bool(row["analyser_clock"]) == (mode == "continuous")

    def test_json(self, mode: str) -> None:
        result = invoke(url(mode), "--protocol", mode, "--gap", "0", "--format", "json")
        assert result.stdout.count("\n") == 1
        record = json.loads(result.stdout)
        keys = "device protocol received_at monotonic_ns requested_at latency_s delayed_s tags analyser readings"
        assert " ".join(record) == keys
        assert " ".join(record["analyser"]) == "fault maintenance cal_groups clock"
        own = [column for column in ROW_COLUMNS if column in record["readings"][0]]
        assert [sorted(row) for row in record["readings"]] == [sorted(own)] * 5
        assert {row["channel"]: row["value"] for row in record["readings"]} == VALUES
        assert {row["channel"]: row["name"] or "" for row in record["readings"]} == named(mode)
        assert named(mode)["I3"] in result.stdout
        assert record["device"] == url(mode) + ("" if mode == "continuous" else ":1")
        assert (record["protocol"], record["analyser"]["fault"]) == (mode, False)
        assert (record["latency_s"] is None) == (mode == "continuous")

    def test_influx(self, mode: str) -> None:
        result = invoke(url(mode), "--protocol", mode, "--gap", "0", "--format", "influx", "--channels", "i1, E1")
        oxygen, external = result.stdout.splitlines()
        device = url(mode).replace("=", r"\=") + ("" if mode == "continuous" else ":1")
        flags = (
            'quality="good",quality_code=2i,ok=true,fault=false,maintenance=false,calibrating=false,warming_up=false,alarm1=false,'
            "alarm2=false,alarm3=false,alarm4=false,analyser_fault=false,analyser_maintenance=false,"
            'cal_groups="S1S1S1S1"'
        )
        start = f"servomex,device={device},protocol={mode},channel="
        text, _, nanoseconds = oxygen.rpartition(" ")
        assert text == f"{start}I1,kind=transducer,name=Oxygen,unit=% value=20.376,{flags}"
        assert abs(int(nanoseconds) / 1e9 - time.time()) < 5
        assert external.rpartition(" ")[0] == f"{start}E1,kind=external_input,unit=mA value=0.0,{flags}"


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_is_found(mode: str) -> None:
    result = invoke(url(mode), "--format", "json")
    assert json.loads(result.stdout)["protocol"] == mode


SILENT = "sim://4100?fault=silent"
ERRORS: dict[str, tuple[list[str], int, str]] = {
    "missing port": (["/dev/nope"], 3, "there is no port /dev/nope"),
    "a directory": ([str(Path(__file__).parent)], 3, NO_PORT),
    "a file": ([__file__], 3, NO_PORT),
    "silent, auto": ([SILENT, "--timeout", "0.2", "--listen", "0.3"], 4, "no analyser found"),
    "silent, continuous": ([SILENT, "--protocol", "continuous", "--listen", "0.2"], 4, "no broadcast"),
    "wrong address": (["sim://4100?address=7", "--protocol", "modbus_rtu"], 4, "no reply from address 1"),
    "address 0": (["sim://4100", "--address", "0"], 2, "'--address'"),
    "address 300": (["sim://4100", "--address", "300"], 2, "'--address'"),
    "unknown channel": (["sim://4100", "--channels", "I1,I9"], 2, "unknown channel 'I9'; known are I1, I2"),
    "unknown gas": (["sim://4100", "--channels", "SO2"], 2, "no channel is named 'SO2'; this analyser has I1 (Ox"),
    "no channel": (["sim://4100", "--channels", ""], 2, "'--channels'"),
    "absent channel": (["sim://4100", "--channels", "I1,I4"], 2, "not populated: I4"),
    "unknown mode": (["sim://4100", "--protocol", "tcp"], 2, "'--protocol'"),
    "timeout 0": (["sim://4100", "--timeout", "0"], 2, "'--timeout'"),
    "timeout NaN": (["sim://4100", "--timeout", "nan"], 2, "'--timeout'"),
    "listen without end": (["sim://4100", "--listen", "inf"], 2, "'--listen'"),
    "watch backwards": (["sim://4100", "--watch", "-1"], 2, "'--watch'"),
    "gap too long": (["sim://4100", "--gap", "11"], 2, "'--gap'"),
    "count 0": (["sim://4100", "--count", "0"], 2, "'--count'"),
    "parity": (["sim://4100", "--parity", "X"], 2, "'--parity'"),
    "no port": ([], 2, "'PORT'"),
    "unknown option": (["sim://4100", "--frob"], 2, "--frob"),
    "unknown scheme": (["foo://x"], 2, "foo"),
    "no such simulator": (["sim://nope"], 2, "there is no virtual analyser 'nope'"),
    "refused connection": (["socket://127.0.0.1:1"], 3, "cannot be reached"),
    "trace not writable": (["/dev/nope", "--trace", "/nope/trace"], 1, "cannot write the trace /nope/trace"),
    "line breaks": (["/dev/a\nb\x1b[31m"], 3, "there is no port /dev/a b\ufffd[31m"),
}


@pytest.mark.parametrize(("args", "code", "words"), ERRORS.values(), ids=ERRORS)
@pytest.mark.real_time
def test_an_error_is_a_line_or_two_with_its_exit_code(args: list[str], code: int, words: str) -> None:
    result = invoke(*args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == (2 if "Try 'read --help'." in result.stderr else 1)
    assert words in result.stderr


def test_the_options_reach_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def no_device(port: str, **options: Any) -> None:
        asked.append((port, options))
        raise servomex.ServomexTimeoutError("nobody there")

    monkeypatch.setattr(servomex, "open_device", no_device)
    line = "--baudrate 9600 --bytesize 7 --parity e --stopbits 2"
    other = "--protocol modbus_ascii --address 9 --gap 0.1 --retries 3 --timeout 4 --listen 5 --channels I1,d2"
    result = invoke("COM11", *line.split(), *other.split(), "--trace", "wire.log")
    assert (result.exit_code, result.stderr) == (4, "Error: nobody there\n")
    assert asked == [("COM11", {
        "protocol": "modbus_ascii", "address": 9, "gap": 0.1, "retries": 3, "timeout": 4.0, "listen": 5.0,
        "channels": ["I1", "D2"], "trace": "wire.log", "name": None, "tags": {},
        "serial_settings": servomex.SerialSettings(baudrate=9600, bytesize=7, parity="E", stopbits=2),
    })]  # fmt: skip


@needs_pty
@pytest.mark.real_time
@pytest.mark.parametrize(("args", "tried", "code"), [
    ((SILENT,), b"looking for an analyser on sim://4100?fault=silent, for up to 1.5 s: Modbus RTU and", 4),
    ((SILENT, "--protocol", "continuous"), b"waiting for a broadcast on sim://4100?fault=silent, for up to", 4),
    ((SILENT, "--protocol", "modbus_rtu"), b"asking address 1 on sim://4100?fault=silent in mode modbus_rtu", 4),
    ((SILENT, "--quiet"), b"Error: ", 4),
    (("sim://4100", "--protocol", "modbus_rtu"), b"end", 0),
])  # fmt: skip
def test_a_terminal_shows_what_is_being_tried_when_that_takes_long(
    args: tuple[str, ...], tried: bytes, code: int
) -> None:
    master, terminal = os.openpty()
    try:
        command = program(*args, "--listen", "1.5")
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, timeout=60, check=False)
        os.write(terminal, b"end")
        shown = os.read(master, 100_000)
    finally:
        os.close(master)
        os.close(terminal)
    assert (done.returncode, shown.startswith(tried)) == (code, True), shown


@needs_pty
@pytest.mark.real_time
def test_a_busy_port_is_named() -> None:
    with PtyServer(VirtualLine()) as server, serial.Serial(server.port, exclusive=True):
        result = invoke(server.port)
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert f"{server.port} is in use by another program" in result.stderr


@needs_pty
@pytest.mark.real_time
def test_a_forbidden_port_is_named() -> None:
    with PtyServer(VirtualLine()) as server:
        Path(server.port).chmod(0)
        code, _, stderr = finish(start(server.port, before=unprivileged()))
    assert (code, stderr.count("\n")) == (3, 1)
    assert f"no permission to open {server.port}" in stderr


@pytest.mark.real_time
def test_the_processes_end_with_the_same_codes() -> None:
    assert run("sim://4100", "--protocol", "modbus_rtu", "--quiet")[0] == 0
    code, stdout, stderr = run("/dev/nope", "--watch", "1")
    assert (code, stdout, stderr.count("\n")) == (3, "", 1)
    assert run("sim://4100", "--address", "300")[0] == 2
    assert run("read", "sim://moving", "--check", "--protocol", "modbus_rtu", main="main")[0] == 5


class TestRepeating:
    def test_deadlines_do_not_drift(self) -> None:
        result = invoke(url("modbus_rtu"), *"--protocol modbus_rtu --watch 0.25 --count 5 --format json".split())
        asked = [datetime.fromisoformat(json.loads(line)["requested_at"]) for line in result.stdout.splitlines()]
        late = [(moment - asked[1]).total_seconds() - turn * 0.25 for turn, moment in enumerate(asked[1:])]
        assert len(asked) == 5
        assert max(map(abs, late)) < 0.2, late  # a sweep takes 0.1 s: waiting after each would add up
        assert re.fullmatch(r"5 readings, 0 failures in \d\.\d s, 0 dropped frames\n", result.stderr)

    def test_every_broadcast_comes_once(self) -> None:
        result = invoke(url("continuous"), *"--protocol continuous --count 4 --format csv".split())
        arrivals = [int(row["monotonic_ns"]) for row in rows_of(result.stdout) if row["channel"] == "I1"]
        steps = [(after - before) / 1e9 for before, after in itertools.pairwise(arrivals)]
        assert len(steps) == 3
        assert min(steps) > 0.05
        assert result.stdout.count("received_at") == 1

    def test_the_second_broadcast_is_waited_for(self) -> None:
        slow = "sim://4100?mode=continuous&period=1.1"
        result = invoke(slow, *"--protocol continuous --count 2 --format json".split())
        assert result.stdout.count("\n") == 2
        assert result.stderr.startswith("2 readings, 0 failures")

    def test_tables_are_apart(self) -> None:
        result = invoke(url("continuous"), "--protocol", "continuous", "--watch", "0", "--count", "2")
        assert result.stdout.count("\n\nsim://") == 1
        assert not result.stdout.endswith("\n\n")

    @pytest.mark.parametrize("quiet", [False, True])
    def test_a_failure_is_a_line_and_does_not_end_it(self, quiet: bool) -> None:
        result = invoke(
            "sim://4100?fault=unplug:0.5",
            *FAST,
            *"--watch 0.1 --count 8".split(),
            *(["--quiet"] if quiet else []),
        )
        assert result.exit_code == 0
        shown = result.stdout.count("I1 ")
        if quiet:
            assert result.stderr == ""
            assert shown in (5, 6, 7)
        else:
            *lines, summary = result.stderr.splitlines()
            failures = [line for line in lines if line.startswith("Failed: the port was lost")]
            (back,) = [line for line in lines if line not in failures]
            assert re.fullmatch(rf"Readings are back after \d\.\d s \({len(failures)} failed readings?\)", back)
            assert shown + len(failures) == 8, "a count is of what was tried"
            assert re.match(rf"{shown} readings, {len(failures)} failure", summary)
            assert len(failures) in (1, 2, 3)  # the port is asked twice a second at most


@pytest.mark.parametrize(("line", "code", "complaint"), [
    (line_with(("I1", ChannelStatus())), 0, ""),
    (line_with(("I1", ChannelStatus(maintenance=True))), 0, ""),
    (line_with(("I1", ChannelStatus(fault=True))), 5, "I1 fault"),
    (line_with(("I1", ChannelStatus()), ("D2", ChannelStatus(alarms=(False, True, False, True)))), 5,
     "D2 alarm 2, alarm 4"),
    (line_with(("E1", ChannelStatus(fault=True))), 5, "E1 no value, fault"),
    (line_with(("I1", ChannelStatus()), value=float("nan")), 5, "I1 no value"),
])  # fmt: skip
def test_check(line: VirtualLine, code: int, complaint: str) -> None:
    args = (line.url, *FAST, "--check")
    result = invoke(*args)
    assert (result.exit_code, result.stderr) == (code, f"check failed: {complaint}\n" if complaint else "")
    assert "I1 " in result.stdout or "E1 " in result.stdout
    result = invoke(*args, "--quiet")
    assert (result.exit_code, result.stderr) == (code, "")


def test_check_sees_a_fault_of_the_analyser_and_the_chosen_channels_only() -> None:
    line = line_with(("I1", ChannelStatus(alarms=(True, False, False, False))))
    args = (line.url, *FAST, "--check", "--channels", "E1")
    assert invoke(*args).exit_code == 0
    line.analysers[0].fault = True
    result = invoke(*args)
    assert (result.exit_code, result.stderr) == (5, "check failed: analyser fault\n")
    assert ": analyser fault\n" in result.stdout


HOSTILE = ["=1+1", "+a", "@SUM", "-2", "a,b=c", '"q" \\', "\x1b[2J", "\r\n\t", "é;|"]


@pytest.mark.parametrize("output_format", ["table", "csv", "json", "influx"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text(name: str, output_format: str) -> None:
    line = line_with(("I1", ChannelStatus()), name=name)
    result = invoke(line.url, *FAST, "--format", output_format, "--channels", "I1")
    clean = re.sub(r"[\x00-\x1f]", "\ufffd", name)
    assert result.exit_code == 0
    assert all(char.isprintable() for char in result.stdout.replace("\n", ""))
    if output_format == "table":
        assert result.stdout.splitlines()[3].startswith(f"I1       {clean}")
    elif output_format == "csv":
        assert rows_of(result.stdout)[0]["name"] == ("'" if name[0] in "=+-@" else "") + clean
    elif output_format == "json":
        assert json.loads(result.stdout)["readings"][0]["name"] == clean
    else:
        (text,) = result.stdout.splitlines()
        tags, _fields, _time = re.split(r"(?<!\\) ", text)
        assert len(re.split(r"(?<!\\),", tags)) == 7
        assert re.sub(r"\\(.)", r"\1", tags).rpartition(",unit=")[0].partition(",name=")[2].rstrip() == clean


class TestInterrupts:
    """Ctrl-C and SIGTERM, sent to another process at a known moment."""

    @needs_signals
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    @pytest.mark.real_time
    def test_while_watching(self, number: signal.Signals, code: int) -> None:
        child = start("sim://4100", *FAST, "--watch", "0.1", "--format", "csv")
        assert child.stdout is not None
        for _ in range(11):  # the header and two readings
            child.stdout.readline()
        child.send_signal(number)
        ended, _, stderr = finish(child)
        assert ended == code
        assert re.fullmatch(r"\d+ readings, 0 failures in \d+\.\d s, 0 dropped frames\n", stderr)

    @needs_signals
    @pytest.mark.parametrize("mode", ["auto", "continuous", "modbus_rtu"])
    @pytest.mark.real_time
    def test_while_opening(self, mode: str) -> None:
        child = start("sim://4100?fault=silent", "--protocol", mode, "--timeout", "20", "--listen", "20", "-v")
        assert child.stderr is not None
        assert b"opening sim://4100?fault=silent" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        code, stdout, stderr = finish(child)
        assert (code, stdout) == (130, "")
        assert stderr.startswith("0 readings, 0 failures in ")

    @needs_signals
    @pytest.mark.real_time
    def test_quietly_between_two_readings(self) -> None:
        child = start("sim://4100", *FAST, "--watch", "1000", "--quiet", "--format", "json")
        assert child.stdout is not None
        child.stdout.readline()  # it is there at once
        child.send_signal(signal.SIGINT)
        assert finish(child)[::2] == (130, "")

    def test_an_import_is_not_torn(self) -> None:
        loaded: list[bool] = []

        def load() -> None:
            with interrupts_wait():
                signal.raise_signal(signal.SIGINT)
                loaded.append(True)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                load()
        finally:
            signal.signal(signal.SIGINT, before)
        assert loaded
