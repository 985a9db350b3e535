"""The tier of each operation: what may be offered to anybody, and what sends nothing without a confirmation."""

import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import servomex
from servomex import (
    Analyzer,
    Capability,
    ModbusClient,
    SafetyTier,
    ServomexConfirmationRequiredError,
    ServomexManager,
    discover_port,
    open_device,
    pipe,
    record,
)
from servomex.modbus.safety import TIERS
from servomex.registers import ALL_START_COILS, START_COILS
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.sinks import InMemorySink
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.waiting import soon

MODES = ["modbus_rtu", "modbus_ascii"]
CLASSES = [Analyzer, ServomexManager, ModbusClient]
WRITES = {5, 6, 15, 16, 22, 23}
"""The Modbus functions that write."""
FUNCTIONS = ["open_device", "open_continuous", "discover_port", "find_devices", "record", "pipe"]
"""The functions that reach an analyser."""


def operations(kind: type) -> set[str]:
    """The public methods of a class, inherited ones included."""
    return {name for name, _ in inspect.getmembers(kind, inspect.isroutine) if not name.startswith("_")}


def line_of(analyser: VirtualAnalyzer) -> HookPort:
    answer = answering(analyser)
    return HookPort(lambda port, data: port.feed(answer(data)))


def functions_of(port: HookPort) -> list[int]:
    """The functions of all requests that were written."""
    return [int(item[3:5], 16) if item.startswith(b":") else item[1] for item in port.writes]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def port(mode: str) -> HookPort:
    return line_of(VirtualAnalyzer(mode=mode))


@pytest.fixture
def analyzer(port: HookPort, mode: str) -> Iterator[Analyzer]:
    with open_device(port, protocol=mode) as opened:
        yield opened


@pytest.mark.parametrize("kind", CLASSES)
def test_every_operation_has_a_tier(kind: type) -> None:
    assert operations(kind) <= TIERS.keys()


def test_no_tier_is_of_something_that_there_is_not() -> None:
    assert TIERS.keys() == set.union(*map(operations, CLASSES)) | set(FUNCTIONS)
    assert all(hasattr(servomex, name) for name in FUNCTIONS)


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_stateful_takes_a_confirmation_that_is_not_the_default(kind: type) -> None:
    for name in operations(kind):
        confirm = inspect.signature(getattr(kind, name)).parameters.get("confirm")
        assert (confirm is not None) == (TIERS[name] is SafetyTier.STATEFUL), name
        if confirm is not None:
            assert (confirm.default, confirm.kind) == (False, inspect.Parameter.KEYWORD_ONLY), name


STATEFUL: dict[str, Callable[[Analyzer, Any], object]] = {
    "start_calibration": lambda analyzer, confirm: analyzer.start_calibration(1, confirm=confirm),
    "stop_calibration": lambda analyzer, confirm: analyzer.stop_calibration(confirm=confirm),
    "calibrate": lambda analyzer, confirm: analyzer.calibrate(1, timeout=5, confirm=confirm),
    "write_coil": lambda analyzer, confirm: client_of(analyzer).write_coil(
        START_COILS[1], True, soon(), confirm=confirm
    ),
}


def client_of(analyzer: Analyzer) -> ModbusClient:
    assert analyzer.client is not None
    return analyzer.client


@pytest.mark.parametrize("confirm", [False, None, 0, 1, "yes"])
@pytest.mark.parametrize("name", sorted(name for name, tier in TIERS.items() if tier is SafetyTier.STATEFUL))
def test_what_is_stateful_sends_nothing_without_a_confirmation(
    name: str, confirm: object, port: HookPort, analyzer: Analyzer
) -> None:
    before = len(port.writes)
    with pytest.raises(ServomexConfirmationRequiredError) as caught:
        STATEFUL[name](analyzer, confirm)
    assert len(port.writes) == before
    assert str(caught.value.argument) == "confirm=True"


def test_what_is_stateful_writes_with_a_confirmation(port: HookPort, analyzer: Analyzer) -> None:
    STATEFUL["write_coil"](analyzer, True)
    assert set(functions_of(port)) & WRITES == {5}


def use_manager(analyzer: Analyzer, use: Callable[[ServomexManager], object]) -> None:
    with ServomexManager() as manager:
        manager.add("a", analyzer)
        use(manager)


def recorded(analyzer: Analyzer) -> None:
    with record(analyzer, rate_hz=20, count=2) as rec:
        pipe(rec, InMemorySink())


def streamed(analyzer: Analyzer) -> None:
    with analyzer.stream(rate_hz=20) as session:
        session.get(5)


def subscribed(analyzer: Analyzer) -> None:
    got: list[object] = []
    with analyzer.subscribe(got.append, rate_hz=20):
        until = soon()
        while not got and time.monotonic() < until:
            time.sleep(0.01)
    assert got


READONLY: dict[str, Callable[[Analyzer], object]] = {
    "analyser_status": Analyzer.analyser_status,
    "availability": lambda analyzer: analyzer.availability(Capability.AUTOCAL),
    "calibration_status": Analyzer.calibration_status,
    "check_process": Analyzer.check_process,
    "fresh_for_s": Analyzer.fresh_for_s,
    "identify": Analyzer.identify,
    "loopback": lambda analyzer: analyzer.loopback(b"\x12\x34"),
    "poll": Analyzer.poll,
    "poll_samples": Analyzer.poll_samples,
    "read_all": Analyzer.read_all,
    "read_channel": lambda analyzer: analyzer.read_channel("I1"),
    "snapshot": Analyzer.snapshot,
    "status": lambda analyzer: analyzer.status("I1"),
    "stream": streamed,
    "subscribe": subscribed,
    "close": Analyzer.close,
    "add": lambda analyzer: use_manager(analyzer, lambda manager: manager.names),
    "get": lambda analyzer: use_manager(analyzer, lambda manager: manager.get("a")),
    "remove": lambda analyzer: use_manager(analyzer, lambda manager: manager.remove("a")),
    "execute_each": lambda analyzer: use_manager(
        analyzer, lambda manager: (manager.poll(), manager.poll_samples(), manager.execute_each(Analyzer.poll))
    ),
    "look_at_all_channels": lambda analyzer: client_of(analyzer).look_at_all_channels(),
    "read_analyser": lambda analyzer: client_of(analyzer).read_analyser(soon()),
    "read_coil": lambda analyzer: client_of(analyzer).read_coil(START_COILS[1], soon()),
    "read_coils": lambda analyzer: client_of(analyzer).read_coils(ALL_START_COILS, soon()),
    "read_frame": lambda analyzer: client_of(analyzer).read_frame(soon()),
    "read_status": lambda analyzer: client_of(analyzer).read_status(servomex.ChannelId.I1, soon()),
    "recognise": lambda analyzer: client_of(analyzer).recognise(soon()),
    "record": recorded,
    "pipe": recorded,
}


@pytest.mark.parametrize("name", sorted(READONLY))
def test_what_is_readonly_never_sends_a_request_that_writes(name: str, port: HookPort, analyzer: Analyzer) -> None:
    READONLY[name](analyzer)
    assert set(functions_of(port)) <= {1, 2, 4, 8}


def test_finding_an_analyser_never_sends_a_request_that_writes(mode: str) -> None:
    port = line_of(VirtualAnalyzer(mode=mode))
    with open_device(port, protocol="auto"):
        pass
    assert set(functions_of(port)) <= {1, 2, 4, 8}
    line = VirtualLine(VirtualAnalyzer(mode=mode))
    discover_port(line.url)
    heard = [bytes(data) for _, data in line.heard]
    assert heard
    assert {int(item[3:5], 16) if item.startswith(b":") else item[1] for item in heard} <= {1, 2, 4, 8}


def test_all_that_is_readonly_was_looked_at_on_the_line() -> None:
    looked_at = READONLY.keys() | {"open_device", "open_continuous", "discover_port", "find_devices"}
    assert looked_at == {name for name, tier in TIERS.items() if tier is SafetyTier.READONLY}


def test_in_continuous_mode_nothing_is_ever_sent() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.1))
    with open_device(line.url, protocol="continuous") as analyzer:
        for name in ("analyser_status", "identify", "poll", "poll_samples", "read_all", "read_channel", "status"):
            READONLY[name](analyzer)
    assert line.heard == []
