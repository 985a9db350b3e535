"""Ports that this computer seems to have, with the USB adapters behind them."""

from pathlib import Path
from typing import Any

import pytest
from serial.tools.list_ports_common import ListPortInfo

from servomex.port import names as portnames


def adapter(device: str, serial_number: str | None = None, product: str = "FT232R USB UART") -> ListPortInfo:
    """A port on USB, as pyserial lists it."""
    info = ListPortInfo(device, skip_link_detection=True)
    info.vid, info.pid, info.serial_number = 0x0403, 0x6001, serial_number
    info.manufacturer, info.product = "FTDI", product
    info.apply_usb_info()
    return info


def built_in(device: str) -> ListPortInfo:
    """A port that is not on USB, as pyserial lists it."""
    return ListPortInfo(device, skip_link_detection=True)


def plug(monkeypatch: pytest.MonkeyPatch, *ports: ListPortInfo) -> list[Any]:
    """Let this computer have these ports and no others; the list may be changed."""
    found = list(ports)
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda include_links=False: found)
    return found


def link_by_id(monkeypatch: pytest.MonkeyPatch, folder: Path, **links: str) -> dict[str, str]:
    """Let these names below ``/dev/serial/by-id`` lead to these devices; the paths of the names."""
    monkeypatch.setattr(portnames, "BY_ID", folder)
    for name, device in links.items():
        (folder / name).symlink_to(device)
    return {name: str(folder / name) for name in links}
