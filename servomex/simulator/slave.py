"""The Modbus side of a virtual analyser: request bytes in, reply bytes out. Framing and codec are pymodbus's."""

from collections.abc import Coroutine
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU

from servomex.enums import ProtocolKind
from servomex.simulator.device import IllegalAddressError, VirtualAnalyzer

SUPPORTED = (1, 2, 4, 5, 8, 15)
"""Function codes of the instrument (manual, Appendix B)."""


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
        """Answer what has been received: whether a message was complete, and the framed reply, if there is one.

        A message that is damaged, or for another address, is ignored, as the instrument does.
        """
        framer = self._framers[self._analyser.mode]
        try:
            used, pdu = framer.handleFrame(received, 0, 0)
        except Exception:  # noqa: BLE001 (pymodbus lets many kinds out; the instrument ignores damage as well)
            used, pdu = len(received), None
        pdu = pdu or self._unknown(framer, received)
        if pdu is None or pdu.dev_id != self._analyser.address:
            return bool(used or pdu), b""
        reply = self._reply(pdu)
        reply.dev_id = pdu.dev_id
        return True, framer.buildFrame(reply)

    def foreign(self, reply: bytes, address: int) -> bytes:
        """The same reply as another address would send it."""
        framer = self._framers[self._analyser.mode]
        body = bytes.fromhex(reply[1:-4].decode()) if isinstance(framer, FramerAscii) else reply[:-2]
        return framer.encode(body[1:], address, 0)

    def _reply(self, request: ModbusPDU) -> ModbusPDU:
        function = request.function_code
        if function not in SUPPORTED or (function == 8 and request.sub_function_code != 0):
            return ExceptionResponse(function, ExcCodes.ILLEGAL_FUNCTION)
        update: Coroutine[Any, Any, ModbusPDU] = request.datastore_update(self, request.dev_id)  # type: ignore[arg-type]
        try:
            update.send(None)
        except StopIteration as finished:
            reply: ModbusPDU = finished.value
            return reply
        raise AssertionError("unreachable: nothing here ever waits")

    def _unknown(self, framer: FramerBase, request: bytes) -> ModbusPDU | None:
        """An undamaged request whose function code pymodbus does not know."""
        if isinstance(framer, FramerAscii) or len(request) < 4 or request[1] & 0x80:
            return None
        if not FramerRTU.check_CRC(request[:-2], int.from_bytes(request[-2:], "big")):
            return None
        pdu = ModbusPDU(dev_id=request[0])
        pdu.function_code = request[1]
        return pdu

    async def async_getValues(self, _device: int, function: int, address: int, count: int = 1) -> Any:  # noqa: N802
        """Give values to pymodbus, or the exception code that they are refused with."""
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
        """Take values from pymodbus; the exception code that they are refused with, if any."""
        try:
            self._analyser.write_coils(address, values)
        except IllegalAddressError:
            return ExcCodes.ILLEGAL_ADDRESS
        return None
