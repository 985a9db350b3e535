"""A TCP proxy that loses what a server says, and the connection with it, when it says a certain thing."""

import contextlib
import socket
import threading
from typing import Self


class Cutting:
    """Passes on what a server and its clients say to each other.

    Args:
        target: The TCP port of the server, on this computer.
        words: What makes it cut the connection, without passing that on.

    Attributes:
        port: The TCP port that it listens on.
        cuts: How many times it will do so from now on.
    """

    def __init__(self, target: int, words: bytes) -> None:
        self.cuts = 0
        self._target = target
        self._words = words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for item in self._sockets:
            _shut(item)
        for thread in self._threads:
            thread.join()
        for item in self._sockets:
            item.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._pass_on, args=(source, sink, source is server))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if from_server and self.cuts and self._words in data:
                    self.cuts -= 1
                    break
                sink.sendall(data)
        _shut(source)
        _shut(sink)


def _shut(item: socket.socket) -> None:
    with contextlib.suppress(OSError):
        item.shutdown(socket.SHUT_RDWR)
