"""Which ports the driver takes: by name, by settings that name them, or open, and with which settings."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serial

from servomex import (
    SerialLink,
    SerialSettings,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexManager,
    ServomexValidationError,
    Transport,
    open_continuous,
    open_device,
)
from servomex.modbus.line import ModbusLine
from servomex.port.connect import open_port
from servomex.port.transport import MEMBERS
from servomex.simulator import PtyServer, TcpServer, VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.platforms import needs_pty
from tests.helpers.rfc2217_server import Rfc2217Server

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


class Bare:
    """A port with what the driver needs, and nothing else."""

    def __init__(self, url: str) -> None:
        self.within = serial.serial_for_url(url, baudrate=19200)
        self.timeout: float | None = None

    @property
    def in_waiting(self) -> int:
        return self.within.in_waiting

    def read(self, size: int = 1, /) -> bytes:
        self.within.timeout = self.timeout
        return self.within.read(size)

    def write(self, data: bytes, /) -> int | None:
        return self.within.write(data)

    def reset_input_buffer(self) -> None:
        self.within.reset_input_buffer()


@contextlib.contextmanager
def served(line: VirtualLine, kind: Callable[[VirtualLine], Any]) -> Any:
    with kind(line) as server, contextlib.closing(open_port(server.port, SerialSettings())) as port:
        yield port


@pytest.mark.parametrize("kind", [TcpServer, Rfc2217Server, pytest.param(PtyServer, marks=needs_pty)])
def test_open_ports_of_pyserial_are_transports(kind: Callable[[VirtualLine], Any]) -> None:
    with served(VirtualLine(), kind) as port:
        transport: Any = port
        assert isinstance(transport, Transport)
        with open_device(transport, protocol="modbus_rtu") as analyzer:
            assert analyzer.poll()["I1"].value == 20.376
        assert port.is_open


@pytest.mark.parametrize("url", ["sim://4100", "loop://"])
def test_ports_within_the_program_are_transports(url: str) -> None:
    with contextlib.closing(serial.serial_for_url(url)) as port:
        assert isinstance(port, Transport)
    assert isinstance(ScriptedPort(), Transport)


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "continuous", "auto"])
def test_a_port_with_no_more_than_a_transport_has_is_enough_in_every_mode(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous" if mode == "auto" else mode, period=0.2))
    port = Bare(line.url)
    assert isinstance(port, Transport)
    with contextlib.closing(port.within), open_device(port, protocol=mode) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376
        assert analyzer.info is not None
        assert analyzer.info.serial_settings == SerialSettings()
        assert analyzer.info.port == str(port)
        assert port.timeout == 0.05


@pytest.mark.parametrize("missing", MEMBERS)
def test_an_object_that_lacks_something_is_refused_by_what_it_lacks(missing: str) -> None:
    members: dict[str, Any] = dict.fromkeys(MEMBERS, 0)
    del members[missing]
    port: Any = SimpleNamespace(**members)
    with pytest.raises(ServomexValidationError, match=rf"has no {missing}\. .*servomex\.Transport"):
        open_device(port)


def test_a_file_is_not_a_port(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(ServomexValidationError) as caught:
        SerialLink(file)  # type: ignore[arg-type]
    assert "has no in_waiting and no timeout and no reset_input_buffer" in str(caught.value)


def test_a_closed_port_is_a_port_that_is_not_open() -> None:
    port = serial.serial_for_url("sim://4100")
    port.close()
    with pytest.raises(ServomexConnectionError, match="not open"):
        open_device(port)


SETTINGS = SerialSettings(baudrate=9600, parity="E")


@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
def test_settings_that_name_their_port_open_it(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.2), baudrate=9600)
    settings = SerialSettings(port=line.url, baudrate=9600)
    with open_continuous(settings) if mode == "continuous" else open_device(settings) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376
        assert analyzer.info is not None
        assert (analyzer.info.port, analyzer.info.serial_settings) == (line.url, settings)


def test_what_the_identity_carries_opens_the_same_port_again() -> None:
    line = VirtualLine(baudrate=9600)
    with open_device(line.url, protocol="modbus_rtu", baudrate=9600) as analyzer:
        info = analyzer.identify()
    with open_device(info.serial_settings, protocol="modbus_rtu") as analyzer:
        assert analyzer.identify() == info


def test_single_settings_are_arguments_of_their_own(tmp_path: Path) -> None:
    line = VirtualLine(baudrate=9600)
    options: dict[str, Any] = {
        "baudrate": 9600, "bytesize": 8, "parity": "E", "stopbits": 2, "rtscts": True, "exclusive": False,
    }  # fmt: skip
    with open_device(line.url, protocol="modbus_rtu", **options) as analyzer:
        assert analyzer.identify().serial_settings == SerialSettings(port=line.url, **options)
    loud = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.2), baudrate=9600)
    soft = options | {"xonxoff": True}
    with open_continuous(loud.url, **soft) as analyzer:
        assert analyzer.identify().serial_settings == SerialSettings(port=loud.url, **soft)
    with ServomexManager() as manager:
        added = manager.add("a1", line.url, protocol="modbus_rtu", **options)
        assert added.identify().serial_settings == SerialSettings(port=line.url, **options)


def test_a_single_setting_out_of_range_is_refused_before_the_port_is_opened() -> None:
    line = VirtualLine()
    wrong: list[dict[str, Any]] = [{"baudrate": 9601.0}, {"parity": "even"}, {"exclusive": "no"}, {"stopbits": 0}]
    for options in wrong:
        with pytest.raises(ServomexValidationError, match=f"^{next(iter(options))} must be"):
            open_device(line.url, **options)
    assert line.heard == []


CONTRADICTIONS: list[tuple[str, Callable[[], object], str]] = [
    (
        "settings without a port",
        lambda: open_device(SETTINGS),
        r"the SerialSettings \(9600 8E1\) name no port\. Write SerialSettings\(port='/dev/ttyUSB0', \.\.\.\)",
    ),
    (
        "settings of another port",
        lambda: open_device("sim://4100", serial_settings=SerialSettings(port="COM3")),
        r"the port to open is sim://4100, and the serial settings are those of COM3\. Name the port once",
    ),
    (
        "settings of a port for an open one",
        lambda: SerialLink(ScriptedPort(), SerialSettings(port="COM3")),
        r"the port to open is scripted, and the serial settings are those of COM3",
    ),
    (
        "settings twice",
        lambda: open_device(SerialSettings(port="sim://4100"), serial_settings=SETTINGS),
        r"serial settings are given twice\. Give all of them in the SerialSettings that name the port",
    ),
    (
        "settings that name the port, and single ones",
        lambda: open_device(SerialSettings(port="sim://4100"), baudrate=9600),
        r"serial settings are given twice",
    ),
    (
        "settings and single ones",
        lambda: open_device("sim://4100", serial_settings=SETTINGS, baudrate=9600, exclusive=False),
        r"baudrate, exclusive and serial_settings are given together\. Set baudrate, exclusive in the Serial",
    ),
    (
        "settings that name no port, for a manager",
        lambda: ServomexManager().add("a1", SETTINGS),
        r"name no port",
    ),
    (
        "settings and single ones, for a manager",
        lambda: ServomexManager().add("a1", "sim://4100", serial_settings=SETTINGS, parity="N"),
        r"parity and serial_settings are given together",
    ),
    (
        "settings of another port, for a manager",
        lambda: ServomexManager().add("a1", "sim://4100", serial_settings=SerialSettings(port="sim://9")),
        r"the port to open is sim://4100, and the serial settings are those of sim://9",
    ),
]


@pytest.mark.parametrize(
    ("call", "match"), [item[1:] for item in CONTRADICTIONS], ids=[c[0] for c in CONTRADICTIONS]
)
def test_settings_that_contradict_each_other_are_refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ServomexConfigurationError, match=match):
        call()


def test_single_settings_belong_to_the_link_that_is_passed_in() -> None:
    with (
        SerialLink("sim://4100") as link,
        pytest.raises(ServomexConfigurationError, match="serial_settings belongs to the SerialLink"),
    ):
        open_device(link, baudrate=19200)


def test_the_same_port_may_be_named_in_both_places() -> None:
    line = VirtualLine(baudrate=9600)
    settings = SerialSettings(port=line.url, baudrate=9600)
    with open_device(line.url, protocol="modbus_rtu", serial_settings=settings) as analyzer:
        assert analyzer.identify().serial_settings == settings


def test_a_manager_takes_settings_that_name_a_port_and_an_open_port() -> None:
    line = VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2), baudrate=9600)
    settings = SerialSettings(port=line.url, baudrate=9600)
    other = VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2))
    with (
        contextlib.closing(serial.serial_for_url(other.url, baudrate=19200)) as port,
        ServomexManager() as manager,
    ):
        manager.add("a1", settings, protocol="modbus_rtu", address=1)
        manager.add("a2", settings, address=2)
        manager.add("b1", port, protocol="modbus_rtu", address=1)
        manager.add("b2", port, address=2)
        assert manager.get("a1").link is manager.get("a2").link
        assert manager.get("b1").link is manager.get("b2").link
        assert {name: result.value["I1"].value for name, result in manager.poll().items() if result.value} == {
            "a1": 20.376, "a2": 20.376, "b1": 20.376, "b2": 20.376,
        }  # fmt: skip
        with pytest.raises(
            ServomexConfigurationError, match="in use with serial_settings 9600 8N1, not 19200 8N1"
        ):
            manager.add("a3", SerialSettings(port=line.url), address=3)
        manager.remove("b1")
        manager.remove("b2")
        assert port.is_open


def test_open_ports_of_equal_names_are_not_taken_for_one(tmp_path: Path) -> None:
    one, other = ScriptedPort(), ScriptedPort()
    with ServomexManager() as manager:
        first = manager.add("a1", one, protocol="modbus_rtu", identify=False)
        second = manager.add("a2", other, protocol="modbus_rtu", identify=False)
        assert first.link is not second.link
        with pytest.raises(ServomexConfigurationError, match="two links to one port"):
            manager.add("a3", SerialLink(one), protocol="modbus_rtu", address=2, identify=False)


def test_an_open_port_with_the_name_of_one_that_is_in_use_is_refused() -> None:
    line = VirtualLine()
    port: Any = SimpleNamespace(**dict.fromkeys(MEMBERS), port=line.url)
    with ServomexManager() as manager:
        manager.add("a1", line.url, protocol="modbus_rtu", identify=False)
        with pytest.raises(ServomexConfigurationError, match="two links to one port"):
            manager.add("a2", port, protocol="modbus_rtu", address=2, identify=False)


def device_at(port: str) -> serial.Serial:
    return serial.Serial(port, baudrate=9600, stopbits=2, timeout=0.1)


@needs_pty
def test_an_open_device_is_used_as_it_is_set() -> None:
    with PtyServer(VirtualLine()) as server, device_at(server.port) as port:
        with SerialLink(port) as link:
            assert link.settings == SerialSettings(baudrate=9600, stopbits=2)
        with SerialLink(port, SerialSettings(baudrate=9600, stopbits=2)) as link:
            assert link.settings.baudrate == 9600
        with pytest.raises(ServomexConfigurationError, match=r"open with 9600 8N2, .* are 19200 8N1\. Omit"):
            SerialLink(port, SerialSettings())
        port.baudrate = 230400
        with pytest.raises(ServomexValidationError, match=r"^baudrate must be"):
            SerialLink(port)


@needs_pty
def test_a_port_is_taken_for_one_program_unless_it_is_to_be_shared() -> None:
    with PtyServer(VirtualLine()) as server, SerialLink(server.port) as alone:
        with pytest.raises(ServomexConnectionError, match="in use by another program"):
            SerialLink(server.port).open()
        with pytest.raises(serial.SerialException, match="lock"):
            serial.Serial(server.port, exclusive=True)
        alone.close()
        with SerialLink(server.port, SerialSettings(exclusive=False)):
            serial.Serial(server.port, exclusive=True).close()
            with SerialLink(server.port, SerialSettings(exclusive=False)):
                pass


@needs_pty
def test_a_port_that_is_to_be_shared_opens_beside_one_who_wanted_it_alone() -> None:
    with PtyServer(VirtualLine()) as server, serial.Serial(server.port, exclusive=True) as other:
        with pytest.raises(ServomexConnectionError, match="in use by another program"):
            open_device(server.port, protocol="modbus_rtu")
        with open_device(server.port, protocol="modbus_rtu", exclusive=False) as analyzer:
            assert analyzer.poll()["I1"].value == 20.376
        with pytest.raises(serial.SerialException):  # the other still has its lock
            serial.Serial(server.port, exclusive=True)
        assert other.is_open


@pytest.mark.parametrize(("options", "shared"), [
    ({}, False), ({"exclusive": False}, True), ({"exclusive": False, "shared_line": False}, False),
    ({"shared_line": True}, True),
])  # fmt: skip
def test_replies_are_proven_on_a_port_that_others_may_open(options: dict[str, bool], shared: bool) -> None:
    line = VirtualLine()
    with open_device(line.url, protocol="modbus_rtu", **options) as analyzer:  # type: ignore[arg-type]
        assert analyzer.link.state(ModbusLine).others.shared is shared
        assert analyzer.poll()["I1"].value == 20.376


def test_a_url_has_no_lock_to_take_or_to_leave() -> None:
    with TcpServer(VirtualLine()) as server:
        for exclusive in (True, False):
            with open_device(server.port, protocol="modbus_rtu", exclusive=exclusive) as analyzer:
                assert analyzer.poll()["I1"].value == 20.376


def test_windows_shares_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servomex.port.connect.os", SimpleNamespace(name="nt"))
    with pytest.raises(ServomexConfigurationError, match=re.escape("COM3 cannot be shared: Windows")) as caught:
        open_port("COM3", SerialSettings(exclusive=False))
    assert caught.value.cure == "Omit exclusive=False"
