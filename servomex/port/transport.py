"""``Transport``: what the driver needs of an open port that is passed in, and how a port argument is read."""

import os
from typing import Protocol, TypeGuard, runtime_checkable

import attrs

from servomex.errors import ErrorContext, ServomexConfigurationError, ServomexValidationError
from servomex.port.pyserial import serial
from servomex.settings import SerialSettings, settings_of

MEMBERS = ("read", "write", "in_waiting", "timeout", "reset_input_buffer")


@runtime_checkable
class Transport(Protocol):
    """An open port that reads and writes bytes as pyserial does: all that the driver uses of one.

    A ``serial.Serial``, what ``serial.serial_for_url`` returns, :class:`FakeTransport` and
    :class:`servomex.testing.ScriptedPort` are transports; so is a class of your own with these members. An
    attribute ``port`` names it in errors, if it has one. An ``OSError`` that it raises counts as the loss of the
    port, as do ``TypeError`` and ``AttributeError``, which pyserial raises when an adapter is pulled; anything
    else it raises is a bug of the class, and is not caught.
    """

    @property
    def timeout(self) -> float | None:
        """The longest time in seconds that :meth:`read` waits. A plain attribute will do; it is set to 0.05."""

    @timeout.setter
    def timeout(self, seconds: float | None, /) -> None: ...

    @property
    def in_waiting(self) -> int:
        """The number of bytes that have arrived and can be read without waiting."""

    def read(self, size: int = 1, /) -> bytes:
        """Return up to ``size`` bytes, waiting for them up to :attr:`timeout` seconds."""

    def write(self, data: bytes, /) -> int | None:
        """Send bytes, all of them: one call is one request."""

    def reset_input_buffer(self) -> None:
        """Drop what has arrived."""


def is_transport(port: object) -> TypeGuard[Transport]:
    """Return whether an object is an open port, without calling it.

    Raises:
        ServomexValidationError: It can read or write, but lacks something that is needed.
    """
    kind = type(port)
    missing = [name for name in MEMBERS if not (hasattr(kind, name) or hasattr(port, name))]
    if "read" in missing and "write" in missing:
        return False
    if missing:
        raise ServomexValidationError(
            f"the port object {port!r} has no {' and no '.join(missing)}",
            cure="Pass what serial.serial_for_url() returns, or give it what servomex.Transport lists",
        )
    return True


def port_and_settings(
    port: str | os.PathLike[str] | SerialSettings | Transport, given: SerialSettings | None
) -> tuple[str, Transport | None, SerialSettings]:
    """Return the name of the port that an argument means, the port itself if it is open, and its settings.

    Raises:
        ServomexValidationError: It is not a port, or the settings are something else.
        ServomexConfigurationError: The settings name no port or another one, or an open port is set otherwise.
    """
    if isinstance(port, SerialSettings):
        if given is not None:
            raise ServomexConfigurationError(
                "serial settings are given twice", cure="Give all of them in the SerialSettings that name the port"
            )
        if port.port is None:
            raise ServomexConfigurationError(
                f"the SerialSettings ({port}) name no port", cure="Write SerialSettings(port='/dev/ttyUSB0', ...)"
            )
        return port.port, None, port
    settings = settings_of(given)
    name, transport = _opened_or_named(port)
    if settings.port not in (None, name):
        raise ServomexConfigurationError(
            f"the port to open is {name}, and the serial settings are those of {settings.port}",
            ErrorContext(port=name),
            cure="Name the port once",
        )
    if transport is None:
        return name, None, attrs.evolve(settings, port=name)
    return name, transport, _settings_of_open(transport, name, given)


def _opened_or_named(port: object) -> tuple[str, Transport | None]:
    if isinstance(port, str | os.PathLike):
        if not os.fspath(port):
            raise ServomexValidationError("the port must not be empty", cure=_NAME_IT)
        return os.fspath(port), None
    if is_transport(port):
        return str(getattr(port, "port", None) or port), port
    raise ServomexValidationError(f"a port is a path, a URL or a pyserial object, not {port!r}", cure=_cure(port))


def _settings_of_open(port: Transport, name: str, given: SerialSettings | None) -> SerialSettings:
    """Return the settings of an open port: its own if it is a device of this computer."""
    if not isinstance(port, serial.Serial):  # a socket, or a port in memory, does not report them
        return attrs.evolve(settings_of(given), port=None)
    own = SerialSettings(
        baudrate=port.baudrate,
        bytesize=port.bytesize,
        parity=port.parity,  # type: ignore[arg-type]  # what else pyserial has is refused
        stopbits=port.stopbits,  # type: ignore[arg-type]
        rtscts=port.rtscts,
        xonxoff=port.xonxoff,
        exclusive=True if given is None else given.exclusive,
    )
    if given is not None and attrs.evolve(given, port=None) != own:
        raise ServomexConfigurationError(
            f"the port is open with {own}, and the serial settings are {given}",
            ErrorContext(port=name),
            cure="Omit the settings: those of the open port are used",
        )
    return own


_NAME_IT = "Name it as in '/dev/ttyUSB0', 'COM3' or 'socket://192.168.0.7:4001'"


def _cure(port: object) -> str:
    """Return how to write what was probably meant by something that cannot be a port."""
    if isinstance(port, bytes):
        return f"Write {port.decode('utf-8', 'replace')!r}, as text"
    if isinstance(port, int) and not isinstance(port, bool):
        return f"Write 'COM{port}' on Windows, or the path of the device"
    return _NAME_IT
