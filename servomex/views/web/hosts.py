"""Under which names the page may be asked for: a name that another's name server points here is refused."""

import ipaddress
import socket
from collections.abc import Iterable

from servomex.errors import ServomexValidationError

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
LONGEST = 253
"""Characters of a name of the DNS."""


def is_loopback(host: str) -> bool:
    """Return whether only this computer can reach an address."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def is_unspecified(host: str) -> bool:
    """Return whether an address stands for all addresses of this computer."""
    address = _address(host)
    return address is not None and address.is_unspecified


def name_in(header: str) -> str | None:
    """Return the name or address in a ``Host`` header, in small letters and without port; ``None`` if it is none.

    The port is not looked at: a tunnel may lead here from another one.
    """
    text = header.strip().lower()
    if text.startswith("["):
        name, closed, port = text[1:].partition("]")
        if not closed or _address(name) is None:
            return None
    else:
        name, colon, port = text.partition(":")
        port = colon + port
    if port and not (port[0] == ":" and ((port[1:].isascii() and port[1:].isdigit()) or port == ":")):
        return None
    name = name.removesuffix(".")
    return name if name and len(name) <= LONGEST and "/" not in name and "@" not in name else None


class Hosts:
    """The names that are allowed.

    Those of loopback for an address of loopback. For another one that address, or, where it stands for all
    of this computer, each address and the computer's name: an attack by the DNS needs a name of the attacker's.

    Args:
        host: The address that the server listens on.
        more: Further names, such as that of a proxy.

    Raises:
        ServomexValidationError: One of these is not a name or an address.
    """

    def __init__(self, host: str, more: Iterable[str] = ()) -> None:
        self._any_address = is_unspecified(host)
        names = {host.lower()}
        if is_loopback(host) or self._any_address:
            names |= LOCAL
        if self._any_address:
            names.add(socket.gethostname().lower())
        for name in more:
            found = name_in(name if ":" not in name or name.startswith("[") else f"[{name}]")
            if found is None:
                raise ServomexValidationError(
                    f"{name!r} is not a name of a computer", cure="Write it without a port, as in plant.example"
                )
            names.add(found)
        self.names: frozenset[str] = frozenset(names)

    def allow(self, header: str) -> bool:
        """Return whether a ``Host`` header has an allowed name."""
        name = name_in(header)
        if name is None:
            return False
        return name in self.names or (self._any_address and _address(name) is not None)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
