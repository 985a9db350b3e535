"""Query: one Modbus request, and what its reply must look like. No I/O."""

import attrs

from servomex import registers
from servomex.registers import Span

READ_COILS = 1
READ_INPUTS = 2
READ_REGISTERS = 4
WRITE_COIL = 5
LOOPBACK = 8

COIL_VALUES = {False: b"\x00\x00", True: b"\xff\x00"}
"""How function 05 writes a coil."""

_FIRST_NUMBERS = {
    READ_COILS: registers.COIL_NUMBER,
    WRITE_COIL: registers.COIL_NUMBER,
    READ_INPUTS: registers.INPUT_NUMBER,
    READ_REGISTERS: registers.REGISTER_NUMBER,
}


@attrs.frozen(cache_hash=True)
class Query:
    """A request: to read ``span`` (01, 02, 04), to write ``payload`` to its coil (05), to loop it back (08).

    Attributes:
        function: Modbus function code.
        span: What is read or written.
        payload: What is written or looped back.
        paired: The same is also read in another size and compared: neither read needs further proof.
        writes: Whether it changes something, so that it must not be repeated automatically.
        mirrored: Whether the reply equals the request, as an adapter's echo does.
        mirror: What the reply carries after the function code when it is the request's own data; else empty.
        data_size: Bytes that the reply carries after the function code and one more byte.
    """

    function: int
    span: Span = registers.NOTHING
    payload: bytes = b""
    paired: bool = False
    writes: bool = attrs.field(init=False, eq=False, repr=False)
    mirrored: bool = attrs.field(init=False, eq=False, repr=False)
    mirror: bytes = attrs.field(init=False, eq=False, repr=False)
    data_size: int = attrs.field(init=False, eq=False, repr=False)

    @writes.default
    def _writes(self) -> bool:
        return self.function == WRITE_COIL

    @mirrored.default
    def _mirrored(self) -> bool:
        return self.function in (WRITE_COIL, LOOPBACK)

    @mirror.default
    def _mirror(self) -> bytes:
        if self.function == LOOPBACK:
            return b"\0\0" + self.payload
        return self.span.address.to_bytes(2, "big") + self.payload if self.writes else b""

    @data_size.default
    def _data_size(self) -> int:
        if self.mirrored:
            return len(self.mirror) - 1
        return 2 * self.span.count if self.function == READ_REGISTERS else (self.span.count + 7) // 8

    @property
    def number(self) -> int | None:
        """The maker's number of the first coil, input or register."""
        first = _FIRST_NUMBERS.get(self.function)
        return None if first is None else first + self.span.address


PROBE = Query(READ_INPUTS, registers.ANALYSER_FLAGS)
"""Sent to an address to find out whether an analyser is there: the shortest request that changes nothing."""
