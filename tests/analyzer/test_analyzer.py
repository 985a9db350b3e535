"""One Analyzer over all three modes: the same analyser reads the same, whatever the mode and whoever asks."""

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

import servomex
from servomex import (
    Capability,
    ChannelId,
    Quality,
    SerialLink,
    SerialSettings,
    ServomexChannelError,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexNoFrameError,
    ServomexTimeoutError,
    ServomexValidationError,
    open_device,
)
from servomex.modbus.line import ModbusLine
from servomex.runtime.locks import Changes
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from servomex.simulator.urls import PRESETS
from tests.helpers.bench import bench

pytestmark = pytest.mark.virtual_time

MODES = ["modbus_rtu", "modbus_ascii", "continuous"]
MODBUS = MODES[:2]


def seen(frame: servomex.Frame) -> list[tuple[object, ...]]:
    return [(r.channel, r.kind, r.value, r.unit, r.unit_text, r.status, r.quality, r.ok) for r in frame]


def test_how_long_a_value_may_be_shown_goes_by_how_often_it_is_read() -> None:
    with open_device("sim://4100", protocol="modbus_rtu", timeout=0.5) as analyzer:
        assert analyzer.fresh_for_s() == 3.0
        assert analyzer.fresh_for_s(10) == 0.75
        for rate_hz in (0, -1.0, 1001, float("nan")):
            with pytest.raises(ServomexValidationError, match="rate_hz"):
                analyzer.fresh_for_s(rate_hz)


def test_names_are_the_same_in_every_mode_but_for_their_subscripts() -> None:
    """A conjecture from ``43 4F 82``, the name of CO2 that was seen: 0x80 to 0x89 are the subscripts."""
    names = ["SO₂", "CH₄", "C₂H₄", "NH₃"]
    channels = [
        VirtualChannel(ChannelId(f"I{place}"), name, "%", constant(1.0)) for place, name in enumerate(names, 1)
    ]
    read = {}
    for mode in MODES:
        line = VirtualLine(VirtualAnalyzer(channels, mode=mode, period=0.1))
        with open_device(line.url, protocol=mode) as analyzer:
            read[mode] = analyzer.poll()
    shown = {mode: [reading.name for reading in frame][:4] for mode, frame in read.items()}
    assert shown == {"modbus_rtu": names, "modbus_ascii": names, "continuous": ["SO2", "CH4", "C2H4", "NH3"]}
    for sent in (b"SO\x82   ", b"CH\x84   ", b"C\x82H\x84  ", b"NH\x83   "):
        assert sent in read["modbus_rtu"].raw


def test_the_same_analyser_reads_the_same_in_every_mode() -> None:
    frames = {}
    for mode in MODES:
        line = VirtualLine(bench(mode))
        with open_device(line.url) as analyzer:
            assert analyzer.protocol == mode
            frames[mode] = analyzer.poll()
            assert [item.channel for item in analyzer.info.channels] == list(frames[mode].channels)  # type: ignore[union-attr]
    reference = frames["continuous"]
    assert reference.channels == ("I1", "I2", "I4", "D1", "D4", "E1", "E2")
    for mode in MODBUS:
        assert seen(frames[mode]) == seen(reference)
        assert attrs.evolve(reference.analyser, clock=None) == frames[mode].analyser
        assert frames[mode].analyser.clock is None
        names = [reading.name for reading in frames[mode]]
        assert names == ["Oxygen", "CO", "SO2", "NOx", "H�[2J", None, None]
    assert [reading.value for reading in reference] == [20.376, -1.5, 250.0, None, 99.999, 12.5, None]
    assert [reading.quality for reading in reference] == [
        Quality.GOOD,
        Quality.GOOD,
        Quality.UNCERTAIN,
        Quality.BAD,
        Quality.UNCERTAIN,
        Quality.GOOD,
        Quality.BAD,
    ]
    assert reference["I4"].unit is servomex.Unit.UNKNOWN
    assert reference["I4"].unit_text == "mg"


@pytest.mark.parametrize("mode", MODES)
def test_every_reading_method_agrees_with_the_frame(mode: str) -> None:
    line = VirtualLine(bench(mode))
    with open_device(line.url, protocol=mode) as analyzer:
        frame = analyzer.poll()
        everything = analyzer.read_all()
        assert list(everything) == list(frame.channels)
        for reading in frame:
            single = analyzer.read_channel(str(reading.channel))
            assert seen(attrs.evolve(frame, readings=(single,))) == seen(attrs.evolve(frame, readings=(reading,)))
            assert analyzer.status(reading.channel) == reading.status
        assert analyzer.analyser_status().cal_text == frame.analyser.cal_text
        assert analyzer.snapshot().channels == frame.channels
        samples = analyzer.poll_samples(channels=["I1", ChannelId.E1])
        assert [(sample.channel, sample.device) for sample in samples] == [
            ("I1", analyzer.name),
            ("E1", analyzer.name),
        ]
        assert Capability.READ_CHANNELS in analyzer.capabilities
        assert (Capability.LOOPBACK in analyzer.capabilities) is (mode != "continuous")


@pytest.mark.parametrize("mode", MODBUS)
def test_times_of_a_sweep_enclose_its_data(mode: str) -> None:
    line = VirtualLine(bench(mode), pace=True)
    with open_device(line.url, protocol=mode) as analyzer:
        called = time.monotonic_ns()
        frame = analyzer.poll()
        returned = time.monotonic_ns()
    assert called < frame.monotonic_ns <= returned
    assert frame.requested_at is not None
    assert frame.latency_s is not None
    assert 0.2 < frame.latency_s < (returned - called) / 1e9
    assert abs((frame.received_at - frame.requested_at).total_seconds() - frame.latency_s) < 0.001
    assert len(frame.raw) > 100


@pytest.mark.parametrize("mode", MODES)
def test_unknown_and_unpopulated_channels_are_clear_errors(mode: str) -> None:
    line = VirtualLine(bench(mode))
    with open_device(line.url, protocol=mode) as analyzer:
        with pytest.raises(ServomexValidationError, match="unknown channel 'I9'; known are I1, I2"):
            analyzer.read_channel("I9")
        with pytest.raises(ServomexValidationError, match="I3 is not populated"):
            analyzer.read_channel("I3")
        with pytest.raises(ServomexValidationError, match=r"I3 is not populated; this frame has I1 \(Oxygen\)"):
            _ = analyzer.poll()["I3"]


@pytest.mark.parametrize("mode", MODES)
def test_selected_channels_are_all_that_is_read(mode: str) -> None:
    line = VirtualLine(bench(mode))
    with open_device(line.url, protocol=mode, channels=["I4", "I1"]) as analyzer:
        assert analyzer.poll().channels == ("I1", "I4")
    with pytest.raises(ServomexValidationError, match="not populated: D2, I3"):
        open_device(line.url, protocol=mode, channels=["I1", "I3", "D2"])


@pytest.mark.parametrize("mode", MODES)
def test_what_changes_on_the_panel_shows(mode: str) -> None:
    analyser = bench(mode)
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=mode) as analyzer:
        analyzer.poll()
        analyser["I1"].unit, analyser["I1"].signal = "vpm", constant(203760.0 if mode != "continuous" else 203.0)
        analyser["I1"].name = "O2 ppm"
        analyser.channels[ChannelId.I3] = VirtualChannel(ChannelId.I3, "CO2", "%", constant(0.25))
        analyser.channels = {
            channel: analyser.channels[channel] for channel in sorted(analyser.channels, key=list(ChannelId).index)
        }
        if mode == "continuous":
            threading.Event().wait(0.4)
        else:
            assert analyzer.poll()["I1"].unit_text == "vpm"
        frame = analyzer.poll()
        assert (frame["I1"].unit_text, frame["I1"].name) == ("vpm", "O2 ppm")
        assert frame["I3"].value == 0.25
        del analyser.channels[ChannelId.I3]
        if mode == "continuous":
            threading.Event().wait(0.4)
        else:
            with pytest.raises(ServomexChannelError, match=r"channel I3 \(CO2\) is missing"):
                analyzer.poll()
        assert "I3" not in analyzer.poll()


def test_an_echoing_line_works_and_without_an_analyser_is_no_analyser() -> None:
    for mode in MODBUS:
        analyser = bench(mode)
        line = VirtualLine(analyser, echo=True, pace=True)
        with open_device(line.url, protocol=mode) as analyzer:
            assert analyzer.link.state(ModbusLine).echo is True
            assert analyzer.poll()["I1"].value == 20.376
            assert analyzer.loopback(b"\x01\x02") == b"\x01\x02"
            analyser.faults.silent = True
            with pytest.raises(ServomexTimeoutError, match="only the adapter's echo"):
                analyzer.loopback(b"\x01\x02", timeout=0.3)
            analyser.faults.silent = False
            assert analyzer.poll(timeout=3)["I1"].value == 20.376
        analyser.faults.silent = True
        with pytest.raises(ServomexTimeoutError, match="only the adapter's echo came back: no analyser answers"):
            open_device(line.url, protocol=mode)


@pytest.mark.parametrize("mode", MODBUS)
@pytest.mark.parametrize("payload", [b"", b"a", b"abc", "ab"])
def test_a_loopback_takes_two_bytes(mode: str, payload: bytes) -> None:
    line = VirtualLine(bench(mode))
    with open_device(line.url, protocol=mode) as analyzer, pytest.raises(ServomexValidationError, match="2 bytes"):
        analyzer.loopback(payload)


@pytest.mark.parametrize("mode", MODES)
def test_between_poll_and_the_port_are_four_frames_of_ours_at_most(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.1))
    package = str(Path(servomex.__file__).parent)
    depths = []
    with open_device(line.url, protocol=mode) as analyzer:
        wrote, read_on, waited = analyzer.link.write, analyzer.link.read, Changes.wait

        def measure() -> None:
            frame, ours = sys._getframe(2), []
            while frame is not None and frame.f_code.co_name != "poll":
                if frame.f_code.co_filename.startswith(package):
                    ours.append(frame.f_code.co_name)
                frame = frame.f_back  # type: ignore[assignment]
            if frame is not None:
                depths.append(ours)

        def write(data: bytes, deadline: float | None = None) -> None:
            measure()
            wrote(data, deadline)

        def read(deadline: float) -> bytes:
            measure()
            return read_on(deadline)

        def wait(self: Changes, ticket: threading.Lock, timeout: float | None = None) -> None:
            measure()
            waited(self, ticket, timeout)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(analyzer.link, "write", write)
            patch.setattr(analyzer.link, "read", read)
            if mode == "continuous":
                patch.setattr(Changes, "wait", wait)
            analyzer.poll(wait_fresh=True)
    assert depths
    assert max(map(len, depths)) <= 4, depths


@pytest.mark.parametrize("mode", MODES)
def test_closing_twice_is_fine_and_using_it_afterwards_is_not(mode: str) -> None:
    line = VirtualLine(bench(mode))
    analyzer = open_device(line.url, protocol=mode)
    analyzer.close()
    analyzer.close()
    with pytest.raises(ServomexConnectionError, match="closed"):
        analyzer.poll()
    with open_device(line.url, protocol=mode) as again:  # the port was given back
        assert again.poll()["I1"].value == 20.376


def forget(analyzers: list[servomex.Analyzer]) -> None:
    analyzers.clear()
    gc.collect()


@pytest.mark.parametrize("mode", MODES)
def test_a_forgotten_close_is_warned_about_and_made_up_for(mode: str) -> None:
    line = VirtualLine(bench(mode))
    analyzers = [open_device(line.url, protocol=mode)]
    name = analyzers[0].link.port
    with pytest.warns(ResourceWarning, match=f"{name} was never closed: use 'with', or call close"):
        forget(analyzers)


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_open_gives_the_port_back(mode: str) -> None:
    analyser = bench(mode)
    analyser.faults.silent = True
    line = VirtualLine(analyser)
    with pytest.raises(ServomexTimeoutError):
        open_device(line.url, protocol=mode, listen=0.3)
    analyser.faults.silent = False
    with open_device(line.url, protocol=mode) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376


@pytest.mark.usefixtures("quick_reconnect")
@pytest.mark.parametrize("mode", MODBUS)
def test_an_unplugged_port_comes_back_with_the_next_calls(mode: str) -> None:
    line = VirtualLine(bench(mode))
    with open_device(line.url, protocol=mode) as analyzer:
        line.unplug()
        for _ in range(3):
            with pytest.raises(ServomexConnectionError):
                analyzer.poll()
        line.plug()
        threading.Event().wait(0.15)
        assert analyzer.poll()["I1"].value == 20.376


def test_without_identification_nothing_is_sent() -> None:
    line = VirtualLine(VirtualAnalyzer())
    with open_device(line.url, protocol="modbus_rtu", identify=False) as analyzer:
        assert line.heard == []
        assert analyzer.info is None
        with pytest.raises(ServomexNoFrameError, match="Call poll"):
            analyzer.snapshot()


def test_the_identity_reports_what_is_in_use() -> None:
    settings = SerialSettings(baudrate=9600, parity="E")
    line = VirtualLine(VirtualAnalyzer(address=30), baudrate=9600)
    with open_device(line.url, address=30, serial_settings=settings) as analyzer:
        info = analyzer.identify()
    assert (info.port, info.address) == (line.url, 30)
    assert info.serial_settings == attrs.evolve(settings, port=line.url)
    assert [(item.name, item.unit) for item in info.channels[:3]] == [("Oxygen", "%"), ("CO", "%"), ("CO₂", "%")]
    assert analyzer.info is info


@pytest.mark.parametrize(
    ("option", "value"), [("serial_settings", SerialSettings()), ("gap", 0.05), ("auto_reconnect", False)]
)
def test_settings_belong_to_the_link_that_is_passed_in(option: str, value: Any) -> None:
    with (
        SerialLink("sim://4100") as link,
        pytest.raises(ServomexConfigurationError, match=f"{option} belongs to the SerialLink"),
    ):
        open_device(link, **{option: value})


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_reads_without_a_fault(preset: str) -> None:
    with open_device(f"sim://{preset}") as analyzer:
        assert analyzer.poll()["I1"].quality is Quality.GOOD


@pytest.mark.real_time
def test_importing_the_package_does_not_import_pymodbus() -> None:
    code = "import sys, servomex; sys.exit(any(name.startswith('pymodbus') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert issubclass(servomex.ModbusClient, object)
    with pytest.raises(AttributeError):
        _ = servomex.NoSuchName  # type: ignore[attr-defined]
    assert issubclass(ServomexError, Exception)
