"""Provenance: what a file says of where its rows are from."""

import contextlib
from collections.abc import Sequence

from servomex.errors import ServomexError
from servomex.manager.manager import ServomexManager
from servomex.models.info import DeviceInfo
from servomex.port.link import SerialLink
from servomex.recording.polling import PollSource
from servomex.version import __version__


def metadata_of(source: PollSource, names: Sequence[str] | None = None) -> dict[str, str]:
    """Return what a file is to say of where its rows are from: the software, the port, the channels.

    Args:
        source: What is recorded.
        names: The analysers of a manager that are recorded; all when ``None``.
    """
    found = {
        "software": f"servomex {__version__}",
        "source": str(getattr(source, "name", type(source).__name__)),
    }
    if isinstance(source, ServomexManager):
        for name in source.names if names is None else names:
            with contextlib.suppress(ServomexError):  # nothing is known yet of one that was not reached
                found |= {f"{name}.{key}": text for key, text in _told_of(source.get(name)).items()}
        return found
    return found | _told_of(source)


def _told_of(source: object) -> dict[str, str]:
    info, link = getattr(source, "info", None), getattr(source, "link", None)
    if not isinstance(info, DeviceInfo):
        return {}
    usb_serial = link.usb_serial if isinstance(link, SerialLink) else None
    told = {} if usb_serial is None else {"usb_serial": usb_serial}
    return told | {
        "port": info.port,
        "protocol": info.protocol.value,
        "address": "" if info.address is None else str(info.address),
        "serial_settings": str(info.serial_settings),
        "channels": ", ".join(f"{item.channel} {item.name or ''} {item.unit_text}" for item in info.channels),
    }
