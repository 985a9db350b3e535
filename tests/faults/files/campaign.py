"""Episodes of all kinds, several at a time, until the time is over or too much was found."""

import itertools
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.faults.busy import BUSY
from tests.faults.files.plan import Plan, make_plan
from tests.faults.files.program import NotReadyError
from tests.faults.files.scenes import SCENES
from tests.faults.files.shim import build_shim
from tests.faults.files.stage import Stage
from tests.faults.files.tally import Count, Tally

MOST_FINDINGS = 1000


def run_campaign(
    seed: str,
    *,
    seconds: float = float("inf"),
    kinds: Sequence[str] = tuple(SCENES),
    first: int = 0,
    rounds: int | None = None,
    at_once: int = 4,
    quick: bool = False,
    most: int = MOST_FINDINGS,
) -> Tally:
    """Play episodes: one of each kind, and then the next of each.

    Args:
        seed: What they follow from, with their kinds and numbers.
        seconds: No episode begins later than this.
        kinds: Which kinds.
        first: The number of the first of each kind.
        rounds: How many of each kind; as many as there is time for when ``None``.
        at_once: How many are played at the same time.
        quick: Short ones.
        most: No episode begins after this number of findings.
    """
    tally = Tally()
    until = time.monotonic() + seconds
    taking = threading.Lock()
    numbers = itertools.count(first) if rounds is None else range(first, first + rounds)
    waiting = _drawn(seed, kinds, numbers, quick=quick)

    def play(folder: Path, shim: Path | None) -> None:
        while time.monotonic() < until and len(tally.total.findings) < most:
            with taking:
                plan = next(waiting, None)
            if plan is None:
                return
            tally.absorb(plan.kind, play_episode(plan, folder / f"{plan.kind}-{plan.number}", shim))

    folder = Path(tempfile.mkdtemp(prefix="faults-files-"))
    try:
        with BUSY.watched():
            shim = build_shim(folder)
            players = [
                threading.Thread(target=play, args=(folder, shim), name=f"faults-files {number}")
                for number in range(at_once)
            ]
            for player in players:
                player.start()
            for player in players:
                player.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tally


def _drawn(seed: str, kinds: Sequence[str], numbers: Iterable[int], *, quick: bool) -> Iterator[Plan]:
    return (draw(seed, kind, number, quick=quick) for number in numbers for kind in kinds)


def draw(seed: str, kind: str, number: int, *, quick: bool = False) -> Plan:
    """Draw an episode."""
    scene = SCENES[kind]
    return make_plan(seed, kind, number, suffixes=scene.suffixes, rotate=scene.rotate, quick=quick)


def play_episode(plan: Plan, folder: Path, shim: Path | None) -> Count:
    """Play one episode; return what came of it."""
    scene = SCENES[plan.kind]
    with Stage(plan, folder, shim) as stage:
        if scene.shim and shim is None:
            stage.count.notes["no C compiler, or not Linux: no disk and no clock that misbehave"] += 1
            return stage.count
        stage.count.numbers["episodes"] += 1
        begun = time.monotonic()
        try:
            scene.act(stage)
        except NotReadyError as error:
            stage.blame("crash", f"it ended too early: {error}")
        except Exception:
            stage.blame("crash", f"the campaign: {traceback.format_exc()}")
        stage.count.note_length(time.monotonic() - begun)
        return stage.count
