"""Where the analyser is: wrong addresses, wrong baud rates, and what is in its place, each with its cure."""

from typing import Any

import pytest

from servomex.analyzer.detect import BroadcastListener, Detection
from servomex.checkup import elsewhere
from servomex.checkup.examination import CheckRequest, examine
from servomex.errors import ServomexNotFoundError, ServomexValidationError
from servomex.port.link import SerialLink
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from servomex.simulator.device import IllegalAddressError
from tests.helpers.examining import LISTEN_S, SHORT, SILENT, check_problem, examine_quickly, page
from tests.helpers.searching import Damaged

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less."""
    examine_quickly(monkeypatch)


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_a_wrong_address_is_named_with_the_right_one(mode: str) -> None:
    found = page(VirtualLine(VirtualAnalyzer(mode=mode, address=2)), *SHORT)
    cure = "Use --address 2, or set address 1 on its panel"
    check_problem(found, "mode", "an analyser answers at address 2, not 1", cure)


def test_several_analysers_elsewhere_are_all_named() -> None:
    line = VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2))
    found = page(line, "--address", "9", *SHORT)
    seen = "analysers answer at the addresses 1, 2, not 9"
    check_problem(found, "mode", seen, "Use --address 1 or --address 2")


@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
def test_a_wrong_baud_rate_is_named_with_the_right_one(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.06), baudrate=9600)
    found = page(line, *SHORT)
    cure = "Use --baudrate 9600, or set 19200 baud on its panel"
    check_problem(found, "mode", "an analyser is heard at 9600 baud, not 19200", cure)


@pytest.mark.real_time
def test_the_baud_rate_of_a_socket_is_its_servers() -> None:
    reports: list[str] = []
    with TcpServer(VirtualLine(VirtualAnalyzer(faults=SILENT))) as server:
        request = CheckRequest(port=server.port, listen=LISTEN_S, gap=0.005, report=reports.append)
        (found,) = (finding for finding in examine(request) if finding.check == "mode")
    assert found.verdict == "PROBLEM"
    assert found.seen.endswith("; nothing answered at the addresses 1 to 2 either")
    assert reports[-1] == "asking the addresses 1 to 2"


def test_a_baud_rate_that_the_adapter_does_not_have_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "BAUDRATES", (4800, 9600))
    real = SerialLink.open

    def open_port(link: SerialLink) -> SerialLink:
        if link.settings.baudrate == 4800:
            raise ServomexValidationError("it has no 4800 baud")
        return real(link)

    monkeypatch.setattr(SerialLink, "open", open_port)
    found = page(VirtualLine(baudrate=9600), *SHORT)
    assert found["mode"][1] == "an analyser is heard at 9600 baud, not 19200"


class Refusing(VirtualAnalyzer):
    """A Modbus device that has none of what is asked for."""

    def input_registers(self, address: int, count: int) -> list[int]:
        raise IllegalAddressError

    def discrete_inputs(self, address: int, count: int) -> list[bool]:
        raise IllegalAddressError


class Foreign(VirtualAnalyzer):
    """A Modbus device that has registers, with something else in them."""

    def input_registers(self, address: int, count: int) -> list[int]:
        return list(range(0x4141, 0x4141 + count))


@pytest.mark.parametrize(
    ("device", "why"),
    [
        (Refusing, "it refuses to read its channels with exception 02; .*"),
        (Foreign, "its first input registers hold text, .*MultiExact.*"),
    ],
)
@pytest.mark.parametrize("address", [1, 2])
def test_a_foreign_modbus_device_is_named_as_one(device: type[VirtualAnalyzer], why: str, address: int) -> None:
    found = page(VirtualLine(device(address=address)), *(SHORT if address == 2 else ()))
    seen = (
        f"a Modbus device answers at address {address}, but this is not an analyser of the SERVOPRO 4000 series "
        rf"\(4100, 4200, 4900\), which this driver is for: {why}"
    )
    check_problem(found, "mode", seen, "Check which instrument this cable leads to")


@pytest.mark.parametrize("differing", [False, True])
def test_two_devices_at_one_address_are_named_as_such(differing: bool) -> None:
    first, second = VirtualAnalyzer(), VirtualAnalyzer()
    second.fault = differing
    found = page(VirtualLine(first, second), *(SHORT if differing else ()))
    seen = (
        "only damaged or doubled replies arrive from address 1: "
        "most likely two devices there have the same address.*"
    )
    cure = "Switch one of them off, and give each an address of its own on its panel; else check the wiring"
    check_problem(found, "mode", seen, cure)


def test_what_is_at_the_address_comes_before_what_is_at_others() -> None:
    first, second = VirtualAnalyzer(address=2), VirtualAnalyzer(address=2)
    second.fault = True
    found = page(VirtualLine(Refusing(address=1), first, second), "--address", "2", *SHORT)
    assert found["mode"][1].startswith("only damaged or doubled replies arrive from address 2")


def test_broadcasts_of_which_none_is_undamaged_are_named() -> None:
    found = page(VirtualLine(Damaged(mode="continuous", period=0.02)), *SHORT)
    seen = "no analyser found in .*; a broadcast was heard, but no undamaged frame arrived"
    check_problem(found, "mode", seen, "Check the cable and the serial settings")


def test_broadcasts_that_come_seldom_need_a_longer_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "detect", find_nothing)
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.03))
    with SerialLink(line.url) as link, pytest.raises(ServomexNotFoundError) as caught:
        elsewhere.find(link, 1, BroadcastListener(), LISTEN_S, lambda _text: None)
    words = "a broadcast arrived only now: the analyser is in continuous mode. Use a longer listen"
    assert caught.value.text == words


def find_nothing(*_args: Any, **_options: Any) -> Detection:
    raise ServomexNotFoundError("no analyser found. Nothing was received")


def test_another_mode_than_the_one_that_was_named() -> None:
    found = page(VirtualLine(), "--protocol", "modbus_ascii")
    seen = "the analyser at address 1 is in mode modbus_rtu, not modbus_ascii"
    check_problem(found, "mode", seen, "Use --protocol modbus_rtu, or set it to modbus_ascii on its panel")
    assert len(found.all("channel")) == 5
    assert found["settings"][2] == ""


@pytest.mark.parametrize("address", [1, 9])
def test_an_analyser_that_is_found_at_the_second_look_needs_a_longer_gap(
    address: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "detect", find_nothing)
    found = page(VirtualLine(VirtualAnalyzer(address=address)), "--gap", "0.02", "--address", str(address))
    cure = "Try a longer gap, such as --gap 0.1, and check the wiring"
    check_problem(found, "mode", f"the device at address {address} answers only intermittently", cure)
