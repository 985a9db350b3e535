"""Damage: what is done to bytes, by chance, to make new ones. Some of it keeps a checksum on purpose."""

from collections.abc import Callable
from random import Random

from tests.fuzz import oracle

LARGEST = 1400
"""Inputs are cut to this size, so that no run takes long."""
Mutator = Callable[[bytearray, Random], None]
LETTERS = b" ;0123456789.-FMSCW|%vpmAIDE\r\n:\x00\x82\xff"


def flip(data: bytearray, dice: Random) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def replace(data: bytearray, dice: Random) -> None:
    data[dice.randrange(len(data))] = dice.randrange(256)


def letter(data: bytearray, dice: Random) -> None:
    data[dice.randrange(len(data))] = dice.choice(LETTERS)


def insert(data: bytearray, dice: Random) -> None:
    place = dice.randrange(len(data) + 1)
    data[place:place] = bytes(dice.choice(LETTERS) for _ in range(dice.randint(1, 4)))


def cut(data: bytearray, dice: Random) -> None:
    place = dice.randrange(len(data))
    del data[place : place + dice.choice((1, 1, 2, 8, 33))]


def repeat(data: bytearray, dice: Random) -> None:
    first, last = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    data[last:last] = data[first:last]


def swap(data: bytearray, dice: Random) -> None:
    one, other = dice.randrange(len(data)), dice.randrange(len(data))
    data[one], data[other] = data[other], data[one]


def balance(data: bytearray, dice: Random) -> None:
    """Raise one byte and lower another by as much: a sum does not see it."""
    up, down = dice.randrange(len(data)), dice.randrange(len(data))
    by = dice.randint(1, max(1, min(255 - data[up], data[down], 16)))
    if up != down and data[up] + by < 256 and data[down] >= by:
        data[up] += by
        data[down] -= by


def move_block(data: bytearray, dice: Random) -> None:
    """Exchange two channel blocks of a broadcast."""
    blocks = (len(data) - oracle.HEAD - oracle.TAIL) // oracle.BLOCK
    if blocks > 1:
        one, other = (oracle.HEAD + oracle.BLOCK * dice.randrange(blocks) for _ in range(2))
        kept = data[one : one + oracle.BLOCK]
        data[one : one + oracle.BLOCK] = data[other : other + oracle.BLOCK]
        data[other : other + oracle.BLOCK] = kept


def reseal_broadcast(data: bytearray, _dice: Random) -> None:
    """Make the checksum of a broadcast right again."""
    end = len(data) - len(data.rstrip(b"\r\n"))
    if len(data) > oracle.TAIL + 1 + end:
        stop = len(data) - end
        data[stop - 5 : stop - 1] = b"%04X" % (sum(data[1 : stop - 5]) % 65536)


def reseal_rtu(data: bytearray, dice: Random) -> None:
    """Put a right CRC somewhere."""
    stop = dice.choice((len(data), dice.randrange(len(data) + 1)))
    start = dice.choice((0, max(0, stop - dice.choice((5, 6, 7, 8, 19, 145)))))
    if stop - start > 2:
        data[stop - 2 : stop] = oracle.crc16(bytes(data[start : stop - 2])).to_bytes(2, "little")


def reseal_ascii(data: bytearray, dice: Random) -> None:
    """Write some bytes as a message of Modbus ASCII, or make the check of one right again."""
    start = data.rfind(b":")
    try:
        body = bytes.fromhex(bytes(data[start + 1 :]).decode("ascii").strip())[:-1]
    except ValueError:
        body = bytes(data[: dice.randint(3, 20)])
    data[max(0, start) :] = oracle.ascii_frame(body)


MUTATORS: tuple[Mutator, ...] = (
    flip, replace, letter, insert, cut, repeat, swap, balance, balance, move_block,
    reseal_broadcast, reseal_broadcast, reseal_rtu, reseal_ascii,
)  # fmt: skip


def mutated(data: bytes, others: list[bytes], dice: Random) -> bytes:
    """Give a new input: some damage to one, or a piece of it joined to a piece of another."""
    new = bytearray(data or b"\0")
    if dice.random() < 0.1:
        other = dice.choice(others)
        new = new[: dice.randrange(len(new) + 1)] + other[dice.randrange(len(other) + 1) :]
    for _ in range(dice.choice((1, 1, 2, 3, 5))):
        if new:
            dice.choice(MUTATORS)(new, dice)
    return bytes(new[:LARGEST])
