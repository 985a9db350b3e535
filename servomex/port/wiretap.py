"""WireTap: shows every byte of a port once, to the log, to a trace file and to listeners."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from servomex.runtime.clock import time
from servomex.runtime.logs import PackageLog, package_log
from servomex.settings import SerialSettings

if TYPE_CHECKING:
    from servomex.trace import TraceWriter

wire: PackageLog = package_log("servomex.wire")
"""Every byte, once, in both directions: ``PORT > hex`` was sent, ``PORT < hex`` was received."""

Tap = Callable[[bytes, int], None]


class WireTap:
    """Shows the bytes sent and received on one port.

    Args:
        port: Name of the port.
        path: The file of the wire trace; ``None`` for none.
    """

    def __init__(self, port: str, path: str | None) -> None:
        self._port = port
        self._path = path
        self._trace: TraceWriter | None = None
        self._listeners: list[Tap] = []

    @property
    def is_traced(self) -> bool:
        """Whether a trace is being written."""
        return self._trace is not None

    def begin(self, settings: SerialSettings, gap_s: float) -> None:
        """Begin the trace, if one was requested.

        Raises:
            ServomexError: It cannot be written.
        """
        if self._path is not None:
            from servomex.trace import TraceWriter

            self._trace = TraceWriter(self._path, self._port, settings, gap_s)

    def end(self) -> None:
        """End the trace."""
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.close()

    def forget(self) -> None:
        """Leave the trace to the parent of a forked child."""
        self._trace = None

    @contextlib.contextmanager
    def listening(self, listener: Tap) -> Iterator[None]:
        """Pass every received byte to ``listener(data, monotonic_ns)`` as well, in the reading thread."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def opened(self) -> None:
        """Note that the port was opened."""
        if self._trace:
            self._trace.opened()

    def lost(self, why: str) -> None:
        """Note that the port was lost."""
        if self._trace:
            self._trace.lost(why)

    def sent(self, data: bytes) -> None:
        """Show bytes that are sent now."""
        if wire.isEnabledFor(logging.DEBUG):
            wire.debug("%s > %s", self._port, data.hex(" "))
        if self._trace:
            self._trace.sent(data)

    def came(self, data: bytes) -> None:
        """Show received bytes."""
        if wire.isEnabledFor(logging.DEBUG):
            wire.debug("%s < %s", self._port, data.hex(" "))
        if self._trace:
            self._trace.came(data)
        for listener in self._listeners:
            listener(data, time.monotonic_ns())
