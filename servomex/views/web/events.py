"""The stream of events: each reading as it arrives, and a beat that shows that the server lives."""

import asyncio
import contextlib
from collections.abc import Sequence

from servomex.views.web.gate import Counts, Headers, Receive, Scope, Send, answer, encoded_headers
from servomex.views.web.live import Entry, Live
from servomex.views.web.messages import encoded, of_all, of_now

MOST_CLIENTS = 32
BEAT_S = 2.0
"""Seconds between two beats."""
DEAD_S = 3 * BEAT_S
"""A page that heard nothing for so long knows that the server or the network is dead."""
AT_ONCE = 200
"""How many entries are sent together."""
FURTHEST_BEHIND = 1000
"""Entries that a client may be behind before it is dropped."""
REFILL = 10_000
"""Entries that a client that comes back gets of those that it missed."""


class Stream:
    """The streams of all clients. Each is no more than a place in what is held, so no client costs memory.

    Its methods belong to the thread of the server, except :meth:`wake`.

    Args:
        live: What is shown.
        counts: Where clients are counted.
        most: How many clients there may be.
    """

    def __init__(self, live: Live, counts: Counts, most: int = MOST_CLIENTS) -> None:
        self._live = live
        self._counts = counts
        self._most = most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._woken = False
        self._ending = False
        self._beat: tuple[float, bytes] = (-BEAT_S, b"")

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to hear of readings."""
        self._loop = loop
        self._live.listen(self.wake)

    def end(self) -> None:
        """End all streams."""
        self._live.listen(None)
        self._ending = True
        self._spread()

    def wake(self) -> None:
        """Have the streams look for entries. Any thread may call it, as often as it likes."""
        if self._woken or self._loop is None:
            return
        self._woken = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._spread)

    def _spread(self) -> None:
        self._woken = False
        self._news.set()
        self._news = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the stream."""
        if self._counts.clients >= self._most or self._ending:
            self._counts.refused += 1
            await answer(send, 503, "There are too many clients.", {"retry-after": "10"})
            return
        headers = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
        await send({"type": "http.response.start", "status": 200, "headers": encoded_headers(headers)})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        self._counts.clients += 1
        gone = asyncio.create_task(_gone(receive))
        try:
            await self._stream(send, gone, self._place(scope))
        finally:
            self._counts.clients -= 1
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _stream(self, send: Send, gone: "asyncio.Task[None]", place: int) -> None:
        """Send what there is and what comes, until the client or the server ends it."""
        loop = asyncio.get_running_loop()
        place, text = self._hello(place)
        await _part(send, text)
        beat_at, refilled = loop.time() + BEAT_S, False
        while not (self._ending or gone.done()):
            news = self._news
            entries = self._live.after(place, AT_ONCE)
            if entries:
                if refilled and self._live.number - place > FURTHEST_BEHIND:
                    self._counts.dropped += 1
                    break
                place = entries[-1].number
                await _part(send, self._frames(entries))
            else:
                refilled = True
            now = loop.time()
            if now >= beat_at:
                beat_at = now + BEAT_S
                await _part(send, self._beat_now(now))
            elif not entries:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(beat_at - now):
                        await _first(gone, news)
        if not gone.done():
            await send({"type": "http.response.body", "body": b""})

    def _place(self, scope: Scope) -> int:
        """Return the number after which a client wants to continue: that of ``Last-Event-ID``, or the newest."""
        wanted = Headers(scope["headers"]).get("last-event-id")
        if not wanted:
            for item in scope["query_string"].decode("latin-1").split("&"):
                name, _, value = item.partition("=")
                wanted = value if name == "since" else wanted
        return self.number_of(wanted)

    def number_of(self, wanted: str) -> int:
        """Return the number of an id; one of another run, or of what is no longer held, is before the oldest."""
        newest = self._live.number
        if not wanted:
            return newest
        run, _, digits = wanted.partition("-")
        first = self._live.oldest() - 1
        if run != self._live.run or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            return first
        return min(newest, max(first, int(digits)))

    def _hello(self, place: int) -> tuple[int, bytes]:
        first = max(place, self._live.number - REFILL)
        about = {"run": self._live.run, "beat": BEAT_S, "dead": DEAD_S, **of_all(self._live.board)}
        return first, b"retry: 2000\n" + _event("hello", encoded(about))

    def _frames(self, entries: Sequence[Entry]) -> bytes:
        run = self._live.run
        return b"".join(
            b"id: %s-%d\n" % (run.encode(), entry.number) + _event("frame", entry.message) for entry in entries
        )

    def _beat_now(self, now: float) -> bytes:
        made_at, beat = self._beat
        if now - made_at > BEAT_S / 4:
            beat = _event("beat", encoded(of_now(self._live.board)))
            self._beat = now, beat
        return beat


def _event(kind: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


async def _part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(gone: "asyncio.Task[None]", news: asyncio.Event) -> None:
    """Wait until there is news, or the client is gone."""
    waiting = asyncio.create_task(news.wait())
    try:
        await asyncio.wait({gone, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
