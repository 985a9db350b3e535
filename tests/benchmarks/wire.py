"""What a Modbus sweep costs on the wire, computed from the sizes of its messages and from nothing in the driver.

A request to read has 8 bytes in RTU and 17 in ASCII, its reply 5 and the data or 11 and twice the data: Modbus
over Serial Line V1.02, sections 2.5.1 and 2.5.2. A character has 10 bits with 8N1.
"""

from collections.abc import Iterator, Sequence

import attrs

BITS_OF_A_CHARACTER = 10
TURNAROUND_S = 0.03
"""From the end of a request to the start of its reply: 20 to 40 ms were seen on a bench 4100D."""
GAP_S = 0.05
"""The silence before each request, with which that unit lost none."""

READ_INPUTS, READ_REGISTERS = 2, 4
Read = tuple[int, int, int]
"""Function, first address, count."""

ALL_AT_ONCE: tuple[Read, ...] = ((READ_REGISTERS, 0, 70), (READ_INPUTS, 0, 80), (READ_INPUTS, 1000, 16))
"""What everybody reads who does not weigh: all there is."""
BLOCKS = (0, 1, 2, 8, 9)
"""Which of the ten blocks of registers, and of states, the bench unit populates: I1 to I3, E1, E2."""


@attrs.frozen
class Line:
    """A line in one of the framings.

    Attributes:
        baudrate: Bits per second.
        ascii: Modbus ASCII rather than RTU.
    """

    baudrate: int
    ascii: bool

    def __str__(self) -> str:
        return f"{'ASCII' if self.ascii else 'RTU'} {self.baudrate}"

    @property
    def protocol(self) -> str:
        """The mode, as the driver names it."""
        return "modbus_ascii" if self.ascii else "modbus_rtu"

    @property
    def char_s(self) -> float:
        """Seconds a character takes."""
        return BITS_OF_A_CHARACTER / self.baudrate

    @property
    def request_size(self) -> int:
        """Characters of a request."""
        return 17 if self.ascii else 8

    def reply_size(self, read: Read) -> int:
        """Characters of the reply."""
        function, _, count = read
        data = 2 * count if function == READ_REGISTERS else (count + 7) // 8
        return 11 + 2 * data if self.ascii else 5 + data

    def seconds(self, reads: Sequence[Read], *, after_silence: bool = False) -> float:
        """Give the shortest time in which these reads can be done, each behind its gap.

        Args:
            reads: The reads.
            after_silence: The gap before the first one is over already.
        """
        chars = sum(self.request_size + self.reply_size(read) for read in reads)
        gaps = len(reads) - after_silence
        return gaps * GAP_S + len(reads) * TURNAROUND_S + chars * self.char_s

    def cheapest(self) -> list[Read]:
        """Give the reads that get all the bench unit has in the least time: every grouping is tried."""
        registers = [_joined(READ_REGISTERS, 7, groups) for groups in _groupings(BLOCKS)]
        states = [_joined(READ_INPUTS, 8, groups) for groups in _groupings(BLOCKS)]
        best = [min(plans, key=self.seconds) for plans in (registers, states)]
        return [*best[0], *best[1], (READ_INPUTS, 1000, 16)]

    def read_of(self, request: bytes) -> Read:
        """Take a request apart."""
        body = bytes.fromhex(request[1:-4].decode("ascii")) if self.ascii else request[:-2]
        return body[1], int.from_bytes(body[2:4], "big"), int.from_bytes(body[4:6], "big")


def _groupings(blocks: Sequence[int]) -> Iterator[list[Sequence[int]]]:
    """Give every way to cut blocks into groups of neighbours."""
    if not blocks:
        yield []
    for size in range(1, len(blocks) + 1):
        for rest in _groupings(blocks[size:]):
            yield [blocks[:size], *rest]


def _joined(function: int, size: int, groups: Sequence[Sequence[int]]) -> list[Read]:
    return [(function, size * group[0], size * (group[-1] + 1 - group[0])) for group in groups]
