"""A serial server on TCP: its clients share one line. What each sends goes there, what comes goes to all."""

import contextlib
import select
import socket
import threading
from typing import Self

import serial

from servomex.simulator import VirtualLine

TICK_S = 0.05
MOST_BYTES = 4096


class Hub:
    """Serves a line to any number of clients. A context manager.

    Attributes:
        url: What each of them opens.
    """

    def __init__(self, line: VirtualLine) -> None:
        self._line = line
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._clients: list[socket.socket] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults-hub", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ending.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        reader = self._line.open(self._line.baudrate)
        try:
            while not self._ending.is_set():
                self._turn()
        except serial.SerialException:
            pass  # it was unplugged: all clients are hung up on
        finally:
            self._line.close(reader)
            for client in self._clients:
                client.close()

    def _turn(self) -> None:
        due = self._line.next_due()
        wait_s = TICK_S if due is None else min(TICK_S, due)
        readable, _, _ = select.select([self._listener, *self._clients], [], [], wait_s)
        for item in readable:
            if item is self._listener:
                self._admit()
            else:
                self._hear(item)
        if data := self._line.take(MOST_BYTES):
            for client in self._clients:
                with contextlib.suppress(OSError):  # it does not read, or has gone: its own loss
                    client.send(data)

    def _admit(self) -> None:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        self._clients.append(client)

    def _hear(self, client: socket.socket) -> None:
        try:
            data = client.recv(MOST_BYTES)
        except OSError:
            data = b""
        if data:
            self._line.write(data)
        else:
            self._clients.remove(client)
            client.close()
