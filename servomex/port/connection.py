"""Connection: a port that is opened, lost and reopened. Its owner holds a lock around every call."""

from typing import Any

from servomex.errors import ErrorContext, ServomexConnectionError
from servomex.port.connect import IO_ERRORS, READ_TICK_S, close_port, open_port
from servomex.port.names import is_network, same_adapter, serial_number_of
from servomex.port.opening import opened
from servomex.port.reopening import Pauses, Reopening
from servomex.port.state import PortState
from servomex.port.transport import Transport
from servomex.port.wiretap import WireTap
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound
from servomex.runtime.locks import Signal
from servomex.runtime.signals import pass_on_interruption
from servomex.settings import SerialSettings


class Connection(ProcessBound):
    """The connection to one port, which is closed when it fails and reopened with growing pauses.

    Args:
        port: Name of the port.
        transport: An open port, which is never closed or reopened here; ``None`` for none.
        settings: The serial settings.
        auto_reconnect: Reopen the port after it was lost.
        wiretap: Shows that the port was opened or lost.

    Attributes:
        pauses: The pauses between two attempts to open a port that is lost or missing.
        port: The name it was opened by.
        transport: The open port that was passed in; ``None`` when the port is opened and closed here.
        usb_serial: The serial number of its USB adapter, which a reopened port must have too; ``None`` when it has
            none or it is unknown.
        settings: The serial settings in use, with the name of the port unless an open port was passed in.
        auto_reconnect: Whether the port is reopened after it was lost.
        generation: Counts how often the port was opened.
        eager: Whether a lost or missing port is tried three times a second, without growing pauses, because
            something on it was never reached.
    """

    pauses: Pauses = Pauses()

    def __init__(
        self,
        port: str,
        transport: Transport | None,
        settings: SerialSettings,
        auto_reconnect: bool,
        wiretap: WireTap,
    ) -> None:
        self._closed = Signal()
        self._closed.set()
        self._serial: Any = None
        self.port: str = port
        self.transport: Transport | None = transport
        self.settings: SerialSettings = settings
        self.usb_serial: str | None = None
        self.auto_reconnect: bool = auto_reconnect
        self.generation: int = 0
        self.eager: bool = False
        self._states: dict[type[PortState], Any] = {}
        self._wiretap = wiretap
        self._reopening = Reopening(port)
        self._resumed = False
        self._last_traffic = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the port is open and has not been lost."""
        return self._serial is not None

    @property
    def is_closed(self) -> bool:
        """Whether the port was closed on purpose, or never opened."""
        return self._closed.is_set()

    @property
    def retry_in_s(self) -> float:
        """Seconds until a lost port may be tried again."""
        return self._reopening.retry_in_s

    def resume(self, deadline: float) -> bool:
        """Reopen a network connection that its server has closed, without a pause, once per conversation.

        The caller holds the lock. What was sent before may still be answered: nothing is proven afterwards.

        Returns:
            Whether it is open again; also ``False`` for a port that is not a network connection.

        Raises:
            ServomexConnectionError: It cannot be reopened.
            ServomexConfigurationError: As for :meth:`open`.
        """
        if self._resumed or not is_network(self.port) or not self._may_reopen or self._closed.is_set():
            return False
        self._resumed = True
        if self._serial is not None:
            self._lose(ConnectionResetError("the server closed the connection"))
        self._reopening.without_pause()
        self.ensure_open(deadline)
        return True

    def ensure_open(self, deadline: float) -> None:
        """Reopen a lost port if its pause is over, by ``deadline`` or later. The caller holds the lock.

        Raises:
            ServomexConnectionError: The port is closed, still lost, or lost and must not be reopened.
        """
        self.check_process()
        if self._closed.is_set():
            raise ServomexConnectionError("the port is closed", self._context())
        if self._serial is not None:
            return
        reopening = self._reopening
        port = reopening.port(self._reopen, deadline, self.pauses, may_try=self._may_try, eager=self.eager)
        if port is None:
            what = "was lost, and is still being opened again" if self.generation else "is still being opened"
            raise ServomexConnectionError(f"the port {what}", self._context())
        self._adopt(port)
        if self.generation == 1:
            self.usb_serial = serial_number_of(self.port)

    @property
    def _may_reopen(self) -> bool:
        return self.auto_reconnect and self.transport is None

    @property
    def _may_try(self) -> bool:
        """Whether a port that is not open may be opened: one that never was open is not."""
        return self._may_reopen or not self.generation

    def _not_open(self) -> ServomexConnectionError:
        """Return the error of a call that finds no port.

        Raises:
            ServomexConfigurationError: This is a forked child, which has released the port.
        """
        if self._closed.is_set():
            self.check_process()
            return ServomexConnectionError("the port was closed", self._context())
        return self._reopening.still_lost(self._may_try)

    def _connect(self) -> None:
        if self.transport is not None:
            self._adopt(self.transport)
        else:
            self._adopt(opened(self.port, self.settings))
            self.usb_serial = serial_number_of(self.port)

    def _reopen(self) -> Any:
        return open_port(same_adapter(self.port, self.usb_serial), self.settings)

    def _adopt(self, port: Any) -> None:
        """Use a port that was opened; what waits in it is of unknown age."""
        self._serial = port
        try:
            if self.transport is not None:
                self.transport.timeout = READ_TICK_S
            self._serial.reset_input_buffer()
        except IO_ERRORS as error:
            pass_on_interruption(error)
            raise self._lose(error) from error
        self._wiretap.opened()
        self._reopening.loss = None
        self._last_traffic = time.monotonic()
        for state in list(self._states.values()):
            state.note_opened()
        self.generation += 1

    def _lose(self, error: Exception, what: str = "", check: str = "") -> ServomexConnectionError:
        """Close a port that failed; return the error to raise, now and until the port is back."""
        if self._closed.is_set() and self._serial is None:
            return ServomexConnectionError("the port was closed", self._context())
        self._drop_port()
        self._wiretap.lost(str(error) or type(error).__name__)
        what = what or f"the port was lost ({error or type(error).__name__})"
        check = check or "Check the cable and the adapter"
        then = "it is reopened automatically" if self._may_reopen else "open it again"
        lost = ServomexConnectionError(what, self._context(), cure=f"{check}; {then}")
        self._reopening.note_failure(lost, self.pauses, eager=self.eager)
        return lost

    def _blocked(self, port: Any, waited_s: float) -> ServomexConnectionError:
        """Close a port that takes no bytes, which must not be sent much later; return the error to raise."""
        self._resumed = True  # a new connection to a server that hangs would hang as well
        if self.transport is None:
            try:
                port.reset_output_buffer()
            except IO_ERRORS as error:  # it is closed anyway
                pass_on_interruption(error)
        seen = f"it took no bytes for {waited_s:.1f} s"
        check = "Check the flow control, and whether the adapter or the server hangs"
        return self._lose(TimeoutError(seen), f"nothing can be sent on the line ({seen})", check)

    def _drop_port(self) -> None:
        port, self._serial = self._serial, None
        if port is None or self.transport is not None:
            return
        try:
            close_port(port)
        except IO_ERRORS as error:  # the port is gone already; there is nothing left to close
            pass_on_interruption(error)

    def _context(self) -> ErrorContext:
        return ErrorContext(port=self.port)
