"""``servomex discover``: what it prints and where, how it ends, and what it refuses before it opens a port."""

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import servomex
from servomex import SerialLink
from servomex.cli.discover import discover
from servomex.cli.output import STDERR
from servomex.simulator import Faults, PtyServer, VirtualAnalyzer, VirtualLine
from tests.helpers.commands import finish, invoke, program, start
from tests.helpers.platforms import needs_pty, needs_signals
from tests.helpers.searching import wait_less
from tests.helpers.usb_ports import adapter, built_in, link_by_id, plug
from tests.helpers.virtual_time import VirtualTime

pytestmark = pytest.mark.virtual_time

FAST = ("--address", "1,3", "--listen", "0.1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, virtual_time: VirtualTime | None) -> None:
    """Wait less: a virtual analyser that is not paced answers at once, but on a real port it may take time."""
    if virtual_time:
        wait_less(monkeypatch)


def run(*args: str) -> Result:
    return invoke(*args, command=discover)


def silent() -> VirtualLine:
    return VirtualLine(VirtualAnalyzer(faults=Faults(silent=True)))


@needs_pty
@pytest.mark.real_time
def test_analysers_are_a_table_on_stdout_and_other_ports_lines_on_stderr(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    analysers = VirtualAnalyzer(address=3), VirtualAnalyzer(address=1)
    with PtyServer(VirtualLine(*analysers)) as server:
        plug(monkeypatch, adapter(server.port, "A\x1b[1m9"))
        by_id = link_by_id(monkeypatch, tmp_path, usb_ftdi=server.port)["usb_ftdi"]
        result = run("sim://4100?mode=continuous&period=0.1", server.port, "/dev/ttyNowhere", *FAST)
    names = "I1 Oxygen, I2 CO, I3 CO₂, E1, E2"
    usb = f"FT232R USB UART, usb:A\ufffd[1m9, {by_id}"
    rows = [re.split(r" {2,}", line) for line in result.stdout.splitlines()]
    assert rows == [
        ["port", "baud", "mode", "address", "channels", "adapter"],
        ["sim://4100?mode=continuous&period=0.1", "19200", "continuous", names.replace("₂", "2")],
        [server.port, "19200", "modbus_rtu", "1", names, usb],
        [server.port, "19200", "modbus_rtu", "3", names, usb],
    ]
    assert result.stderr.startswith("/dev/ttyNowhere: there is no port /dev/ttyNowhere. Ports present: ")
    assert result.stderr.splitlines()[1:] == ["found an analyser on 2 of 3 ports"]
    assert result.exit_code == 0


@needs_pty
@pytest.mark.real_time
def test_json_has_one_object_for_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    with PtyServer(VirtualLine(VirtualAnalyzer(mode="modbus_ascii"))) as server:
        plug(monkeypatch, adapter(server.port, "A"))
        result = run(server.port, "/dev/ttyNowhere", *FAST, "--format", "json", "--quiet")
    found, missing = map(json.loads, result.stdout.splitlines())
    assert "CO₂" in result.stdout
    assert (result.exit_code, result.stderr) == (0, "")
    assert found == {
        "port": server.port,
        "protocol": "modbus_ascii",
        "baudrate": 19200,
        "address": 1,
        "channels": [
            {"channel": "I1", "name": "Oxygen", "unit": "%", "unit_text": "%", "kind": "transducer"},
            {"channel": "I2", "name": "CO", "unit": "%", "unit_text": "%", "kind": "transducer"},
            {"channel": "I3", "name": "CO₂", "unit": "%", "unit_text": "%", "kind": "transducer"},
            {"channel": "E1", "name": None, "unit": "mA", "unit_text": "mA", "kind": "external_input"},
            {"channel": "E2", "name": None, "unit": "mA", "unit_text": "mA", "kind": "external_input"},
        ],
        "usb": {
            "device": server.port,
            "description": "FT232R USB UART",
            "vendor_id": 0x0403,
            "product_id": 0x6001,
            "serial_number": "A",
            "manufacturer": "FTDI",
            "product": "FT232R USB UART",
            "by_id": None,
        },
        "error": None,
        "error_type": None,
    }
    assert list(missing) == list(found)
    assert (missing["port"], missing["address"], missing["channels"]) == ("/dev/ttyNowhere", None, [])
    assert missing["error"].startswith("there is no port /dev/ttyNowhere. ")


def test_without_ports_all_that_are_present_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    line = VirtualLine()
    plug(monkeypatch, built_in(line.url), built_in("/dev/ttyNowhere"))
    result = run(*FAST)
    assert (result.exit_code, line.url in result.stdout) == (0, True)
    assert result.stderr.startswith("/dev/ttyNowhere: ")


class TestExitCodes:
    def test_one_port_without_an_analyser_is_one_line(self) -> None:
        line = silent()
        result = run(line.url, *FAST)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (4, "", 1)
        assert result.stderr.startswith("Error: no analyser found in ")

    @pytest.mark.parametrize("quiet", [False, True])
    def test_several_ports_without_an_analyser_are_reported_one_by_one(self, quiet: bool) -> None:
        lines = [silent(), silent()]
        args = [*(line.url for line in lines), "/dev/ttyNowhere", *FAST, *(["-q"] if quiet else [])]
        result = run(*args)
        *reported, last = result.stderr.splitlines()
        count = "found an analyser on 0 of 3 ports"
        assert [line.split(": ")[0] for line in reported] == ([] if quiet else [*args[:3], count])
        assert (result.exit_code, result.stdout, last) == (4, "", "Error: no analyser found")

    def test_no_port_that_opens_is_3(self) -> None:
        result = run("/dev/ttyNowhere", "usb:", "sim://nobody", *FAST)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (3, "", 5)
        assert result.stderr.endswith("\nError: none of these ports could be opened\n")
        assert run("/dev/ttyNowhere", *FAST).exit_code == 3

    def test_no_port_at_all_is_3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plug(monkeypatch)
        result = run(*FAST)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("Error: This computer has no serial port at the moment")

    def test_names_that_can_never_work_are_2(self) -> None:
        result = run("usb:", "sim://nobody", *FAST)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.endswith("\nError: none of these ports can be searched\n")

    def test_a_foreign_device_is_4(self) -> None:
        line = VirtualLine(VirtualAnalyzer(), VirtualAnalyzer())
        result = run(line.url, *FAST)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "Error: only damaged or doubled replies arrive from address 1" in result.stderr


REFUSED = {
    "--address": ["5-1", "0", "1-300", "a", "", "1-", "-3", "1,,2", "1-2-3", "248", "1.5", "²", "9" * 5000],
    "--baudrate": ["0", "299", "115201", "fast", "", "9600,", "9600-19200", "+9600"],
    "--protocol": ["modbus", "", "auto,continuous", "modbus_rtu,"],
    "--listen": ["0", "-1", "nan", "inf"],
    "--format": ["csv"],
}


def test_what_cannot_be_is_refused_before_a_port_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_devices(*_args: object, **_options: object) -> None:
        raise AssertionError("it was searched")

    monkeypatch.setattr(servomex, "find_devices", find_devices)
    for name, values in REFUSED.items():
        for value in values:
            result = run("sim://4100", name, value)
            assert (result.exit_code, result.stdout) == (2, ""), value
            assert result.stderr.startswith(f"Error: Invalid value for '{name}'"), value


def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the search, and note what is asked for."""
    asked: list[Any] = []

    def find_devices(ports: Any, **options: Any) -> list[Any]:
        asked.append((ports, options))
        return []

    monkeypatch.setattr(servomex, "find_devices", find_devices)
    return asked


OPTIONS: list[tuple[str, str, str, Any]] = [
    ("--address", "1,3, 5-8,247", "addresses", [1, 3, 5, 6, 7, 8, 247]),
    ("--baudrate", "9600, 19200", "baudrates", [9600, 19200]),
    ("--protocol", "continuous,modbus_rtu", "protocols", ["continuous", "modbus_rtu"]),
    ("--listen", "9", "listen", 9.0),
]


def test_the_options_reach_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_for(monkeypatch)
    run("COM3", "COM4")
    usual = {"addresses": list(range(1, 11)), "baudrates": [19200], "protocols": None, "listen": 2.5}
    assert asked.pop() == (("COM3", "COM4"), {**usual, "on_progress": None})
    for name, text, key, value in OPTIONS:
        run("COM3", name, text)
        with monkeypatch.context() as environment:
            environment.setenv(f"SERVOMEX_{name[2:].upper()}", text)
            run("COM3")
        for _ in range(2):
            assert asked.pop() == (("COM3",), {**usual, key: value, "on_progress": None})


def test_verbose_shows_what_is_done(line: VirtualLine) -> None:
    result = run(line.url, *FAST, "--verbose")
    assert f"{line.url}: searching at 19200 baud\n" in result.stderr
    assert result.stdout.startswith("port ")


@needs_pty
@pytest.mark.real_time
def test_a_terminal_gets_a_progress_bar() -> None:
    master, terminal = os.openpty()
    try:
        done = subprocess.run(
            program("discover", "sim://4100", "/dev/nope", "--address", "1", main="main"),
            stdout=subprocess.PIPE,
            stderr=terminal,
            timeout=30,
            env={**os.environ, "TERM": "xterm"},
            check=False,
        )
        shown = os.read(master, 100_000)
    finally:
        os.close(master)
        os.close(terminal)
    assert (done.returncode, done.stdout[:5]) == (0, b"port ")
    assert 0 <= shown.find(b"searching") < shown.find(b"100%") < shown.find(b"/dev/nope: ")


def test_there_is_no_bar_between_other_lines_or_with_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STDERR, "isatty", lambda: True)
    asked = asked_for(monkeypatch)
    for args in ([], ["-q"], ["-v"]):
        run("COM3", *args)
    assert [options["on_progress"] is not None for _, options in asked] == [True, False, False]


@needs_signals
@pytest.mark.real_time
def test_ctrl_c_ends_it_and_closes_the_ports() -> None:
    child = start("discover", "sim://4100?fault=silent", "sim://4100?address=9", "-v", main="main")
    assert child.stderr is not None
    assert b"searching at 19200 baud" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    code, stdout, stderr = finish(child)
    assert (code, stdout) == (130, "")
    assert "Error" not in stderr


def test_an_interrupted_search_leaves_no_thread_and_no_open_port(monkeypatch: pytest.MonkeyPatch) -> None:
    line = silent()
    usual = servomex.find_devices

    def interrupted(*args: Any, **options: Any) -> Any:
        def stop(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        return usual(*args, **{**options, "on_progress": stop})

    monkeypatch.setattr(servomex, "find_devices", interrupted)
    result = run(line.url, "--listen", "60")
    assert (result.exit_code, result.stdout) == (130, "")
    assert not [item.name for item in threading.enumerate() if item.name.startswith("servomex")]
    with SerialLink(line.url) as link:
        assert link.is_open
