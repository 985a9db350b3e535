"""How much damage the formats themselves let through: calculated, and measured.

A check of n bits passes some damage, and no reader can tell. What a reader can do is to look at more than the
check: at the structure of a frame, at address, function and size of a reply.
"""

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from random import Random

import attrs

from tests.fuzz import oracle
from tests.helpers.frames import REAL

BODY = range(1, len(REAL) - oracle.TAIL)
REPLY = bytes.fromhex("0104 0E 41A3020C 4F787967656E 25202000".replace(" ", ""))
"""The reply with one channel of the bench unit: 20.376, Oxygen, %."""
Share = dict[int, float]
"""How likely a sum changes by how much; what is refused anyway is left out."""


@attrs.frozen
class Limit:
    """How likely one kind of damage passes.

    Attributes:
        check: The format, and what is looked at.
        damage: The damage.
        calculated: The chance by calculation.
        measured: How many passed.
        tried: Of how many.
    """

    check: str
    damage: str
    calculated: float
    measured: int
    tried: int

    @property
    def consistent(self) -> bool:
        """Whether the measurement fits the calculation: at most five standard deviations and three away."""
        expected = self.calculated * self.tried
        return abs(self.measured - expected) <= 5 * math.sqrt(expected) + 3


def all_limits(tries: int, seed: int = 1) -> list[Limit]:
    """Work out all limits, with so many tries each."""
    dice = Random(seed)
    return [*broadcast_limits(tries, dice), *rtu_limits(tries, dice), *ascii_limits(tries, dice)]


def broadcast_limits(tries: int, dice: Random) -> list[Limit]:
    """Bytes of the real frame, replaced by random others, in front of its checksum."""
    by_sum, by_format = _shares(lambda _: True), _shares(_fits_the_format)
    found = []
    for count in (1, 2, 4):
        summed = strict = 0
        for _ in range(tries):
            damaged = bytearray(REAL)
            for place in dice.sample(BODY, count):
                damaged[place] = (REAL[place] + dice.randrange(1, 256)) % 256
            if sum(damaged[1:-5]) % 65536 == sum(REAL[1:-5]) % 65536:
                summed += 1
                strict += oracle.broadcast(bytes(damaged)) is not None
        damage = f"{count} random bytes" if count > 1 else "1 random byte"
        found.append(Limit("continuous, its sum alone", damage, _cancels(by_sum, count), summed, tries))
        found.append(Limit("continuous, sum and format", damage, _cancels(by_format, count), strict, tries))
    return found


def _shares(allowed: Callable[[bytes], bool]) -> Share:
    """How the sum changes when one random byte of the body is replaced by a random other one."""
    shares: Counter[int] = Counter()
    for place in BODY:
        for new in range(256):
            if new != REAL[place] and allowed(REAL[:place] + bytes([new]) + REAL[place + 1 :]):
                shares[new - REAL[place]] += 1
    return {change: count / (len(BODY) * 255) for change, count in shares.items()}


def _fits_the_format(damaged: bytes) -> bool:
    return oracle.broadcast(damaged[:-5] + b"%04X;" % (sum(damaged[1:-5]) % 65536)) is not None


def _cancels(one: Share, count: int) -> float:
    """The chance that so many independent changes add up to nothing."""
    total: Share = {0: 1.0}
    for _ in range(count):
        summed: Counter[int] = Counter()
        for change, chance in total.items():
            for more, likely in one.items():
                summed[change + more] += chance * likely  # type: ignore[assignment]
        total = dict(summed)
    return total.get(0, 0.0)


def rtu_limits(tries: int, dice: Random) -> list[Limit]:
    """Bits of a reply flipped, and a reply with random data, behind the right address, function and count."""
    good = oracle.rtu_frame(REPLY)
    bits = range(8 * len(good))
    found = []
    for count in (1, 2, 3, 4):
        passed = sum(_crc_fits(_flipped(good, dice.sample(bits, count))) for _ in range(tries // 8))
        chance = _undetected(good, count)
        found.append(Limit("Modbus RTU", f"{count} random bits", chance, passed, tries // 8))
    tail = len(good) - 3
    passed = sum(_crc_fits(good[:3] + dice.randbytes(tail)) for _ in range(tries // 2))
    found.append(Limit("Modbus RTU", "all bytes after the byte count", 2.0**-16, passed, tries // 2))
    return found


def _table() -> list[int]:
    values = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
        values.append(byte)
    return values


_CRC = _table()


def _crc_fits(message: bytes) -> bool:
    value = 0xFFFF
    for byte in message:  # over its own CRC as well: nothing is left then
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value == 0


def _flipped(message: bytes, places: list[int]) -> bytes:
    damaged = bytearray(message)
    for place in places:
        damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def _undetected(message: bytes, count: int) -> float:
    """The share of all choices of so many bits whose flips the CRC does not show: their traces cancel."""
    zeros = bytes(len(message))
    base = _remainder(zeros)
    traces = [_remainder(_flipped(zeros, [place])) ^ base for place in range(8 * len(message))]
    if count < 4:
        ways = sum(_folded(chosen) == 0 for chosen in combinations(traces, count))
    else:
        pairs = Counter(one ^ other for one, other in combinations(traces, 2))
        # every four that cancel are met as three pairs of pairs
        ways = sum(number * (number - 1) // 2 for number in pairs.values()) // 3
    total = 1
    for step in range(count):
        total = total * (len(traces) - step) // (step + 1)
    return ways / total


def _remainder(message: bytes) -> int:
    value = 0xFFFF
    for byte in message:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value


def _folded(values: tuple[int, ...]) -> int:
    folded = 0
    for value in values:
        folded ^= value
    return folded


DIGITS = "0123456789ABCDEF"


def ascii_limits(tries: int, dice: Random) -> list[Limit]:
    """Digits of a reply replaced by other digits, and a reply with random data."""
    good = oracle.ascii_frame(REPLY).decode()
    digits = range(1, len(good) - 2)
    found = []
    for count in (1, 2):
        passed = 0
        for _ in range(tries):
            damaged = list(good)
            for place in dice.sample(digits, count):
                damaged[place] = dice.choice(DIGITS.replace(good[place], ""))
            passed += sum(bytes.fromhex("".join(damaged[1:-2]))) % 256 == 0
        damage = f"{count} random digits" if count > 1 else "1 random digit"
        found.append(Limit("Modbus ASCII", damage, _digits_cancel(good, digits, count), passed, tries))
    size = len(REPLY) - 3 + 1
    passed = sum(sum(REPLY[:3] + dice.randbytes(size)) % 256 == 0 for _ in range(tries))
    found.append(Limit("Modbus ASCII", "all bytes after the byte count", 2.0**-8, passed, tries))
    return found


def _digits_cancel(good: str, digits: range, count: int) -> float:
    """The chance that replaced digits leave the sum modulo 256 as it was; exact for one and for two."""
    effects = {
        place: Counter(
            (int(new, 16) - int(good[place], 16)) * (16 if place % 2 else 1) % 256
            for new in DIGITS
            if new != good[place]
        )
        for place in digits
    }
    if count == 1:
        return sum(effects[place][0] for place in digits) / (15 * len(digits))
    pairs = list(combinations(digits, 2))
    ways = sum(
        number * effects[other][-change % 256] for one, other in pairs for change, number in effects[one].items()
    )
    return ways / (225 * len(pairs))
