"""Compares the rows of files with those that a source gave."""

from collections import Counter
from collections.abc import Iterable

import attrs

from servomex.models.sample import Sample


@attrs.frozen
class Verdict:
    """What is in files, beside what should be.

    Attributes:
        found: Rows that are as they should be, each counted once.
        missing: Places of those that are not there, in what was given.
        wrong: Rows that no source gave, or that follow later ones of their source.
        doubled: Rows that are there once more.
        example: The first that is wrong or doubled.
    """

    found: int
    missing: tuple[int, ...]
    wrong: int
    doubled: int
    example: str


def shown(sample: Sample) -> str:
    """Write a row in short."""
    value = str(sample.error) if sample.reading is None else f"{sample.channel} {sample.reading.value}"
    return f"{value!r} of {sample.device!r} at {sample.received_at.isoformat()}, {sample.monotonic_ns}"


def compare(given: Iterable[Sample], found: Iterable[Sample], *, ordered: bool = True) -> Verdict:
    """Compare.

    Args:
        given: What was given, in this order.
        found: What was read. Rows of several sources may come in any mixture, those of one in their order.
        ordered: Whether it is judged in which order they come.
    """
    places = {sample: place for place, sample in enumerate(given)}
    last: dict[str, int] = {}
    seen: set[int] = set()
    counts: Counter[str] = Counter()
    example = ""
    for sample in found:
        place = places.get(sample)
        if place is None:
            what = "wrong"
        elif place in seen:
            what = "doubled"
        else:
            seen.add(place)
            if not ordered or place > last.get(sample.device, -1):
                last[sample.device] = place
                continue
            what = "wrong"
        counts[what] += 1
        example = example or f"{what}: {shown(sample)}"
    missing = tuple(place for place in places.values() if place not in seen)
    return Verdict(len(seen), missing, counts["wrong"], counts["doubled"], example)
