"""A plain name that leads to another adapter after replugging: found again, or refused, and never taken for it."""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex import (
    Analyzer,
    ChannelId,
    Recorder,
    ServomexConnectionError,
    ServomexError,
    load_metadata,
    open_device,
)
from servomex.port.link import SerialLink
from servomex.port.names import same_adapter, serial_number_of
from servomex.port.reopening import Pauses
from servomex.simulator import PtyServer, VirtualAnalyzer, VirtualLine
from tests.helpers.platforms import needs_pty
from tests.helpers.usb_ports import adapter, built_in, plug


def until_error(analyzer: Analyzer, words: str) -> None:
    """Read until it fails with these words; nothing is read meanwhile that is not of the first analyser."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert analyzer.poll()["I1"].name == "Oxygen"
        except ServomexError as error:
            if words in str(error):
                return
        time.sleep(0.02)
    raise AssertionError(f"no error came that says {words!r}")


class TestNames:
    def test_the_same_adapter_keeps_its_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plug(monkeypatch, adapter("/dev/ttyUSB0", "A"), adapter("/dev/ttyUSB1", "B"))
        assert serial_number_of("/dev/ttyUSB0") == "A"
        assert same_adapter("/dev/ttyUSB0", "A") == "/dev/ttyUSB0"

    def test_one_that_has_another_name_now_is_found(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "servomex")
        plug(monkeypatch, adapter("/dev/ttyUSB0", "B"), adapter("/dev/ttyUSB1", "A"))
        assert same_adapter("/dev/ttyUSB0", "A") == "/dev/ttyUSB1"
        assert caplog.messages == ["/dev/ttyUSB0: its adapter usb:A is /dev/ttyUSB1 now"]

    def test_another_one_in_its_place_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plug(monkeypatch, adapter("/dev/ttyUSB0", "B"))
        with pytest.raises(
            ServomexConnectionError, match="/dev/ttyUSB0 is another adapter now: usb:B in place of usb:A"
        ):
            same_adapter("/dev/ttyUSB0", "A")

    def test_several_ports_of_one_adapter_keep_their_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plug(monkeypatch, adapter("/dev/ttyUSB0", "A"), adapter("/dev/ttyUSB1", "A"))
        assert same_adapter("/dev/ttyUSB1", "A") == "/dev/ttyUSB1"

    @pytest.mark.parametrize("name", ["/dev/ttyUSB0", "/dev/ttyS0", "socket://192.0.2.1:4001", "usb:gone"])
    def test_what_has_no_serial_number_is_left_alone(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        plug(monkeypatch, adapter("/dev/ttyUSB0", None), built_in("/dev/ttyS0"))
        assert serial_number_of(name) is None
        assert same_adapter(name, None) == name

    @pytest.mark.parametrize("name", ["/dev/serial/by-path/pci-0-usb-0:1", "hwgrep://0403:6001"])
    def test_a_name_of_whatever_fits_is_held_to_no_adapter(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plug(monkeypatch, adapter("/dev/ttyUSB0", "B"), adapter("/dev/ttyUSB1", "A"))
        assert same_adapter(name, "A") == name

    def test_one_that_is_away_is_looked_for_under_its_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plug(monkeypatch)
        assert same_adapter("/dev/ttyUSB0", "A") == "/dev/ttyUSB0"


@needs_pty
class TestPorts:
    @pytest.fixture
    def lines(self) -> tuple[VirtualLine, VirtualLine]:
        first, second = (VirtualLine(VirtualAnalyzer()) for _ in range(2))
        second.analysers[0].channels[ChannelId.I1].name = "Argon"
        return first, second

    @pytest.fixture
    def servers(self, lines: tuple[VirtualLine, VirtualLine]) -> Iterator[tuple[PtyServer, PtyServer]]:
        with PtyServer(lines[0]) as one, PtyServer(lines[1]) as two:
            yield one, two

    def test_a_name_that_another_adapter_has_got_gives_no_values_of_the_other_analyser(
        self,
        lines: tuple[VirtualLine, VirtualLine],
        servers: tuple[PtyServer, PtyServer],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))
        one, two = servers
        name = tmp_path / "ttyUSB0"
        name.symlink_to(one.port)
        present = plug(monkeypatch, adapter(one.port, "A"), adapter(two.port, "B"))
        with open_device(str(name), protocol="modbus_rtu", gap=0.0, timeout=0.5) as analyzer:
            assert analyzer.link.usb_serial == "A"
            lines[0].unplug()
            present[:] = [adapter(two.port, "B")]
            name.unlink()
            name.symlink_to(two.port)
            until_error(analyzer, "is another adapter now: usb:B in place of usb:A")
            lines[0].plug()
            deadline = time.monotonic() + 20
            found = None
            while found is None and time.monotonic() < deadline:
                present[:] = [adapter(two.port, "B"), adapter(one.port, "A")]
                with contextlib.suppress(ServomexError):
                    found = analyzer.poll()["I1"].name
            assert found == "Oxygen", "its adapter is found under the name that it has now"

    def test_a_recording_says_which_adapter_it_is_of(
        self, servers: tuple[PtyServer, PtyServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = servers[0].port
        plug(monkeypatch, adapter(port, "A50285BI"))
        file = tmp_path / "run.sqlite"
        with (
            open_device(port, protocol="modbus_rtu", gap=0.0) as analyzer,
            Recorder(analyzer, [file], rate_hz=10, count=1) as recorder,
        ):
            recorder.join()
        assert load_metadata(file)["usb_serial"] == "A50285BI"
