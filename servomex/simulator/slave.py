"""The Modbus side of a virtual analyser: request bytes in, reply bytes out. Framing and codec are pymodbus's."""

import logging
from collections.abc import Coroutine
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU

from servomex.enums import ProtocolKind
from servomex.simulator.device import IllegalAddressError, VirtualAnalyzer

logging.getLogger("pymodbus").addHandler(logging.NullHandler())  # its errors would reach stderr otherwise

SUPPORTED = (1, 2, 4, 5, 8, 15)
"""Function codes of the instrument (manual, Appendix B)."""
COIL_VALUES = (b"\xff\x00", b"\x00\x00")


class ModbusSlave:
    """Answers requests for one virtual analyser.

    Args:
        analyser: The analyser that is asked.
    """

    def __init__(self, analyser: VirtualAnalyzer) -> None:
        self._analyser = analyser
        self._framers: dict[ProtocolKind, FramerBase] = {
            ProtocolKind.MODBUS_RTU: FramerRTU(DecodePDU(True)),
            ProtocolKind.MODBUS_ASCII: FramerAscii(DecodePDU(True)),
        }

    def answer(self, received: bytes) -> tuple[bool, bytes]:
        """Answer received bytes: return whether a message was complete, and the framed reply, if there is one.

        A message that is damaged, or for another address, is ignored, as by the instrument.
        """
        framer = self._framers[self._analyser.mode]
        used, address, body = self._unframe(framer, received)
        if not body or address != self._analyser.address:
            return used > 0, b""
        reply = self._reply(body)
        reply.dev_id = address
        return True, framer.buildFrame(reply)

    def foreign(self, reply: bytes, address: int) -> bytes:
        """Return the same reply as another address would send it."""
        framer = self._framers[self._analyser.mode]
        body = bytes.fromhex(reply[1:-4].decode()) if isinstance(framer, FramerAscii) else reply[:-2]
        return framer.encode(body[1:], address, 0)

    def _unframe(self, framer: FramerBase, received: bytes) -> tuple[int, int, bytes]:
        """Split off a message: bytes consumed, address, and function with data, empty if it is damaged."""
        try:
            used, address, _, body = framer.decode(received)
        except ValueError:  # not even the address is hexadecimal
            return len(received), 0, b""
        if body or not isinstance(framer, FramerRTU) or len(received) < 4:
            return used, address, body
        # pymodbus has no size for a function that it does not know: such a message ends where its CRC matches
        if FramerRTU.check_CRC(received[:-2], int.from_bytes(received[-2:], "big")):
            return len(received), received[0], received[1:-2]
        return used, address, b""

    def _reply(self, body: bytes) -> ModbusPDU:
        function, data = body[0], body[1:]
        if function not in SUPPORTED or (function == 8 and data[:2] != b"\0\0"):
            return ExceptionResponse(function & 0x7F, ExcCodes.ILLEGAL_FUNCTION)
        request = DecodePDU(True).decode(body)
        if request is None or (function == 5 and data[2:4] not in COIL_VALUES):
            return ExceptionResponse(function, ExcCodes.ILLEGAL_VALUE)
        update: Coroutine[Any, Any, ModbusPDU] = request.datastore_update(self, self._analyser.address)  # type: ignore[arg-type]
        try:
            update.send(None)
        except StopIteration as finished:
            reply: ModbusPDU = finished.value
            return reply
        raise AssertionError("unreachable: nothing here ever waits")

    async def async_getValues(self, _device: int, function: int, address: int, count: int = 1) -> Any:  # noqa: N802
        """Return values to pymodbus, or the exception code that refuses the request."""
        read = {
            1: self._analyser.coils,
            5: self._analyser.coils,
            2: self._analyser.discrete_inputs,
            4: self._analyser.input_registers,
        }[function]
        try:
            return read(address, count)
        except IllegalAddressError:
            return ExcCodes.ILLEGAL_ADDRESS

    async def async_setValues(self, _device: int, _function: int, address: int, values: list[bool]) -> Any:  # noqa: N802
        """Write values of pymodbus; return the exception code that refuses them, if any."""
        try:
            self._analyser.write_coils(address, values)
        except IllegalAddressError:
            return ExcCodes.ILLEGAL_ADDRESS
        return None
