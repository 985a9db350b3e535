"""Which port, which mode and which address an analyser gets in a manager, and what is left when it is refused."""

from pathlib import Path
from typing import Any

import pytest

import servomex
from servomex import (
    Analyzer,
    SerialLink,
    SerialSettings,
    ServomexConfigurationError,
    ServomexError,
    ServomexManager,
    ServomexTimeoutError,
    ServomexValidationError,
    open_device,
)
from servomex.manager.joining import port_identity
from servomex.manager.port import SharedPort
from servomex.simulator import PtyServer, VirtualAnalyzer, VirtualLine
from tests.helpers.managing import RTU, filled, is_free, line_of, unit, values, workers
from tests.helpers.platforms import needs_pty
from tests.helpers.threads import in_thread

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("short_waits")]


def test_a_port_is_opened_once_has_one_thread_and_is_closed_with_its_last_analyser(
    manager: ServomexManager,
) -> None:
    line = filled(manager, line_of(1, 2))
    assert manager.get("a1").link is manager.get("a2").link
    assert workers() == [f"servomex-port {line.url}"]
    manager.remove("a1")
    assert not is_free(line)
    assert values(manager) == {"a2": 2.0}
    manager.remove("a2")
    assert is_free(line)
    assert workers() == []
    assert manager.poll() == {}
    filled(manager, line)
    assert values(manager) == {"a1": 1.0, "a2": 2.0}


def test_a_new_port_has_the_usual_gap_and_comes_back_by_itself(manager: ServomexManager) -> None:
    line = line_of(1)
    link = manager.add("a1", line.url, protocol="modbus_rtu").link
    assert (link.gap_s, link.settings) == (0.05, SerialSettings(port=link.port))
    line.unplug()
    lost = manager.poll()["a1"].error
    assert "reopened automatically" in str(lost)


def test_the_options_reach_the_analyser(manager: ServomexManager) -> None:
    line = line_of(1)
    analyzer = manager.add("a1", line.url, **RTU, retries=0, timeout=0.3, channels=["E2"])
    assert analyzer.timeout_s == 0.3
    assert analyzer.poll(timeout=2).channels == ("E2",)
    assert analyzer.info is None, "identify"
    line.analysers[0].faults.silent = True
    del line.heard[:]
    assert not manager.poll()["a1"].ok
    assert len(line.heard) == 1


@needs_pty
@pytest.mark.real_time
def test_a_link_to_a_port_is_that_port(manager: ServomexManager, tmp_path: Path) -> None:
    with PtyServer(line_of(1, 2)) as server:
        by_id = tmp_path / "usb-FTDI"
        by_id.symlink_to(server.port)
        manager.add("a1", by_id, **RTU)
        manager.add("a2", server.port, address=2, **RTU)
        assert manager.get("a1").link is manager.get("a2").link
        assert manager.get("a1").link.port == str(by_id), "only that name survives replugging"
        assert values(manager) == {"a1": 1.0, "a2": 2.0}


@pytest.mark.parametrize("name", ["COM3", "com3", r"\\.\COM3", r"\\.\com3"])
def test_on_windows_a_port_has_several_spellings(name: str) -> None:
    assert port_identity(name, windows=True) == "COM3"
    assert port_identity("COM30", windows=True) != "COM3"


def test_a_url_is_taken_as_it_is() -> None:
    for windows in (False, True):
        assert port_identity("socket://box:4001", windows=windows) == "socket://box:4001"
    assert port_identity("usb:NOT-HERE", windows=True) == "USB:NOT-HERE"


def test_a_usb_adapter_is_the_port_that_it_has_at_the_moment(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(1, 2)
    monkeypatch.setattr("servomex.manager.joining.device_of", lambda port: line.url if port == "usb:A5" else port)
    manager.add("a1", line.url, **RTU)
    manager.add("a2", "usb:A5", address=2, **RTU)
    assert manager.get("a1").link is manager.get("a2").link


def test_a_link_that_is_passed_in_is_that_port_too_and_stays_open(manager: ServomexManager) -> None:
    line = line_of(1, 2, 3)
    with SerialLink(line.url, gap=0.005) as link:
        manager.add("a1", link, protocol="modbus_rtu")
        manager.add("a2", line.url, address=2, **RTU)
        assert manager.get("a2").link is link
        manager.add("a3", link, address=3)
        manager.remove("a1")
        manager.remove("a2")
        manager.remove("a3")
        assert link.is_open
        assert workers() == []
        manager.add("a3", link, protocol="modbus_rtu", address=3)
        manager.close()
        assert link.is_open


def test_an_analyser_that_is_passed_in_is_read_and_stays_open(manager: ServomexManager) -> None:
    line = line_of(1, 2)
    with open_device(line.url, protocol="modbus_rtu", gap=0.005) as analyzer:
        manager.add("mine", analyzer)
        manager.add("a2", line.url, address=2)
        assert manager.get("a2").link is analyzer.link
        with pytest.raises(ServomexValidationError, match="the address is taken by mine"):
            manager.add("a1", line.url)
        with pytest.raises(ServomexValidationError, match="the address is taken by mine"):
            manager.add("again", analyzer)
        assert values(manager) == {"mine": 1.0, "a2": 2.0}
        manager.close()
        assert analyzer.poll()["I1"].value == 1.0


def test_options_beside_an_open_analyser_are_refused_and_not_dropped(manager: ServomexManager) -> None:
    options: list[dict[str, Any]] = [{"timeout": 1}, {"address": 2}, {"protocol": "modbus_rtu"}, {"gap": 0.05}]
    line = line_of(1)
    with open_device(line.url, protocol="modbus_rtu", identify=False) as analyzer:
        for given in options:
            with pytest.raises(ServomexConfigurationError, match="where it is opened"):
                manager.add("mine", analyzer, **given)
    assert manager.names == ()


@pytest.mark.parametrize("source", ["link", "analyser"])
def test_a_second_link_to_a_port_in_use_is_refused(manager: ServomexManager, source: str) -> None:
    line = filled(manager, line_of(1, 2))
    link = SerialLink(line.url)
    client = servomex.ModbusClient(link, 2, servomex.ProtocolKind.MODBUS_RTU)
    with (
        Analyzer(link, client) as analyzer,
        pytest.raises(ServomexConfigurationError, match="two links to one port"),
    ):
        manager.add("a2b", link if source == "link" else analyzer)
    assert values(manager) == {"a1": 1.0, "a2": 2.0}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"name": "a1"}, ServomexValidationError, "there is an analyser 'a1' already"),
        ({"name": ""}, ServomexValidationError, "must be a text .*, not ''"),
        ({"name": None}, ServomexValidationError, "must be a text .*, not None"),
        ({"address": 1}, ServomexValidationError, "the address is taken by a1"),
        ({"address": 0}, ServomexValidationError, "address"),
        ({"retries": 11}, ServomexValidationError, "retries"),
        ({"listen": 0}, ServomexValidationError, "listen"),
        ({"timeout": -1}, ServomexValidationError, "timeout"),
        ({"channels": "I1"}, ServomexValidationError, "channels"),
        ({"channels": ["I9"]}, ServomexValidationError, "channel"),
        ({"protocol": "profibus"}, ServomexValidationError, "protocol"),
        ({"protocol": "modbus_ascii"}, ServomexConfigurationError, "same mode, and a1 is there in modbus_rtu"),
        ({"protocol": "continuous"}, ServomexConfigurationError, "alone on its port, and a1 is there"),
        (
            {"serial_settings": SerialSettings(baudrate=9600)},
            ServomexConfigurationError,
            "19200 8N1, not 9600 8N1",
        ),
        ({"gap": 0.05}, ServomexConfigurationError, "gap 0.005, not 0.05"),
        ({"auto_reconnect": False}, ServomexConfigurationError, "auto_reconnect True, not False"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_a_byte_is_sent(
    manager: ServomexManager, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    line = line_of(1, 2)
    manager.add("a1", line.url, **RTU)
    del line.heard[:]
    with pytest.raises(error, match=match):
        manager.add(**{"name": "a2", "source": line.url, "address": 2, **options})
    assert line.heard == []
    assert manager.names == ("a1",)


@pytest.mark.parametrize(
    "options",
    [
        {"address": 248},
        {"gap": 11},
        {"gap": -1},
        {"channels": []},
        {"retries": -1},
        {"protocol": "x"},
        {"name": 5},
    ],
    ids=str,
)
def test_no_port_is_opened_for_what_cannot_be(
    manager: ServomexManager, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(1)
    opened: list[int] = []
    monkeypatch.setattr(line, "open", opened.append)
    with pytest.raises(ServomexValidationError):
        manager.add(**{"name": "a1", "source": line.url, **options})
    assert opened == []


def test_a_source_that_is_none_is_refused(manager: ServomexManager) -> None:
    for source in (5, None, VirtualAnalyzer()):
        with pytest.raises(ServomexValidationError, match="a port is"):
            manager.add("a1", source)  # type: ignore[call-overload]
    with pytest.raises(ServomexValidationError, match="must not be empty"):
        manager.add("a1", "")


def test_the_same_settings_said_twice_are_no_others(manager: ServomexManager) -> None:
    line = line_of(1, 2)
    manager.add("a1", line.url, **RTU, auto_reconnect=False)
    manager.add("a2", line.url, address=2, serial_settings=SerialSettings(), gap=0.005, auto_reconnect=False)
    assert values(manager) == {"a1": 1.0, "a2": 2.0}


def test_an_analyser_in_continuous_mode_is_welcome_alone(manager: ServomexManager) -> None:
    line = VirtualLine(unit(1, "continuous"), unit(2))
    manager.add("loud", line.url, protocol="continuous")
    assert values(manager) == {"loud": 1.0}
    assert manager.get("loud").protocol == "continuous"
    for options in ({}, {"protocol": "modbus_rtu", "address": 2}, {"protocol": "continuous"}):
        with pytest.raises(ServomexConfigurationError, match="alone on its port, and loud is there in continuous"):
            manager.add("other", line.url, **options)
    manager.remove("loud")
    assert is_free(line)


def test_a_link_on_which_broadcasts_are_read_is_not_shared(manager: ServomexManager) -> None:
    line = VirtualLine(unit(1, "continuous"))
    with SerialLink(line.url) as link, servomex.open_continuous(link) as analyzer:
        with pytest.raises(ServomexConfigurationError, match="alone"):
            manager.add("second", link, protocol="modbus_rtu", identify=False)
        manager.add("first", analyzer)
        assert values(manager) == {"first": 1.0}


def test_auto_takes_the_mode_of_the_port_without_a_probe(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = VirtualLine(unit(1, "modbus_ascii"), unit(2, "modbus_ascii"))
    manager.add("a1", line.url, protocol="modbus_ascii", gap=0.005)
    written: list[bytes] = []
    write = line.write

    def noting(data: bytes) -> None:
        written.append(data)
        write(data)

    monkeypatch.setattr(line, "write", noting)
    assert manager.add("a2", line.url, address=2).protocol == "modbus_ascii"
    assert written
    assert all(data.startswith(b":02") for data in written)


@pytest.mark.parametrize(
    "options", [{"address": 9, "timeout": 0.2}, {"channels": ["I4"]}, {"protocol": "continuous", "listen": 0.1}]
)
def test_an_opening_that_fails_leaves_nothing_open_and_nothing_registered(
    manager: ServomexManager, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servomex.analyzer.modbus_mode.OPENING_S", 0.2)
    line = line_of(1)
    with pytest.raises(ServomexError):
        manager.add("a", line.url, **{**RTU, "identify": True, **options})
    assert manager.names == ()
    assert workers() == []
    assert is_free(line)
    with SerialLink(line.url) as link:
        with pytest.raises(ServomexError):
            manager.add("a", link, **{"protocol": "modbus_rtu", **options})
        assert link.is_open
    manager.add("a", line.url, **RTU)


def test_a_thread_that_cannot_be_started_leaves_nothing_open(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_port: SharedPort) -> None:
        raise RuntimeError("can't start new thread")

    line = VirtualLine(unit(1, "continuous"))
    monkeypatch.setattr(SharedPort, "start", start)
    with pytest.raises(RuntimeError):
        manager.add("a1", line.url, protocol="continuous")
    assert manager.names == ()
    assert is_free(line)


def test_an_opening_that_fails_does_not_disturb_the_others_on_the_port(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2))
    adding = in_thread(manager.add, "a9", line.url, address=9, retries=0)
    while not adding.done():
        assert values(manager, timeout=0.5) == {"a1": 1.0, "a2": 2.0}
    with pytest.raises(ServomexTimeoutError):
        adding.result()
    assert manager.names == ("a1", "a2")
