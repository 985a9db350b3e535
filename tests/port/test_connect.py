"""Opening a port, losing it and getting it back: what pyserial is told, and what the caller is told."""

import contextlib
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serial
from pytest_mock import MockerFixture

from servomex.errors import ServomexConfigurationError, ServomexConnectionError, ServomexError
from servomex.port import connect as ports
from servomex.port.connect import explain, forbidden, open_port
from servomex.port.link import SerialLink
from servomex.settings import SerialSettings
from servomex.simulator import VirtualLine
from tests.helpers.platforms import needs_groups, needs_pty
from tests.helpers.terminals import Terminal

pytestmark = pytest.mark.virtual_time

SETTINGS = SerialSettings(baudrate=2400, bytesize=7, parity="E", stopbits=2, rtscts=True, xonxoff=True)
PROMPT = 1.0 + 32 * SETTINGS.char_time_s
PASSED_ON = {
    "baudrate": 2400,
    "bytesize": 7,
    "parity": "E",
    "stopbits": 2,
    "rtscts": True,
    "xonxoff": True,
    "timeout": 0.05,
}


# Rights are dropped after the imports, since another user need not be able to read this installation.
OPEN_AS_NOBODY = """
import grp, os, sys
from servomex import SerialLink, ServomexConnectionError
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    SerialLink(sys.argv[1]).open()
except ServomexConnectionError as error:
    print(error.text)
"""


def present(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    found = [SimpleNamespace(device=name) for name in names]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: found)


def refused(port: str, kind: type[ServomexError], *words: str) -> str:
    """Open a port in vain; twice, since the first failure must leave nothing behind that changes the second."""
    texts = []
    for _ in range(2):
        with pytest.raises(kind) as caught:
            SerialLink(port).open()
        assert type(caught.value) is kind
        assert caught.value.context.port == port
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    for word in words:
        assert word in texts[0]
    return texts[0]


@pytest.mark.parametrize(
    ("port", "more"),
    [
        ("/dev/ttyUSB0", {"write_timeout": PROMPT, "exclusive": True}),
        ("COM11", {"write_timeout": PROMPT, "exclusive": True}),
        ("socket://10.0.0.5:4001", {"write_timeout": PROMPT}),
        ("sim://4100", {"write_timeout": PROMPT}),
        ("rfc2217://10.0.0.5:4001", {}),
        ("RFC2217://10.0.0.5:4001", {}),
    ],
)
def test_every_setting_reaches_pyserial(mocker: MockerFixture, port: str, more: dict[str, Any]) -> None:
    opener = mocker.patch("serial.serial_for_url")
    assert open_port(port, SETTINGS) is opener.return_value
    opener.assert_called_once_with(port, **PASSED_ON, **more)


@needs_pty
@pytest.mark.real_time
def test_every_setting_reaches_a_real_port(terminal: Terminal) -> None:
    settings = SerialSettings(baudrate=9600, stopbits=2, rtscts=True, xonxoff=True)
    with contextlib.closing(open_port(str(terminal.path), settings)) as port:
        assert (port.baudrate, port.bytesize, port.parity, port.stopbits) == (9600, 8, "N", 2)
        assert (port.rtscts, port.xonxoff, port.exclusive) == (True, True, True)
        assert (port.timeout, port.write_timeout) == (0.05, pytest.approx(1.0 + 32 * settings.char_time_s))


@needs_pty
@pytest.mark.real_time
def test_the_defaults_are_those_of_the_bench_unit(terminal: Terminal) -> None:
    import termios

    with contextlib.closing(open_port(str(terminal.path), SerialSettings())) as port:
        flags_in, _, flags, _, speed_in, speed_out, _ = termios.tcgetattr(port.fileno())
    assert speed_in == speed_out == termios.B19200
    assert flags & termios.CSIZE == termios.CS8
    assert not flags & (termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
    assert not flags_in & (termios.IXON | termios.IXOFF)


@needs_pty
@pytest.mark.parametrize(
    ("there", "words"),
    [
        (["/dev/ttyUSB1", "/dev/ttyS0"], "Ports present: /dev/ttyS0, /dev/ttyUSB1 ["),
        ([f"/dev/ttyS{number}" for number in range(9)], "/dev/ttyS6, /dev/ttyS7 ... ["),
        ([], "no serial port at the moment: check that the adapter is plugged in"),
    ],
)
def test_a_missing_port_is_named_with_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch, there: list[str], words: str
) -> None:
    present(monkeypatch, *there)
    refused("/dev/ttyNowhere", ServomexConnectionError, "there is no port /dev/ttyNowhere. ", words)


@needs_pty
def test_a_directory_and_a_file_are_no_serial_ports(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for path in (tmp_path, file):
        refused(str(path), ServomexConnectionError, f"{path} is not a serial port. ")


@needs_pty
def test_a_device_that_is_no_terminal_keeps_the_words_of_the_system() -> None:
    refused("/dev/null", ServomexConnectionError, "/dev/null cannot be opened: ", "Inappropriate ioctl")


@needs_pty
@pytest.mark.real_time
def test_a_busy_port_is_distinguished_from_a_missing_one_and_is_free_again_once_it_is_closed(
    terminal: Terminal,
) -> None:
    with SerialLink(terminal.path):
        refused(
            str(terminal.path),
            ServomexConnectionError,
            f"{terminal.path} is in use by another program",
            "Close that one",
        )
    with SerialLink(terminal.path) as link:
        assert link.is_open


@needs_pty
@pytest.mark.real_time
@pytest.mark.parametrize("mode", [0o660, 0o600, 0o640])
def test_a_forbidden_port_says_how_this_user_may_open_it(terminal: Terminal, mode: int) -> None:
    device = terminal.path.readlink()
    device.chmod(mode if os.geteuid() == 0 else 0)
    if os.geteuid() != 0:
        refused(str(device), ServomexConnectionError, "no permission to open", f"group {device.group()}")
        return
    command = [sys.executable, "-c", OPEN_AS_NOBODY, str(device)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if child.returncode:
        pytest.skip(f"no program can drop its rights here: {child.stderr[-200:]}")
    group = device.group()
    joining = f"It belongs to the group {group}: sudo usermod -aG {group} $USER, then log in again"
    changing = (
        f"Its mode is {mode:04o} and its group {group}, so joining a group does not help: "
        f"sudo chmod a+rw {device}, which lasts until it is plugged in again, or a udev rule that sets its GROUP "
        "and MODE"
    )
    cure = joining if mode == 0o660 and group != "root" else changing
    assert child.stdout == f"no permission to open {device}. {cure}\n"


@needs_groups
def test_no_user_is_sent_into_the_group_of_root(tmp_path: Path, mocker: MockerFixture) -> None:
    place = tmp_path / "ttyUSB0"
    place.touch()
    place.chmod(0o660)
    mocker.patch("grp.getgrgid", return_value=SimpleNamespace(gr_name="root"))
    assert "sudo chmod a+rw" in forbidden(str(place))[1]
    mocker.patch("grp.getgrgid", return_value=SimpleNamespace(gr_name="dialout"))
    assert "sudo usermod -aG dialout $USER" in forbidden(str(place))[1]


def test_a_forbidden_port_whose_group_is_unknown_sends_to_the_administrator() -> None:
    text = ". ".join(explain("/dev/ttyNowhere", PermissionError(errno.EACCES, "Permission denied")))
    if os.name != "nt":
        assert "no permission to open /dev/ttyNowhere. Ask the administrator" in text


@pytest.mark.real_time
def test_a_refused_connection_is_a_matter_of_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    refused(f"socket://127.0.0.1:{number}", ServomexConnectionError, "cannot be reached", "that its server runs")


@pytest.mark.parametrize("url", ["socket://10.0.0.5", "socket://localhost:99999", "socket://[::1"])
def test_an_impossible_address_is_a_matter_of_the_caller(url: str) -> None:
    with pytest.raises(ServomexConfigurationError):
        SerialLink(url).open()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://4100", "nothing can be opened by nonsense://. Use one of socket://"),
        ("sim://4200", "there is no virtual analyser '4200'; there are 4100, moving"),
        ("sim://", "there is no virtual analyser ''"),
        ("sim://4100?adress=2", "unknown option 'adress'"),
        ("sim://4100?mode=continuous&period=1e-300", "period must be from 0.001 to 9999 seconds, not 1e-300"),
        ("sim://4100?mode=continuous&period=1e300", "period must be from 0.001 to 9999 seconds"),
        ("sim://4100?cal=1e-300", "cal must be at least 0.001 seconds"),
        (
            "sim://replay?file=tests/captures/continuous_4100_idle_5ch.bin&speed=1e-300",
            "speed must be 0 or at least",
        ),
        (
            "sim://replay?file=tests/captures/continuous_4100_idle_5ch.bin&period=1e-300",
            "period must be from 0.001",
        ),
        ("sim://4100?adress=2", "known are mode, address, period, baudrate, pace, cal, fault, seed"),
        ("sim://4100?mode=modbus", "unknown mode 'modbus'"),
        ("sim://4100?mode=auto", "continuous, modbus_rtu or modbus_ascii"),
        ("sim://4100?address=0", "address must be a whole number from 1 to 247, not 0"),
        ("sim://4100?address=one", "address must be a number, not 'one'"),
        ("sim://4100?address=", "address must be a number, not ''"),
        ("sim://4100?period=-1", "period must be 0 or more seconds, not -1.0"),
        ("sim://4100?period=nan", "period must be 0 or more seconds"),
        ("sim://4100?baudrate=75", "baudrate must be a whole number from 300 to 115200"),
        ("sim://4100?seed=x", "seed must be a number"),
        ("sim://4100?fault=explode", "unknown fault 'explode'; known are silent, late, drop"),
        ("sim://4100?fault=late:x", "the fault late takes a number, not 'x'"),
        ("sim://4100?fault=late:-1", "out of range"),
        ("sim://4100?fault=silent:1", "the fault silent takes no number"),
    ],
)
def test_what_can_never_work_is_a_configuration_error_that_lists_what_does(url: str, words: str) -> None:
    refused(url, ServomexConfigurationError, words)


def test_a_virtual_line_takes_no_options_by_url_and_only_one_reader(line: VirtualLine) -> None:
    refused(f"{line.url}?address=2", ServomexConfigurationError, "takes no options by URL")
    with SerialLink(line.url):
        refused(line.url, ServomexConnectionError, "it is in use")
    line.unplug()
    refused(line.url, ServomexConnectionError, "it is unplugged")
    line.plug()
    with SerialLink(line.url) as link:
        assert link.is_open


@needs_pty
@pytest.mark.real_time
def test_a_port_that_fails_while_its_input_is_dropped_is_closed_again(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    import termios

    def fail(_port: serial.Serial) -> None:
        raise termios.error(errno.EIO, "Input/output error")

    link = SerialLink(terminal.path)
    with monkeypatch.context() as patch:
        patch.setattr(serial.Serial, "reset_input_buffer", fail)
        with pytest.raises(ServomexConnectionError, match="Input/output error"):
            link.open()
    assert not link.is_open
    with SerialLink(terminal.path) as other:
        assert other.is_open
    with link:
        assert link.is_open


@needs_pty
@pytest.mark.real_time
def test_a_port_that_is_pulled_while_it_is_opened_is_a_connection_error(
    terminal: Terminal, mocker: MockerFixture
) -> None:
    import termios

    mocker.patch("serial.serialposix.termios.tcflush", side_effect=termios.error(errno.EIO, "Input/output error"))
    with pytest.raises(ServomexConnectionError):
        SerialLink(terminal.path).open()


@pytest.mark.parametrize(
    ("port", "text", "words"),
    [
        (
            "COM9",
            "FileNotFoundError(2, 'The system cannot find the file specified.', None, 2)",
            "there is no port COM9. Ports present: COM3, COM4",
        ),
        (
            "COM3",
            "PermissionError(13, 'Access is denied.', None, 5)",
            "COM3 is in use by another program. Close that one first",
        ),
        (
            "COM4",
            "OSError(22, 'The semaphore timeout period has expired.', None, 121)",
            "COM4 cannot be opened: could not open port 'COM4': OSError(22, 'The semaphore timeout period has "
            "expired.', None, 121)",
        ),
    ],
)
def test_windows_errors_are_distinguished_by_their_text(
    monkeypatch: pytest.MonkeyPatch, port: str, text: str, words: str
) -> None:
    present(monkeypatch, "COM4", "COM3")
    monkeypatch.setattr(ports, "os", SimpleNamespace(name="nt", path=os.path))
    seen, cure = explain(port, serial.SerialException(f"could not open port {port!r}: {text}"))
    assert (f"{seen}. {cure}" if cure else seen) == words


@pytest.mark.parametrize(("number", "text"), [
    (21, "The device is not ready."), (22, "The device does not recognize the command."),
    (31, "A device attached to the system is not functioning."),
])  # fmt: skip
def test_an_adapter_that_hangs_is_not_a_port_in_use_on_windows(
    monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    present(monkeypatch, "COM4")
    monkeypatch.setattr(ports, "os", SimpleNamespace(name="nt", path=os.path))
    raised = f"could not open port 'COM4': PermissionError(13, {text!r}, None, {number})"
    seen, cure = explain("COM4", serial.SerialException(raised))
    assert seen == f"the adapter of COM4 does not respond: {raised}"
    assert cure.startswith("Unplug it and plug it in again")
