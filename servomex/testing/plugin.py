"""Fixtures of pytest for programs that use this package: virtual analysers, their lines, and scripted ports.

Load it by name, with ``pytest_plugins = ["servomex.testing.plugin"]`` in the outermost ``conftest.py`` or with
``-p servomex.testing.plugin``. Anything that a test leaves open is an error of that test.
"""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

import pytest
import serial

from servomex.analyzer.analyzer import Analyzer
from servomex.analyzer.opening import open_device
from servomex.enums import ProtocolKind
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.runtime.clock import time
from servomex.simulator.channels import VirtualChannel
from servomex.simulator.device import VirtualAnalyzer
from servomex.simulator.faults import Faults
from servomex.simulator.line import VirtualLine
from servomex.testing.scripted import ScriptedPort

P = ParamSpec("P")
T = TypeVar("T")

PERIOD_S = 0.1
"""Seconds between broadcasts, unless the marker says otherwise: tests should not wait for a real panel's 2 s."""
QUICK_PAUSES = Pauses(0.02, 0.1)
ENDING_S = 2.0
"""How long threads and ports may take to close at the end of a test."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "virtual_analyser(channels, mode, address, period, clock, faults): what the fixture virtual_analyser "
        "is made of; the arguments of servomex.simulator.VirtualAnalyzer, by name",
    )


@pytest.fixture(params=[kind for kind in ProtocolKind if kind is not ProtocolKind.AUTO], ids=str)
def each_mode(request: pytest.FixtureRequest) -> ProtocolKind:
    """Run the test once in each of the three modes: the virtual analyser is in this one."""
    mode: ProtocolKind = request.param
    return mode


@pytest.fixture
def virtual_analyser(request: pytest.FixtureRequest) -> VirtualAnalyzer:
    """A virtual analyser: the bench 4100D in Modbus RTU mode, or as set by the marker of the same name."""
    marker = request.node.get_closest_marker("virtual_analyser")
    wanted = dict(marker.kwargs) if marker else {}
    if marker and marker.args:
        raise pytest.UsageError("the marker virtual_analyser takes its arguments by name, as in channels=[...]")
    if "each_mode" in request.fixturenames:
        if "mode" in wanted:
            raise pytest.UsageError("each_mode chooses the mode: leave mode= out of the marker virtual_analyser")
        wanted["mode"] = request.getfixturevalue("each_mode")
    return _made(**wanted)


def _made(
    *,
    channels: Iterable[VirtualChannel] | None = None,
    faults: Faults | None = None,
    period: float = PERIOD_S,
    **others: Any,
) -> VirtualAnalyzer:
    """Build an analyser with its own channels and faults: the marker is reused by the next test."""
    own_channels = None if channels is None else [copy.copy(channel) for channel in channels]
    return VirtualAnalyzer(own_channels, faults=copy.deepcopy(faults), period=period, **others)


@pytest.fixture
def virtual_line_factory() -> Iterator[Callable[..., VirtualLine]]:
    """Build lines; takes analysers and options as ``VirtualLine`` does.

    When the test ends, a line that is still open or a thread of the driver that is still running is an error.
    """
    lines: list[VirtualLine] = []
    before = set(threading.enumerate())
    yield _kept(VirtualLine, lines)
    deadline = time.monotonic() + ENDING_S
    while left := [*_open_lines(lines), *_running_threads(before)]:
        if time.monotonic() >= deadline:
            pytest.fail(f"left open: {', '.join(left)}. Close what was opened, or use 'with'", pytrace=False)
        threading.Event().wait(0.02)


@pytest.fixture
def virtual_line(
    virtual_analyser: VirtualAnalyzer, virtual_line_factory: Callable[..., VirtualLine]
) -> VirtualLine:
    """The line of the virtual analyser: open its ``url``, ``unplug()`` it and ``plug()`` it in again."""
    return virtual_line_factory(virtual_analyser)


@pytest.fixture
def opened_analyzer(virtual_analyser: VirtualAnalyzer, virtual_line: VirtualLine) -> Iterator[Analyzer]:
    """The virtual analyser, opened in its mode and closed after the test; without the gap that real lines need."""
    with open_device(
        virtual_line.url, protocol=virtual_analyser.mode, address=virtual_analyser.address, gap=0.0
    ) as analyzer:
        yield analyzer


@pytest.fixture
def scripted_port_factory() -> Iterator[Callable[..., ScriptedPort]]:
    """Make scripted ports, with the arguments of ``ScriptedPort``; each is closed and checked after the test."""
    ports: list[ScriptedPort] = []
    yield _kept(ScriptedPort, ports)
    for port in ports:
        port.close()
    for port in ports:
        port.check()


@pytest.fixture
def quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a lost port again after 0.02 s to 0.1 s, not after 0.5 s to 30 s."""
    monkeypatch.setattr(SerialLink, "pauses", QUICK_PAUSES)


def _kept(make: Callable[P, T], kept: list[T]) -> Callable[P, T]:
    """Wrap ``make`` so that every object it makes is kept."""

    def keeping(*args: P.args, **kwargs: P.kwargs) -> T:
        kept.append(make(*args, **kwargs))
        return kept[-1]

    return keeping


def _open_lines(lines: list[VirtualLine]) -> Iterator[str]:
    """Name the lines that are open: they cannot be opened again."""
    for line in lines:
        line.plug()
        try:
            line.close(line.open(line.baudrate))
        except serial.SerialException:
            yield f"{line.url} is open"


def _running_threads(before: set[threading.Thread]) -> Iterator[str]:
    """Name the threads of the driver that are running and were not before."""
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith("servomex-"):
            yield f"the thread {thread.name!r} runs"
