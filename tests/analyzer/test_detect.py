"""AUTO finds each mode by reads only, and says what it saw when it finds none."""

import time
from collections.abc import Callable

import pytest

from servomex import (
    ProtocolKind,
    SerialSettings,
    ServomexConnectionError,
    ServomexFrameError,
    ServomexNotFoundError,
    ServomexValidationError,
    open_device,
)
from servomex.analyzer import detect
from servomex.simulator import Faults, VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.frames import REAL
from tests.helpers.hook_port import HookPort
from tests.helpers.searching import Damaged

pytestmark = pytest.mark.virtual_time

MODBUS = ["modbus_rtu", "modbus_ascii"]


@pytest.mark.parametrize("mode", MODBUS)
@pytest.mark.parametrize("echo", [False, True])
def test_modbus_is_found_quickly(mode: str, echo: bool) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, address=30), pace=True, echo=echo)
    started = time.monotonic()
    with open_device(line.url, address=30, identify=False) as analyzer:
        assert time.monotonic() - started < 1.5
        assert analyzer.protocol is ProtocolKind(mode)
        assert analyzer.poll()["I1"].value == 20.376


@pytest.mark.parametrize("period", [0.4, 1.0, 3.0])
def test_a_broadcast_is_found_within_a_period_and_a_second(period: float) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=period), pace=True)
    started = time.monotonic()
    with open_device(line.url) as analyzer:
        assert time.monotonic() - started < period + 1.0
        assert analyzer.protocol is ProtocolKind.CONTINUOUS_ASCII
        assert analyzer.poll()["I1"].value == 20.376


def test_nothing_is_sent_behind_a_broadcast_that_came_in_the_silence_before_a_probe() -> None:
    port = HookPort(lambda _port, _data: None)
    port.at(0.03, REAL)
    port.reset_input_buffer = lambda: None  # type: ignore[method-assign]
    with open_device(port) as analyzer:
        assert analyzer.protocol is ProtocolKind.CONTINUOUS_ASCII
    assert port.writes == ()


def test_a_probe_ends_as_soon_as_a_broadcast_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "WAITS_S", (5.0, 5.0))
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.5), pace=True)
    started = time.monotonic()
    with open_device(line.url) as analyzer:
        assert time.monotonic() - started < 2.0
        assert analyzer.protocol is ProtocolKind.CONTINUOUS_ASCII


def test_a_broadcast_that_fills_the_line_is_found() -> None:
    """At 2400 baud with a period of one second the line is silent for 140 ms only."""
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=1.0), baudrate=2400, pace=True)
    with open_device(line.url, serial_settings=SerialSettings(baudrate=2400)) as analyzer:
        assert analyzer.protocol is ProtocolKind.CONTINUOUS_ASCII


def test_the_frame_that_was_heard_while_probing_keeps_its_arrival_time() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.4))
    opened = time.monotonic_ns()
    with open_device(line.url) as analyzer:
        frame = analyzer.poll(max_age=5)
        assert opened < frame.monotonic_ns < time.monotonic_ns()


@pytest.mark.parametrize("mode", MODBUS)
def test_one_lost_reply_does_not_hide_an_analyser(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, faults=Faults(drop=0.3, seed=3)))
    with open_device(line.url, identify=False) as analyzer:
        assert analyzer.protocol is ProtocolKind(mode)


@pytest.mark.parametrize("mode", MODBUS)
def test_a_slow_analyser_is_found(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, faults=Faults(late=0.7)))
    with open_device(line.url, identify=False) as analyzer:
        assert analyzer.protocol is ProtocolKind(mode)


@pytest.mark.parametrize("mode", MODBUS)
def test_only_reads_and_loopbacks_are_sent(mode: str) -> None:
    analyser = VirtualAnalyzer(mode=mode)
    line = VirtualLine(analyser)
    with open_device(line.url):
        heard = [item for item in line.heard if item[1].startswith(b":") is (mode == "modbus_ascii")]
        functions = {int(sent[3:5], 16) if mode == "modbus_ascii" else sent[1] for _, sent in heard}
    assert functions == {2, 4, 8}
    assert analyser.coil_log == []


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: VirtualLine(VirtualAnalyzer(faults=Faults(silent=True))), "nothing was received"),
        (lambda: VirtualLine(VirtualAnalyzer(address=9)), "nothing was received"),
        (
            lambda: VirtualLine(VirtualAnalyzer(faults=Faults(silent=True)), echo=True),
            "only the adapter's echo came back",
        ),
        (lambda: VirtualLine(VirtualAnalyzer(), baudrate=9600, pace=True), "nothing was received"),
        (
            lambda: VirtualLine(VirtualAnalyzer(mode="continuous", period=0.5), baudrate=9600),
            "bytes arrived that fit no mode",
        ),
        (
            lambda: VirtualLine(Damaged(mode="continuous", period=0.5)),
            "a broadcast was heard, but no undamaged frame arrived",
        ),
    ],
    ids=[
        "silent",
        "other address",
        "echo only",
        "baud rate",
        "broadcast at another baud rate",
        "damaged broadcast",
    ],
)
def test_nothing_found_says_what_was_seen(build: Callable[[], VirtualLine], words: str) -> None:
    line = build()
    started = time.monotonic()
    with pytest.raises(ServomexNotFoundError, match=words) as caught:
        open_device(line.url, listen=1.5)
    assert time.monotonic() - started < 2.2
    assert "no analyser found" in str(caught.value)
    with pytest.raises(ServomexNotFoundError):
        open_device(line.url, listen=0.1)  # the port was given back


def test_a_port_that_is_lost_while_looking_is_a_connection_error() -> None:
    line = VirtualLine(VirtualAnalyzer(faults=Faults(silent=True)), unplug_after=0.2)
    with pytest.raises(ServomexConnectionError):
        open_device(line.url, listen=5)


def test_an_analyser_in_continuous_mode_that_is_opened_as_modbus_is_named() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.5), baudrate=2400, pace=True)
    with pytest.raises(ServomexFrameError, match="continuous mode"):
        open_device(line.url, protocol="modbus_rtu", serial_settings=SerialSettings(baudrate=2400))


@pytest.mark.parametrize(
    "arguments",
    [
        {"protocol": "modbus"},
        {"address": 0},
        {"address": 300},
        {"address": True},
        {"retries": -1},
        {"retries": 11},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"listen": -1},
        {"gap": -0.1},
        {"gap": 11},
        {"channels": ["I9"]},
        {"channels": "I1"},
        {"channels": []},
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_the_port_is_touched(arguments: dict[str, object]) -> None:
    port = ScriptedPort()
    port.feed(b"untouched")
    with pytest.raises(ServomexValidationError):
        open_device(port, **arguments)  # type: ignore[arg-type]
    assert port.in_waiting == 9
    assert port.writes == ()
