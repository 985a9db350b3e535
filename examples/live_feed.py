"""The backend of qt_monitor.py and tk_monitor.py: it opens an analyser and delivers what comes from it.

Everything that waits for the line happens in threads. A program with windows calls ``start`` and ``stop``, which
return at once, and is called back with what came. What a window shows of it is in live_view.py.
"""

import threading
from collections.abc import Callable

import servomex

RETRY_S = 2.0
"""Pause between two tries to open the analyser. Once it was open, the library reopens a lost port by itself."""

Item = servomex.Frame | servomex.ServomexError | str
"""A frame, what failed in place of one, or a note on the opening."""


class LiveFeed:
    """Reads an analyser for as long as a window is open.

    Args:
        port: As for :func:`servomex.open_device`.
        deliver: Called with each :data:`Item` in threads of this feed, one call at a time. It must not wait for
            the window.
        rate_hz: Readings per second over Modbus. In continuous mode each broadcast is delivered.
        protocol: The communication mode.
    """

    def __init__(
        self, port: str, deliver: Callable[[Item], object], *, rate_hz: float = 2.0, protocol: str = "auto"
    ) -> None:
        self.port = port
        self._deliver = deliver
        self._rate_hz = rate_hz
        self._protocol = protocol
        self._analyzer: servomex.Analyzer | None = None
        self._link = servomex.SerialLink(port)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"live feed {port}")
        self._closer = threading.Thread(target=self._cut, name=f"live feed {port}, closing")

    @property
    def running(self) -> bool:
        """Whether a thread of it is left."""
        return self._thread.is_alive() or self._closer.is_alive()

    @property
    def stale_after_s(self) -> float:
        """At this age a frame is not current any more."""
        return self._analyzer.fresh_for_s(self._rate_hz) if self._analyzer else 0.0

    def start(self) -> None:
        """Begin to open the analyser."""
        self._thread.start()

    def stop(self) -> None:
        """Request its end, without waiting for it. May be called twice."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._closer.start()

    def close(self) -> None:
        """Request its end, and wait for it."""
        self.stop()
        self._thread.join()
        self._closer.join()

    def _cut(self) -> None:
        """End what waits for the line: the opening, and a Modbus reading. Nothing waits for broadcasts."""
        analyzer = self._analyzer
        if analyzer is None or analyzer.reader is None:
            self._link.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._deliver(f"opening {self.port}")
            try:
                self._open_and_read()
            except servomex.ServomexError as error:
                if not self._stopping.is_set():
                    self._deliver(error)
                    self._stopping.wait(RETRY_S)

    def _open_and_read(self) -> None:
        with self._link:
            if self._stopping.is_set():  # it was closed before it was open
                return
            with servomex.open_device(self._link, protocol=self._protocol) as analyzer:
                rate_hz = None if analyzer.reader else self._rate_hz
                self._analyzer = analyzer
                with analyzer.subscribe(self._deliver, rate_hz=rate_hz):
                    self._stopping.wait()
