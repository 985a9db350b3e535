"""Modbus sweeps on a virtual line that takes its time, beside what the wire allows and what others need."""

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence

import attrs

from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.benchmarks.far_end import far_end
from tests.benchmarks.figures import Goal, Result, Skipped, figure, ratio
from tests.benchmarks.machine import Settings, Usage
from tests.benchmarks.peers import Client, ServomexClient, available_clients, missing_clients, opened
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


@attrs.frozen
class Subject:
    """A client on a line of its own, and what was measured of it: back to back, and each sweep by itself."""

    client: Client
    wire: VirtualLine
    together: Timed = attrs.field(factory=Timed)
    apart: Timed = attrs.field(factory=Timed)


def sweep(settings: Settings) -> Iterator[Result]:
    """Read all channels: back to back, each by itself, and from the last byte to the return."""
    for line in settings.choose(LINES, [line for line in LINES if line.baudrate == 19200]):
        kinds = available_clients()
        wires = [_paced(line) for _ in kinds]
        with opened(kinds, [wire.url for wire in wires], line) as clients:
            subjects = [Subject(client, wire) for client, wire in zip(clients, wires, strict=True)]
            for number in range(settings.choose(7, 1)):
                settings.say(f"{line}, round {number + 1}")
                for subject in subjects:
                    _measure(subject, line)
            _check_reads(wires[0], line, line.cheapest())
        yield from _beside_the_bound(line, subjects)
        for name in missing_clients():
            yield Skipped(f"{line}, {name}", "it is not installed")
        if line.baudrate == BAUDRATES[0]:
            yield from _saved(line, settings.choose(5, 1))


def _measure(subject: Subject, line: Line) -> None:
    """Sweep three times: one that is not counted, one right after it, and one after a pause."""
    _check(subject.client, subject.client.sweep())
    for timed, pause_s in ((subject.together, 0.0), (subject.apart, PAUSE_S)):
        _time(timed, subject.client, subject.wire, line, pause_s)


def _beside_the_bound(line: Line, subjects: Sequence[Subject]) -> Iterator[Result]:
    ours, *others = subjects
    for subject in subjects:
        reads = line.cheapest() if subject is ours else ALL_AT_ONCE
        goal = AT_BOUND if subject is ours else None
        name = subject.client.name
        together, apart = (1000 * line.seconds(reads, after_silence=silent) for silent in (False, True))
        yield figure(f"{line}, back to back, {name}", "ms", subject.together.sweeps, bound=together, goal=goal)
        yield figure(f"{line}, each by itself, {name}", "ms", subject.apart.sweeps, bound=apart, goal=goal)
        goal = RETURN_MS if subject is ours else None
        yield figure(f"{line}, last byte to return, {name}", "ms", _returns(subject), goal=goal)
    for other in others:
        names = f"{ours.client.name} / {other.client.name}"
        yield ratio(f"{line}, back to back, {names}", ours.together.sweeps, other.together.sweeps)
        yield ratio(f"{line}, last byte to return, {names}", _returns(ours), _returns(other))


def _returns(subject: Subject) -> list[float]:
    return subject.together.returns + subject.apart.returns


def _paced(line: Line, channels: str | None = None) -> VirtualLine:
    analyser = VirtualAnalyzer() if channels is None else analyser_with(channels)
    analyser.mode = type(analyser.mode)(line.protocol)
    return VirtualLine(analyser, baudrate=line.baudrate, pace=True, turnaround=TURNAROUND_S)


def _time(timed: Timed, client: Client, wire: VirtualLine, line: Line, pause_s: float) -> None:
    """Sweep once after a pause, and note how long it took."""
    time.sleep(pause_s)
    begun = time.monotonic()
    _check(client, client.sweep())
    ended = time.monotonic()
    timed.sweeps.append(1000 * (ended - begun))
    timed.returns.append(1000 * (ended - _last_byte(wire, line)))


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
            _check(client, client.sweep())
            timed = Timed()
            for _ in range(count):
                _time(timed, client, wire, line, 0.0)
            medians.append(statistics.median(timed.sweeps))
    allowed = 100 * (1 - line.seconds(line.cheapest()) / line.seconds(ALL_AT_ONCE))
    shorter = 100 * (1 - medians[0] / medians[1])
    yield figure(f"{line}, servomex, shorter than one read of all 70", "%", [shorter], goal=SHORTER_PERCENT)
    yield figure(f"{line}, the wire alone, shorter than one read of all 70", "%", [allowed])


def cost(settings: Settings) -> Iterator[Result]:
    """CPU that a sweep takes, in RTU and in ASCII; the analysers are in another process."""
    count = settings.choose(20, 1)
    kinds = available_clients()
    for line in (Line(19200, ascii=False), Line(19200, ascii=True)):
        ways: dict[str, dict[str, object]] = {
            "byte by byte": {"pace": True, "baudrate": line.baudrate},
            "in one piece": {"late": TURNAROUND_S + GAP_S},
            "at once": {},
        }
        for way, options in ways.items():
            case = f"{'ASCII' if line.ascii else 'RTU'}, replies come {way}"
            settings.say(case)
            found = _computed(kinds, line, count, options)
            for kind, values in zip(kinds, found, strict=True):
                yield figure(f"{case}, {kind.name}", "ms", values)
            for kind, values in zip(kinds[1:], found[1:], strict=True):
                yield ratio(f"{case}, servomex / {kind.name}", found[0], values)
    for name in missing_clients():
        yield Skipped(name, "it is not installed")


def _computed(
    kinds: Sequence[type[Client]], line: Line, count: int, options: dict[str, object]
) -> list[list[float]]:
    """Sweep with each client in turn; one sweep of each, before all others, is not counted."""
    found: list[list[float]] = [[] for _ in kinds]
    with (
        far_end("serve", ports=len(kinds), mode=line.protocol, **options) as served,
        opened(kinds, served.ports, line) as clients,
    ):
        for number in range(-1, count):
            for client, values in zip(clients, found, strict=True):
                usage = Usage()
                _check(client, client.sweep())
                if number >= 0:
                    values.append(1000 * usage.cpu_s)
    return found
