"""Opening a port in a thread of its own, since a network address may take seconds to fail."""

import threading
from collections.abc import Callable
from typing import Any

from servomex.errors import ErrorContext, ServomexConnectionError, ServomexError
from servomex.port.connect import abandon_port, close_port, open_port
from servomex.port.names import is_network
from servomex.runtime.forks import ProcessBound, let_go_after_fork
from servomex.runtime.locks import Signal
from servomex.runtime.worker import Worker
from servomex.settings import SerialSettings


class Opening(ProcessBound):
    """Opens a port in a thread of its own: a network address may take seconds to fail, and callers have deadlines.

    Args:
        name: Name of the port.
        open_it: Opens the port and returns it, as :func:`open_port` does.
    """

    def __init__(self, name: str, open_it: Callable[[], Any]) -> None:
        self._open_it = open_it
        self._done = Signal()
        self._mutex = threading.Lock()
        self._abandoned = False
        self._port: Any = None
        self._error: ServomexError = ServomexConnectionError(f"{name} cannot be opened", ErrorContext(port=name))
        let_go_after_fork(self)
        self._worker = Worker(f"servomex-open {name}", self._run)
        self._worker.start()

    def result(self, timeout: float | None) -> Any:
        """Return the port, waiting for it ``timeout`` seconds at most; ``None`` when it is not open yet.

        Raises:
            ServomexError: It cannot be opened.
        """
        if not self._done.wait(timeout):
            return None
        if self._port is None:
            raise self._error
        return self._port

    def abandon(self) -> None:
        """Close the port as soon as it is open: no caller is waiting for it any more."""
        with self._mutex:
            self._abandoned = True
            if self._port is not None:
                close_port(self._port)

    def _let_go(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            abandon_port(port)

    def _run(self, _stopping: threading.Event) -> None:
        try:
            port = self._open_it()
            with self._mutex:
                if self._abandoned:
                    close_port(port)
                else:
                    self._port = port
        except ServomexError as error:
            self._error = error
        finally:
            self._done.set()


def opened(name: str, settings: SerialSettings) -> Any:
    """Open a port and return it; a network port in a thread, since on Windows no signal ends a connect.

    Raises:
        ServomexError: It cannot be opened.
    """
    if not is_network(name):
        return open_port(name, settings)
    opening = Opening(name, lambda: open_port(name, settings))
    try:
        return opening.result(None)
    except BaseException:
        opening.abandon()
        raise
