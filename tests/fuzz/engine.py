"""The search: inputs that reach new steps of the code are kept, and new inputs are made from those."""

import time
import traceback
from collections.abc import Callable
from random import Random

import attrs

from servomex import telegram
from tests.fuzz.coverage import Line, Tracer
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target

WATCHED = 4
"""One of so many inputs is watched; watching costs more than running."""
SLOW_S = 2.0
"""An input that takes longer counts as a hang. It is CPU time: the computer may be busy."""
MOST_KEPT = 2000


@attrs.define
class Outcome:
    """What became of one target.

    Attributes:
        runs: Inputs that were run.
        believed: Inputs of which the driver believed something, a frame or a reply, rightly.
        cpu_s: CPU seconds.
        kept: Inputs that reached something new.
        lines: Lines of the target's modules that were run, by file.
        all_lines: All lines of their functions.
        slowest_s: CPU seconds of the slowest input.
        findings: Inputs that the driver failed on, with what it did.
    """

    runs: int = 0
    believed: int = 0
    cpu_s: float = 0.0
    kept: int = 0
    lines: set[Line] = attrs.field(factory=set, repr=False)
    all_lines: set[Line] = attrs.field(factory=set, repr=False)
    slowest_s: float = 0.0
    findings: list[tuple[bytes, str]] = attrs.field(factory=list)


def _forget_frames() -> None:
    """Let the parser begin as in a new process, so that the steps it takes follow from the seed alone."""
    for item in vars(telegram).values():
        if hasattr(item, "cache_clear"):
            item.cache_clear()


class Search:
    """Fuzzes one target; may be continued.

    Args:
        target: The target.
        seed: Makes the course repeatable.
    """

    def __init__(self, target: Target, seed: str) -> None:
        self.outcome = Outcome()
        self._target = target
        self._dice = Random(seed)
        self._tracer = Tracer(list(target.modules))
        self._corpus: list[bytes] = []
        self._seen: set[str] = set()
        _forget_frames()
        for data in target.seeds:
            self._try(data, watch=True)
            self._corpus.append(data)

    def go_on(self, enough: Callable[[Outcome], bool]) -> Outcome:
        """Try inputs until there are enough."""
        while not enough(self.outcome):
            parent = self._dice.choice(self._corpus[-50:] if self._dice.random() < 0.3 else self._corpus)
            data = mutated(parent, self._corpus, self._dice)
            self._try(data, watch=self.outcome.runs % WATCHED == 0)
        self.outcome.lines, self.outcome.all_lines = self._tracer.lines, self._tracer.all_lines
        return self.outcome

    def _try(self, data: bytes, *, watch: bool) -> None:
        begun = time.process_time()
        fresh = 0
        try:
            if watch:
                fresh, believed = self._tracer.new_arcs(lambda: self._target.run(data))
            else:
                believed = self._target.run(data)
            self.outcome.believed += believed
        except Exception as error:
            self._note(data, error)
        spent = time.process_time() - begun
        if spent > SLOW_S:
            self._note(data, TimeoutError(f"it took {spent:.1f} s of CPU"))
        self.outcome.slowest_s = max(self.outcome.slowest_s, spent)
        self.outcome.cpu_s += spent
        self.outcome.runs += 1
        if fresh and len(self._corpus) < MOST_KEPT:
            self.outcome.kept += 1
            self._corpus.append(data)

    def _note(self, data: bytes, error: Exception) -> None:
        """Keep one input for each place where something went wrong."""
        where = traceback.extract_tb(error.__traceback__)[-3:]
        place = f"{type(error).__name__} {str(error)[:60]} {[f'{item.name}:{item.lineno}' for item in where]}"
        if place not in self._seen:
            self._seen.add(place)
            self.outcome.findings.append((data, f"{error!r} at {place}"))
