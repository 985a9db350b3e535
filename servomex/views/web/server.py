"""WebServer: serves the page in a thread of its own, until it is closed."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from servomex.errors import (
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexSinkDependencyError,
)
from servomex.errors.missing import how_to_get
from servomex.errors.validation import whole
from servomex.runtime.worker import Worker
from servomex.views.web.events import MOST_CLIENTS, Stream
from servomex.views.web.gate import LARGEST_HEADERS, Counts, Gate
from servomex.views.web.hosts import Hosts, is_loopback, is_unspecified
from servomex.views.web.live import Live
from servomex.views.web.token import Token

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = "127.0.0.1"
HTTP_PORT = 8080
MOST_CONNECTIONS = 4 * MOST_CLIENTS
"""A browser has up to six connections; beyond this number every request gets 503."""
UNSENT = 128 * 1024
"""Bytes that the system keeps for a client that does not read: with megabytes it would be noticed late."""
START_S = 10.0
END_S = 2.0
"""How long answers may take to end when the server is closed."""
STOP_S = 10.0


class WebServer:
    """Serves the page of a :class:`Live`. A context manager.

    The address is taken when the object is made, so that an error of it is raised there. The server runs in one
    thread, which :meth:`start` starts and :meth:`close` joins.

    Args:
        live: What is shown.
        host: The address to listen on. Another one than that of loopback needs a ``token``.
        port: The port; 0 for any free one.
        hosts: Further names that the page may be asked for by, such as that of a proxy.
        token: What a viewer must know.

    Attributes:
        host: The address.
        port: The port.
        counts: What the server counts.

    Raises:
        ServomexConfigurationError: Other computers could reach the page, and there is no token.
        ServomexSinkDependencyError: A package is missing.
        ServomexConnectionError: The address cannot be taken: it is in use, forbidden, or not one of this computer.
        ServomexValidationError: An argument is out of range.
    """

    def __init__(
        self,
        live: Live,
        *,
        host: str = LOOPBACK,
        port: int = HTTP_PORT,
        hosts: Iterable[str] = (),
        token: Token | None = None,
    ) -> None:
        check_packages()
        whole(port, "port", 0, 65535)
        if token is None and not is_loopback(host):
            raise ServomexConfigurationError(
                f"other computers could read from {host}, and there is no token",
                cure="Pass a token: on the command line, its file with --token-file",
            )
        self._hosts = Hosts(host, hosts)
        self._live = live
        self._token = token
        self.counts: Counts = Counts()
        self._socket = _listening(host, port)
        self.host: str = host
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._stream = Stream(live, self.counts)
        self._started = threading.Event()
        self._worker = Worker(f"servomex-web {host}:{self.port}", self._run)

    @property
    def url(self) -> str:
        """The address of the page; where the server listens on every address, with the name of this computer."""
        host = socket.gethostname() if is_unspecified(self.host) else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._worker.alive

    @property
    def error(self) -> BaseException | None:
        """What ended it, if anything did."""
        return self._worker.error

    def start(self) -> Self:
        """Start, and return when the page can be asked for.

        Raises:
            ServomexError: It did not start.
        """
        self._worker.start()
        if not self._started.wait(START_S) or not self._worker.alive:
            error = self._worker.error
            self.close()
            raise ServomexError(f"the web server did not start{f': {error}' if error else ''}") from error
        return self

    def close(self) -> None:
        """End, and wait for the thread. May be called twice.

        Raises:
            ServomexError: The thread did not end within 10 s.
        """
        self._worker.ask_to_stop()
        if self._loop is not None and self._worker.alive:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._end)
        self._worker.stop(STOP_S)
        self._socket.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _run(self, stopping: threading.Event) -> None:
        try:
            if not stopping.is_set():
                asyncio.run(self._serve(stopping))
        finally:
            self._started.set()

    async def _serve(self, stopping: threading.Event) -> None:
        import uvicorn

        from servomex.views.web.app import Site
        from servomex.views.web.connection import Connection

        self._loop = asyncio.get_running_loop()
        site = Site(self._live, self._stream, self.counts, self._token)
        config = uvicorn.Config(
            Gate(site.app(), self._hosts, self._token, self.counts),
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            h11_max_incomplete_event_size=LARGEST_HEADERS,
            timeout_graceful_shutdown=int(END_S),
        )
        self._server = uvicorn.Server(config)
        self._stream.begin(self._loop)
        self._loop.call_soon(self._started.set)
        try:
            if not stopping.is_set():
                await self._server.serve(sockets=[self._socket])
        finally:
            self._stream.end()
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)

    def _end(self) -> None:
        self._stream.end()
        if self._server is not None:
            self._server.should_exit = True


def check_packages() -> None:
    """Check that the packages of the extra ``web`` are installed.

    Raises:
        ServomexSinkDependencyError: One is missing; the error names the extra to install.
    """
    for package in ("starlette", "uvicorn", "prometheus_client"):
        try:
            __import__(package)
        except ImportError as error:
            raise ServomexSinkDependencyError(
                f"the page needs {package}: {how_to_get(package, 'web')} ({error})"
            ) from error


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that takes the address.

    Raises:
        ServomexConnectionError: It cannot be taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServomexConnectionError(f"{host} is not an address of this computer: {error.strerror}") from error
    try:
        if socket.has_dualstack_ipv6() and family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _share_or_not(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)  # connections inherit it
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        cure = "Choose another port, or 0 for any free one" if error.errno == errno.EADDRINUSE else ""
        raise ServomexConnectionError(
            f"the page cannot be served at {host} port {port}: {error.strerror or error}", cure=cure
        ) from error
    return made


def _share_or_not(made: socket.socket) -> None:
    """Let a server start again at once, and no other program take the same port meanwhile."""
    exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows, where SO_REUSEADDR shares the port
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
