"""The users of the driver in an episode: threads that read in every way there is, and check what they get."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from servomex import (
    Analyzer,
    Frame,
    Recorder,
    Sample,
    ServomexConnectionError,
    ServomexError,
    ServomexManager,
    ServomexTimeoutError,
    ServomexValidationError,
    load,
)
from servomex.enums import ChannelId, ProtocolKind
from servomex.sinks import InMemorySink
from tests.faults.checker import Checker, Given, freshness
from tests.faults.tally import Tally
from tests.faults.truth import ORDER

STREAM_HZ = 6.0
PAUSE_S = 0.02
LOST_S = 0.1
"""Until a lost port is back each call fails at once."""
JOIN_S = 30.0

Work = Callable[[Random], None]
_numbers = itertools.count()


class Users:
    """Threads that read until they are stopped.

    Args:
        tally: Where results are counted.
        seed: Makes what they do repeatable.
        works: What each of them does.
        blame: Is told of what must not happen.
    """

    def __init__(self, tally: Tally, seed: str, works: Iterable[Work], blame: Checker) -> None:
        self._tally = tally
        self._seed = seed
        self._blame = blame
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"faults-{work.__name__}", daemon=True)
            for work in works
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(JOIN_S)
            if thread.is_alive():
                self._tally.report("hang", f"{thread.name} did not end: {self._seed}")

    def _guarded(self, work: Work) -> None:
        try:
            work(Random(f"{self._seed}:{work.__name__}"))
        except ServomexError as error:
            self._tally.note_error(error)
        except Exception as error:
            self._blame.blame("crash", work.__name__, repr(error), time.monotonic() - 2.0, time.monotonic())


class Readers(Users):
    """Threads that read one analyser, in every way there is.

    Args:
        analyzer: The analyser.
        checker: Knows the truth.
        tally: Where results are counted.
        seed: Makes what they do repeatable.
        folder: Where recordings go.
        users: What the threads do, see ``Plan.users``.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        checker: Checker,
        tally: Tally,
        seed: str,
        folder: Path,
        users: tuple[str, ...],
    ) -> None:
        self._analyzer = analyzer
        self._checker = checker
        self._folder = folder
        super().__init__(tally, seed, [getattr(self, f"_{user}") for user in users], checker)

    def _call(self, do: Callable[[], None], timeout: float | None) -> None:
        """Make one call; an error of the driver is its right, as long as it comes in time."""
        begun, usual, outcome, pause_s = time.monotonic(), self._analyzer.timeout_s, "a value", PAUSE_S
        try:
            do()
        except ServomexError as error:
            outcome = repr(error)
            pause_s = LOST_S if isinstance(error, ServomexConnectionError) else PAUSE_S
            self._tally.note_error(error)
            if not isinstance(error, ServomexValidationError):
                self._checker.failed(begun)
        allowed = max(usual, self._analyzer.timeout_s) if timeout is None else timeout
        what = f"{outcome}, allowed {allowed:.2f} s, {self._seed}"
        self._tally.note_lateness(time.monotonic() - begun - allowed, what)
        self._judge_return(begun, allowed, outcome)
        self._stopping.wait(pause_s)

    def _judge_return(self, begun: float, allowed_s: float, outcome: str) -> None:
        """Judge when a call returned."""

    def _frames(self, dice: Random) -> None:
        ways = (self._poll, self._poll, self._poll_fresh, self._poll_young, self._read_all, self._samples)
        while not self._stopping.is_set():
            way, timeout = dice.choice(ways), dice.choice((None, None, 0.25, 1.0, 3.0))
            self._call(lambda way=way, timeout=timeout: way(timeout), timeout)  # type: ignore[misc]

    def _poll(self, timeout: float | None) -> None:
        self._fresh("poll", lambda: Given.frame(self._analyzer.poll(timeout=timeout)))

    def _read_all(self, timeout: float | None) -> None:
        begun, before = time.monotonic(), self._fresh_s
        readings = tuple(self._analyzer.read_all(timeout=timeout).values())
        if not readings:
            self._checker.nothing("read_all", begun)
            return
        given = Given(readings, None, readings[0].monotonic_ns / 1e9, None, readings[0].received_at)
        self._checker.good("read_all", given, begun, limit_s=self._limit(before))

    def _samples(self, timeout: float | None) -> None:
        begun, before = time.monotonic(), self._fresh_s
        if samples := self._analyzer.poll_samples(timeout=timeout):
            self._checker.good("poll_samples", Given.samples(samples), begun, limit_s=self._limit(before))
        else:
            self._checker.nothing("poll_samples", begun)

    def _poll_fresh(self, timeout: float | None) -> None:
        begun = time.monotonic()
        frame = self._analyzer.poll(wait_fresh=True, timeout=timeout)
        self._checker.good("poll(wait_fresh)", Given.frame(frame), begun, limit_s=0.0)

    def _poll_young(self, timeout: float | None) -> None:
        begun, limit_s = time.monotonic(), 0.2
        frame = self._analyzer.poll(max_age=limit_s, timeout=timeout)
        self._checker.good("poll(max_age)", Given.frame(frame), begun, limit_s=limit_s)

    def _fresh(self, where: str, read: Callable[[], Given]) -> None:
        begun, before = time.monotonic(), self._fresh_s
        given = read()
        self._checker.good(where, given, begun, limit_s=self._limit(before))

    @property
    def _fresh_s(self) -> float:
        reader = self._analyzer.reader
        return reader.fresh_s if reader else 0.0

    def _limit(self, before: float) -> float:
        return freshness(self._checker.truth, (before, self._fresh_s))

    def _channels(self, dice: Random) -> None:
        ways = (self._channel, self._channel, self._channel, self._status, self._whole, self._identify, self._loop)
        while not self._stopping.is_set():
            channel = dice.choice([*self._checker.truth.channels])
            way, timeout = dice.choice(ways), dice.choice((None, None, 0.2, 1.0))
            self._call(lambda way=way, channel=channel, t=timeout: way(channel, t), timeout)  # type: ignore[misc]

    def _single(self, dice: Random) -> None:
        """Read one channel after the other, with little time for each."""
        while not self._stopping.is_set():
            channel, timeout = dice.choice([*self._checker.truth.channels]), dice.choice((0.1, 0.2, 0.3))
            way = dice.choice((self._channel, self._channel, self._status))
            self._call(lambda way=way, channel=channel, t=timeout: way(channel, t), timeout)  # type: ignore[misc]

    def _channel(self, channel: ChannelId, timeout: float | None) -> None:
        begun, before = time.monotonic(), self._fresh_s
        reading = self._analyzer.read_channel(channel, timeout=timeout)
        self._checker.good("read_channel", Given.reading(reading), begun, limit_s=self._limit(before))

    def _status(self, channel: ChannelId, timeout: float | None) -> None:
        begun = time.monotonic()
        status = self._analyzer.status(channel, timeout=timeout)
        if self._analyzer.client:  # in continuous mode it is part of poll()
            self._checker.state("status", channel, status, begun)

    def _whole(self, _channel: ChannelId, timeout: float | None) -> None:
        begun = time.monotonic()
        status = self._analyzer.analyser_status(timeout=timeout)
        if self._analyzer.client:
            self._checker.analyser("analyser_status", status, begun)

    def _identify(self, _channel: ChannelId, timeout: float | None) -> None:
        self._analyzer.identify(timeout=timeout)
        self._checker.good("snapshot", Given.frame(self._analyzer.snapshot()), 0.0)

    def _loop(self, _channel: ChannelId, timeout: float | None) -> None:
        if self._analyzer.client:
            payload = bytes([len(self._seed) % 256, int(time.monotonic() * 100) % 256])
            if self._analyzer.loopback(payload, timeout=timeout) != payload:
                self._checker.blame("wrong", "loopback", payload, time.monotonic() - 2.0, time.monotonic())

    def _snapshots(self, _dice: Random) -> None:
        last = 0
        while not self._stopping.wait(0.05):
            try:
                frame = self._analyzer.snapshot()
            except ServomexTimeoutError:
                continue
            if frame.monotonic_ns != last:
                last = frame.monotonic_ns
                self._checker.good("snapshot", Given.frame(frame), 0.0)

    def _streams(self, dice: Random) -> None:
        """Take a stream sample by sample, or a subscription frame by frame."""
        rate_hz = None if self._analyzer.reader else STREAM_HZ
        while not self._stopping.is_set():
            if dice.random() < 0.5:
                with self._analyzer.subscribe(Ordered(self._checker, "subscription").take, rate_hz=rate_hz):
                    self._stopping.wait(dice.uniform(1.0, 4.0))
            else:
                self._follow(time.monotonic() + dice.uniform(1.0, 4.0), rate_hz)

    def _follow(self, until: float, rate_hz: float | None) -> None:
        order = Ordered(self._checker, "stream")
        with self._analyzer.stream(rate_hz=rate_hz) as session:
            group: list[Sample] = []
            while time.monotonic() < until and not self._stopping.is_set():
                try:
                    sample = session.get(0.2)
                except ServomexTimeoutError:
                    continue
                if not belongs(sample, group):
                    order.samples(group)
                    group = []
                group.append(sample)

    def _records(self, dice: Random) -> None:
        """Record to memory and to a file, and read the file back."""
        suffix = dice.choice((".csv", ".jsonl", ".sqlite"))
        while not self._stopping.is_set():
            path = self._folder / f"recording-{next(_numbers)}{suffix}"
            memory = InMemorySink()
            rate_hz = dice.choice((None, STREAM_HZ)) if self._analyzer.reader else STREAM_HZ
            recorder = Recorder(self._analyzer, [memory, path], rate_hz=rate_hz)
            recorder.start()
            self._stopping.wait(dice.uniform(2.0, 5.0))
            recorder.close()
            check_recording(memory.samples, path, Ordered(self._checker, "record"), self._checker)


class Ordered:
    """Checks what comes one after the other: nothing may come twice, or after something newer.

    Broadcasts that come out of the port together have the same time of arrival.
    """

    def __init__(self, checker: Checker, where: str) -> None:
        self._checker = checker
        self._where = where
        self._begun = time.monotonic()
        self._newest = 0.0

    def take(self, item: Frame | ServomexError) -> None:
        """Take a frame of a subscription."""
        if isinstance(item, Frame):
            self._check(Given.frame(item))

    def samples(self, group: list[Sample]) -> None:
        """Take the samples of one reading."""
        if group[0].reading is not None:
            self._check(Given.samples(group))

    def _check(self, given: Given) -> None:
        continuous = given.readings[0].protocol is ProtocolKind.CONTINUOUS_ASCII
        if given.stamp < self._newest or (given.stamp == self._newest and not continuous):
            now = time.monotonic()
            self._checker.blame("stale", f"{self._where}, twice", given, self._begun, now)
        self._newest = given.stamp
        self._checker.good(self._where, given, 0.0)


def belongs(sample: Sample, group: list[Sample]) -> bool:
    """Whether a sample is of the same reading as those before it: the channels of one are in their order."""
    if not group:
        return True
    last = group[-1]
    if (last.device, last.monotonic_ns) != (sample.device, sample.monotonic_ns) or not (
        last.channel and sample.channel
    ):
        return False
    return ORDER.index(ChannelId(last.channel)) < ORDER.index(ChannelId(sample.channel))


def grouped(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Divide samples into those of one reading each."""
    groups: list[list[Sample]] = []
    for sample in samples:
        if groups and belongs(sample, groups[-1]):
            groups[-1].append(sample)
        else:
            groups.append([sample])
    return groups


def check_recording(samples: list[Sample], path: Path, order: Ordered, checker: Checker) -> None:
    """Check all readings of a recording, and that its file holds the same."""
    for group in grouped(samples):
        order.samples(group)
    if samples and list(load(path)) != samples:
        checker.blame("wrong", f"the file {path.suffix}", "other samples than were written", 0.0, time.monotonic())


class ManagerReaders(Users):
    """Threads that read several analysers by a manager.

    Args:
        manager: The manager; analysers are named by their place.
        checkers: Know the truth.
        tally: Where results are counted.
        seed: Makes what they do repeatable.
    """

    def __init__(self, manager: ServomexManager, checkers: list[Checker], tally: Tally, seed: str) -> None:
        self._manager = manager
        self._checkers = {f"a{place}": checker for place, checker in enumerate(checkers)}
        super().__init__(tally, seed, (self._poll, self._one, self._records), checkers[0])

    def _poll(self, dice: Random) -> None:
        while not self._stopping.wait(PAUSE_S):
            begun = time.monotonic()
            for name, result in self._manager.poll(timeout=dice.choice((None, 0.3, 1.0))).items():
                if result.value is not None:
                    self._checkers[name].good("manager.poll", Given.frame(result.value), begun)
                elif result.error is not None:
                    self._tally.note_error(result.error)
                    self._checkers[name].failed(begun)

    def _one(self, dice: Random) -> None:
        while not self._stopping.wait(PAUSE_S):
            name = dice.choice([*self._checkers])
            checker = self._checkers[name]
            channel, begun = dice.choice([*checker.truth.channels]), time.monotonic()
            try:
                reading = self._manager.get(name).read_channel(channel)
            except ServomexError as error:
                self._tally.note_error(error)
            else:
                checker.good("read_channel", Given.reading(reading), begun)

    def _records(self, _dice: Random) -> None:
        memory = InMemorySink()
        recorder = Recorder(self._manager, [memory], rate_hz=2.0)
        recorder.start()
        self._stopping.wait()
        recorder.close()
        orders = {name: Ordered(checker, "record") for name, checker in self._checkers.items()}
        for group in grouped(memory.samples):
            orders[group[0].device].samples(group)
