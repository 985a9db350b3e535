"""The analysers, their line and their port of one episode, and all that may happen to them."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Self

from servomex.enums import ChannelId
from servomex.models.reading import ChannelStatus
from servomex.simulator import PtyServer
from tests.faults.checker import Checker
from tests.faults.hostclock import HOST_CLOCK
from tests.faults.line import CLEAN, Mix, WorstLine
from tests.faults.plan import Plan
from tests.faults.tally import Tally
from tests.faults.truth import EXTERNAL, Truth

FIRST_ADDRESS = 3


class Port:
    """What the driver opens: ``sim://``, or a link to a pseudo-terminal, as below ``/dev/serial/by-id``."""

    def __init__(self, line: WorstLine, kind: str) -> None:
        self._line = line
        self._folder = tempfile.TemporaryDirectory() if kind == "pty" else None
        self._path = Path(self._folder.name) / "tty-analyser" if self._folder else None
        self._server: PtyServer | None = None
        self.name = str(self._path) if self._path else line.url
        self._serve()

    def unplug(self) -> None:
        self._line.unplug()
        self._withdraw()

    def plug(self) -> None:
        self._line.plug()
        self._serve()

    def close(self) -> None:
        self._withdraw()
        if self._folder:
            self._folder.cleanup()

    def _serve(self) -> None:
        if self._path and self._server is None:
            self._server = PtyServer(self._line)
            self._server.__enter__()
            self._path.symlink_to(self._server.port)

    def _withdraw(self) -> None:
        if self._path and self._server is not None:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            self._server.__exit__(None, None, None)
            self._server = None


class Stage:
    """Sets up what a plan says, and lets happen what it says, when it says. A context manager.

    Attributes:
        truths: The analysers.
        checkers: One for each of them.
        line: The line.
        port: What to open.
    """

    def __init__(self, plan: Plan, tally: Tally) -> None:
        self.plan = plan
        self.tally = tally
        self.truths = [
            Truth(number, [*plan.channels], plan.mode, FIRST_ADDRESS + number, plan.period)
            for number in range(1, plan.analysers + 1)
        ]
        dice = Random(f"{plan.seed}:{plan.number}:line")
        self.line = WorstLine(*self.truths, dice=dice, baudrate=plan.baudrate, pace=plan.pace)
        self.line.echo = plan.echo
        self.checkers = [Checker(truth, self.line, tally, plan.number, self.scene) for truth in self.truths]
        self.port = Port(self.line, plan.port)
        self.begun = time.monotonic()
        self._now = "the beginning"
        self._ended = threading.Event()
        self._actor = threading.Thread(target=self._act, name="faults-actor", daemon=True)

    def __enter__(self) -> Self:
        self._actor.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._actor.join()
        for checker in self.checkers:
            checker.end()
        self.port.close()
        self.tally.note("messages sent", self.line.messages[0])
        self.tally.note("messages damaged", self.line.messages[1])
        self.tally.note("replies whose check hides the damage, kept back", self.line.unseen)
        self.tally.note("broadcasts whose sum hides the damage, sent", len(self.line.limits))

    def scene(self) -> str:
        """What is needed to see this moment again."""
        at = time.monotonic() - self.begun
        return (
            f"--kind old --seed {self.plan.seed} --episode {self.plan.number}, {at:.3f} s into it\n  {self.plan}\n"
            f"  line: {self.line.mix}; last: {self._now}"
        )

    @property
    def over(self) -> bool:
        """Whether all has happened that is planned, and good readings came again, or do not come."""
        at = time.monotonic() - self.begun
        recovered = all(checker.recovered for checker in self.checkers)
        patience_s = 1.5 if self.plan.lasts < 3 else 15.0
        return at > self.plan.lasts and (recovered or at > self.plan.lasts + patience_s)

    def _act(self) -> None:
        acts: dict[str, Callable[..., None]] = {
            name: getattr(self, f"_{name}")
            for name in (
                "fault clear unplug plug power host_clock babble state whole unit name calibrate stop clock"
            ).split()
        }
        for event in self.plan.events:
            if self._ended.wait(max(0.0, self.begun + event.at - time.monotonic())):
                return
            self._now = str(event)
            try:
                acts[event.what](*event.args)
            except Exception as error:
                self.tally.report("crash", f"the campaign itself: {event}: {error!r}\n  {self.scene()}")

    def _fault(self, mix: Mix, since: float, until: float, name: str) -> None:
        for checker in self.checkers:
            checker.begin_fault(self.begun + since, self.begun + until, name)
        self.line.set_mix(mix)

    def _clear(self) -> None:
        self.line.set_mix(CLEAN)

    def _unplug(self) -> None:
        self.port.unplug()

    def _plug(self, echo: bool) -> None:
        self.line.echo = echo
        self.port.plug()

    def _power(self, mode: str | None) -> None:
        for truth in self.truths if self.plan.analysers == 1 or mode in (None, "first") else self.truths[:0]:
            truth.switch(self.plan.mode if mode == "first" else mode)

    def _host_clock(self, by_s: float) -> None:
        HOST_CLOCK.jump(by_s)

    def _babble(self, data: bytes) -> None:
        self.line.babble(data)

    def _one(self, which: int) -> Truth:
        return self.truths[which % len(self.truths)]

    def _channel(self, truth: Truth, place: int) -> ChannelId:
        return [*truth.channels][place % len(truth.channels)]

    def _state(self, which: int, place: int, flags: tuple[bool, ...]) -> None:
        truth = self._one(which)
        channel = self._channel(truth, place)
        fault, maintenance, warming, *alarms = flags[:7]
        if channel in EXTERNAL:  # the manual reserves their other bits
            maintenance = warming = False
        raised = (alarms[0], alarms[1], alarms[2], alarms[3])
        with truth.panel():
            truth[channel].status = ChannelStatus(fault, maintenance, False, warming, raised)

    def _whole(self, which: int, fault: bool, maintenance: bool) -> None:
        truth = self._one(which)
        with truth.panel():
            truth.fault, truth.maintenance = fault, maintenance

    def _unit(self, which: int, place: int, unit: str) -> None:
        truth = self._one(which)
        with truth.panel():
            truth[self._channel(truth, place)].unit = unit

    def _name(self, which: int, place: int, name: str) -> None:
        truth = self._one(which)
        channel = self._channel(truth, place)
        if channel not in EXTERNAL and channel != ChannelId.I1:  # one channel always stays
            with truth.panel():
                truth[channel].name = name

    def _calibrate(self, which: int, group: int, phase_s: float) -> None:
        truth = self._one(which)
        with truth.panel():
            truth.cal_phase_s = phase_s
            truth.write_coils(group - 1, [True])
            truth.write_coils(group - 1, [False])

    def _stop(self, which: int) -> None:
        truth = self._one(which)
        with truth.panel():
            truth.write_coils(8, [True])
            truth.write_coils(8, [False])

    def _clock(self, which: int, offset_s: float | None) -> None:
        truth = self._one(which)
        with truth.panel():
            truth.clock_offset_s = offset_s


HAS_PTY = os.name == "posix"
