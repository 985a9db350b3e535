"""Checks of a computer and its ports, without opening one: versions, adapters, names, rights, users."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator

from servomex.checkup.findings import Finding, Verdict
from servomex.errors import ErrorContext, ServomexConnectionError
from servomex.port.connect import forbidden, owning_group
from servomex.port.names import PortInfo, device_of, present_ports, present_text, usb_identity
from servomex.port.users import users_of
from servomex.version import __version__

_PROGRAMS = ("pymodbus", "pyserial")


def overview() -> Iterator[Finding]:
    """Check what can be checked without opening a port: the versions, and each port that is present."""
    yield versions()
    ports = present_ports()
    if not ports:
        yield Finding(
            "port", Verdict.WARNING, "this computer has no serial port", "Check that the adapter is plugged in"
        )
    for info in ports:
        yield _listed(info)


def _listed(info: PortInfo) -> Finding:
    try:
        state = access(info.device)
    except ServomexConnectionError as error:
        return Finding(
            "port", Verdict.WARNING, f"{_identity(info)}; this user has no permission to open it", error.cure
        )
    cure = state.cure or _stable_name(info)
    if state.verdict is Verdict.SKIPPED:
        return Finding("port", Verdict.OK, _identity(info), cure)
    return Finding("port", state.verdict, f"{_identity(info)}; it {state.seen}", cure)


def versions() -> Finding:
    """Return the versions of the software in use."""
    programs = [f"{name} {_version(name)}" for name in _PROGRAMS]
    seen = [f"servomex {__version__}", f"Python {platform.python_version()}", *programs, platform.platform()]
    return Finding("versions", Verdict.OK, ", ".join(seen))


def _version(program: str) -> str:
    try:
        return importlib.metadata.version(program)
    except importlib.metadata.PackageNotFoundError:  # as in a program packed into one file
        return "of unknown version"


def port_present(port: str) -> Finding:
    """Check whether a port is there, and identify its USB adapter.

    Raises:
        ServomexConnectionError: It is not there; the error lists the ports that are.
        ServomexConfigurationError: Its name can never work.
    """
    device = device_of(port)
    if "://" in device:
        return Finding("port", Verdict.OK, f"{device} is a URL, not a device of this computer")
    info = usb_identity(port)
    if info:
        return Finding("port", Verdict.OK, _identity(info), _stable_name(info) if port == info.device else "")
    plain_name = device.removeprefix("\\\\.\\").lower()
    if not os.access(device, os.F_OK) and plain_name not in (item.device.lower() for item in present_ports()):
        there = present_text()
        raise ServomexConnectionError(
            f"there is no port {port}",
            ErrorContext(port=port),
            cure=f"Plug its adapter in, or name another port. {there}",
        )
    return Finding("port", Verdict.OK, f"{device} exists; no USB adapter is known for it")


def _identity(info: PortInfo) -> str:
    if info.vendor_id is None or info.product_id is None:
        return ": ".join(filter(None, (info.device, info.description)))
    serial_number = f"serial number {info.serial_number}" if info.serial_number else "no serial number"
    number = f"USB {info.vendor_id:04x}:{info.product_id:04x}"
    names = (info.product or info.description, info.manufacturer, number, serial_number)
    return f"{info.device}: {', '.join(filter(None, names))}"


def _stable_name(info: PortInfo) -> str:
    """Return the advice to use a name that survives replugging; empty when there is none."""
    same = [item for item in present_ports() if item.serial_number == info.serial_number]
    names = [f"usb:{info.serial_number}"] if info.serial_number and len(same) == 1 else []
    names += [info.by_id] if info.by_id else []
    return f"Use {' or '.join(names)}: it survives replugging" if names else ""


def access(port: str) -> Finding:
    """Check whether this user may open a port, and which other programs have it open.

    Raises:
        ServomexConnectionError: This user may not.
    """
    device = device_of(port)
    if "://" in device or os.name == "nt":
        return Finding("access", Verdict.SKIPPED, "cannot be checked in advance")
    if not os.access(device, os.R_OK | os.W_OK):
        seen, cure = forbidden(device)
        raise ServomexConnectionError(seen, ErrorContext(port=port), cure=cure)
    group = owning_group(device)
    seen = "may be opened by this user" + (f"; its group is {group}" if group else "")
    others = " and ".join(map(str, users_of(device)))
    if others:
        cure = f"End {others}: two programs on one port take each other's bytes"
        return Finding("access", Verdict.WARNING, f"{seen}; in use by {others}", cure)
    return Finding("access", Verdict.OK, f"{seen}; no other program was seen using it")
