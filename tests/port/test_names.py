"""The ports of this computer, and the names under which an adapter is found again."""

import os
import time
from pathlib import Path

import pytest
import serial

from servomex import PortInfo, SerialLink, open_device, present_ports
from servomex.cli.read import read
from servomex.errors import ServomexConfigurationError, ServomexConnectionError
from servomex.port.names import resolve, usb_identity
from servomex.port.reopening import Pauses
from servomex.simulator import PtyServer, VirtualLine
from tests.helpers.commands import FAST, invoke
from tests.helpers.platforms import needs_pty
from tests.helpers.searching import wait_less
from tests.helpers.terminals import Terminal, lost
from tests.helpers.usb_ports import adapter, built_in, link_by_id, plug
from tests.helpers.virtual_time import VirtualTime
from tests.helpers.waiting import soon

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, virtual_time: VirtualTime | None) -> None:
    """Wait less: a virtual analyser that is not paced answers at once, but behind a real port it may take time."""
    if virtual_time:
        wait_less(monkeypatch)


def test_ports_are_listed_with_their_adapters_in_natural_order(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, adapter("/dev/ttyUSB10", "B"), built_in("/dev/ttyS0"), adapter("/dev/ttyUSB2"))
    onboard, first, second = present_ports()
    assert onboard == PortInfo("/dev/ttyS0", "", None, None, None, None, None, None)
    assert first.device == "/dev/ttyUSB2"
    assert second == PortInfo(
        "/dev/ttyUSB10", "FT232R USB UART", 0x0403, 0x6001, "B", "FTDI", "FT232R USB UART", None
    )


@pytest.mark.parametrize(
    "names",
    [
        ["COM3", "COM11"],
        ["/dev/cu.a", "/dev/cu.b1", "/dev/cu.b1x", "/dev/cu.b02", "/dev/cu.b10"],
        ["1", "a", "a1b"],
    ],
)
def test_names_of_any_make_can_be_ordered(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    plug(monkeypatch, *map(built_in, reversed(names)))
    assert [info.device for info in present_ports()] == names


@needs_pty
@pytest.mark.real_time
def test_the_name_by_id_is_the_one_that_leads_to_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with PtyServer(VirtualLine()) as server:
        plug(monkeypatch, adapter(server.port), built_in("/dev/ttyS0"))
        links = link_by_id(monkeypatch, tmp_path, usb_here=server.port, usb_gone="/dev/ttyNowhere")
        assert [info.by_id for info in present_ports()] == [links["usb_here"], None]


def test_an_adapter_that_is_pulled_while_the_ports_are_listed_fails_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = [TypeError("int() argument must be a string"), FileNotFoundError("gone")]

    def comports() -> list[object]:
        if errors:
            raise errors.pop()
        return [built_in("/dev/ttyS0")]

    monkeypatch.setattr("serial.tools.list_ports.comports", comports)
    assert [info.device for info in present_ports()] == ["/dev/ttyS0"]


def test_a_serial_number_is_found_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, adapter("/dev/ttyUSB0", "X"), adapter("/dev/ttyUSB1", "A50285BI"), built_in("/dev/ttyS0"))
    for name in ("usb:A50285BI", "usb:a50285bi", "USB:a50285BI", "usb: A50285BI "):
        assert resolve(name) == "/dev/ttyUSB1"


def test_any_other_name_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, adapter("/dev/ttyUSB1", "1"))
    for name in ("/dev/ttyUSB0", "COM11", "sim://4100", "hwgrep://usb", "socket://usb:1", ""):
        assert resolve(name) == name


def test_an_adapter_that_is_not_there_is_a_connection_error_that_lists_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plug(monkeypatch, built_in("/dev/ttyS0"), adapter("/dev/ttyUSB1"), adapter("/dev/ttyUSB2", "B"))
    with pytest.raises(ServomexConnectionError) as caught:
        SerialLink("usb:A50285BI").open()
    assert caught.value.text == (
        "there is no USB adapter with the serial number A50285BI. "
        "Ports present: /dev/ttyUSB2 (usb:B), /dev/ttyS0, "
        "/dev/ttyUSB1"
    )
    assert caught.value.context.port == "usb:A50285BI"


def test_a_missing_port_is_reported_with_the_serial_numbers_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, *(built_in(f"/dev/ttyS{number}") for number in range(9)), adapter("/dev/ttyUSB2", "B"))
    with pytest.raises(
        ServomexConnectionError, match=r"Ports present: /dev/ttyUSB2 \(usb:B\), /dev/ttyS0, .* \.\.\. "
    ):
        SerialLink("/dev/ttyNowhere").open()


def test_a_serial_number_that_several_ports_have_is_refused_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    devices = [str(tmp_path / name) for name in ("tty0", "tty1")]
    for device in devices:
        Path(device).touch()
    plug(monkeypatch, *(adapter(device, "A") for device in devices), adapter("/dev/ttyUSB9", "AB"))
    folder = tmp_path / "by-id"
    folder.mkdir()
    names = devices
    if os.name != "nt":
        names = [link_by_id(monkeypatch, folder, if00=devices[0])["if00"], devices[1]]
    with pytest.raises(ServomexConfigurationError) as caught:
        SerialLink("usb:a").open()
    assert caught.value.text == (
        f"2 ports have the serial number a, and usb:a cannot tell them apart. Name one of {', '.join(names)}"
    )


def test_a_serial_number_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, adapter("/dev/ttyUSB1"))
    for name in ("usb:", "usb:  "):
        with pytest.raises(ServomexConfigurationError, match="needs the serial number"):
            SerialLink(name).open()


@needs_pty
@pytest.mark.real_time
def test_a_serial_number_opens_the_port_wherever_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with PtyServer(VirtualLine()) as server:
        plug(monkeypatch, adapter(server.port, "A50285BI"))
        with open_device("usb:a50285bi", protocol="modbus_rtu", identify=False) as analyzer:
            assert analyzer.read_channel("I1").value == 20.376
            assert analyzer.name == "usb:a50285bi:1"
        result = invoke("usb:A50285BI", *FAST, command=read)
        assert (result.exit_code, result.stdout[:25]) == (0, "usb:A50285BI, modbus_rtu,")


@needs_pty
@pytest.mark.real_time
def test_a_busy_port_is_named_by_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with PtyServer(VirtualLine()) as server, serial.Serial(server.port, exclusive=True):
        plug(monkeypatch, adapter(server.port, "A"))
        for name in ("usb:A", "hwgrep://SER=A"):
            with pytest.raises(ServomexConnectionError) as caught:
                SerialLink(name).open()
            assert caught.value.text.startswith(f"{server.port} is in use by another program")
            assert caught.value.context.port == name


@needs_pty
@pytest.mark.parametrize("name", ["usb:A", "hwgrep://SER=A"])
@pytest.mark.real_time
def test_an_adapter_that_comes_back_under_another_device_name_is_found_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.02, 0.1))
    terminals = [Terminal(tmp_path / device) for device in ("ttyUSB0", "ttyUSB7")]
    terminals[0].plug()
    found = plug(monkeypatch, adapter(str(terminals[0].path), "A"))
    try:
        with SerialLink(name) as link:
            terminals[0].unplug()
            found.clear()
            lost(lambda: link.read(soon()))
            terminals[1].plug()
            found.append(adapter(str(terminals[1].path), "A"))
            assert _heard(link, terminals[1]) == b"back"
            assert link.port == name
    finally:
        for terminal in terminals:
            terminal.unplug()


def _heard(link: SerialLink, terminal: Terminal) -> bytes:
    deadline = soon()
    while True:
        try:
            with link.conversation(soon()):
                os.write(terminal.master, b"back")
                data = b""
                while len(data) < 4:
                    data += link.read(soon())
                return data
        except ServomexConnectionError:
            assert time.monotonic() < deadline, "the port never came back"
            time.sleep(0.005)


@needs_pty
@pytest.mark.real_time
def test_a_search_with_hwgrep_opens_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with PtyServer(VirtualLine()) as server:
        plug(monkeypatch, adapter("/dev/aaa", "X"), adapter(server.port, "A50285BI"))
        for name in ("hwgrep://A50285BI", "HWGREP://a5028", "hwgrep://0403:6001&n=2"):
            with SerialLink(name) as link:
                assert link.port == name
        with open_device(name, protocol="modbus_rtu", identify=False) as analyzer:
            assert analyzer.read_channel("I1").value == 20.376


def test_a_search_with_hwgrep_that_finds_nothing_lists_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, adapter("/dev/ttyUSB1", "B"))
    for name in ("hwgrep://FT4232", "hwgrep://FT232R&n=2"):
        with pytest.raises(ServomexConnectionError) as caught:
            SerialLink(name).open()
        assert caught.value.text == f"no port matches {name}. Ports present: /dev/ttyUSB1 (usb:B)"


def test_a_search_with_hwgrep_that_cannot_be_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, adapter("/dev/ttyUSB1", "B"))
    for name in ("hwgrep://(", "hwgrep://FT&n=one", "hwgrep://FT&n=0", "hwgrep://FT&first"):
        with pytest.raises(ServomexConfigurationError) as caught:
            SerialLink(name).open()
        assert caught.value.text.startswith(f"{name} is not a valid hwgrep:// expression: ")


@needs_pty
@pytest.mark.real_time
def test_the_adapter_behind_a_port_is_found_by_every_name_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with PtyServer(VirtualLine()) as server:
        plug(monkeypatch, built_in("/dev/ttyS0"), adapter(server.port, "A50285BI"))
        links = link_by_id(monkeypatch, tmp_path, usb_ftdi=server.port)
        names = (server.port, "usb:a50285bi", "hwgrep://A50285", links["usb_ftdi"])
        assert [usb_identity(name) for name in names] == [present_ports()[0]] * 4
        assert [usb_identity(name) for name in ("/dev/ttyS0", "sim://4100", "/dev/none")] == [None] * 3
