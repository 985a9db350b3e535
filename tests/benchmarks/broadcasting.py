"""Broadcasts on a pseudo-terminal whose other end is in another process."""

import itertools
import threading
import time
from collections.abc import Iterator

import serial

from servomex import Frame, ServomexError, open_continuous
from tests.benchmarks.far_end import FarEnd, far_end
from tests.benchmarks.figures import Goal, Result, figure, tail
from tests.benchmarks.machine import Settings, Usage
from tests.benchmarks.peers import split_and_build

BAUDRATE = 19200
FRAME_SIZE = 206
FRAME_S = FRAME_SIZE * 10 / BAUDRATE
CALLBACK_MS = Goal(2.0)
IDLE_PERCENT = Goal(0.3)
BUFFER = 100_000
LOOK_S = 0.5
WAIT_S = 60.0
WAKES_EVERY_S = 0.05


class Arrivals:
    """Notes when a callback was given which frame."""

    def __init__(self, expected: int) -> None:
        self.at_ns: dict[int, int] = {}
        self.complete = threading.Event()
        self._expected = expected
        self._count = itertools.count(1)

    def __call__(self, item: Frame | ServomexError) -> None:
        now_ns = time.monotonic_ns()
        if isinstance(item, ServomexError):
            raise item
        self.at_ns[next(self._count)] = now_ns
        if len(self.at_ns) >= self._expected:
            self.complete.set()


def latency(settings: Settings) -> Iterator[Result]:
    """From the last byte on the wire to the callback, at the pace of 19200 baud."""
    count = settings.choose(300, 5)
    settings.say(f"{count} broadcasts")
    with far_end("send", count=count, baudrate=BAUDRATE, period=FRAME_S + 0.01) as sender:
        arrivals = _received(sender, count)
        sent_ns = sender.sent_ns()
    late = [(arrivals.at_ns[number] - at_ns) / 1e6 for number, at_ns in enumerate(sent_ns, 1)]
    yield from tail("last byte to callback", "ms", late, goal=CALLBACK_MS)
    with far_end("send", count=count, baudrate=BAUDRATE, period=FRAME_S + 0.01) as sender:
        at_ns = _read_plainly(sender, count)
        sent_ns = sender.sent_ns()
    late = [(arrived - sent) / 1e6 for arrived, sent in zip(at_ns, sent_ns, strict=True)]
    yield from tail("last byte to readline and parser", "ms", late)


def _received(sender: FarEnd, count: int) -> Arrivals:
    """Let a subscription take that many broadcasts.

    Raises:
        RuntimeError: Some are missing.
    """
    arrivals = Arrivals(count)
    with (
        open_continuous(sender.ports[0], identify=False) as analyzer,
        analyzer.subscribe(arrivals, buffer_size=BUFFER) as subscription,
    ):
        sender.go()
        until, complete, lost = time.monotonic() + WAIT_S + count * FRAME_S, False, 0
        while not (complete or lost) and time.monotonic() < until:
            complete = arrivals.complete.wait(LOOK_S)
            lost = subscription.dropped + analyzer.dropped_frames
    if not complete or lost:
        raise RuntimeError(
            f"{len(arrivals.at_ns)} of {count} broadcasts reached the callback, {lost} were dropped"
        )
    return arrivals


def _read_plainly(sender: FarEnd, count: int) -> list[int]:
    """Do the same with pyserial's ``readline`` and the parser that splits."""
    at_ns = []
    with serial.Serial(sender.ports[0], BAUDRATE, timeout=WAIT_S) as port:
        sender.go()
        for _ in range(count):
            split_and_build(port.readline())
            at_ns.append(time.monotonic_ns())
    return at_ns


def throughput(settings: Settings) -> Iterator[Result]:
    """Broadcasts per second that reach a callback without loss, when they come as fast as they are taken."""
    count, rounds = settings.choose((20_000, 3), (500, 1))
    ours, others = [], []
    for number in range(rounds):
        settings.say(f"round {number + 1} of {rounds}")
        with far_end("send", count=count) as sender:
            arrivals = _received(sender, count)
            sender.sent_ns()
            ours.append(_rate(arrivals.at_ns[1], arrivals.at_ns[count], count))
        fewer = count // 10  # it reads byte by byte
        with far_end("send", count=fewer) as sender:
            at_ns = _read_plainly(sender, fewer)
            sender.sent_ns()
            others.append(_rate(at_ns[0], at_ns[-1], fewer))
    yield figure("servomex, callback, no loss", "frames/s", ours)
    yield figure("readline and parser, no loss", "frames/s", others)
    for baudrate in (19200, 115200):
        yield figure(f"what a line of {baudrate} baud can carry", "frames/s", [baudrate / 10 / FRAME_SIZE])


def _rate(first_ns: int, last_ns: int, count: int) -> float:
    return (count - 1) / ((last_ns - first_ns) / 1e9)


def idle(settings: Settings) -> Iterator[Result]:
    """CPU of an analyser that is open in continuous mode, and that nobody asks."""
    seconds = settings.choose(60, 1) if settings.idle_s is None else settings.idle_s
    for name, period in (("a broadcast every 2 s", 2.0), ("nothing comes", 3600.0)):
        settings.say(f"{name}, {seconds:g} s")
        with far_end("send", baudrate=BAUDRATE, period=period) as sender:
            with open_continuous(sender.ports[0], identify=False):
                if period < 3600:
                    sender.go()
                time.sleep(0.2)
                usage = Usage()
                time.sleep(seconds)
                percent = usage.percent
            sender.go()
        yield figure(f"servomex, {name}", "% of a core", [percent], goal=IDLE_PERCENT)
    settings.say(f"pyserial alone, {seconds:g} s")
    yield figure("pyserial alone, nothing comes", "% of a core", [_waiting_percent(seconds)])


def _waiting_percent(seconds: float) -> float:
    """What it costs to wait for a byte with pyserial, and to wake as often as the driver does."""
    with (
        far_end("send", period=3600.0) as sender,
        serial.Serial(sender.ports[0], BAUDRATE, timeout=WAKES_EVERY_S) as port,
    ):
        usage = Usage()
        while usage.wall_s < seconds:
            port.read(1)
        percent = usage.percent
        sender.go()
    return percent
