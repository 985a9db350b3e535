"""Opening a serial port, with a plain reason when one does not open."""

import contextlib
import errno
import os
import re
import select
import stat
import sys
from typing import TYPE_CHECKING, Any

from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
)
from servomex.port.names import device_of, is_network, present_text
from servomex.port.pyserial import serial
from servomex.port.users import users_of
from servomex.runtime.clock import time
from servomex.runtime.locks import WAKE_S
from servomex.runtime.signals import pass_on_interruption
from servomex.settings import SerialSettings

if TYPE_CHECKING:
    import socket
if sys.platform != "win32":
    import grp

try:
    import termios
except ImportError:  # Windows has none
    _TERMINAL_ERRORS: tuple[type[Exception], ...] = ()
else:
    _TERMINAL_ERRORS = (termios.error,)  # which is not an OSError

_OPEN_ERRORS: tuple[type[Exception], ...] = (OSError, *_TERMINAL_ERRORS)
IO_ERRORS: tuple[type[Exception], ...] = (OSError, TypeError, AttributeError, *_TERMINAL_ERRORS)
"""What pyserial may raise when a port is unplugged, or closed during a call."""

READ_TICK_S = 0.05
"""A blocking read returns after this long, so that deadlines and stop requests are seen."""
WRITE_TIMEOUT_S = 2.0
"""How long a port may take no bytes before that is an error, unless the call ends sooner."""
PROMPT_WRITE_S = 1.0
"""How long writing may take once a port takes bytes, in addition to the time on the line. pyserial also counts the
time in which a busy computer does not run the program."""
LONGEST_WRITE = 32
"""More bytes than any request has."""
MOST_FILES = 1024
"""pyserial waits with ``select``, which on POSIX cannot handle a descriptor with this number or higher."""
FILES_OF_A_PORT = 6
"""The most files that a port needs: pyserial adds two pipes."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPALIVE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""When and how often a silent network server is asked whether it is still there: 30 s in all."""

_HANDLERS = "servomex.simulator"
if _HANDLERS not in serial.protocol_handler_packages:
    serial.protocol_handler_packages.append(_HANDLERS)

_SCHEMES = ("socket://", "rfc2217://", "usb:", "hwgrep://", "sim://", "loop://", "spy://", "alt://")
"""URL schemes of pyserial and our own that make sense here; ``usb:`` is looked up before."""
_WINDOWS_NUMBER = re.compile(r"Error\(.*, (\d+)\)")
"""The last number that Python shows in a Windows error is the one of Windows."""
_DENIED_ON_WINDOWS = 5
_HUNG_ON_WINDOWS = (21, 22, 31)
"""Not ready, bad command, device not functioning."""
_GROUP_MAY = stat.S_IRGRP | stat.S_IWGRP
_BUSY = {errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_MISSING = {errno.ENOENT, errno.ENODEV, errno.ENXIO}


def open_port(port: str, settings: SerialSettings) -> Any:
    """Open a device path, ``COM11``, ``usb:SERIAL`` or a URL (``socket://``, ``rfc2217://``, ``sim://`` ...).

    ``usb:SERIAL`` and ``hwgrep://`` are looked up each time, since an adapter may return under another name.
    Device files are opened for exclusive use, unless the settings say otherwise, so that a second program cannot
    take part of the bytes.

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
        options["write_timeout"] = write_timeout_s(settings)
    device = device_of(port)
    if _is_device_name(device):
        _check_exclusive(port, settings)
        options["exclusive"] = settings.exclusive
    _check_network_address(port)
    _check_open_files(port)
    try:
        return _kept_alive(serial.serial_for_url(device, **options))
    except (ValueError, NotImplementedError) as error:
        pass_on_interruption(error)
        raise _unusable(port, settings, error) from error
    except _OPEN_ERRORS as error:
        pass_on_interruption(error)
        seen, cure = explain(device, error)
        raise ServomexConnectionError(seen, ErrorContext(port=port), cure=cure) from error


def _check_exclusive(port: str, settings: SerialSettings) -> None:
    """Refuse to share a port where the system cannot.

    Raises:
        ServomexConfigurationError: Sharing was requested on Windows.
    """
    if os.name == "nt" and not settings.exclusive:
        raise ServomexConfigurationError(
            f"{port} cannot be shared: Windows opens a serial port for one program at a time",
            ErrorContext(port=port),
            cure=f"Omit {Argument('exclusive', value=False)}",
        )


def _unusable(port: str, settings: SerialSettings, error: Exception) -> ServomexConfigurationError:
    """Return the error of a name, or of settings, that can never work."""
    context = ErrorContext(port=port)
    if isinstance(error, ServomexError):  # what is wrong within a sim:// URL
        return ServomexConfigurationError(f"{port}: {error.message}", context, cure=error.cure)
    scheme, separator, _ = port.partition("://")
    if separator and f"{scheme.lower()}://" not in _SCHEMES:
        cure = f"Use one of {', '.join(_SCHEMES)}, or the path of a device"
        return ServomexConfigurationError(f"nothing can be opened by {scheme}://", context, cure=cure)
    text = f"{port} cannot be opened with these settings ({settings}): {error}"
    return ServomexConfigurationError(text, context)


def is_absent(port: str) -> bool:
    """Return whether a port is known to be missing without opening it: a device path that does not exist."""
    return os.name == "posix" and os.sep in port and "://" not in port and not os.path.exists(port)


def write_timeout_s(settings: SerialSettings) -> float:
    """Return how long a port that takes bytes may need for a request; it cannot be set for each call."""
    return PROMPT_WRITE_S + LONGEST_WRITE * settings.char_time_s


def close_port(port: Any) -> None:
    """Close a port, and always its connection: pyserial leaves one open that the other side has reset."""
    if has_hung_up(port):  # pyserial would wait 0.3 s for a connection that has ended
        abandon_port(port)
        return
    connection = _connection_of(port)
    try:
        port.close()
    finally:
        if connection:
            connection.close()


def abandon_port(port: Any) -> None:
    """Close only the descriptors of a port that belongs to the parent of a forked child, or has hung up.

    pyserial's own ``close`` would end the network connection of a parent, and wait for its thread.
    """
    if connection := _connection_of(port):
        connection.close()
        port._thread = None  # rfc2217:// has one
    elif isinstance(port, serial.Serial):
        port.close()
    port.is_open = False


def has_hung_up(port: Any) -> bool:
    """Return whether the server of a network connection has closed it, without waiting or reading."""
    connection = _connection_of(port)
    if connection is None:
        return False
    import socket

    try:
        return _is_ready(connection, to_write=False, timeout=0.0) and not connection.recv(1, socket.MSG_PEEK)
    except IO_ERRORS as error:
        pass_on_interruption(error)
        return True


def takes_bytes(port: Any, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds until a port can take bytes; return ``True`` where that cannot be seen."""
    found: socket.socket | int | None = _connection_of(port)
    if found is None and os.name == "posix" and isinstance(descriptor := getattr(port, "fd", None), int):
        found = descriptor
    return found is None or _is_ready(found, to_write=True, timeout=timeout)


def _connection_of(port: Any) -> "socket.socket | None":
    """Return the network connection of a port; only such a port needs the module for it."""
    found = getattr(port, "_socket", None)
    if found is None:
        return None
    import socket

    return found if isinstance(found, socket.socket) else None


def _is_ready(file: "socket.socket | int", *, to_write: bool, timeout: float) -> bool:
    """Wait until a descriptor can be read from, or written to, or has failed."""
    if not hasattr(select, "poll"):  # Windows, where a descriptor may have any number
        return _is_selected(file, to_write=to_write, deadline=time.monotonic() + timeout)
    poll = select.poll()
    poll.register(file, select.POLLOUT if to_write else select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _is_selected(file: "socket.socket | int", *, to_write: bool, deadline: float) -> bool:
    """Wait for a socket in pieces: on Windows no signal ends this wait."""
    lists = ([], [file]) if to_write else ([file], [])
    while not any(select.select(*lists, [], max(0.0, min(WAKE_S, deadline - time.monotonic())))):
        if time.monotonic() >= deadline:
            return False
    return True


def _check_open_files(port: str) -> None:
    """Refuse to open a port when too many files are open for pyserial to wait on it.

    Raises:
        ServomexConnectionError: Too many files are open.
    """
    if os.name == "nt" or port.lower().startswith("sim://"):
        return
    found: list[int] = []
    try:
        while len(found) < FILES_OF_A_PORT:
            found.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        pass_on_interruption(error)
        raise ServomexConnectionError(
            f"{port} cannot be opened: {error.strerror}",
            ErrorContext(port=port),
            cure="Close some files or connections of this program",
        ) from error
    finally:
        for descriptor in found:
            os.close(descriptor)
    if max(found) >= MOST_FILES:
        raise ServomexConnectionError(
            f"{port} cannot be opened: this program has about {MOST_FILES:,} files or connections open, and "
            "pyserial can wait for no more",
            ErrorContext(port=port),
            cure="Open the port before the others, or close some of them",
        )


def _kept_alive(port: Any) -> Any:
    """Make the system detect a network server that is gone without notice, as when it is switched off.

    Where nothing is sent, as to an analyser that broadcasts, nothing else would ever show it.
    """
    if connection := _connection_of(port):
        import socket

        with contextlib.suppress(OSError):  # it is gone already: the first use will report that
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name in KEEP_ALIVE.keys() & vars(socket).keys():
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEP_ALIVE[name])
    return port


def _is_device_name(port: str) -> bool:
    """Return whether a name leads to a device of this computer, by itself or through a URL of pyserial."""
    return "://" not in port or port.lower().startswith(("spy://", "alt://"))


def _check_network_address(port: str) -> None:
    """Refuse a URL without host and port, which pyserial reports as if the network had failed."""
    if not is_network(port):
        return
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(port)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        complete = False
    if not complete:
        raise ServomexConfigurationError(
            f"{port} is not a usable address: host and port are needed",
            ErrorContext(port=port),
            cure="Write it as in socket://192.168.0.7:4001",
        )


def explain(port: str, error: Exception) -> tuple[str, str]:
    """Return why a port could not be opened, and what to do about it."""
    text = str(error)
    if not _is_device_name(port):
        cure = "" if port.lower().startswith("sim://") else "Check the address and that its server runs"
        if "support RFC2217" in text:
            cure = "Its server may serve plain bytes: try socket:// in place of rfc2217://"
        return f"{port} cannot be reached: {text}", cure
    if os.name == "nt":
        return _explain_windows(port, text)
    number = getattr(error, "errno", None)
    if number in _MISSING:
        return f"there is no port {port}", present_text()
    if number in _BUSY:
        return _in_use(port)
    if number in _FORBIDDEN:
        return forbidden(port)
    if not _is_device(port):
        return f"{port} is not a serial port", present_text()
    return f"{port} cannot be opened: {text}", ""


def _explain_windows(port: str, text: str) -> tuple[str, str]:
    """Return why a port could not be opened on Windows, where errors carry their cause only as text.

    Several are a ``PermissionError`` in Python: access is denied to a port in use; an adapter that hangs, or was
    just pulled out, has other numbers.
    """
    if "FileNotFoundError" in text:
        return f"there is no port {port}", present_text()
    if os.path.isfile(port):
        return f"{port} is not a serial port", present_text()
    found = _WINDOWS_NUMBER.search(text)
    number = int(found[1]) if found else None
    if number == _DENIED_ON_WINDOWS:
        return f"{port} is in use by another program", "Close that one first"
    if number in _HUNG_ON_WINDOWS:
        seen = f"the adapter of {port} does not respond: {text}"
        return seen, "Unplug it and plug it in again; if that does not help, check its driver"
    return f"{port} cannot be opened: {text}", ""


def _in_use(port: str) -> tuple[str, str]:
    """Return the explanation for a port that another program has open, named if possible."""
    others = " and ".join(map(str, users_of(port)))
    if others:
        return f"{port} is in use by another program", f"Close {others} first"
    return f"{port} is in use by another program (or another analyser object)", "Close that one first"


def forbidden(port: str) -> tuple[str, str]:
    """Return the explanation for a port that this user must not open, and what to do about it."""
    return f"no permission to open {port}", _way_in(port, owning_group(port))


def _way_in(port: str, group: str | None) -> str:
    """Return how a user can get permission to open a port."""
    mode = _mode(port)
    if group is None or mode is None:
        return "Ask the administrator for access to it"
    if group != "root" and mode & _GROUP_MAY == _GROUP_MAY:
        return f"It belongs to the group {group}: sudo usermod -aG {group} $USER, then log in again"
    return (
        f"Its mode is {mode:04o} and its group {group}, so joining a group does not help: sudo chmod a+rw {port}, "
        "which lasts until it is plugged in again, or a udev rule that sets its GROUP and MODE"
    )


def _mode(port: str) -> int | None:
    try:
        return stat.S_IMODE(os.stat(port).st_mode)
    except OSError:
        return None


def owning_group(port: str) -> str | None:
    """Return the name of the group that a port belongs to; ``None`` where it has none or it is unknown."""
    if sys.platform == "win32":
        return None
    try:
        return grp.getgrgid(os.stat(port).st_gid).gr_name
    except (OSError, KeyError):
        return None


def _is_device(port: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(port).st_mode)
    except OSError:
        return True
