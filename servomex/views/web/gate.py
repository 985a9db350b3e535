"""The gate that every request passes: who may ask for what, and what a browser may do with the answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import attrs

from servomex.runtime.logs import package_log
from servomex.views.web.hosts import Hosts
from servomex.views.web.token import Token

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LONGEST_TARGET = 2048
"""Bytes of a path with its query."""
LARGEST_HEADERS = 16 * 1024
PIECE = 64 * 1024
"""Bytes that are sent at once."""
SEND_S = 10.0
"""How long a client may take to read what was sent before it is dropped."""

HEADERS = (
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
)
"""The headers of every answer."""
OPEN_PATHS = frozenset({"/", "/healthz", "/login"})
"""What has no readings in it, and is shown without a token; so are the files of the page."""
STATIC = "/static/"
OWN_SITES = ("same-origin", "none")
"""Where a request for readings may come from, in the words of ``Sec-Fetch-Site``."""

_log = package_log("servomex.web")


class SlowClientError(Exception):
    """The client did not read what was sent."""


@attrs.define
class Counts:
    """What the server counts.

    Attributes:
        clients: Streams of events that are open.
        dropped: Clients that were dropped because they did not read.
        refused: Requests that were refused because there were too many clients.
    """

    clients: int = 0
    dropped: int = 0
    refused: int = 0


@attrs.frozen
class Gate:
    """Lets a request pass, or refuses it; adds the headers of every answer, and drops a client that does not read.

    Args:
        app: What answers the requests that pass.
        hosts: The names that the page may be asked for by.
        token: What a viewer must know; nothing, when ``None``.
        counts: Where dropped clients are counted.
        send_s: How long a client may take to read.
    """

    app: App
    hosts: Hosts
    token: Token | None = None
    counts: Counts = attrs.field(factory=Counts)
    send_s: float = attrs.field(factory=lambda: SEND_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_EXTRA]
            for piece in _pieces(message):
                try:
                    async with asyncio.timeout(self.send_s):
                        await send(piece)
                except TimeoutError:
                    raise SlowClientError from None

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, receive, sending)
            else:
                await answer(sending, *refusal)
        except SlowClientError:
            self.counts.dropped += 1
            scope["state"]["abort"]()
        except Exception:  # noqa: BLE001 (one request must not end the server)
            _log.exception("a request failed")
            if not started:
                await answer(sending, 500, "The server failed.")
            else:
                scope["state"]["abort"]()

    def _refusal(self, scope: Scope) -> tuple[int, str, Mapping[str, str]] | None:
        """Return the answer that refuses a request; ``None`` when it may pass."""
        headers = Headers(scope["headers"])
        path: str = scope["path"]
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_TARGET:
            return 414, "The address is too long.", {}
        if headers.size > LARGEST_HEADERS:
            return 431, "The headers are too long.", {"connection": "close"}
        if len(hosts := headers.all("host")) != 1 or not self.hosts.allow(hosts[0]):
            return 400, "The page may not be asked for by this name.", {}
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "The page only shows.", {"allow": "GET, HEAD"}
        if headers.get("transfer-encoding") or headers.get("content-length", "0") != "0":
            return 400, "No request has a body.", {"connection": "close"}
        if path in OPEN_PATHS or path.startswith(STATIC):
            return None
        if headers.get("sec-fetch-site", "none") not in OWN_SITES:
            return 403, "Another site may not read this.", {}
        if self.token is None or self._is_known(headers, self.token):
            return None
        return 401, "A token is needed.", {"www-authenticate": 'Bearer realm="servomex"'}

    def _is_known(self, headers: "Headers", token: Token) -> bool:
        return token.is_in_header(headers.get("authorization")) or token.is_in_cookies(headers.get("cookie"))


def _pieces(message: Message) -> Iterator[Message]:
    """Yield a message in parts, so that no more waits in memory than a client reads."""
    body: bytes = message.get("body", b"")
    for start in range(0, len(body) - PIECE, PIECE):
        yield {**message, "body": body[start : start + PIECE], "more_body": True}
    yield {**message, "body": body[-(len(body) % PIECE or PIECE) :]} if len(body) > PIECE else message


class Headers:
    """The headers of a request.

    Args:
        raw: Their names, in small letters, and their values.
    """

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = list(raw)
        self.size: int = sum(len(name) + len(value) for name, value in self._raw)

    def all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value.decode("latin-1") for known, value in self._raw if known == name.encode()]

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a header; several are joined as one list."""
        values = self.all(name)
        return ("; " if name == "cookie" else ", ").join(values) if values else default


async def answer(
    send: Send, status: int, text: str, headers: Mapping[str, str] | None = None, kind: str = "text/plain"
) -> None:
    """Send a short answer."""
    body = f"{text}\n".encode() if text else b""
    wanted = {
        "content-type": f"{kind}; charset=utf-8",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **(headers or {}),
    }
    await send({"type": "http.response.start", "status": status, "headers": encoded_headers(wanted)})
    await send({"type": "http.response.body", "body": body})


def encoded_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI has them."""
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


_EXTRA = encoded_headers(dict(HEADERS))
