"""An RFC 2217 server in front of a virtual line, on pyserial's own ``PortManager``."""

import contextlib
import select
import socket
import threading
from typing import Any, Self

from serial.rfc2217 import PortManager

from servomex.runtime.worker import Worker
from servomex.simulator import VirtualLine
from servomex.simulator.line import RX_BUFFER
from servomex.simulator.protocol_sim import Serial

TICK_S = 0.02


class FarPort(Serial):
    """The serial port of the server. As a real one, it follows a change of its settings while it is open.

    Attributes:
        configured: How often a setting was changed.
    """

    cts = dsr = ri = cd = False
    line_baudrate = 0
    configured = 0

    def open(self) -> None:
        super().open()
        self.line_baudrate = int(self.baudrate)

    def _reconfigure_port(self, *_args: Any, **_options: Any) -> None:
        self.configured += 1
        line = self._line
        if line is not None and int(self.baudrate) != self.line_baudrate:
            self.line_baudrate = int(self.baudrate)
            line.close(self._reader)
            self._reader = line.open(self.line_baudrate)

    def _update_dtr_state(self) -> None:
        """Do nothing: a virtual line has no such wire."""

    _update_rts_state = _update_break_state = _update_dtr_state


class _Network:
    """The client's connection, as ``PortManager`` writes to it."""

    def __init__(self, client: socket.socket) -> None:
        self.write = client.sendall


class Rfc2217Server:
    """Serves a virtual line over RFC 2217, to one client at a time. A context manager.

    Args:
        line: The line.
        port: TCP port; 0 for a free one.

    Attributes:
        port: The URL to open.
        far: The serial port of the last client.
    """

    def __init__(self, line: VirtualLine, port: int = 0) -> None:
        self.far: FarPort | None = None
        self._line = line
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(TICK_S)
        self.port = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self._worker = Worker(f"test-rfc2217 {self.port}", self._run)

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._worker.stop()
        self._listener.close()
        assert self._worker.error is None

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client, contextlib.suppress(OSError):
                self._serve(client, stopping)

    def _serve(self, client: socket.socket, stopping: threading.Event) -> None:
        far: Any = FarPort(self._line.url, timeout=0)
        self.far = far
        network: Any = _Network(client)
        manager = PortManager(far, network)
        try:
            while not stopping.is_set():
                due = self._line.next_due()
                readable, _, _ = select.select([client], [], [], TICK_S if due is None else min(TICK_S, due))
                if readable:
                    data = client.recv(RX_BUFFER)
                    if not data:
                        return
                    if request := b"".join(manager.filter(data)):
                        far.write(request)
                if reply := far.read(RX_BUFFER):
                    client.sendall(b"".join(manager.escape(reply)))
        finally:
            far.close()
