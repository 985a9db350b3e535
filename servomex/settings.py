"""The settings of a serial port."""

import os
from collections.abc import Mapping
from typing import Literal, get_args

import attrs

from servomex.enums import ProtocolKind
from servomex.errors import Argument, ErrorContext, ServomexConfigurationError, ServomexValidationError
from servomex.errors.validation import flag, whole

Parity = Literal["N", "E", "O"]


def _port(value: str | os.PathLike[str] | None) -> str | None:
    if value is None:
        return None
    name = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(name, str) or not name:
        raise ServomexValidationError(f"port must be the name of a port or None, not {value!r}")
    return name


def _baudrate(value: int) -> int:
    return whole(value, "baudrate", 300, 115200)


def _bytesize(value: int) -> int:
    return whole(value, "bytesize", 7, 8)


def _stopbits(value: int) -> int:
    return whole(value, "stopbits", 1, 2)


def _check_parity(_settings: object, _field: object, value: str) -> None:
    if value not in get_args(Parity):
        raise ServomexValidationError(f"parity must be N, E or O, not {value!r}")


def _check_flag(_settings: object, field: "attrs.Attribute[bool]", value: bool) -> None:
    flag(value, field.name)


@attrs.frozen
class SerialSettings:
    """The settings of the serial line. They must equal those on the analyser's front panel.

    The defaults are those of the bench unit: 19200 baud, 8 data bits, no parity, 1 stop bit and no flow
    control. The analyser offers 2400 to 19200 baud (installation manual, section 3.4).

    Attributes:
        port: The port with these settings, by any name that :func:`open_device` takes; ``None`` where it is named
            elsewhere, and for a port object that was passed in.
        baudrate: Bits per second, 300 to 115200.
        bytesize: Data bits, 7 or 8. Modbus RTU needs 8: it is refused with 7, and ``auto`` does not try it.
        parity: ``N``, ``E`` or ``O``.
        stopbits: 1 or 2.
        rtscts: Hardware flow control.
        xonxoff: Software flow control. Not for Modbus RTU, whose data may look like XON or XOFF: it is refused
            then, and ``auto`` does not try it.
        exclusive: Take the port for this program alone, so that a second program, or a second analyser object,
            that wants it for itself is refused. ``False`` lets others open it too and ignores their claims: each
            incoming byte is then read by only one of the programs, so that readings fail and broadcasts get
            lost. Modbus replies are proven to be one's own, as on a line that is shared, but two programs cannot
            know when the other is asking. Windows opens every port for one program, and refuses ``False``. It is
            about devices of this computer: the server of a network port decides who may connect to it.

    Raises:
        ServomexValidationError: A value is out of range.
    """

    port: str | None = attrs.field(default=None, converter=_port)
    baudrate: int = attrs.field(default=19200, converter=_baudrate)
    bytesize: int = attrs.field(default=8, converter=_bytesize)
    parity: Parity = attrs.field(default="N", validator=_check_parity)
    stopbits: int = attrs.field(default=1, converter=_stopbits)
    rtscts: bool = attrs.field(default=False, validator=_check_flag)
    xonxoff: bool = attrs.field(default=False, validator=_check_flag)
    exclusive: bool = attrs.field(default=True, validator=_check_flag)

    @property
    def char_time_s(self) -> float:
        """Seconds that one character takes on the wire: start, data, parity and stop bits."""
        return (1 + self.bytesize + (self.parity != "N") + self.stopbits) / self.baudrate

    def __str__(self) -> str:
        return f"{self.baudrate} {self.bytesize}{self.parity}{self.stopbits}"


def rtu_hindrance(settings: SerialSettings) -> Argument | None:
    """Return the setting that Modbus RTU needs in place of one that damages its bytes; ``None`` if none does."""
    if settings.bytesize != 8:
        return Argument("bytesize", 8)
    return Argument("xonxoff", False) if settings.xonxoff else None


def check_carries(settings: SerialSettings, protocol: ProtocolKind, port: str) -> None:
    """Refuse settings that cannot carry the bytes of a mode.

    Raises:
        ServomexConfigurationError: It is Modbus RTU with 7 data bits, or with software flow control.
    """
    needed = rtu_hindrance(settings) if protocol is ProtocolKind.MODBUS_RTU else None
    if needed is not None:
        why = "has bytes of 8 bits" if needed.name == "bytesize" else "has bytes that look like XON and XOFF"
        raise ServomexConfigurationError(
            f"Modbus RTU {why}, which {needed.name}={getattr(settings, needed.name)} does not carry",
            ErrorContext(port, protocol),
            cure=f"Use {needed}, set the analyser's panel to the same, or use Modbus ASCII",
            argument=needed,
        )


def settings_of(given: SerialSettings | None) -> SerialSettings:
    """Return the settings that a caller gave, or the defaults for ``None``.

    Raises:
        ServomexValidationError: They are something else; the error shows the right form.
    """
    if given is None or isinstance(given, SerialSettings):
        return given or SerialSettings()
    meant = {"baudrate": given if isinstance(given, int) else 9600}
    if isinstance(given, Mapping) and given and given.keys() <= attrs.fields_dict(SerialSettings).keys():
        meant = dict(given)
    text = ", ".join(f"{name}={value!r}" for name, value in meant.items())
    raise ServomexValidationError(
        f"serial_settings must be a SerialSettings, not {given!r}", cure=f"Write SerialSettings({text})"
    )


def settings_given(
    whole: SerialSettings | None,
    baudrate: int | None,
    bytesize: int | None,
    parity: Parity | None,
    stopbits: int | None,
    rtscts: bool | None,
    xonxoff: bool | None,
    exclusive: bool | None,
) -> SerialSettings | None:
    """Return the settings passed to a call, as a whole or one by one; ``None`` when there are none.

    Args:
        whole: Its ``serial_settings``.
        baudrate: This and the others are the fields of :class:`SerialSettings`; ``None`` when omitted.
        bytesize: Data bits.
        parity: Parity.
        stopbits: Stop bits.
        rtscts: Hardware flow control.
        xonxoff: Software flow control.
        exclusive: Take the port for this program alone.

    Raises:
        ServomexConfigurationError: Both were passed.
        ServomexValidationError: A setting is out of range.
    """
    names = list(attrs.fields_dict(SerialSettings))[1:]
    values = (baudrate, bytesize, parity, stopbits, rtscts, xonxoff, exclusive)
    single = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    if not single:
        return whole
    if whole is not None:
        listed = ", ".join(single)
        raise ServomexConfigurationError(
            f"{listed} and serial_settings are given together",
            cure=f"Set {listed} in the SerialSettings, or omit serial_settings",
        )
    return SerialSettings(**single)  # type: ignore[arg-type]  # its fields check them
