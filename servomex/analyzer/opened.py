"""Opened: the common part of every open analyser: port and mode, name and tags, deadlines and closing."""

import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from servomex.analyzer.abilities import READING, Abilities
from servomex.enums import Availability, Capability, ProtocolKind
from servomex.errors import ErrorContext, ServomexConnectionError
from servomex.errors.mappings import FrozenMapping
from servomex.errors.validation import rate, seconds
from servomex.models.tags import name_of, tags_of
from servomex.port.link import SerialLink
from servomex.runtime.at_exit import at_exit
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound

if TYPE_CHECKING:
    from servomex.analyzer.mode import Mode
    from servomex.continuous.reader import ContinuousReader
    from servomex.modbus.client import ModbusClient

REOPEN = "Open it again with open_device(), and use it before it is closed"


class Opened(ProcessBound):
    """An analyser that is open. Its arguments and attributes are those of :class:`Analyzer`."""

    def __init__(
        self,
        link: SerialLink,
        source: "ContinuousReader | ModbusClient",
        *,
        timeout: float | None = None,
        owns_link: bool = True,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from servomex.continuous.reader import ContinuousReader

        self.link = link
        self.mode: Mode
        self.reader: ContinuousReader | None = None
        self.client: ModbusClient | None = None
        if isinstance(source, ContinuousReader):
            from servomex.analyzer.continuous_mode import ContinuousMode

            self.mode, self.reader = ContinuousMode(source), source
        else:
            from servomex.analyzer.modbus_mode import ModbusMode

            self.mode, self.client = ModbusMode(source), source
        self.closed: bool = False
        address = self.mode.address
        usual_name = link.port if address is None else f"{link.port}:{address}"
        self._name = usual_name if name is None else name_of(name)
        self._tags = tags_of(tags)
        self._timeout_s = None if timeout is None else seconds(timeout, "timeout")
        self._owns_link = owns_link
        self._abilities = Abilities()
        at_exit(self._close_forgotten)

    @property
    def name(self) -> str:
        """The analyser's name in rows. It never changes, so that the rows of one analyser have one name."""
        return self._name

    @property
    def tags(self) -> FrozenMapping[str]:
        """The tags in every row of the analyser; empty unless given when it was opened."""
        return self._tags

    @property
    def protocol(self) -> ProtocolKind:
        """The communication mode in use; never ``AUTO``."""
        return self.mode.protocol

    @property
    def capabilities(self) -> Capability:
        """What can be done in this mode. In continuous mode nothing can be sent to the analyser."""
        return self.mode.capabilities

    def availability(self, capability: Capability) -> Availability:
        """Return whether a capability can be used, as far as that is known. Nothing is sent.

        ``unavailable``: the communication mode lacks it, or the device refused it as a function that it does not
        know; ``available``: it was seen to work since the analyser was opened; otherwise ``unknown``.
        A calibration counts once it was seen to run.

        Args:
            capability: One, or several together: then ``unavailable`` if one of them is, ``available`` if all are.

        Raises:
            ServomexValidationError: It is not a :class:`Capability`, or none.
        """
        self.check_process()
        if self.mode.latest is not None:
            self._abilities.note(READING)
        return self._abilities.availability(capability, self.capabilities)

    @property
    def timeout_s(self) -> float:
        """Seconds that a call may take when no ``timeout`` is given.

        Unless it was set: over Modbus 1 s plus twice the time of a sweep on this line; in continuous mode 0.5 s
        plus one and a half broadcast periods, but at least 1 s, and 10 s before a period is known.
        """
        return self.mode.patience_s if self._timeout_s is None else self._timeout_s

    @property
    def dropped_frames(self) -> int:
        """How many damaged broadcasts, or damaged and late Modbus replies, were refused since it was opened."""
        return self.mode.dropped_frames

    @property
    def period_s(self) -> float | None:
        """Seconds between broadcasts as observed; ``None`` over Modbus and before the second broadcast."""
        return self.mode.period_s

    def fresh_for_s(self, rate_hz: float | None = None) -> float:
        """Return the age in seconds at which a frame is no longer current.

        In continuous mode 2.5 broadcast periods as observed, and 10 s before a period is known. Over Modbus, where
        the program sets the pace, 2.5 times that plus one :attr:`timeout_s`, which a reading under way may take.

        Args:
            rate_hz: How often a program reads over Modbus, per second; once when omitted, as :meth:`subscribe`
                does. In continuous mode the analyser sets the pace, whatever is passed here.
        """
        return self.mode.fresh_for_s(None if rate_hz is None else rate(rate_hz), self.timeout_s)

    def close(self) -> None:
        """End the thread, if there is one, and close the port, if it was opened for this analyser.

        May be called twice, and by any thread: waiting calls end with a :class:`ServomexConnectionError`.

        Raises:
            ServomexError: The thread did not end within 5 s.
        """
        if self.closed or not self.made_here:
            return
        self.closed = True
        try:
            self.mode.stop()
        finally:
            if self._owns_link:
                self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self._close_forgotten()

    def _close_forgotten(self) -> None:
        if self.closed or not self.made_here:
            return
        warnings.warn(
            f"the analyser on {self.link.port} was never closed: use 'with', or call close()",
            ResourceWarning,
            stacklevel=1,
        )
        if not sys.is_finalizing():  # its thread is stopped by then: waiting for it would never end
            self.close()

    def __repr__(self) -> str:
        return f"<Analyzer {self.name} {self.protocol}>"

    def _deadline(self, timeout: float | None) -> float:
        self.check_process()
        limit_s = self.timeout_s if timeout is None else seconds(timeout, "timeout")
        if self.closed:
            raise ServomexConnectionError("the analyser was closed", self._context(), cure=REOPEN)
        return time.monotonic() + limit_s

    def _context(self) -> ErrorContext:
        return ErrorContext(self.link.port, self.protocol)
