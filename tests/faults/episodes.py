"""Plays scenes: opens the driver, lets its users read, and ends."""

import contextlib
import time
from pathlib import Path
from typing import Any

from servomex import Analyzer, ServomexError, open_device
from tests.faults.mixture import MixedReaders
from tests.faults.remote import Remote
from tests.faults.rig import Rig, settings_of
from tests.faults.scenes import Scene
from tests.faults.tally import Tally


class SceneEpisode:
    """One episode of a new kind.

    Args:
        scene: What it is.
        tally: Where results are counted.
        folder: For recordings and other files.
        shim: Of the clocks, for scenes in which the computer sleeps.
    """

    def __init__(self, scene: Scene, tally: Tally, folder: Path, shim: Path | None = None) -> None:
        self._scene = scene
        self._tally = tally
        self._folder = folder
        self._shim = shim

    def run(self) -> None:
        """Play it to its end."""
        with Rig(self._scene, self._tally) as rig:
            if self._scene.process:
                Remote(rig, self._folder, self._shim).run()
            else:
                while not rig.over:
                    self._read(rig)
        self._tally.episodes += 1

    def _read(self, rig: Rig) -> None:
        with contextlib.ExitStack() as stack:
            groups: list[MixedReaders] = []
            for client in range(self._scene.clients):
                analyzer = self._open(rig)
                if analyzer is None:
                    break
                stack.enter_context(contextlib.closing(analyzer))
                seed = f"{self._scene.seed}:{self._scene.number}:{client}"
                groups.append(
                    MixedReaders(analyzer, rig.checker, self._tally, seed, self._folder, self._scene.users)
                )
                groups[-1].start()
            while groups and not rig.over:
                time.sleep(0.05)
            for group in groups:
                group.stop()
            for group in groups:
                group.join()

    def _open(self, rig: Rig) -> Analyzer | None:
        """Open it, however often that fails, until the scene is over."""
        settings: dict[str, Any] = settings_of(self._scene)
        while not rig.over:
            try:
                return open_device(rig.url, **settings)
            except ServomexError as error:
                self._tally.note_error(error)
                time.sleep(0.05)
        return None
