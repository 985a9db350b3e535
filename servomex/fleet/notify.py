"""What systemd is told of a service: that it is ready, what it does, and that its threads still move."""

import os
import socket

from servomex.errors.validation import seconds
from servomex.runtime.logs import package_log

_log = package_log("servomex.fleet")
_MICROSECONDS = 1e6


def notify(*lines: str) -> None:
    """Send states such as ``READY=1`` to the service manager, if it waits for them.

    Where there is none, as outside systemd and on Windows, this does nothing. A message that cannot be sent is
    logged: a service must not end because of it.
    """
    name = os.environ.get("NOTIFY_SOCKET")
    if not name or not hasattr(socket, "AF_UNIX"):
        return
    place = f"\0{name[1:]}" if name.startswith("@") else name  # a name in the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto("\n".join(lines).encode(), place)
    except OSError as error:
        _log.warning("systemd cannot be notified: %s", error.strerror or error)


def watchdog_s() -> float | None:
    """Return how many seconds may pass between two ``WATCHDOG=1``; ``None`` when nobody waits for them."""
    wanted, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not wanted.isdecimal() or not int(wanted) or (pid and pid != str(os.getpid())):
        return None
    return seconds(int(wanted) / _MICROSECONDS, "WATCHDOG_USEC")
