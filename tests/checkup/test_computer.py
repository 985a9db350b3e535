"""The checks of a computer and its ports: what is there, under which names, and who may and does use it."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from servomex.checkup.computer import port_present
from servomex.checkup.findings import Finding, Verdict
from servomex.cli.doctor import NEXT, doctor
from servomex.simulator import PtyServer, VirtualLine
from tests.helpers.commands import NO_PORT, invoke
from tests.helpers.examining import PATIENT, check_problem, page_of
from tests.helpers.platforms import needs_pty
from tests.helpers.rivals import LOCK, OPEN, needs_proc, program
from tests.helpers.usb_ports import adapter, built_in, link_by_id, plug


@needs_proc
def test_a_busy_port_says_who_has_it() -> None:
    with PtyServer(VirtualLine()) as server, program(LOCK, server.port) as (rival, _):
        found = page_of(server.port)
        group = Path(server.port).group()
    seen = f"{server.port} is in use by another program"
    check_problem(found, "opening", seen, f"Close {rival} first", code=3)
    cure = f"End {rival}: two programs on one port take each other's bytes"
    assert found["access"] == (
        "WARNING", f"may be opened by this user; its group is {group}; in use by {rival}", cure,
    )  # fmt: skip


@needs_proc
def test_a_program_that_shares_the_port_is_a_warning() -> None:
    with PtyServer(VirtualLine()) as server, program(OPEN, server.port) as (rival, _):
        found = page_of(server.port, *PATIENT)
    assert (found.code, found.record["verdict"], found.record["check"]) == (0, "WARNING", "access")
    assert f"; in use by {rival}" in found["access"][1]
    assert found["mode"][0] == "ok"


@needs_pty
def test_a_port_that_is_free_and_not_on_usb() -> None:
    with PtyServer(VirtualLine()) as server:
        found = page_of(server.port, *PATIENT)
        group = Path(server.port).group()
    assert found["port"] == ("ok", f"{server.port} exists; no USB adapter is known for it", "")
    free = f"may be opened by this user; its group is {group}; no other program was seen using it"
    assert found["access"] == ("ok", free, "")
    assert found.code == 0


@needs_pty
def test_the_name_of_an_adapter_that_may_change_comes_with_those_that_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with PtyServer(VirtualLine()) as server:
        plug(monkeypatch, adapter(server.port, "A50285BI"))
        assert port_present(server.port) == Finding(
            "port",
            Verdict.OK,
            f"{server.port}: FT232R USB UART, FTDI, USB 0403:6001, serial number A50285BI",
            "Use usb:A50285BI: it survives replugging",
        )
        links = link_by_id(monkeypatch, tmp_path, ftdi=server.port)
        assert f"Use usb:A50285BI or {links['ftdi']}: it survives replugging" in port_present(server.port).cure
        assert port_present("usb:A50285BI").cure == port_present(links["ftdi"]).cure == ""
        plug(monkeypatch, adapter(server.port, "0001"), adapter("/dev/ttyUSB9", "0001"))
        assert port_present(server.port).cure.startswith(f"Use {links['ftdi']}:")
        plug(monkeypatch, adapter("/dev/ttyUSB9"), adapter(server.port))
        Path(links["ftdi"]).unlink()
        found = port_present(server.port)
        assert (found.cure, found.seen.endswith("USB 0403:6001, no serial number")) == ("", True)


def test_a_port_of_windows_is_there_when_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, built_in("COM11"))
    for name in ("COM11", "com11", r"\\.\COM11"):
        assert port_present(name).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("port", "check", "seen", "code"),
    [
        ("usb:", "port", "usb: needs the serial number .*", 2),
        ("usb:NOBODY", "port", "there is no USB adapter with the serial number NOBODY", 3),
        ("sim://nope", "opening", "sim://nope: there is no virtual analyser 'nope'; there are .*", 2),
        ("socket://127.0.0.1:1", "opening", "socket://127.0.0.1:1 cannot be reached: .*", 3),
        (__file__, "opening", f".* {NO_PORT}.*", 3),
    ],
)
def test_other_names_and_ports_that_cannot_work(port: str, check: str, seen: str, code: int) -> None:
    found = page_of(port)
    verdict, was_seen, cure = found[check]
    assert verdict == "PROBLEM"
    assert re.fullmatch(seen, was_seen)
    assert cure
    assert found.code == code


def test_without_a_port_the_ports_are_listed_with_what_is_known_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plug(monkeypatch, adapter("/dev/ttyUSB3", "A50285BI"), built_in("COM1"))
    monkeypatch.setattr(
        "servomex.checkup.computer.access", lambda port: Finding("access", Verdict.OK, "may be opened")
    )
    result = invoke(command=doctor)
    assert (result.exit_code, result.stderr) == (0, "")
    first, *rest = result.stdout.splitlines()
    assert re.match(
        r"ok       versions   servomex \d\S*, Python 3\.\d+\.\S+, pymodbus 3\S+, pyserial 3\S+, ", first
    )
    assert rest == [
        "ok       port       /dev/ttyUSB3: FT232R USB UART, FTDI, USB 0403:6001, serial number A50285BI; "
        "it may be opened",
        "                    hint: Use usb:A50285BI: it survives replugging",
        "ok       port       COM1; it may be opened",
        "",
        "verdict: ok",
        NEXT.strip(),
    ]


def test_where_the_system_does_not_tell_a_listed_port_is_all_there_is_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plug(monkeypatch, built_in("COM1"))
    monkeypatch.setattr("servomex.checkup.computer.os", SimpleNamespace(name="nt"))
    result = invoke(command=doctor)
    assert result.stdout.splitlines()[1] == "ok       port       COM1"


@needs_pty
def test_a_listed_port_that_cannot_be_used_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, adapter("/dev/ttyNowhere", "A50285BI"))
    result = invoke("--format", "json", command=doctor)
    record = json.loads(result.stdout)
    assert (result.exit_code, record["port"], record["verdict"]) == (0, None, "WARNING")
    assert record["cure"] == "Ask the administrator for access to it"
    assert record["findings"][1]["seen"].endswith("; this user has no permission to open it")


def test_a_computer_without_ports_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch)
    result = invoke(command=doctor)
    assert "\nWARNING  port       this computer has no serial port\n" in result.stdout
    assert "\nverdict: 1 warning. Start here (port): Check that the adapter is plugged in\n" in result.stdout


def test_the_port_may_come_from_the_environment() -> None:
    found = invoke(*PATIENT, command=doctor, env={"SERVOMEX_PORT": "sim://4100"})
    assert "an analyser in mode modbus_rtu at address 1" in found.stdout
