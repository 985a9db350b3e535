"""The serial ports of this computer, their USB adapters, and names that survive replugging."""

import contextlib
import os
import re
from typing import Any

import attrs

from servomex.errors import ErrorContext, ServomexConfigurationError, ServomexConnectionError, ServomexError
from servomex.port.pyserial import list_ports, serial
from servomex.runtime.logs import package_log

_log = package_log("servomex")

BY_ID = "/dev/serial/by-id"
"""Where Linux keeps a link for each USB port, named after its adapter; other systems have no equivalent."""

_USB = "usb:"
_HWGREP = "hwgrep://"
_UNKNOWN = "n/a"
_LOOKS = 3
"""How often listing is tried: pyserial fails when an adapter is pulled while it is being examined."""
_SHOWN = 8


@attrs.frozen
class PortInfo:
    """A serial port that is present, and its USB adapter. What is not known is ``None``.

    Attributes:
        device: What to open: ``/dev/ttyUSB0``, ``COM11``.
        description: The system's description of it; may be empty.
        vendor_id: USB vendor, 0 to 65535. It is ``None`` for a port that is not on USB.
        product_id: USB product, 0 to 65535.
        serial_number: That of the adapter, as in ``usb:SERIAL``. All ports of a multi-port adapter have the same
            one, and many cheap adapters share one or have none.
        manufacturer: The adapter's manufacturer, as reported by it.
        product: The adapter's product name, as reported by it.
        by_id: Linux: the name below ``/dev/serial/by-id`` that leads to it, which differs between
            the ports of one adapter.
    """

    device: str
    description: str
    vendor_id: int | None
    product_id: int | None
    serial_number: str | None
    manufacturer: str | None
    product: str | None
    by_id: str | None


def is_network(port: str) -> bool:
    """Return whether a port is a connection by TCP, which several programs can have at once."""
    return port.lower().startswith(("socket://", "rfc2217://"))


def present_ports() -> list[PortInfo]:
    """List the serial ports of this computer, ``ttyUSB2`` before ``ttyUSB10``. Nothing is opened."""
    links = _links()
    found = [_port_info(item, links) for item in _comports()]
    return sorted(found, key=lambda info: _natural(info.device))


def resolve(port: str) -> str:
    """Return the device that ``usb:SERIAL`` currently means; any other name is returned unchanged.

    Raises:
        ServomexConnectionError: No adapter with this serial number is present; the error lists those that are.
        ServomexConfigurationError: The serial number is missing, or several ports have it.
    """
    if not port.lower().startswith(_USB):
        return port
    wanted = port[len(_USB) :].strip()
    if not wanted:
        raise ServomexConfigurationError(
            "usb: needs the serial number of an adapter after it",
            ErrorContext(port=port),
            cure="Write it as in usb:A50285BI",
        )
    found = [info for info in present_ports() if (info.serial_number or "").lower() == wanted.lower()]
    if not found:
        raise ServomexConnectionError(
            f"there is no USB adapter with the serial number {wanted}",
            ErrorContext(port=port),
            cure=present_text(),
        )
    if len(found) > 1:
        raise ServomexConfigurationError(
            f"{len(found)} ports have the serial number {wanted}, and {port} cannot tell them apart",
            ErrorContext(port=port),
            cure=f"Name one of {', '.join(info.by_id or info.device for info in found)}",
        )
    return found[0].device


def device_of(port: str) -> str:
    """Return the device that ``usb:SERIAL`` or pyserial's ``hwgrep://`` currently means; others unchanged.

    Raises:
        ServomexConnectionError: No port matches; the error lists those that are present.
        ServomexConfigurationError: The name can never work, or several ports match ``usb:SERIAL``.
    """
    if not port.lower().startswith(_HWGREP):
        return resolve(port)
    try:  # pyserial knows its prefix in lower case only
        return str(serial.serial_for_url(_HWGREP + port[len(_HWGREP) :], do_not_open=True).port)
    except (ValueError, re.error) as error:
        raise ServomexConfigurationError(
            f"{port} is not a valid hwgrep:// expression: {error}", ErrorContext(port=port)
        ) from error
    except (OSError, TypeError) as error:
        raise ServomexConnectionError(
            f"no port matches {port}", ErrorContext(port=port), cure=present_text()
        ) from error


def usb_identity(port: str) -> PortInfo | None:
    """Find the USB adapter of a port by any of its names; ``None`` when there is none or it is unknown.

    Raises:
        ServomexConnectionError: ``usb:SERIAL`` or ``hwgrep://`` matches no port that is present.
        ServomexConfigurationError: Such a name can never work, or several ports match it.
    """
    device = device_of(port)
    if "://" in device:
        return None
    wanted = _place(device)
    on_usb = (info for info in present_ports() if info.vendor_id is not None)
    return next((info for info in on_usb if _place(info.device) == wanted), None)


def serial_number_of(port: str) -> str | None:
    """Find the serial number of a port's USB adapter; ``None`` when it has none or it is unknown."""
    with contextlib.suppress(ServomexError):
        info = usb_identity(port)
        return info.serial_number if info else None
    return None


def same_adapter(port: str, serial_number: str | None) -> str:
    """Return the current name of the adapter that a port was opened with.

    A plain name such as ``/dev/ttyUSB0`` may belong to another adapter after replugging. A name by path and a
    URL mean whatever matches them, and are returned unchanged.

    Args:
        port: The name by which it was opened.
        serial_number: That of its adapter; ``None`` when it has none, and any will do.

    Raises:
        ServomexConnectionError: The name belongs to another adapter now, and the right one is not present.
    """
    if serial_number is None or "://" in port or "/by-path/" in port:
        return port
    now = serial_number_of(port)
    if now == serial_number:
        return port
    found = [info.device for info in present_ports() if info.serial_number == serial_number]
    if len(found) == 1:
        _log.warning("%s: its adapter %s%s is %s now", port, _USB, serial_number, found[0])
        return found[0]
    if now is None:
        return port  # it is missing, or cannot be examined
    raise ServomexConnectionError(
        f"{port} is another adapter now: {_USB}{now} in place of {_USB}{serial_number}",
        ErrorContext(port=port),
        cure=f"Plug that one in again, or open {_USB}{now} if the change is intended",
    )


def present_text() -> str:
    """List the ports that are present, USB adapters first, each with its serial number if it has one."""
    ports = sorted(present_ports(), key=lambda info: not info.serial_number)
    if not ports:
        return "This computer has no serial port at the moment: check that the adapter is plugged in"
    names = [
        f"{info.device} ({_USB}{info.serial_number})" if info.serial_number else info.device for info in ports
    ]
    return f"Ports present: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"


def _comports() -> list[Any]:
    for _ in range(_LOOKS):
        with contextlib.suppress(OSError, TypeError):
            return list(list_ports.comports())
    return []


def _port_info(item: Any, links: dict[str, str]) -> PortInfo:
    """Return the facts that pyserial found; systems differ in which of them are known."""
    description = getattr(item, "description", None) or ""
    return PortInfo(
        device=item.device,
        description="" if description == _UNKNOWN else description,
        vendor_id=getattr(item, "vid", None),
        product_id=getattr(item, "pid", None),
        serial_number=getattr(item, "serial_number", None) or None,
        manufacturer=getattr(item, "manufacturer", None) or None,
        product=getattr(item, "product", None) or None,
        by_id=links.get(_place(item.device)),
    )


def _links() -> dict[str, str]:
    """Find the names below ``/dev/serial/by-id`` by the devices that they lead to."""
    try:
        paths = [os.path.join(BY_ID, name) for name in sorted(os.listdir(BY_ID), reverse=True)]
    except OSError:
        return {}
    return {_place(path): path for path in paths}


def _place(device: str) -> str:
    """Return the same text for all names of one device."""
    return device.upper() if os.name == "nt" else os.path.realpath(device)


def _natural(name: str) -> list[str | int]:
    """Return a sort key that orders numbers within names as numbers; every second part is one."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))]
