"""Opening a serial port, and saying in plain words why one cannot be opened."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import serial
from serial.tools import list_ports

from servomex.errors import ErrorContext, ServomexConfigurationError, ServomexConnectionError
from servomex.settings import SerialSettings

READ_TICK_S = 0.05
"""A blocking read returns after this long, so that deadlines and stop requests are seen."""
WRITE_TIMEOUT_S = 2.0

_HANDLERS = "servomex.simulator"
if _HANDLERS not in serial.protocol_handler_packages:
    serial.protocol_handler_packages.append(_HANDLERS)

_BUSY = {errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_MISSING = {errno.ENOENT, errno.ENODEV, errno.ENXIO}


def open_port(port: str, settings: SerialSettings) -> Any:
    """Open a device path, ``COM11`` or a pyserial URL (``socket://``, ``rfc2217://``, ``sim://`` ...).

    Device files are opened for exclusive use, so that a second program cannot take part of the bytes.

    Returns:
        A pyserial object whose reads end after :data:`READ_TICK_S`.

    Raises:
        ServomexConnectionError: The port is missing, busy, forbidden or cannot be reached.
        ServomexConfigurationError: The name or the settings can never work.
    """
    options: dict[str, Any] = {
        "baudrate": settings.baudrate,
        "bytesize": settings.bytesize,
        "parity": settings.parity,
        "stopbits": settings.stopbits,
        "rtscts": settings.rtscts,
        "xonxoff": settings.xonxoff,
        "timeout": READ_TICK_S,
    }
    if not port.lower().startswith("rfc2217://"):  # which refuses a write timeout
        options["write_timeout"] = WRITE_TIMEOUT_S
    if "://" not in port:
        options["exclusive"] = True
    try:
        return serial.serial_for_url(port, **options)
    except (ValueError, NotImplementedError) as error:
        raise ServomexConfigurationError(
            f"{port} cannot be opened with these settings ({settings}): {error}", ErrorContext(port=port)
        ) from error
    except OSError as error:
        raise ServomexConnectionError(explain(port, error), ErrorContext(port=port)) from error


def explain(port: str, error: OSError) -> str:
    """Say why a port could not be opened, and what to do about it."""
    text = str(error)
    if "://" in port:
        return f"{port} cannot be reached: {text}. Check the address and that its server runs"
    if os.name == "nt":
        return _explain_windows(port, text)
    if error.errno in _MISSING:
        return f"there is no port {port}. {_present_ports()}"
    if error.errno in _BUSY:
        return f"{port} is in use by another program (or another analyser object). Close that one first"
    if error.errno in _FORBIDDEN:
        return f"{port} may not be opened by this user. {_permission_cure(port)}"
    if not _is_device(port):
        return f"{port} is not a serial port. {_present_ports()}"
    return f"{port} cannot be opened: {text}"


def _explain_windows(port: str, text: str) -> str:
    """Windows errors carry their cause only as text; a port in use is reported as access denied."""
    if "FileNotFoundError" in text:
        return f"there is no port {port}. {_present_ports()}"
    if "PermissionError" in text:
        return f"{port} is in use by another program. Close that one first"
    return f"{port} cannot be opened: {text}"


def _present_ports() -> str:
    names = sorted(item.device for item in list_ports.comports())
    if not names:
        return "This computer has no serial port at the moment: check that the adapter is plugged in"
    return f"Present are {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"


def _permission_cure(port: str) -> str:
    try:
        group = Path(port).group()
    except (OSError, KeyError, NotImplementedError):
        return "Ask the administrator for access to it"
    return f"It belongs to the group {group}: sudo usermod -aG {group} $USER, then log in again"


def _is_device(port: str) -> bool:
    try:
        return stat.S_ISCHR(Path(port).stat().st_mode)
    except OSError:
        return True
