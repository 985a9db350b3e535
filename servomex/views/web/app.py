"""What the server answers: the page and its files, readings as JSON, csv and metrics, and the stream of events."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servomex.runtime.clock import time
from servomex.views.looks import BANDS, COLOURS, STALE_COLOUR
from servomex.views.web.events import Stream
from servomex.views.web.gate import Counts, Receive, Scope, Send, answer, encoded_headers
from servomex.views.web.live import Live
from servomex.views.web.messages import encoded, of_all
from servomex.views.web.metrics import metrics_text
from servomex.views.web.token import Token

MOST_FRAMES = 5000
MOST_DOWNLOADS = 2
"""How many files may be downloaded at the same time: each holds on to what it sends."""

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class File:
    """A file of the page, in memory. No request reads the disk.

    Args:
        name: Its name, whose suffix is its kind.
        body: Its content.
    """

    def __init__(self, name: str, body: bytes) -> None:
        self.kind: str = _KINDS[name[name.rindex(".") :]]
        self.body = body
        self.tag: str = f'"{hashlib.sha256(body).hexdigest()[:16]}"'

    def response(self, request: Request) -> Response:
        """Return the answer to a request for it; one that has it already gets nothing."""
        headers = {"etag": self.tag, "cache-control": "no-cache", "content-type": self.kind}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers)


def page_files() -> dict[str, File]:
    """Return the files of the page, by name."""
    found = {}
    for package, folder in (("servomex.views.web", "static"), ("servomex.views", "assets")):
        for item in (files(package) / folder).iterdir():
            if item.is_file() and item.name.endswith(tuple(_KINDS)):
                found[item.name] = File(item.name, item.read_bytes())
    found["looks.css"] = File("looks.css", looks_css().encode())
    return found


def looks_css() -> str:
    """Return the colours that all views share, as variables of CSS."""
    levels = {f"dark-{level.word}": colour for level, colour in COLOURS.items()}
    bands = {f"band-{word.replace(' ', '-')}": colour for word, colour in BANDS.items()}
    shared = {**levels, "dark-stale": STALE_COLOUR, **bands}
    return ":root {" + " ".join(f"--{name}: {colour};" for name, colour in shared.items()) + "}\n"


class Site:
    """The answers.

    Args:
        live: What is shown.
        stream: The stream of events.
        counts: What the server counts.
        token: What a viewer must know; nothing, when ``None``.
    """

    def __init__(self, live: Live, stream: Stream, counts: Counts, token: Token | None) -> None:
        self._live = live
        self._stream = stream
        self._counts = counts
        self._token = token
        self._files = page_files()
        self._downloads = 0

    def app(self) -> Starlette:
        """Return the application."""
        app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/static/{name}", self._static),
                Route("/login", self._login),
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
                Route("/api/state", self._state),
                Route("/api/frames", self._frames),
                Route("/events", self._stream),
                Route("/download.csv", _Download(self)),
            ],
            exception_handlers={404: _not_found},  # that of starlette has a thread of its own in older versions
        )
        app.router.redirect_slashes = False
        return app

    async def _page(self, request: Request) -> Response:
        return self._files["index.html"].response(request)

    async def _static(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        return found.response(request) if found else await _not_found(request)

    async def _login(self, request: Request) -> Response:
        if self._token is None:
            return Response(status_code=204)
        if not self._token.is_in_header(request.headers.get("authorization")):
            return Response("This is not the token.\n", 401, media_type="text/plain")
        secure = request.headers.get("x-forwarded-proto") == "https"
        headers = {"set-cookie": self._token.cookie(secure=secure), "cache-control": "no-store"}
        return Response(status_code=204, headers=headers)

    async def _health(self, _request: Request) -> Response:
        return Response("ok\n", headers=_NO_STORE, media_type="text/plain")

    async def _metrics(self, _request: Request) -> Response:
        kind, body = metrics_text(self._live, self._counts)
        return Response(body, headers={**_NO_STORE, "content-type": kind})

    async def _state(self, _request: Request) -> Response:
        return _json({"run": self._live.run, **of_all(self._live.board)})

    async def _frames(self, request: Request) -> Response:
        """Answer with what is held after ``since``, or with the ``newest`` of it."""
        query = request.query_params
        since, newest, most = query.get("since"), _number(query, "newest"), _number(query, "most")
        most = min(most or MOST_FRAMES, MOST_FRAMES)
        first = self._live.oldest() - 1
        place = first if since is None else self._stream.number_of(since or "-")
        if newest is not None:
            place = max(place, self._live.number - newest)
        entries = self._live.after(place, most)
        last = entries[-1].number if entries else place
        head = encoded({
            "run": self._live.run,
            "next": f"{self._live.run}-{last}",
            "more": last < self._live.number,
            "oldest": f"{self._live.run}-{first + 1}",
        })  # fmt: skip
        body = head[:-1] + b',"frames":[' + b",".join(entry.message for entry in entries) + b"]}"
        return Response(body, headers={**_NO_STORE, "content-type": "application/json"})

    async def download(self, scope: Scope, send: Send) -> None:
        """Send what is held as a csv file."""
        if self._downloads >= MOST_DOWNLOADS:
            self._counts.refused += 1
            await answer(send, 503, "Others are downloading.", {"retry-after": "10"})
            return
        self._downloads += 1
        try:
            at = datetime.fromtimestamp(time.time(), UTC)
            headers = {
                **_NO_STORE,
                "content-type": "text/csv; charset=utf-8",
                "content-disposition": f'attachment; filename="servomex-{at:%Y%m%dT%H%M%SZ}.csv"',
            }
            await send({"type": "http.response.start", "status": 200, "headers": encoded_headers(headers)})
            if scope["method"] != "HEAD":
                for piece in self._live.csv():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._downloads -= 1


class _Download:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await self._site.download(scope, send)


async def _not_found(_request: Request, _error: Exception | None = None) -> Response:
    return Response("Not found.\n", 404, media_type="text/plain")


_NO_STORE = {"cache-control": "no-store"}


def _json(value: object) -> Response:
    return Response(encoded(value), headers={**_NO_STORE, "content-type": "application/json"})


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
