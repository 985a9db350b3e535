"""Show an analyser live with nothing but the standard library: values, states and strip charts.

The window never waits for the line: a LiveFeed reads in threads and puts what comes into a queue, and the window
looks into the queue every 100 ms with ``after``.
"""

import argparse
import contextlib
import queue
import signal
import sys
import time
import tkinter as tk
from collections import deque

from live_feed import Item, LiveFeed

import servomex

TICK_MS = 100
WIDTH, HEIGHT, LEFT = 480, 92, 62
"""Of a chart, in pixels, and the room for its numbers."""
BACK, CARD, LINE, TEXT = "#f4f6f8", "#ffffff", "#c3ccd5", "#14202b"
GOOD, WARN, BAD, GREY = "#1a7f37", "#9a5b00", "#c1121f", "#66717c"
QUALITY = {"good": GOOD, "uncertain": WARN, "bad": BAD}
FONT = "DejaVu Sans" if sys.platform.startswith("linux") else "TkDefaultFont"

Point = tuple[float, float | None]
"""A moment of ``time.monotonic()`` and a value; ``None`` is a gap."""


class Chart(tk.Canvas):
    """The course of one channel; it breaks where readings failed or went stale."""

    def __init__(self, parent: tk.Misc, span_s: float) -> None:
        super().__init__(parent, width=WIDTH, height=HEIGHT, background=CARD, highlightthickness=0)
        self._span_s = span_s
        self.points: deque[Point] = deque(maxlen=20_000)

    def gap(self) -> None:
        """Break the line here, once."""
        if self.points and self.points[-1][1] is not None:
            self.points.append((time.monotonic(), None))

    def pieces(self) -> list[list[tuple[float, float]]]:
        """Return the points between the gaps."""
        found: list[list[tuple[float, float]]] = [[]]
        for at_s, value in self.points:
            if value is None:
                found.append([])
            else:
                found[-1].append((at_s, value))
        return [piece for piece in found if piece]

    def draw(self, now_s: float) -> None:
        """Draw what came in the seconds before ``now_s``."""
        while self.points and self.points[0][0] < now_s - self._span_s:
            self.points.popleft()
        self.delete("all")
        pieces = self.pieces()
        values = [value for piece in pieces for _, value in piece]
        if not values:
            return
        middle, half = (max(values) + min(values)) / 2, (max(values) - min(values)) / 2
        half = max(1.1 * half, 0.01 * abs(middle), 1e-3)
        bottom = HEIGHT - 18
        self._frame(bottom, middle, half)
        for piece in pieces:
            spots = [
                (
                    WIDTH - 8 - (now_s - at_s) / self._span_s * (WIDTH - 8 - LEFT),
                    bottom / 2 - (value - middle) / half * (bottom / 2 - 6),
                )
                for at_s, value in piece
            ]
            if len(spots) > 1:
                self.create_line(*spots, fill=GOOD, width=2, tags="course")
            else:
                self.create_oval(*(place + by for by in (-1, 1) for place in spots[0]), fill=GOOD, tags="course")

    def _frame(self, bottom: float, middle: float, half: float) -> None:
        for part in (-1, 0, 1):
            height = bottom / 2 - part * (bottom / 2 - 6)
            self.create_line(LEFT, height, WIDTH - 8, height, fill=LINE, dash=(2, 3))
            text = f"{middle + part * half:.3g}"
            self.create_text(LEFT - 6, height, text=text, anchor="e", fill=TEXT, font=(FONT, 8))
        self.create_text(LEFT, HEIGHT - 8, text=f"{self._span_s:g} s ago", anchor="w", fill=TEXT, font=(FONT, 8))
        self.create_text(WIDTH - 8, HEIGHT - 8, text="now", anchor="e", fill=TEXT, font=(FONT, 8))


class ChannelRow(tk.Frame):
    """One channel: name, value and unit, quality, states and chart."""

    def __init__(self, parent: tk.Misc, reading: servomex.Reading, span_s: float) -> None:
        super().__init__(parent, background=CARD, highlightbackground=LINE, highlightthickness=1, padx=10, pady=6)
        self.reading = reading
        self.name = self._label(11, "bold")
        self.value = self._label(26, "bold")
        self.quality = self._label(10, "bold")
        self.states = self._label(10, "bold")
        self.chart = Chart(self, span_s)
        for row, label in enumerate((self.name, self.value, self.quality, self.states)):
            label.grid(row=row, column=0, sticky="w")
        self.chart.grid(row=0, column=1, rowspan=4, padx=(12, 0))
        self.columnconfigure(0, minsize=330)

    def _label(self, size: int, weight: str) -> tk.Label:
        return tk.Label(self, background=CARD, foreground=TEXT, font=(FONT, size, weight), anchor="w")

    def take(self, reading: servomex.Reading) -> None:
        """Take a new reading. What is not good is a gap, and so is all that was in another unit."""
        if reading.unit_text != self.reading.unit_text:
            self.chart.points.clear()
        self.reading = reading
        good = reading.quality == servomex.Quality.GOOD
        self.chart.points.append((reading.monotonic_ns / 1e9, reading.value if good else None))

    def refresh(self, *, stale: bool) -> None:
        """Show the newest reading; a stale one is grey and says how old it is."""
        reading = self.reading
        if stale:
            self.chart.gap()
        self.chart.draw(time.monotonic())
        self.name.configure(text=f"{reading.channel}  {reading.name or ''}")
        number = "no value" if reading.value is None else f"{reading.value:.3f} {reading.unit_text}"
        self.value.configure(text=number, foreground=GREY if stale else TEXT)
        quality = f"STALE, {reading.age_s:.0f} s old" if stale else f"quality {reading.quality}"
        self.quality.configure(text=quality, foreground=GREY if stale else QUALITY[reading.quality])
        words = "no fault, no alarm" if reading.status.ok else ""
        words = ", ".join(reading.status.words).upper() or words
        colour = GREY if stale else GOOD if not reading.status.words else WARN if reading.status.ok else BAD
        self.states.configure(text=f"{words} ?" if stale else words, foreground=colour)


class Monitor:
    """The window."""

    def __init__(
        self, root: tk.Tk, port: str, *, rate_hz: float = 2.0, span_s: float = 120.0, protocol: str = "auto"
    ) -> None:
        self.root = root
        self.frame: servomex.Frame | None = None
        self.trouble: str | None = None
        self.rows: dict[str, ChannelRow] = {}
        self._span_s = span_s
        self._closing = False
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.feed = LiveFeed(port, self._items.put, rate_hz=rate_hz, protocol=protocol)
        root.title(f"Gas analyser on {port}")
        root.configure(background=BACK, padx=10, pady=8)
        root.protocol("WM_DELETE_WINDOW", self.close)
        self.state = tk.Label(root, background=BACK, font=(FONT, 12, "bold"), anchor="w", justify="left")
        self.state.configure(wraplength=LEFT + WIDTH + 300)
        self.analyser = tk.Label(root, background=BACK, foreground=TEXT, font=(FONT, 10), anchor="w")
        self.state.pack(fill="x")
        self.analyser.pack(fill="x", pady=(0, 6))
        self.feed.start()
        self._tick()

    @property
    def stale(self) -> bool:
        """Whether what is shown is not current."""
        if self.frame is None or self.trouble is not None:
            return True
        return self.frame.age_s > self.feed.stale_after_s

    def close(self) -> None:
        """Close the port first, in the background; the window closes when no thread is left."""
        self._closing = True
        self.feed.stop()

    def _tick(self) -> None:
        if self._closing and not self.feed.running:
            self.root.destroy()
            return
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._items.get_nowait())
        self._refresh()
        self.root.after(TICK_MS, self._tick)

    def _take(self, item: Item) -> None:
        if isinstance(item, servomex.Frame):
            self.frame, self.trouble = item, None
            for reading in item:
                if reading.channel not in self.rows:
                    self.rows[reading.channel] = row = ChannelRow(self.root, reading, self._span_s)
                    row.pack(fill="x", pady=3)
                self.rows[reading.channel].take(reading)
        else:
            self.trouble = item if isinstance(item, str) else item.text
            for row in self.rows.values():
                row.chart.gap()

    def _refresh(self) -> None:
        stale = self.stale
        for channel, row in self.rows.items():
            row.refresh(stale=stale or self.frame is None or channel not in self.frame)
        text, colour = self._state()
        self.state.configure(text=text, foreground=colour)
        if self.frame is not None:
            status = self.frame.analyser
            words = [word for word, on in (("FAULT", status.fault), ("MAINTENANCE", status.maintenance)) if on]
            words += [f"group {group.group} on {group.phase}" for group in status.cal_groups if group.calibrating]
            self.analyser.configure(text=f"analyser: {', '.join(words) or 'ok'}{' ?' if stale else ''}")

    def _state(self) -> tuple[str, str]:
        if self._closing:
            return "CLOSING: the port is being closed", GREY
        if self.frame is None:
            return f"OPENING: {self.trouble or ''}", WARN
        if self.stale:
            since = f"last frame {self.frame.age_s:.0f} s ago"
            return f"NO READINGS, {since}: {self.trouble or 'nothing has arrived since'}", BAD
        return f"READING {self.feed.port}, {self.frame.protocol}", GOOD


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", help="such as /dev/ttyUSB0, COM3 or sim://moving")
    parser.add_argument("--protocol", default="auto", help="auto, continuous, modbus_rtu or modbus_ascii")
    parser.add_argument("--rate", type=float, default=2.0, help="readings per second over Modbus")
    parser.add_argument("--span", type=float, default=120.0, help="seconds in the charts")
    given = parser.parse_args()
    root = tk.Tk()
    monitor = Monitor(root, given.port, rate_hz=given.rate, span_s=given.span, protocol=given.protocol)
    signal.signal(signal.SIGINT, lambda *_: monitor.close())
    try:
        root.mainloop()
    finally:
        monitor.feed.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
