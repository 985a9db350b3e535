"""Modbus messages without their framing: possible lengths, senders, and meaning in words. No I/O.

Neither framing names the sender. Whether a message is a request or a reply shows in its length, and in whether its
request was heard before. ``body`` is a message from its address on, without its checksum.
"""

from collections.abc import Iterable, Iterator

from servomex import registers
from servomex.durations import counted
from servomex.enums import EXTERNAL_CHANNELS, ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexGatewayError,
    ServomexIllegalDataAddressError,
    ServomexIllegalDataValueError,
    ServomexIllegalFunctionError,
    ServomexModbusError,
)
from servomex.models.analyser import CAL_GROUPS
from servomex.models.reading import NO_TIME, Reading, value_text
from servomex.registers import Span

_READ_COILS, _READ_INPUTS, _READ_REGISTERS, _WRITE_COIL, _LOOPBACK, _WRITE_COILS = 1, 2, 4, 5, 8, 15
_READS = {
    _READ_COILS: ("coil", registers.COIL_NUMBER),
    _READ_INPUTS: ("discrete input", registers.INPUT_NUMBER),
    _READ_REGISTERS: ("input register", registers.REGISTER_NUMBER),
}
FUNCTIONS = (*_READS, _WRITE_COIL, _LOOPBACK, _WRITE_COILS)
"""The functions that the instrument supports (manual, Appendix B). An exception has the highest bit set."""
_MAX_READ = 250
_MAX_WRITE = 246
_ANALYSER, _GATEWAY = "the analyser refused the request", "a gateway answered in place of the analyser"
_EXCEPTIONS: dict[int, tuple[type[ServomexModbusError], str, str, str, str]] = {
    1: (
        ServomexIllegalFunctionError,
        "function not supported",
        _ANALYSER,
        "it does not support this function",
        "",
    ),
    2: (
        ServomexIllegalDataAddressError,
        "address out of range",
        _ANALYSER,
        "the address is outside its range",
        "",
    ),
    3: (ServomexIllegalDataValueError, "invalid data", _ANALYSER, "the data is invalid", ""),
    4: (
        ServomexModbusError,
        "device failure",
        _ANALYSER,
        "it failed while processing the request",
        "Look at the messages on its panel",
    ),
    5: (ServomexModbusError, "accepted, needs more time", _ANALYSER, "it needs more time", "Try again"),
    6: (ServomexModbusError, "busy", _ANALYSER, "it is busy with another request", "Try again"),
    10: (
        ServomexGatewayError,
        "gateway path unavailable",
        _GATEWAY,
        "it has no path to the serial line",
        "Check the ports and addresses in the settings of the gateway",
    ),
    11: (
        ServomexGatewayError,
        "gateway target did not respond",
        _GATEWAY,
        "the analyser did not respond to it",
        "Check that the analyser is on, its communication mode, its address, its serial settings against those of "
        "the gateway, and the wiring between them",
    ),
}
"""Exception codes: 01 to 03 from the manual, Appendix B; the others, which gateways send, from the Modbus
specification, section 7. Each with its error, its meaning, its sender, that as a sentence, and what to do."""
_UNKNOWN_EXCEPTION = (
    ServomexModbusError,
    "a code that neither the manual nor the Modbus specification lists",
    _ANALYSER,
    "neither the manual nor the Modbus specification lists this code",
    "",
)
_COIL_VALUES = {b"\xff\x00": 1, b"\x00\x00": 0}


def refusal(code: int, context: ErrorContext) -> ServomexModbusError:
    """Build the error for an exception reply: who refused, why, and what to do."""
    kind, _, who, why, cure = _EXCEPTIONS.get(code, _UNKNOWN_EXCEPTION)
    return kind(f"{who} with exception {code:02X}: {why}", context, cure=cure)


class Dialogue:
    """Describes the messages of a line, each in the light of those before it.

    A reply is read with the last request to the same address and function in mind, as far as their sizes agree.
    The driver needs more proof than that, see :mod:`servomex.modbus.exchange`: this is for observing a line.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[int, int], bytes] = {}

    def expected_size(self, address: int, function: int) -> int:
        """Return the size of the body that answers the last read; 0 when none is expected."""
        return _reply_size(self._asked.get((address, function), b""))

    def say(self, body: bytes) -> str:
        """Return the meaning of a message, and remember it if it is a request."""
        address, function = body[0], body[1]
        who = f"address {address}, FC{function & 0x7F:02d}"
        if function & 0x7F not in FUNCTIONS or len(body) not in body_sizes(body):
            return f"message of an unknown form: {who}, {counted(len(body) - 2, 'byte')}"
        asked = self._asked.pop((address, function & 0x7F), b"")
        if function & 0x80:
            _, reason, *_ = _EXCEPTIONS.get(body[2], _UNKNOWN_EXCEPTION)
            return f"exception {body[2]:02X} ({reason}): {who}"
        if _is_reply(body, asked):
            return f"reply: {who}{_reply_text(body, asked)}"
        self._asked[address, function] = body
        return f"request: {who} {_request_text(body)}"


def body_sizes(body: bytes) -> set[int]:
    """Return the possible sizes of a message that begins like this, without its checksum."""
    function = body[1]
    if function & 0x80:
        return {3}
    sizes = {6}
    if function in _READS and len(body) > 2 and 1 <= body[2] <= _MAX_READ:
        sizes.add(3 + body[2])
    if function == _WRITE_COILS and len(body) > 6 and 1 <= body[6] <= _MAX_WRITE:
        sizes.add(7 + body[6])
    return sizes


def _reply_size(asked: bytes) -> int:
    """Return the size of the reply to a read; 0 after any other request, or none."""
    if len(asked) != 6 or asked[1] not in _READS:
        return 0
    count = int.from_bytes(asked[4:6], "big")
    return 3 + (2 * count if asked[1] == _READ_REGISTERS else (count + 7) // 8)


def _is_reply(body: bytes, asked: bytes) -> bool:
    """Return whether it is a reply, and not a request. With three bytes of data both are equally long."""
    function = body[1]
    if function in _READS:
        return len(body) != 6 or (_reply_size(asked) == 6 and body[2] == 3)
    if function == _WRITE_COILS:
        return len(body) == 6
    return body == asked


def _request_text(body: bytes) -> str:
    function, span = body[1], Span(int.from_bytes(body[2:4], "big"), int.from_bytes(body[4:6], "big"))
    if function in _READS:
        what, first = _READS[function]
        return f"read {_numbered(what, span, first)}"
    if function == _LOOPBACK:
        return _loopback_text(body)
    if function == _WRITE_COIL:
        return _writes_text(span.address, body[4:6])
    values = _bits(body[7:], span.count)
    meanings = map(_coil_text, span.addresses, values)
    acts = ", ".join(text for text, value in zip(meanings, values, strict=False) if value and text) or "write"
    return f"{acts}: {_numbered('coil', span, registers.COIL_NUMBER)} := {_digits(values)}"


def _reply_text(body: bytes, asked: bytes) -> str:
    function = body[1]
    if function == _LOOPBACK:
        return f", {_loopback_text(body)}"
    if function not in _READS:
        return ", the write was received"
    data = body[3:]
    size = f", {counted(len(data), 'byte')}"
    if _reply_size(asked) != len(body):
        return size
    meaning = _meaning(function, data, Span(int.from_bytes(asked[2:4], "big"), int.from_bytes(asked[4:6], "big")))
    return f"{size}: {meaning}" if meaning else size


def _meaning(function: int, data: bytes, span: Span) -> str:
    if function == _READ_REGISTERS:
        words = [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]
        return ", ".join(map(reading_text, _readings(dict(zip(span.addresses, words, strict=True)))))
    bits = dict(zip(span.addresses, _bits(data, span.count), strict=True))
    if function == _READ_COILS:
        return f"{_numbered('coil', span, registers.COIL_NUMBER)}: {_digits(bits.values())}"
    known = [*_state_texts(bits)]
    return ", ".join(text for text in known if text) or ("nothing raised" if known else "")


def _readings(words: dict[int, int]) -> Iterator[Reading]:
    """Decode the channels whose value is among these registers, without the name if that was not read."""
    spaces = 0x2020
    for channel, span in registers.REGISTERS.items():
        block = [words.get(address, spaces) for address in span.addresses]
        named = channel in EXTERNAL_CHANNELS or span.address + 2 not in words or registers.is_named(block)
        if named and {span.address, span.address + 1} <= words.keys():
            yield registers.decode_channel(channel, block, [False] * 8, ProtocolKind.MODBUS_RTU, NO_TIME, 0)


def _state_texts(bits: dict[int, bool]) -> Iterator[str]:
    """Yield the raised states of each channel and of the analyser; empty where none is."""
    for channel, span in registers.STATES.items():
        if all(address in bits for address in span.addresses):
            state = registers.decode_state(channel, [bits[address] for address in span.addresses])
            yield " ".join((channel, " and ".join(state.words))) if state.words else ""
    for address, text in zip(registers.ANALYSER_FLAGS.addresses, ("fault", "maintenance required"), strict=True):
        if address in bits:
            yield f"analyser {text}" if bits[address] else ""
    for group in range(CAL_GROUPS):
        first = registers.ANALYSER_GROUPS.address + 2 * group
        if first in bits and first + 1 in bits:
            yield f"group {group + 1} on calibration gas {1 + bits[first + 1]}" if bits[first] else ""


def reading_text(reading: Reading) -> str:
    """Return the reading of a channel in words."""
    state = f" ({', '.join(reading.status.words)})" if reading.status.words else ""
    return " ".join(filter(None, (str(reading.channel), reading.name, value_text(reading)))) + state


def _loopback_text(body: bytes) -> str:
    part = int.from_bytes(body[2:4], "big")
    return f"loopback of {body[4:].hex(' ')}" if part == 0 else f"diagnostics {part}, {body[4:].hex(' ')}"


def _writes_text(address: int, value: bytes) -> str:
    coil = _numbered("coil", Span(address, 1), registers.COIL_NUMBER)
    if value not in _COIL_VALUES:
        return f"write: {coil} := {value.hex()}, which is not a valid coil value"
    return f"{_coil_text(address, bool(_COIL_VALUES[value])) or 'write'}: {coil} := {_COIL_VALUES[value]}"


def _coil_text(address: int, value: bool) -> str:
    """Return what writing a coil does; empty for a coil that the manual does not list.

    The change to 1 acts; the 0 makes the next change possible.
    """
    for group, span in registers.START_COILS.items():
        if address == span.address:
            return f"start autocalibration of group {group}" if value else f"reset the start of group {group}"
    if address == registers.STOP_COIL.address:
        return "stop all autocalibrations" if value else "reset the stop"
    return ""


def _numbered(what: str, span: Span, first: int) -> str:
    """Name inputs, registers or coils by the maker's numbers."""
    low, high = span.address + first, span.end - 1 + first
    if span.count == 0:
        return f"no {what} from {low:05d} on"
    return f"{what} {low:05d}" if span.count == 1 else f"{what}s {low:05d} to {high:05d}"


def _bits(data: bytes, count: int) -> list[bool]:
    """Unpack bits, the first in the lowest place of the first byte."""
    return [bool(byte >> place & 1) for byte in data for place in range(8)][:count]


def _digits(bits: Iterable[bool]) -> str:
    return " ".join("1" if bit else "0" for bit in bits)
