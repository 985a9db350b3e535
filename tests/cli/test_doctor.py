"""``servomex doctor``: six pages, each with its cure; what they look like, and how the command ends."""

import json
import re
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from servomex.checkup import examination as checkup
from servomex.checkup.examination import CHECKS, CheckRequest
from servomex.checkup.findings import Finding, Verdict
from servomex.cli.doctor import doctor
from servomex.cli.output import STDERR
from servomex.enums import ProtocolKind
from servomex.models.reading import ChannelStatus
from servomex.settings import SerialSettings
from servomex.simulator import PtyServer, VirtualAnalyzer, VirtualLine
from tests.helpers.commands import finish, invoke, start
from tests.helpers.examining import (
    LINE_CHECKS,
    LISTEN_S,
    PATIENT,
    PORT_CHECKS,
    SHORT,
    SILENT,
    Page,
    check_problem,
    examine_quickly,
    page,
    page_of,
)
from tests.helpers.platforms import needs_pty
from tests.helpers.unprivileged import unprivileged
from tests.helpers.usb_ports import adapter, built_in, plug
from tests.helpers.virtual_time import VirtualTime

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, virtual_time: VirtualTime | None) -> None:
    """Wait less, except for a real port."""
    if virtual_time:
        examine_quickly(monkeypatch)


def test_a_healthy_modbus_analyser(tmp_path: Path) -> None:
    found = page(VirtualLine(), "--trace", str(tmp_path / "trace"))
    assert " > 01 02 03 e8 " in (tmp_path / "trace").read_text(encoding="utf-8")
    assert (found.code, found.record["verdict"], found.record["cure"]) == (0, "ok", None)
    assert found.verdicts(*CHECKS) == {"ok", "skipped"}
    assert found["line"] == ("ok", "silent for 0.1 s, before anything was sent", "")
    assert found["mode"] == ("ok", "an analyser in mode modbus_rtu at address 1", "")
    hint = "In scripts, --protocol modbus_rtu saves looking for the mode"
    seen = "19200 8N1, address 1, gap 0.005 s, retries 2, timeout by the line, listen 2 s"
    assert found["settings"] == ("ok", seen, hint)
    assert found["gap"] == ("ok", "all 3 test reads were answered (gap 0.005 s)", "")
    assert found["echo"] == ("ok", "there is none", "")
    assert found["broadcast"] == ("skipped", "there are none in Modbus mode", "")
    assert found["clock"] == ("skipped", "not available over Modbus", "")
    assert found["analyser"] == ("ok", "no fault, no maintenance, all groups on sample", "")
    assert found["coils"] == ("ok", "the coils that start and stop calibrations are at 0", "")
    channels = ["I1 Oxygen 20.376 %", "I2 CO 0.084 %", "I3 CO₂ 0.25 %", "E1 0.0 mA", "E2 0.0 mA"]
    assert found.all("channel") == [("ok", channel, "") for channel in channels]


def test_a_continuous_analyser() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.1))
    found = page(line)
    assert (found.code, found.record["verdict"]) == (0, "ok")
    assert found["mode"] == ("ok", "an analyser in mode continuous", "")
    assert found["gap"] == ("skipped", "nothing is requested in continuous mode", "")
    verdict, seen, _ = found["broadcast"]
    assert verdict == "ok"
    assert re.fullmatch(r"one every 0\.\d s, the last is 0\.\d s old, 0 dropped", seen)
    assert re.fullmatch(r"it shows [\d :-]{19}, [01]\.\d s behind this computer's", found["clock"][1])
    assert found.all("channel")[2] == ("ok", "I3 CO2 0.25 %", "")


def test_a_silent_line() -> None:
    started = time.monotonic()
    found = page(VirtualLine(VirtualAnalyzer(faults=SILENT)), *SHORT)
    assert time.monotonic() - started < LISTEN_S + 3.0
    seen = (
        r"no analyser found in 0\.\d s: nothing answered Modbus RTU or ASCII at address 1, and no broadcast "
        r"arrived \(its frame frequency may be longer, or 0\); nothing was received; "
        "nothing answered at the addresses 1 to 2, or at 9600 baud either"
    )
    cure = (
        "Check that the analyser is on, the wiring, the address, the baud rate and the other serial "
        "settings; if it broadcasts, use a longer --listen"
    )
    check_problem(found, "mode", seen, cure)
    assert found["echo"] == ("skipped", "unknown: nothing came back", "")
    assert found["gap"] == ("skipped", "no analyser found", "")
    assert found["analyser"] == ("skipped", "not checked because of the problem above", "")
    assert found.verdicts(*PORT_CHECKS, "line", "settings") == {"ok", "skipped"}


def test_an_echo_without_an_analyser() -> None:
    found = page(VirtualLine(VirtualAnalyzer(faults=SILENT), echo=True), *SHORT)
    seen = "no analyser found in .*; only the adapter's echo came back; nothing answered .*"
    check_problem(found, "mode", seen, "Check the wiring, and that the analyser is on")
    assert found["echo"] == ("ok", "the adapter echoes what is sent; the echo is removed", "")


def test_an_echo_with_an_analyser() -> None:
    found = page(VirtualLine(echo=True))
    assert found.code == 0
    assert found["echo"] == ("ok", "the adapter echoes what is sent; the echo is removed", "")
    assert found.verdicts(*LINE_CHECKS) == {"ok", "skipped"}


@needs_pty
def test_a_missing_port_is_named_with_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, built_in("/dev/ttyS0"), adapter("/dev/ttyUSB3", "A50285BI"))
    found = page_of("/dev/ttyNowhere")
    cure = "Plug its adapter in, or name another port. Ports present: /dev/ttyUSB3 (usb:A50285BI), /dev/ttyS0"
    check_problem(found, "port", "there is no port /dev/ttyNowhere", cure, code=3)
    assert found.verdicts(*CHECKS[2:]) == {"skipped"}


@needs_pty
@pytest.mark.real_time
def test_a_forbidden_port_comes_with_its_group() -> None:
    with PtyServer(VirtualLine()) as server:
        port = Path(server.port)
        port.chmod(0)
        group = port.group()
        code, stdout, _ = finish(
            start("doctor", server.port, "--format", "json", main="main", before=unprivileged())
        )
    cure = (
        f"Its mode is 0000 and its group {group}, so joining a group does not help: sudo chmod a+rw {port}, "
        "which lasts until it is plugged in again, or a udev rule that sets its GROUP and MODE"
    )
    check_problem(Page(json.loads(stdout), code), "access", f"no permission to open {port}", cure, code=3)


class Losing(VirtualLine):
    """A line whose port is pulled when a certain read is sent for the nth time."""

    def __init__(self, read: bytes, nth: int) -> None:
        super().__init__()
        self.read = read
        self.left = nth

    def write(self, data: bytes) -> None:
        self.left -= data.startswith(self.read)
        if not self.left:
            self.unplug()
        super().write(data)


FLAGS, STATE = bytes.fromhex("01 02 03 e8 00 02"), bytes.fromhex("01 02 03 e8 00 10")


@pytest.mark.parametrize(
    ("build", "check"),
    [
        (lambda: VirtualLine(unplug_after=0.02), "line"),
        (lambda: Losing(FLAGS, 1), "mode"),
        (lambda: Losing(STATE, 1), "mode"),
        (lambda: Losing(STATE, 3), "gap"),  # the first reading takes two: its state is new
        (lambda: Losing(STATE, 7), "analyser"),
    ],
    ids=["line", "mode", "identity", "gap", "analyser"],
)
def test_a_port_that_is_lost_on_the_way_is_the_problem_where_it_happened(
    build: Callable[[], VirtualLine], check: str
) -> None:
    found = page(build())
    cure = "Check the cable and the adapter; open it again"
    check_problem(found, check, r"the port was lost \(.*", cure, code=3)


def test_the_page_is_written_for_people() -> None:
    line = VirtualLine(VirtualAnalyzer(address=2))
    result = invoke(line.url, *SHORT, command=doctor)
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (4, "")
    assert lines[1:6] == [
        f"ok       port       {line.url} is a URL, not a device of this computer",
        "skipped  access     cannot be checked in advance",
        "ok       opening    it opens",
        "ok       line       silent for 0.0 s, before anything was sent",
        "PROBLEM  mode       an analyser answers at address 2, not 1",
    ]
    assert lines[6] == "                    cure: Use --address 2, or set address 1 on its panel"
    assert lines[-5:] == [
        "skipped  analyser   not checked because of the problem above",
        "skipped  coils      not checked because of the problem above",
        "skipped  abilities  not checked because of the problem above",
        "",
        "verdict: 1 problem. Start here (mode): Use --address 2, or set address 1 on its panel",
    ]


def test_what_the_instrument_says_cannot_drive_a_terminal() -> None:
    analyser = VirtualAnalyzer()
    analyser["I1"].name = "\x1b[31m"
    for port in (VirtualLine(analyser).url, "/dev/a\nb\x1b[31m"):
        result = invoke(port, *PATIENT, command=doctor)
        assert "\x1b" not in result.stdout
        assert all(line[:9].strip() in {*Verdict, "", "verdict:"} for line in result.stdout.splitlines())


def test_several_warnings_are_counted_and_the_first_is_the_one_to_begin_with() -> None:
    analyser = VirtualAnalyzer()
    analyser.fault = analyser.maintenance = True
    analyser["I2"].status = ChannelStatus(fault=True)
    line = VirtualLine(analyser)
    result = invoke(line.url, *PATIENT, command=doctor)
    end = "verdict: 2 warnings. Start here (analyser): Look at the messages on its panel\n"
    assert result.stdout.endswith(end)


@pytest.mark.parametrize("args", [["--address", "0"], ["--format", "table"], ["--frob"], ["a", "b"]])
def test_a_usage_error_takes_a_line_or_two(args: list[str]) -> None:
    result = invoke(*args, command=doctor)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")


def test_the_options_reach_the_check_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CheckRequest] = []

    def examine(order: CheckRequest) -> Generator[Finding, None, None]:
        asked.append(order)
        yield from ()

    monkeypatch.setattr(checkup, "examine", examine)
    line = "--baudrate 9600 --bytesize 7 --parity e --stopbits 2"
    other = "--protocol modbus_ascii --address 9 --gap 0.1 --retries 3 --timeout 4 --listen 5"
    result = invoke("COM11", *line.split(), *other.split(), command=doctor)
    assert (result.exit_code, result.stdout) == (0, "\nverdict: ok\n")
    assert asked == [
        CheckRequest(
            port="COM11",
            protocol=ProtocolKind.MODBUS_ASCII,
            address=9,
            settings=SerialSettings(baudrate=9600, bytesize=7, parity="E", stopbits=2),
            timeout=4.0,
            retries=3,
            gap=0.1,
            listen=5.0,
            report=asked[0].report,
        )
    ]


@needs_pty
@pytest.mark.real_time
def test_ctrl_c_ends_it_with_its_code_and_what_was_found_so_far() -> None:
    child = start("doctor", "sim://4100?fault=silent", main="main")
    assert child.stdout is not None
    shown = [child.stdout.readline() for _ in range(4)]
    child.send_signal(signal.SIGINT)
    code, rest, stderr = finish(child)
    assert (code, stderr.strip()) == (130, "")
    assert shown[3].split() == [b"ok", b"opening", b"it", b"opens"]
    assert "verdict" not in rest


def test_a_terminal_shows_what_is_being_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STDERR, "isatty", lambda: True)
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.03))
    result = invoke(line.url, *PATIENT, command=doctor)
    assert result.stderr.splitlines() == [
        f"opening {line.url} ...",
        "listening for 0.1 s ...",
        "waiting for another broadcast, for 2 s at most ...",
    ]
    assert invoke(line.url, *PATIENT, "--quiet", command=doctor).stderr == ""
