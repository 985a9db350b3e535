"""How much damage passes the sum checksum and is still refused by the strict format.

The checksum is a sum: damage that keeps it passes. Each test counts what becomes of one real frame under one
kind of damage, and holds the count. The seeds are fixed, so the counts are exact. ``-s`` shows them, beside
those of a parser that checks the sum and then splits at the semicolons.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from random import Random

import attrs
import pytest

from servomex.errors import ServomexParseError
from servomex.telegram import parse_frame
from servomex.units import Unit
from tests.helpers.frames import REAL, WIRE, block, external, facts, make, names

pytestmark = pytest.mark.virtual_time

BODY = range(1, len(REAL) - 5)
"""The places that the checksum covers."""
CHECK = range(len(REAL) - 5, len(REAL) - 1)
PARSED = parse_frame(REAL)
TRUE_FACTS, TRUE_NAMES, CLOCK = facts(PARSED), names(PARSED), PARSED.analyser.clock


def fate(damaged: bytes) -> str:
    """Return what becomes of a damaged frame.

    ``silent``: a number, state or channel changed, or a unit into another one that is known. ``visible``: all
    that is wrong shows, since it is a value that is missing or a unit that is unknown. ``name``: only names
    changed. ``same``: at most the clock changed.
    """
    try:
        frame = parse_frame(damaged)
    except ServomexParseError:
        return "refused"
    if facts(frame) == TRUE_FACTS:
        return "same" if names(frame) == TRUE_NAMES else "name"
    if frame.channels != PARSED.channels or attrs.evolve(frame.analyser, clock=CLOCK) != PARSED.analyser:
        return "silent"
    shows = all(
        read.value in (true.value, None)
        and (read.unit is Unit.UNKNOWN or (read.unit, read.unit_text) == (true.unit, true.unit_text))
        and read.status == true.status
        for read, true in zip(frame, PARSED, strict=True)
    )
    return "visible" if shows else "silent"


def lenient_fields(raw: bytes) -> list[object] | None:
    """Read a frame as a lenient parser does: check the sum, split, convert; ``None`` when that fails."""
    text = raw.rstrip(b"\r\n").decode("latin-1")
    try:
        if sum(raw[1:-5]) % 65536 != int(text[-5:-1], 16):
            return None
        _, _, flags, cal, count, *fields = text.strip().split(";")
        read: list[object] = [flags.split(), cal]
        for start in range(0, 8 * int(count), 8):
            channel, _, value, unit, *states = fields[start : start + 8]
            read += [channel, float(value), unit.strip(), *map(str.strip, states)]
    except ValueError:
        return None
    return read


TRUE_FIELDS = lenient_fields(REAL)


def measure(kind: str, damaged: Iterable[bytes]) -> Counter[str]:
    """Count the fates of damaged frames, ``wrong`` being the sum of ``silent`` and ``visible``."""
    counts: Counter[str] = Counter()
    for raw in damaged:
        counts["all"] += 1
        counts[fate(raw)] += 1
        counts["lenient"] += lenient_fields(raw) not in (None, TRUE_FIELDS)
    counts["wrong"] = counts["silent"] + counts["visible"]
    shown = ", ".join(
        f"{what} {counts[what]}" for what in ("wrong", "silent", "visible", "name", "same", "lenient")
    )
    print(f"\n{kind}: {counts['all']} damaged, {shown}")  # noqa: T201 (asked for with -s)
    return counts


def changed(changes: Iterable[tuple[int, int]], raw: bytes = REAL) -> bytes:
    """Return a frame with new bytes at some places."""
    damaged = bytearray(raw)
    for place, new in changes:
        damaged[place] = new
    return bytes(damaged)


@pytest.mark.parametrize("raw", [
    WIRE,
    make(
        block(b"I1", b"CO\x82   ", b"-1.250", b"vpm", b"1 3 ", b"FM", b"C", b"W"), external(b"E1", flags=b"F "),
        external(b"E2"), flags=b" M", cal=b"S1C2S1S1",
    ) + b"\r\n",
])  # fmt: skip
def test_no_single_damaged_byte_changes_what_is_read(raw: bytes) -> None:
    true = parse_frame(raw)
    expected = facts(true), names(true)
    accepted = []
    for place, old in enumerate(raw):
        for new in range(256):
            if new == old:
                continue
            try:
                frame = parse_frame(changed([(place, new)], raw))
            except ServomexParseError:
                continue
            assert (facts(frame), names(frame)) == expected, (place, new)
            accepted.append((place - len(raw), new))
    # Only a line end of two CR or two LF is let through.
    assert accepted == [(-2, 0x0A), (-1, 0x0D)]


@pytest.mark.parametrize("inserted", [b"\x00", b" ", b"0", b";", b"|"])
def test_no_inserted_byte_is_let_through(inserted: bytes) -> None:
    damaged = [WIRE[:at] + inserted + WIRE[at:] for at in range(len(REAL) + 1)]
    assert {fate(raw) for raw in damaged} == {"refused"}


def test_no_deleted_byte_is_let_through() -> None:
    damaged = [WIRE[:at] + WIRE[at + size :] for size in (1, 2, 33) for at in range(len(REAL))]
    assert {fate(raw) for raw in damaged} <= {"refused"}


def two_random_bytes() -> Iterator[bytes]:
    dice = Random(20)
    for _ in range(60_000):
        places = dice.sample(range(len(REAL)), 2)
        yield changed((place, (REAL[place] + dice.randrange(1, 256)) % 256) for place in places)


def adjacent_swaps() -> Iterator[bytes]:
    for at in range(len(REAL) - 1):
        if REAL[at] != REAL[at + 1]:
            yield changed([(at, REAL[at + 1]), (at + 1, REAL[at])])


def any_swaps() -> Iterator[bytes]:
    for left, right in combinations(range(len(REAL)), 2):
        if REAL[left] != REAL[right]:
            yield changed([(left, REAL[right]), (right, REAL[left])])


def one_up_one_down() -> Iterator[bytes]:
    for up in BODY:
        for down in BODY:
            if up != down:
                yield changed([(up, REAL[up] + 1), (down, REAL[down] - 1)])


def some_up_as_much_down() -> Iterator[bytes]:
    dice = Random(21)
    for _ in range(15_000):
        up, down = dice.sample(BODY, 2)
        most = min(255 - REAL[up], REAL[down])
        by = dice.randrange(1, most + 1)
        yield changed([(up, REAL[up] + by), (down, REAL[down] - by)])


def two_flipped_bits() -> Iterator[bytes]:
    """Return, of all pairs of bits, those that keep the sum; any other pair fails the checksum.

    A flip changes the sum by a power of two, or the checksum's digits by what the new digit is worth more.
    Two flips agree when their effects cancel. One in a digit that leaves no upper-case digit is refused.
    """
    by_effect: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place in [*BODY, *CHECK]:
        for bit in range(8):
            new = REAL[place] ^ 1 << bit
            if place in BODY:
                by_effect[new - REAL[place]].append((place, new))
            elif chr(new) in "0123456789ABCDEF":
                by_effect[int(REAL[-5:-1], 16) - int(changed([(place, new)])[-5:-1], 16)].append((place, new))
    for effect, flips in by_effect.items():
        if effect > 0:
            yield from (changed([one, other]) for one in flips for other in by_effect.get(-effect, []))


# Wrong: let through with another number, state, unit or channel, or without one; silent: and nothing shows it.
@pytest.mark.parametrize(("damage", "wrong", "silent", "name"), [
    (two_random_bytes, 8, 0, 5),
    (adjacent_swaps, 12, 8, 10),
    (any_swaps, 2051, 421, 821),
    (one_up_one_down, 4190, 1913, 1469),
    (some_up_as_much_down, 680, 98, 301),
    (two_flipped_bits, 7001, 2073, 2760),
])  # fmt: skip
def test_damage_that_keeps_the_sum_is_mostly_refused(
    damage: Callable[[], Iterator[bytes]], wrong: int, silent: int, name: int
) -> None:
    counts = measure(damage.__name__, damage())
    assert counts["wrong"] <= wrong
    assert counts["silent"] <= silent
    assert counts["name"] <= name
    # The strict format must be worth its lines.
    assert 3 * counts["silent"] < counts["lenient"]
