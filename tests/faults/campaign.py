"""Episodes, several at a time, until the time is over or something was found too often."""

import contextlib
import tempfile
import threading
import time
from pathlib import Path

from servomex import (
    Analyzer,
    SerialSettings,
    ServomexError,
    ServomexManager,
    open_device,
)
from tests.faults.busy import BUSY
from tests.faults.episodes import SceneEpisode
from tests.faults.hostclock import HOST_CLOCK
from tests.faults.plan import Plan, make_plan
from tests.faults.readers import ManagerReaders, Readers
from tests.faults.scenes import Scene, make_scene
from tests.faults.sleeping import build_shim
from tests.faults.stage import HAS_PTY, Stage
from tests.faults.tally import Tally

LISTEN_S = 4.0
MOST_FINDINGS = 20
REOPEN_S = 0.7
"""An analyser that was opened by AUTO is opened anew when it is in another mode for so long."""


class Episode:
    """One episode: a stage, and users who open, read, close and open again."""

    def __init__(self, plan: Plan, tally: Tally, folder: Path) -> None:
        self._plan = plan
        self._tally = tally
        self._folder = folder
        self._sessions = 0

    def run(self) -> None:
        """Play it to its end."""
        with Stage(self._plan, self._tally) as stage:
            while not stage.over:
                self._sessions += 1
                if self._plan.analysers > 1:
                    self._manage(stage)
                else:
                    self._read(stage)
        self._tally.episodes += 1

    def _read(self, stage: Stage) -> None:
        begun = time.monotonic()
        try:
            analyzer = self._open(stage)
        except ServomexError as error:
            self._tally.note_error(error)
            stage.checkers[0].failed(begun)
            time.sleep(0.05)
            return
        if self._plan.asked == "auto":
            self._check_mode(stage, analyzer, begun)
        seed = f"{self._plan.seed}:{self._plan.number}:{self._sessions}"
        readers = Readers(analyzer, stage.checkers[0], self._tally, seed, self._folder, self._plan.users)
        with contextlib.closing(analyzer):
            readers.start()
            self._stay(stage, analyzer)
            readers.stop()
        readers.join()

    def _open(self, stage: Stage) -> Analyzer:
        plan = self._plan
        return open_device(
            stage.port.name,
            protocol=plan.asked,
            address=stage.truths[0].address,
            serial_settings=SerialSettings(baudrate=plan.baudrate),
            timeout=plan.timeout,
            retries=plan.retries,
            gap=plan.gap,
            listen=LISTEN_S,
        )

    def _check_mode(self, stage: Stage, analyzer: Analyzer, begun: float) -> None:
        true = stage.truths[0].modes_between(begun, time.monotonic())
        self._tally.note("opened by AUTO")
        if analyzer.protocol not in true:
            stage.checkers[0].blame("wrong", "AUTO", analyzer.protocol, begun, time.monotonic())

    def _stay(self, stage: Stage, analyzer: Analyzer) -> None:
        """Go on until the episode is over, or the analyser is another one."""
        other_since: float | None = None
        while not stage.over:
            time.sleep(0.05)
            if self._plan.asked != "auto" or stage.truths[0].mode is analyzer.protocol:
                other_since = None
            elif other_since is None:
                other_since = time.monotonic()
            elif time.monotonic() - other_since > REOPEN_S:
                return

    def _manage(self, stage: Stage) -> None:
        plan = self._plan
        with ServomexManager(error_policy="return") as manager:
            for place, truth in enumerate(stage.truths):
                while not stage.over and f"a{place}" not in manager.names:
                    begun = time.monotonic()
                    try:
                        manager.add(
                            f"a{place}",
                            stage.port.name,
                            protocol=plan.asked,
                            address=truth.address,
                            timeout=plan.timeout,
                            retries=plan.retries,
                            gap=plan.gap,
                            identify=False,
                        )
                    except ServomexError as error:
                        self._tally.note_error(error)
                        stage.checkers[place].failed(begun)
                        time.sleep(0.05)
            if len(manager.names) < len(stage.truths):
                return
            readers = ManagerReaders(manager, stage.checkers, self._tally, f"{plan.seed}:{plan.number}")
            readers.start()
            while not stage.over:
                time.sleep(0.05)
            readers.stop()
            readers.join()


def run_campaign(
    seed: str,
    *,
    seconds: float = 0.0,
    first: int = 0,
    count: int | None = None,
    at_once: int = 4,
    quick: bool = False,
    kind: str = "old",
    most: int = MOST_FINDINGS,
) -> Tally:
    """Play episodes.

    Args:
        seed: What they follow from, with their numbers.
        seconds: No episode begins later than this.
        first: The number of the first.
        count: How many, whatever time it takes; as many as there is time for when ``None``.
        at_once: How many are played at the same time.
        quick: Short ones.
        kind: ``old`` for faults of the line and of the analyser, ``new`` for all scenes in turn, ``all`` for both
            in turn, or the kind of a scene.
        most: No episode begins once so many findings were made.
    """
    tally = Tally()
    numbers = iter(range(first, first + count)) if count is not None else iter(range(first, 10**9))
    until = float("inf") if count is not None else time.monotonic() + seconds
    taking = threading.Lock()

    def play(folder: Path, shim: Path | None) -> None:
        while time.monotonic() < until and len(tally.findings) < most:
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            own = Tally()
            name, episode, what = draw(seed, number, kind, own, folder, shim, quick=quick)
            try:
                episode.run()
            except Exception as error:
                own.report("crash", f"--kind '{name}' --seed {seed}, number {number}: {error!r}\n  {what}")
            tally.absorb(name, own)

    # a child that was killed may still write a last file
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with scratch as folder, HOST_CLOCK.installed(), BUSY.watched():
        shim = None if kind == "old" else build_shim(Path(folder))
        if shim is None and kind != "old":
            tally.note("no C compiler, or not Linux: no episode in which the computer sleeps", 0)
        players = [
            threading.Thread(target=play, args=(Path(folder), shim), name=f"faults-player {n}")
            for n in range(at_once)
        ]
        for player in players:
            player.start()
        for player in players:
            player.join()
    return tally


def draw(
    seed: str, number: int, kind: str, tally: Tally, folder: Path, shim: Path | None, *, quick: bool
) -> tuple[str, Episode | SceneEpisode, Plan | Scene]:
    """Draw an episode: its kind, what plays it, and what it is. Of ``all``, those with even numbers are old."""
    if kind == "old" or (kind == "all" and number % 2 == 0):
        plan = make_plan(seed, number if kind == "old" else number // 2, pty=HAS_PTY, quick=quick)
        return "old", Episode(plan, tally, folder), plan
    scene = make_scene(
        seed,
        number // 2 if kind == "all" else number,
        pty=HAS_PTY,
        sleeps=shim is not None,
        quick=quick,
        kind=None if kind in ("new", "all") else kind,
    )
    return scene.kind, SceneEpisode(scene, tally, folder, shim), scene
