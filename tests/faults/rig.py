"""The analyser, the line, the port and the others of one scene, and what happens to them."""

import contextlib
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Self

from servomex.enums import ChannelId
from servomex.models.reading import ChannelStatus
from servomex.simulator import PtyServer
from tests.faults.crowd import CrowdedLine, request
from tests.faults.hub import Hub
from tests.faults.lively import LivelyTruth
from tests.faults.scenes import Scene
from tests.faults.strict import StrictChecker
from tests.faults.tally import Tally

ADDRESS = 3
ZEROS_S = 0.05
ALARM = ChannelStatus(alarms=(True, False, True, False))
OTHER_CLOCK_S = 3600.0
FLOOD_S = 0.01


class Rig:
    """Sets up a scene, and lets happen what it says, when it says. A context manager.

    Attributes:
        truth: The analyser that is read.
        line: The line that it is on.
        checker: Knows the truth.
        url: What to open.
        stop_process: Stops and continues the process of the driver for some seconds; set by whoever runs one.
    """

    def __init__(self, scene: Scene, tally: Tally) -> None:
        self.scene = scene
        self.tally = tally
        channels = [*scene.channels]
        self.truth = LivelyTruth(1, channels, scene.mode, ADDRESS, scene.period)
        truths = [self.truth]
        if scene.kind == "two broadcasters":
            truths.append(LivelyTruth(2, channels, scene.mode, ADDRESS, 0.0))
        dice = Random(f"{scene.seed}:{scene.number}:line")
        self.line = CrowdedLine(*truths, dice=dice, between=scene.between)
        self.line.set_mix(scene.mix)
        self._truths = truths
        checkers = [StrictChecker(truth, self.line, tally, scene.number, self.scenery) for truth in truths]
        self.checker = checkers[0]
        self.checker.crowded = bool(scene.master_s or scene.clients > 1)
        if len(checkers) > 1:
            self.checker.other = checkers[1]
        if scene.wanted:
            self.checker.wanted = frozenset(map(ChannelId, scene.wanted))
        self.url = self.line.url
        self.stop_process: Callable[[float], None] | None = None
        self.begun = time.monotonic()
        self._now = "the beginning"
        self._ended = threading.Event()
        self._port = contextlib.ExitStack()
        works = [self._act]
        works += [self._ask] if scene.master_s else []
        works += [self._zero] if scene.zeros else []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"faults{work.__name__}", daemon=True)
            for work in works
        ]
        self.truth.clears_coils = scene.clears

    def __enter__(self) -> Self:
        if self.scene.port == "tcp":
            self.url = self._port.enter_context(Hub(self.line)).url
        elif self.scene.port == "pty":
            self.url = self._port.enter_context(PtyServer(self.line)).port
        self.begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._port.close()

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return time.monotonic() - self.begun > self.scene.lasts

    def scenery(self) -> str:
        """What is needed to see this moment again."""
        scene, at = self.scene, time.monotonic() - self.begun
        return (
            f"--kind '{scene.kind}' --seed {scene.seed} --episode {scene.number}, {at:.3f} s into it\n  {scene}\n"
            f"  last: {self._now}"
        )

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.tally.report("crash", f"the campaign itself: {self._now}: {error!r}\n  {self.scenery()}")

    def _ask(self) -> None:
        """Ask as another master does."""
        scene, dice = self.scene, Random(f"{self.scene.seed}:{self.scene.number}:master")
        while not self._ended.wait(scene.master_s * dice.uniform(0.9, 1.1)):
            self.line.others_ask(request(scene.asks, ADDRESS, scene.mode, dice), heard=scene.heard)
            self.tally.note("requests of another master")

    def _zero(self) -> None:
        """Write zeros to the coils as another master does."""
        while not self._ended.wait(ZEROS_S):
            self.truth.zero_coils()

    def _act(self) -> None:
        acts: dict[str, Callable[..., None]] = {
            name: getattr(self, f"_{name}") for name in "stall stop flood alarm name unit other freeze".split()
        }
        for event in self.scene.events:
            if self._ended.wait(max(0.0, self.begun + event.at - time.monotonic())):
                return
            self._now = str(event)
            self.checker.calls.append((time.monotonic(), f"happens: {event}"))
            acts[event.what](*event.args)

    def _stall(self, seconds: float) -> None:
        self.checker.held_up_s = max(seconds, self.checker.held_up_s)
        self.line.stall(seconds)

    def _stop(self, seconds: float) -> None:
        self.checker.held_up_s = max(seconds, self.checker.held_up_s)
        if self.stop_process is not None:
            self.stop_process(seconds)

    def _flood(self, seconds: float) -> None:
        """Stop the process of the driver, and let as many broadcasts wait for it as come in a much longer time."""
        self.truth.period = FLOOD_S
        self._stop(seconds)
        self.truth.period = self.scene.period

    def _alarm(self, channel: str) -> None:
        with self.truth.panel():
            self.truth.steady[ChannelId(channel)] = self.truth[channel].status = ALARM

    def _name(self, channel: str, name: str) -> None:
        with self.truth.panel():
            self.truth[channel].name = name

    def _unit(self, channel: str, unit: str) -> None:
        with self.truth.panel():
            self.truth[channel].unit = unit

    def _other(self, labels: str) -> None:
        """Let another analyser begin to broadcast."""
        other = self._truths[1]
        with other.panel():
            other.clock_offset_s = OTHER_CLOCK_S
            if labels == "other":
                other["I1"].name = "Argon"
            other.period = self.scene.period

    def _freeze(self, frozen: bool) -> None:
        self.truth.frozen = frozen


def settings_of(scene: Scene) -> dict[str, object]:
    """What the driver is opened with."""
    return {
        "protocol": scene.mode,
        "address": ADDRESS,
        "timeout": scene.timeout,
        "retries": scene.retries,
        "gap": scene.gap,
        "channels": [*scene.wanted] or None,
        "listen": 4.0,
    }
