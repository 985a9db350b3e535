"""Users that make every call there is, in turns, and one that calibrates."""

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from servomex import Analyzer, ServomexCalibrationError, ServomexError
from servomex.enums import ChannelId
from tests.faults.lively import LivelyTruth
from tests.faults.readers import Ordered, Readers
from tests.faults.strict import StrictChecker
from tests.faults.tally import Tally

WATCH_S = 1.2
"""How long it is looked for gas after a call that said that there is none."""
LOOK_S = 0.02
CALL_S = 3.0
STOPPING_S = 13.0
"""What stopping may take behind the end of a calibration: 10 s and a reading, as the manual says."""


class MixedReaders(Readers):
    """Users of one analyser; ``mixed`` makes every call of it, ``calibrations`` starts and stops gas.

    Args as for :class:`Readers`.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        checker: StrictChecker,
        tally: Tally,
        seed: str,
        folder: Path,
        users: tuple[str, ...],
    ) -> None:
        self._strict = checker
        super().__init__(analyzer, checker, tally, seed, folder, users)

    def _judge_return(self, begun: float, allowed_s: float, outcome: str) -> None:
        self._strict.calls.append((time.monotonic(), f"{begun:.4f} to {time.monotonic():.4f}: {outcome[:200]}"))
        self._strict.late("a call", begun, allowed_s, outcome)

    def _mixed(self, dice: Random) -> None:
        """Read one thing after another, each in its own way."""
        frames = (self._poll, self._poll, self._poll_fresh, self._poll_young, self._read_all, self._samples)
        parts = (self._channel, self._channel, self._status, self._status, self._whole, self._whole, self._group)
        while not self._stopping.is_set():
            timeout = dice.choice((None, None, 0.3, 1.0, 3.0))
            if dice.random() < 0.4:
                way = dice.choice(frames)
                self._call(lambda way=way, timeout=timeout: way(timeout), timeout)  # type: ignore[misc]
            else:
                part, channel = dice.choice(parts), dice.choice(self._channels_asked)
                self._call(lambda part=part, c=channel, t=timeout: part(c, t), timeout)  # type: ignore[misc]

    def _parts(self, dice: Random) -> None:
        """Read small things: the answer to each is one short reply, with nothing behind it, or two."""
        parts = (self._channel, self._status, self._status, self._whole, self._group)
        while not self._stopping.is_set():
            part, channel = dice.choice(parts), dice.choice(self._channels_asked)
            self._call(lambda part=part, c=channel: part(c, None), None)  # type: ignore[misc]

    @property
    def _channels_asked(self) -> list[ChannelId]:
        wanted = self._strict.wanted
        return [item for item in self._strict.truth.channels if wanted is None or item in wanted]

    def _group(self, _channel: ChannelId, timeout: float | None) -> None:
        begun = time.monotonic()
        progress = self._analyzer.calibration_status(2, timeout=timeout)
        self._strict.progress("calibration_status", progress, begun)

    def _status(self, channel: ChannelId, timeout: float | None) -> None:
        begun = time.monotonic()
        status = self._analyzer.status(channel, timeout=timeout)
        self._strict.state("status", channel, status, begun)

    def _whole(self, _channel: ChannelId, timeout: float | None) -> None:
        begun = time.monotonic()
        status = self._analyzer.analyser_status(timeout=timeout)
        self._strict.analyser("analyser_status", status, begun)

    def _follows(self, dice: Random) -> None:
        """Take a stream all the time."""
        rate_hz = None if self._analyzer.reader else dice.choice((2.0, 6.0))
        while not self._stopping.is_set():
            self._follow(time.monotonic() + dice.uniform(2.0, 5.0), rate_hz)

    def _subscribes(self, _dice: Random) -> None:
        """Take a subscription all the time."""
        rate_hz = None if self._analyzer.reader else 5.0
        with self._analyzer.subscribe(Ordered(self._checker, "subscription").take, rate_hz=rate_hz):
            self._stopping.wait()

    def _calibrations(self, dice: Random) -> None:
        """Calibrate, start and stop; after each the gas is looked at, and stopped at the panel."""
        truth = self._strict.truth
        assert isinstance(truth, LivelyTruth)
        while not self._stopping.is_set():
            truth.cal_phase_s = dice.choice((0.4, 0.8, 1.5, 4.0))
            group = dice.randint(1, 4)
            if dice.random() < 0.5:
                limit_s = dice.choice((1.5, 3.0, 5.0))
                allowed_s = limit_s + STOPPING_S
                self._judged("calibrate", allowed_s, lambda g=group, t=limit_s: self._calibrate(g, t))  # type: ignore[misc]
            else:
                self._judged("start_calibration", CALL_S, lambda g=group: self._start(g))  # type: ignore[misc]
                if dice.random() < 0.7:
                    self._judged("stop_calibration", CALL_S, self._stop_gas)
            truth.halt()

    def _calibrate(self, group: int, limit_s: float) -> bool:
        self._analyzer.calibrate(group, confirm=True, timeout=limit_s)
        return False

    def _start(self, group: int) -> bool:
        return self._analyzer.start_calibration(group, confirm=True, timeout=CALL_S).active

    def _stop_gas(self) -> bool:
        self._analyzer.stop_calibration(confirm=True, timeout=CALL_S)
        return False

    def _judged(self, where: str, allowed_s: float, do: Callable[[], bool]) -> None:
        """Make a call, and see whether gas flows when its value, or its error, says that none does."""
        truth = self._strict.truth
        assert isinstance(truth, LivelyTruth)
        begun = time.monotonic()
        flowed = any(truth.gases())
        try:
            flows: bool | None = do()
            outcome = f"{where}: a value, active {flows}"
        except ServomexCalibrationError as error:
            flows, outcome = error.running, f"{where}: {error!r}"
            self._tally.note_error(error)
        except ServomexError as error:
            flows, outcome = False, f"{where}: {error!r}"
            self._tally.note_error(error)
        self._strict.calls.append((time.monotonic(), outcome))
        self._strict.late(where, begun, allowed_s, outcome)
        self._tally.note(f"{where}, {_said(flows)}")
        if where == "stop_calibration" and flows is not False and not any(truth.gases()):
            self._tally.note("stop_calibration failed though no gas flowed")
        if flows is not False or (flowed and where != "stop_calibration"):
            return
        until = time.monotonic() + WATCH_S
        while not any(gases := truth.gases()):
            if time.monotonic() > until or self._stopping.wait(LOOK_S):
                return
        self._strict.blame("gas", where, f"gas {gases} flows after {outcome}", begun, time.monotonic())


def _said(flows: bool | None) -> str:
    if flows is None:
        return "said that nobody knows"
    return "said that gas flows" if flows else "said that none flows"
