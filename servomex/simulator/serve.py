"""A virtual line on a pseudo-terminal or a TCP port, for programs in other processes."""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Self

from servomex.errors import ServomexConfigurationError, ServomexConnectionError
from servomex.errors.validation import whole
from servomex.port.pyserial import serial
from servomex.runtime.locks import Signal
from servomex.runtime.worker import Worker
from servomex.simulator.line import RX_BUFFER, VirtualLine

READY_S = 2.0
TICK_S = 0.05
"""The longest that a server sleeps before it checks its stop request."""


def pump(
    line: VirtualLine,
    fileno: int,
    receive: Callable[[], bytes],
    send: Callable[[bytes], object],
    stopping: threading.Event,
) -> None:
    """Carry bytes between a line and a file descriptor until either end is gone or a stop is requested.

    Args:
        line: The line; it must be open.
        fileno: The descriptor on which to wait for bytes from the client.
        receive: Returns the available bytes of the client; empty when it is gone.
        send: Takes bytes for the client without blocking.
        stopping: Ends the pump.
    """
    while not stopping.is_set():
        due = line.next_due()
        wait = TICK_S if due is None else min(TICK_S, due)
        readable, _, _ = select.select([fileno], [], [], wait)
        try:
            if readable:
                data = receive()
                if not data:
                    return
                line.write(data)
            data = line.take(RX_BUFFER)
        except serial.SerialException:
            return
        if data:
            with contextlib.suppress(BlockingIOError):  # no program is reading: a serial port would lose them too
                send(data)


class PtyServer:
    """Serves a line on a pseudo-terminal; POSIX only. A context manager.

    Attributes:
        port: The device path to open. A line that is unplugged and put back gets a new one.
    """

    def __init__(self, line: VirtualLine) -> None:
        try:
            import pty  # noqa: F401 (there is none on Windows)
        except ImportError:
            raise ServomexConfigurationError(
                "this system has no pseudo-terminals: serve the virtual analyser on TCP instead"
            ) from None
        self.port: str = ""
        self._line = line
        self._ready = Signal()
        self._worker = Worker("servomex-simulator pty", self._run)

    def __enter__(self) -> Self:
        self._worker.start()
        if not self._ready.wait(READY_S):
            self._worker.stop()
            raise ServomexConnectionError(
                "the pseudo-terminal could not be opened: this virtual line is in use, or was unplugged"
            )
        return self

    def __exit__(self, *_exc: object) -> None:
        self._worker.stop()

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                reader = self._line.open(self._line.baudrate)
            except serial.SerialException:
                stopping.wait(TICK_S)
                continue
            try:
                self._serve(stopping)
            finally:
                self._line.close(reader)

    def _serve(self, stopping: threading.Event) -> None:
        import pty
        import tty

        master, client = pty.openpty()
        try:
            tty.setraw(client)
            os.set_blocking(master, False)
            self.port = os.ttyname(client)
            self._ready.set()
            pump(
                self._line,
                master,
                lambda: os.read(master, RX_BUFFER),
                lambda data: os.write(master, data),
                stopping,
            )
        finally:
            os.close(client)  # held open until now, so that the master outlives a client that closes its side
            os.close(master)


class TcpServer:
    """Serves a line on a TCP port, to one client at a time. A context manager.

    Args:
        line: The line.
        host: Address to bind to.
        port: TCP port; 0 for a free one.

    Attributes:
        port: The URL to open.

    Raises:
        ServomexConnectionError: The address cannot be bound.
        ServomexValidationError: The port is out of range.
    """

    def __init__(self, line: VirtualLine, host: str = "127.0.0.1", port: int = 0) -> None:
        self._line = line
        whole(port, "port", 0, 65535)
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise ServomexConnectionError(f"cannot listen on {host}:{port}: {error}") from error
        self._listener.settimeout(TICK_S)
        bound_host, bound_port = self._listener.getsockname()[:2]
        self.port: str = f"socket://{bound_host}:{bound_port}"
        self._worker = Worker(f"servomex-simulator {self.port}", self._run)

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._worker.stop()
        self._listener.close()

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client, contextlib.suppress(OSError):  # the client or the network is gone: wait for another
                self._serve(client, stopping)

    def _serve(self, client: socket.socket, stopping: threading.Event) -> None:
        try:
            reader = self._line.open(self._line.baudrate)
        except serial.SerialException:
            return  # it is unplugged: hang up
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            pump(self._line, client.fileno(), lambda: client.recv(RX_BUFFER), client.sendall, stopping)
        finally:
            self._line.close(reader)
