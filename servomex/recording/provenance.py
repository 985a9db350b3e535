"""Provenance: where the rows of a file come from, for its metadata."""

import contextlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from servomex.errors import ServomexError
from servomex.models.info import DeviceInfo
from servomex.port.link import SerialLink
from servomex.recording.polling import PollSource, is_manager
from servomex.version import __version__


@runtime_checkable
class Named(Protocol):
    """Analysers by name, as in a :class:`ServomexManager`."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the analysers."""

    def get(self, name: str) -> object:
        """Return an analyser by its name.

        Raises:
            ServomexError: It has not been reached yet.
        """


def metadata_of(source: PollSource, names: Sequence[str] | None = None) -> dict[str, str]:
    """Return the metadata of a file: the software, and the port and channels that its rows come from.

    Args:
        source: What is recorded.
        names: The analysers of a manager that are recorded; all when ``None``.
    """
    found = {
        "software": f"servomex {__version__}",
        "source": str(getattr(source, "name", type(source).__name__)),
    }
    if is_manager(source) and isinstance(source, Named):
        for name in source.names if names is None else names:
            with contextlib.suppress(ServomexError):  # nothing is known of one that has not been reached
                found |= {f"{name}.{key}": text for key, text in _origin(source.get(name)).items()}
        return found
    return found | _origin(source)


def _origin(analyzer: object) -> dict[str, str]:
    info, link = getattr(analyzer, "info", None), getattr(analyzer, "link", None)
    if not isinstance(info, DeviceInfo):
        return {}
    usb_serial = link.usb_serial if isinstance(link, SerialLink) else None
    adapter = {} if usb_serial is None else {"usb_serial": usb_serial}
    return adapter | {
        "port": info.port,
        "protocol": info.protocol.value,
        "address": "" if info.address is None else str(info.address),
        "serial_settings": str(info.serial_settings),
        "channels": ", ".join(f"{item.channel} {item.name or ''} {item.unit_text}" for item in info.channels),
    }
