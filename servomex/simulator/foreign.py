"""Another instrument of the maker, with another Modbus map: a driver for the 4000 series must refuse it."""

from typing import Any

from servomex.enums import ProtocolKind
from servomex.errors import ServomexValidationError
from servomex.modbus.identity import SERIAL_NUMBER, SOFTWARE_VERSION
from servomex.simulator.device import IllegalAddressError, VirtualAnalyzer


class ForeignInstrument(VirtualAnalyzer):
    """An instrument with the newer map: input registers 1 to 7 and 8 to 15 hold text, and there is nothing else.

    Args:
        refuses_unassigned: Refuse other registers and inputs with exception 02; otherwise they are 0.
        serial_number: Up to 14 characters.
        software_version: Up to 16 characters.
        options: The options of :class:`VirtualAnalyzer`; only the Modbus modes.
    """

    def __init__(
        self,
        *,
        refuses_unassigned: bool = False,
        serial_number: str = "05500A1701",
        software_version: str = "08430_3.10",
        **options: Any,
    ) -> None:
        super().__init__([], **options)
        if self.mode is ProtocolKind.CONTINUOUS_ASCII:
            raise ServomexValidationError("an instrument with the newer map does not broadcast: use a Modbus mode")
        self.refuses_unassigned = refuses_unassigned
        text = b"".join(
            content.encode("ascii").ljust(2 * span.count, b"\0")
            for content, span in ((serial_number, SERIAL_NUMBER), (software_version, SOFTWARE_VERSION))
        )
        if len(text) != 2 * SOFTWARE_VERSION.end:
            raise ServomexValidationError("the serial number or the software version is too long")
        self._text = [int.from_bytes(text[place : place + 2], "big") for place in range(0, len(text), 2)]

    def input_registers(self, address: int, count: int) -> list[int]:
        """Return input registers: the two texts, and 0 for others."""
        end = address + count
        self._check(end <= len(self._text))
        return [self._text[place] if place < len(self._text) else 0 for place in range(address, end)]

    def discrete_inputs(self, address: int, count: int) -> list[bool]:  # noqa: ARG002 (there is none anywhere)
        """Return discrete inputs: none is assigned."""
        self._check(False)
        return [False] * count

    def coils(self, address: int, count: int) -> list[bool]:  # noqa: ARG002 (there is none anywhere)
        """Return coils: none is assigned."""
        self._check(False)
        return [False] * count

    def _check(self, assigned: bool) -> None:
        if self.refuses_unassigned and not assigned:
            raise IllegalAddressError
