"""Opening a serial port, and saying in plain words why one cannot be opened."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import serial
from serial.tools import list_ports

from servomex.errors import ErrorContext, ServomexConfigurationError, ServomexConnectionError, ServomexError
from servomex.lock import Signal
from servomex.settings import SerialSettings
from servomex.worker import Worker

try:
    import termios
except ImportError:  # Windows has none
    _TERMINAL_ERRORS: tuple[type[Exception], ...] = ()
else:
    _TERMINAL_ERRORS = (termios.error,)  # which is not an OSError

_OPEN_ERRORS: tuple[type[Exception], ...] = (OSError, *_TERMINAL_ERRORS)
IO_ERRORS: tuple[type[Exception], ...] = (OSError, TypeError, AttributeError, *_TERMINAL_ERRORS)
"""What pyserial lets out when a port is unplugged, or closed under a running call."""

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
    if _is_device_name(port):
        options["exclusive"] = True
    _check_network_address(port)
    try:
        return serial.serial_for_url(port, **options)
    except (ValueError, NotImplementedError) as error:
        raise ServomexConfigurationError(
            f"{port} cannot be opened with these settings ({settings}): {error}", ErrorContext(port=port)
        ) from error
    except _OPEN_ERRORS as error:
        raise ServomexConnectionError(explain(port, error), ErrorContext(port=port)) from error


class Opening:
    """Opens a port in a thread of its own: a network address may take seconds to fail, and callers have deadlines.

    Args:
        name: Name of the port.
        open_it: Opens the port and gives it, as :func:`open_port` does.
    """

    def __init__(self, name: str, open_it: Callable[[], Any]) -> None:
        self._open_it = open_it
        self._done = Signal()
        self._mutex = threading.Lock()
        self._abandoned = False
        self._port: Any = None
        self._error: ServomexError = ServomexConnectionError(f"{name} cannot be opened", ErrorContext(port=name))
        self._worker = Worker(f"servomex-open {name}", self._run)
        self._worker.start()

    def result(self, timeout: float | None) -> Any:
        """Give the port, waiting for it ``timeout`` seconds at most; ``None`` when it is not open yet.

        Raises:
            ServomexError: It cannot be opened.
        """
        if not self._done.wait(timeout):
            return None
        if self._port is None:
            raise self._error
        return self._port

    def abandon(self) -> None:
        """Close the port as soon as it is open: nobody waits for it any more."""
        with self._mutex:
            self._abandoned = True
            if self._port is not None:
                self._port.close()

    def _run(self, _stopping: threading.Event) -> None:
        try:
            port = self._open_it()
            with self._mutex:
                if self._abandoned:
                    port.close()
                else:
                    self._port = port
        except ServomexError as error:
            self._error = error
        finally:
            self._done.set()


def _is_device_name(port: str) -> bool:
    """Whether a name leads to a device of this computer, by itself or through a URL of pyserial."""
    return "://" not in port or port.lower().startswith(("hwgrep://", "spy://", "alt://"))


def _check_network_address(port: str) -> None:
    """Refuse a URL without host and port, which pyserial reports as if the network had failed."""
    if not port.lower().startswith(("socket://", "rfc2217://")):
        return
    try:
        parts = urlsplit(port)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        complete = False
    if not complete:
        raise ServomexConfigurationError(
            f"{port} is no usable address: it must name host and port, as in socket://192.168.0.7:4001",
            ErrorContext(port=port),
        )


def explain(port: str, error: Exception) -> str:
    """Say why a port could not be opened, and what to do about it."""
    text = str(error)
    if not _is_device_name(port):
        cure = "" if port.lower().startswith("sim://") else ". Check the address and that its server runs"
        return f"{port} cannot be reached: {text}{cure}"
    if os.name == "nt":
        return _explain_windows(port, text)
    number = getattr(error, "errno", None)
    if number in _MISSING:
        return f"there is no port {port}. {_present_ports()}"
    if number in _BUSY:
        return f"{port} is in use by another program (or another analyser object). Close that one first"
    if number in _FORBIDDEN:
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
