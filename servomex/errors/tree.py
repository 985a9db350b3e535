"""The tree of the errors, and the context that each of them carries."""

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import attrs

from servomex.errors.arguments import Argument
from servomex.errors.carried import LastFrame
from servomex.errors.excerpts import hex_text, json_value
from servomex.errors.mappings import FrozenMapping, frozen

__all__ = [
    "Argument",
    "ErrorContext",
    "ServomexCalibrationError",
    "ServomexCapabilityError",
    "ServomexChannelError",
    "ServomexChannelNotFoundError",
    "ServomexChecksumError",
    "ServomexConfigurationError",
    "ServomexConfirmationRequiredError",
    "ServomexConnectionError",
    "ServomexError",
    "ServomexForeignDeviceError",
    "ServomexFrameError",
    "ServomexGapError",
    "ServomexGatewayError",
    "ServomexIllegalDataAddressError",
    "ServomexIllegalDataValueError",
    "ServomexIllegalFunctionError",
    "ServomexModbusError",
    "ServomexNoFrameError",
    "ServomexNotFoundError",
    "ServomexParseError",
    "ServomexProtocolError",
    "ServomexProtocolUnsupportedError",
    "ServomexSinkDependencyError",
    "ServomexSinkError",
    "ServomexSinkReadError",
    "ServomexSinkSchemaError",
    "ServomexSinkSyncError",
    "ServomexSinkWriteError",
    "ServomexStaleError",
    "ServomexTimeoutError",
    "ServomexTransportError",
    "ServomexValidationError",
]


def _number_of(register: int) -> str:
    """Return the kind of register with this number, by the first digit of the maker's numbers."""
    return {0: "coil", 1: "input"}.get(register // 10_000, "register")


def _facts(items: Mapping[str, Any]) -> FrozenMapping[Any]:
    if not isinstance(items, Mapping):
        raise ServomexValidationError(f"extra must be a mapping of names to facts, not {items!r}")
    return frozen(items)


@attrs.frozen
class ErrorContext:
    """Where an error happened. Every field but ``extra`` may be unknown (``None``).

    Attributes:
        port: Device path or URL of the port.
        protocol: Communication mode, a ``ProtocolKind`` or its value.
        address: Modbus slave address, 1 to 247.
        channel: A ``ChannelId``, or its value such as ``I1``.
        register: First register, discrete input or coil of the request, by the maker's number (30001 ...).
        function_code: Modbus function code of the request.
        request: Bytes that were sent.
        response: Bytes received, possibly incomplete.
        elapsed_s: Seconds from the start of the call to the error.
        extra: Further facts by name, such as the ``device`` of a manager; it cannot be changed.
    """

    port: str | None = None
    protocol: str | None = None
    address: int | None = None
    channel: str | None = None
    register: int | None = None
    function_code: int | None = None
    request: bytes | None = None
    response: bytes | None = None
    elapsed_s: float | None = None
    extra: Mapping[str, Any] = attrs.field(default=FrozenMapping(), converter=_facts, hash=False)

    def merged(self, **updates: Any) -> "ErrorContext":
        """Return a copy of the context with some fields changed.

        Args:
            updates: Fields with their new values. Other names are added to ``extra``, as are the items of a given
                ``extra``.

        Raises:
            ServomexValidationError: An ``extra`` is given, and is not a mapping.
        """
        fields = {name: updates.pop(name) for name in _FIELDS & updates.keys()}
        return attrs.evolve(self, **fields, extra={**self.extra, **_facts(updates.pop("extra", {})), **updates})

    def __str__(self) -> str:
        parts = (
            self.port,
            self.protocol,
            None if self.address is None else f"address {self.address}",
            self.channel,
            None if self.function_code is None else f"FC{self.function_code:02d}",
            None if self.register is None else f"{_number_of(self.register)} {self.register:05d}",
            None if not self.request else f"sent {hex_text(self.request)}",
            None if not self.response else f"got {hex_text(self.response)}",
            None if self.elapsed_s is None else f"after {self.elapsed_s:.2f} s",
            *(f"{name} {value}" for name, value in self.extra.items()),
        )
        return ", ".join(part for part in parts if part)


_FIELDS = attrs.fields_dict(ErrorContext).keys() - {"extra"}


class ServomexError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        message: What happened.
        context: Where it happened.
        cure: What to do, as one or more sentences without the last full stop; empty when the message says all.
        argument: The argument that ``cure`` says to change; ``None`` if it names none, or several.
    """

    def __init__(
        self,
        message: str = "",
        context: ErrorContext | None = None,
        *,
        cure: str = "",
        argument: Argument | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.context: ErrorContext = context or ErrorContext()
        self.cure = cure
        self.argument = argument

    @property
    def text(self) -> str:
        """The message and what to do, without the context."""
        return ". ".join(part for part in (self.message, self.cure) if part)

    def __str__(self) -> str:
        where = str(self.context)
        return f"{self.text} [{where}]".lstrip() if where else self.text

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object: text, class, message, cure, argument, and the facts of its context."""
        argument = self.argument and {
            "name": json_value(self.argument.name),
            "value": json_value(self.argument.value),
        }
        where = {item.name: getattr(self.context, item.name) for item in attrs.fields(ErrorContext)}
        facts = {name: json_value(value) for name, value in where.items() if name != "extra" and value is not None}
        return {
            "error": json_value(str(self)),
            "error_type": type(self).__name__,
            "message": json_value(self.message),
            "cure": json_value(self.cure),
            "argument": argument,
            "context": facts
            | {json_value(str(name)): json_value(value) for name, value in self.context.extra.items()},
        }

    def with_context(self, **updates: Any) -> Self:
        """Return a copy with more detail about where it happened; each thread that raises an error needs its own.

        The copy keeps everything else, including notes, cause and traceback; a note added later to one of them is
        not added to the other.

        Args:
            updates: Fields of :class:`ErrorContext` with their new values; other names are added to its
                ``extra``. None are needed for a plain copy.
        """
        other = copy.copy(self)
        other.context = self.context.merged(**updates)
        other.__cause__, other.__context__ = self.__cause__, self.__context__
        other.__suppress_context__ = self.__suppress_context__
        if notes := getattr(self, "__notes__", None):
            other.__notes__ = list(notes)
        return other.with_traceback(self.__traceback__)


class ServomexConfigurationError(ServomexError, ValueError):
    """The request cannot be met: an unusable setting or combination of settings."""


class ServomexValidationError(ServomexConfigurationError):
    """An argument is out of range or names something unknown."""


class ServomexChannelNotFoundError(ServomexValidationError, LookupError):
    """The requested channel is not populated, no channel has this name, or several have it."""


class ServomexConfirmationRequiredError(ServomexConfigurationError):
    """The operation moves gas, and was not confirmed with ``confirm=True``."""


class ServomexTransportError(ServomexError):
    """The line between this computer and the analyser failed."""


class ServomexTimeoutError(ServomexTransportError, TimeoutError):
    """Nothing usable arrived before the deadline of the call."""


class ServomexStaleError(ServomexTimeoutError):
    """No new broadcast arrived in time, and the last one is too old to count as current.

    Attributes:
        frame: The last frame that was received; ``None`` where an error is read back from a recording.
        age_s: Seconds since its last byte arrived; ``None`` likewise.
    """

    def __init__(
        self,
        message: str = "",
        context: ErrorContext | None = None,
        *,
        cure: str = "",
        argument: Argument | None = None,
        frame: LastFrame | None = None,
        age_s: float | None = None,
    ) -> None:
        super().__init__(message, context, cure=cure, argument=argument)
        self.frame = frame
        self.age_s = age_s


class ServomexConnectionError(ServomexTransportError, ConnectionError):
    """The port is missing, busy, forbidden, closed or was unplugged."""


class ServomexNotFoundError(ServomexConnectionError, ServomexTimeoutError):
    """No analyser was found in any mode (``protocol="auto"``)."""


class ServomexNoFrameError(ServomexValidationError, ServomexTimeoutError):
    """A snapshot was requested before the first frame was received."""


class ServomexProtocolError(ServomexError):
    """The bytes on the line are not what the protocol allows."""


class ServomexCapabilityError(ServomexError):
    """The requested operation is not available on this device, or in this mode."""


class ServomexParseError(ServomexProtocolError, ValueError):
    """The bytes received are not a message, or are a broadcast that must not be believed.

    Attributes:
        reason: What is wrong, without the words "damaged frame".
        received_at: When the last byte of a broadcast arrived, UTC; ``None`` when that is not known.
        monotonic_ns: The same on the monotonic clock.
    """

    def __init__(
        self,
        message: str = "",
        context: ErrorContext | None = None,
        *,
        cure: str = "",
        argument: Argument | None = None,
        reason: str = "",
        received_at: datetime | None = None,
        monotonic_ns: int | None = None,
    ) -> None:
        super().__init__(message, context, cure=cure, argument=argument)
        self.reason: str = reason or message
        self.received_at: datetime | None = received_at
        self.monotonic_ns: int | None = monotonic_ns


class ServomexChecksumError(ServomexParseError):
    """The checksum of a continuous frame does not match its bytes."""


class ServomexFrameError(ServomexParseError):
    """The structure of a broadcast is broken, or a Modbus reply is damaged, short, or answers another request."""


class ServomexModbusError(ServomexProtocolError):
    """The analyser answered with a Modbus exception: it received the request and refused it."""


class ServomexIllegalFunctionError(ServomexModbusError, ServomexCapabilityError):
    """Modbus exception 01: the function is not supported."""


class ServomexIllegalDataAddressError(ServomexModbusError):
    """Modbus exception 02: an address is outside the supported range."""


class ServomexIllegalDataValueError(ServomexModbusError):
    """Modbus exception 03: the data is invalid."""


class ServomexGatewayError(ServomexModbusError):
    """Modbus exception 0A or 0B: a gateway answered because the analyser did not."""


class ServomexForeignDeviceError(ServomexProtocolError):
    """The device at the address is not an analyser of the 4000 series (4100, 4200, 4900)."""


class ServomexChannelError(ServomexProtocolError):
    """A channel that was there or was requested is no longer populated, or has another name or unit."""


class ServomexProtocolUnsupportedError(ServomexProtocolError, ServomexCapabilityError):
    """The analyser's communication mode does not support the operation."""


class ServomexCalibrationError(ServomexError):
    """An autocalibration did not start or end as requested.

    Attributes:
        running: Whether the calibration is running: ``True`` or ``False`` as reported by the analyser, ``None``
            when that is not known.
    """

    def __init__(
        self,
        message: str = "",
        context: ErrorContext | None = None,
        *,
        cure: str = "",
        argument: Argument | None = None,
        running: bool | None = None,
    ) -> None:
        super().__init__(message, context, cure=cure, argument=argument)
        self.running = running


class ServomexSinkError(ServomexError):
    """A recording cannot be written or read."""


class ServomexSinkSchemaError(ServomexSinkError, ValueError):
    """A file or a sample has the wrong contents: other columns, a damaged line, a text for a number."""


class ServomexSinkWriteError(ServomexSinkError, OSError):
    """A file cannot be written: no such folder, no permission, a full disk, or another program uses it."""


class ServomexSinkSyncError(ServomexSinkWriteError):
    """The rows are written, and must not be written again, but they may not survive a loss of power."""


class ServomexSinkReadError(ServomexSinkError, OSError):
    """A file is missing or cannot be read."""


class ServomexGapError(ServomexSinkError):
    """Rows are missing here: they were dropped before the sink had them. It is never raised, but is in rows."""


class ServomexSinkDependencyError(ServomexSinkError, ServomexConfigurationError, ImportError):
    """A package that the format needs is not installed; the error names the extra to install."""


for _name in __all__:
    globals()[_name].__module__ = "servomex.errors"  # where users import it from: for tracebacks and pickles
