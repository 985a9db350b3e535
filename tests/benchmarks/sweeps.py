"""Modbus sweeps on a virtual line that takes its time, beside what the wire allows and what others need."""

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence

import attrs

from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.benchmarks.far_end import far_end
from tests.benchmarks.figures import Goal, Result, Skipped, figure
from tests.benchmarks.machine import Settings, Usage
from tests.benchmarks.peers import CLIENTS, Client, ServomexClient
from tests.benchmarks.samples import CHANNELS, analyser_with
from tests.benchmarks.wire import ALL_AT_ONCE, GAP_S, TURNAROUND_S, Line, Read

BAUDRATES = (2400, 9600, 19200)
AT_BOUND = Goal(2.0, over_bound=True)
SHORTER_PERCENT = Goal(15.0, least=True)
RETURN_MS = Goal(1.0)
PAUSE_S = 0.2
OXYGEN = 20.376
LINES = [Line(baudrate, ascii_framing) for ascii_framing in (False, True) for baudrate in BAUDRATES]


@attrs.frozen
class Timed:
    """How long sweeps took, in milliseconds, and how long after the last byte each call returned."""

    sweeps: list[float] = attrs.field(factory=list)
    returns: list[float] = attrs.field(factory=list)


def sweep(settings: Settings) -> Iterator[Result]:
    """Read all channels: back to back, each by itself, and from the last byte to the return."""
    for line in settings.choose(LINES, [line for line in LINES if line.baudrate == 19200]):
        for kind in CLIENTS:
            settings.say(f"{line}, {kind.name}")
            try:
                yield from _beside_the_bound(kind, line, settings.choose(7, 1))
            except ImportError as missing:
                yield Skipped(f"{line}, {kind.name}", f"{missing.name} is not installed")
        if line.baudrate == BAUDRATES[0]:
            yield from _saved(line, settings.choose(5, 1))


def _beside_the_bound(kind: type[Client], line: Line, count: int) -> Iterator[Result]:
    wire = _paced(line)
    ours = kind is ServomexClient
    reads = line.cheapest() if ours else ALL_AT_ONCE
    with contextlib.closing(kind(wire.url, line)) as client:
        together = _timed(client, wire, line, count, 0.0)
        apart = _timed(client, wire, line, count, PAUSE_S)
        if ours:
            _check_reads(wire, line, reads)
    bounds = [1000 * line.seconds(reads, after_silence=silent) for silent in (False, True)]
    goal = AT_BOUND if ours else None
    name = f"{line}, {kind.name}"
    yield figure(f"{name}, back to back", "ms", together.sweeps, bound=bounds[0], goal=goal)
    yield figure(f"{name}, each by itself", "ms", apart.sweeps, bound=bounds[1], goal=goal)
    values = together.returns + apart.returns
    yield figure(f"{name}, last byte to return", "ms", values, goal=RETURN_MS if ours else None)


def _paced(line: Line, channels: str | None = None) -> VirtualLine:
    analyser = VirtualAnalyzer() if channels is None else analyser_with(channels)
    analyser.mode = type(analyser.mode)(line.protocol)
    return VirtualLine(analyser, baudrate=line.baudrate, pace=True, turnaround=TURNAROUND_S)


def _timed(client: Client, wire: VirtualLine, line: Line, count: int, pause_s: float) -> Timed:
    """Sweep so many times, with a pause before each; two sweeps before them are not counted."""
    timed = Timed()
    for number in range(-2, count):
        time.sleep(pause_s)
        begun = time.monotonic()
        _check(client, client.sweep())
        ended = time.monotonic()
        if number >= 0:
            timed.sweeps.append(1000 * (ended - begun))
            timed.returns.append(1000 * (ended - _last_byte(wire, line)))
    return timed


def _check(client: Client, value: float | None) -> None:
    if value != OXYGEN:
        raise RuntimeError(f"{client.name} read {value} instead of {OXYGEN}")


def _last_byte(wire: VirtualLine, line: Line) -> float:
    """When the last byte of the last reply came, on the monotonic clock."""
    heard_at, request = wire.heard[-1]
    return heard_at + TURNAROUND_S + line.reply_size(line.read_of(request)) * line.char_s


def _check_reads(wire: VirtualLine, line: Line, reads: Sequence[Read]) -> None:
    """Make sure that the bound is that of the requests that were sent."""
    sent = [line.read_of(request) for _, request in wire.heard[-len(reads) :]]
    if sorted(sent) != sorted(reads):
        raise RuntimeError(f"{line}: the cheapest reads are {sorted(reads)}, but {sorted(sent)} were sent")


def _saved(line: Line, count: int) -> Iterator[Result]:
    """Compare the sweep of five channels with that of ten, which is one read of all 70 registers."""
    medians = []
    for channels in (CHANNELS[5], CHANNELS[10]):
        wire = _paced(line, channels)
        with contextlib.closing(ServomexClient(wire.url, line)) as client:
            medians.append(statistics.median(_timed(client, wire, line, count, 0.0).sweeps))
    allowed = 100 * (1 - line.seconds(line.cheapest()) / line.seconds(ALL_AT_ONCE))
    shorter = 100 * (1 - medians[0] / medians[1])
    yield figure(f"{line}, servomex, shorter than one read of all 70", "%", [shorter], goal=SHORTER_PERCENT)
    yield figure(f"{line}, the wire alone, shorter than one read of all 70", "%", [allowed])


def cost(settings: Settings) -> Iterator[Result]:
    """CPU that a sweep takes; the analyser is in another process."""
    line = Line(19200, ascii=False)
    count = settings.choose(20, 2)
    ways: dict[str, dict[str, object]] = {
        "byte by byte": {"pace": True, "baudrate": line.baudrate},
        "in one piece": {"late": TURNAROUND_S + GAP_S},
    }
    for way, options in ways.items():
        for kind in CLIENTS:
            settings.say(f"{way}, {kind.name}")
            try:
                yield figure(f"{kind.name}, replies come {way}", "ms", _computed(kind, line, count, options))
            except ImportError as missing:
                yield Skipped(f"{kind.name}, replies come {way}", f"{missing.name} is not installed")


def _computed(kind: type[Client], line: Line, count: int, options: dict[str, object]) -> list[float]:
    values = []
    with far_end("serve", **options) as served, contextlib.closing(kind(served.ports[0], line)) as client:
        client.sweep()
        for _ in range(count):
            usage = Usage()
            _check(client, client.sweep())
            values.append(1000 * usage.cpu_s)
    return values
