"""What is recorded in an episode, and how: all of it follows from the seed."""

from random import Random

import attrs

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".sqlite", ".parquet")
SIZES = {
    ".csv": "6kB",
    ".csv.gz": "1kB",
    ".jsonl": "20kB",
    ".jsonl.gz": "1500B",
    ".sqlite": "120kB",
    ".parquet": "40kB",
}
"""Sizes that are reached within a second."""


@attrs.frozen
class Plan:
    """One episode.

    Attributes:
        seed: Of the campaign.
        kind: What is done.
        number: Of the episode among those of its kind.
        suffix: The format.
        rotate: Whether files are divided; each kind says how.
        before: Readings that are in the file before it is continued; 0 for a new file, as divided ones are.
        flush_s: Of the recording.
        rate: Of the source, in readings per second.
        readings: How many are given before something is done.
        quick: A short one.
    """

    seed: str
    kind: str
    number: int
    suffix: str
    rotate: bool
    before: int
    flush_s: float
    rate: int
    readings: int
    quick: bool

    @property
    def dice(self) -> Random:
        """What else is drawn; always the same."""
        return Random(f"{self.seed}:{self.kind}:{self.number}:dice")

    @property
    def replay(self) -> str:
        """The options that play it again."""
        return f"--only {self.kind} --seed {self.seed} --episode {self.number}{' --quick' * self.quick}"

    def __str__(self) -> str:
        form = f"{self.suffix}{', divided' * self.rotate}, {self.before} readings before, flush {self.flush_s:g} s"
        return f"{self.kind}: {form}, {self.rate} Hz, {self.readings} readings first"


def make_plan(
    seed: str,
    kind: str,
    number: int,
    *,
    suffixes: tuple[str, ...] = SUFFIXES,
    rotate: bool | None = None,
    quick: bool = False,
) -> Plan:
    """Draw an episode.

    Args:
        seed: Of the campaign.
        kind: What is done.
        number: Of the episode among those of its kind.
        suffixes: The formats, which come in turn.
        rotate: Whether files are divided; drawn when ``None``.
        quick: A short one.
    """
    dice = Random(f"{seed}:{kind}:{number}")
    start = Random(f"{seed}:{kind}").randrange(len(suffixes))
    rate = dice.choice((50, 200, 400))
    divided = dice.random() < 0.3 if rotate is None else rotate
    return Plan(
        seed,
        kind,
        number,
        suffixes[(start + number) % len(suffixes)],
        divided,
        0 if divided else dice.choice((0, 0, 30, 200 if quick else 3000)),
        dice.choice((0.0, 0.2, 1.0)),
        rate,
        dice.randint(3, min(20, rate // 4)) if quick else dice.randint(3, 2 * rate),
        quick,
    )
