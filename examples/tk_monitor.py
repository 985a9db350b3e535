"""Show an analyser live with nothing but the standard library: values, states and strip charts.

The headline says what is wrong and where, and is green only when nothing is. The window scrolls by wheel and keys,
and Tab goes from channel to channel. The window never waits for the line: a LiveFeed reads in threads and puts
what comes into a queue, and the window looks into the queue every 100 ms with ``after``.
"""

import argparse
import contextlib
import queue
import signal
import sys
import time
import tkinter as tk
from collections import deque
from functools import partial

from live_feed import Item, LiveFeed
from live_view import BACK, CARD, DIM, LINE, TEXT, Digits, Latest, loud_words, quality_colour, value_colour

import servomex
from servomex.views.looks import COLOURS, STALE_COLOUR, Level, level_of

TICK_MS = 100
WIDTH, HEIGHT, LEFT, BELOW = 240, 92, 62, 18
"""Of a chart, at least, and the room for its numbers; in pixels of a display with 96 to the inch."""
TEXTS = 330
"""The width of the texts beside a chart, in the same."""
ALARM, WARNING, GOOD = COLOURS[Level.ALARM], COLOURS[Level.WARNING], COLOURS[Level.GOOD]
SCROLL = {"Up": -1, "Down": 1, "Prior": -6, "Next": 6, "Home": -1000, "End": 1000}
"""How many lines of 30 pixels the keys scroll."""
FONT = "DejaVu Sans" if sys.platform.startswith("linux") else "TkDefaultFont"

Point = tuple[float, float | None, bool]
"""A moment of ``time.monotonic()``, a value or ``None`` for a gap, and whether the value is certain."""


class Chart(tk.Canvas):
    """The course of one channel. It breaks where readings failed or went stale; what is uncertain is dashed."""

    def __init__(self, parent: tk.Misc, span_s: float) -> None:
        super().__init__(parent, background=CARD, highlightthickness=0)
        self._scale = scale_of(self)
        self.configure(width=WIDTH * self._scale, height=HEIGHT * self._scale)
        self._span_s = span_s
        self.points: deque[Point] = deque(maxlen=20_000)

    def gap(self) -> None:
        """Break the line here, once."""
        if self.points and self.points[-1][1] is not None:
            self.points.append((time.monotonic(), None, True))

    def pieces(self) -> list[tuple[bool, list[tuple[float, float]]]]:
        """Return the points between the gaps, and whether they are certain."""
        found: list[tuple[bool, list[tuple[float, float]]]] = []
        before: bool | None = None
        for at_s, value, certain in self.points:
            if value is not None and before is not certain:
                found.append((certain, []))
            if value is not None:
                found[-1][1].append((at_s, value))
            before = None if value is None else certain
        return found

    def draw(self, now_s: float, *, quiet: bool) -> None:
        """Draw what came in the seconds before ``now_s``; ``quiet`` is grey."""
        while self.points and self.points[0][0] < now_s - self._span_s:
            self.points.popleft()
        self.delete("all")
        pieces = self.pieces()
        values = [value for _, piece in pieces for _, value in piece]
        if not values:
            return
        middle, half = (max(values) + min(values)) / 2, (max(values) - min(values)) / 2
        half = max(1.1 * half, 0.01 * abs(middle), 1e-3)
        left, below = LEFT * self._scale, BELOW * self._scale
        right, bottom = max(self.winfo_width(), WIDTH) - 8, HEIGHT * self._scale - below
        self._frame(left, right, bottom, middle, half)
        for certain, piece in pieces:
            colour = LINE if quiet else GOOD if certain else WARNING
            spots = [
                (
                    right - (now_s - at_s) / self._span_s * (right - left),
                    bottom / 2 - (value - middle) / half * (bottom / 2 - 6 * self._scale),
                )
                for at_s, value in piece
            ]
            if len(spots) > 1:
                self.create_line(*spots, fill=colour, width=2, dash=() if certain else (5, 4), tags="course")
            else:
                self.create_oval(*(place + by for by in (-1, 1) for place in spots[0]), fill=colour, tags="course")

    def _frame(self, left: float, right: float, bottom: float, middle: float, half: float) -> None:
        font = (FONT, 8)
        for part in (-1, 0, 1):
            height = bottom / 2 - part * (bottom / 2 - 6 * self._scale)
            self.create_line(left, height, right, height, fill=LINE, dash=(2, 3))
            self.create_text(left - 6, height, text=f"{middle + part * half:.3g}", anchor="e", fill=DIM, font=font)
        low = bottom + BELOW * self._scale / 2
        self.create_text(left, low, text=f"{self._span_s:g} s ago", anchor="w", fill=DIM, font=font)
        self.create_text(right, low, text="now", anchor="e", fill=DIM, font=font)


def scale_of(widget: tk.Misc) -> float:
    """Return how many pixels of this display are one of a display with 96 to the inch."""
    return widget.winfo_fpixels("3p") / 4


class ChannelRow(tk.Frame):
    """One channel: name, value and unit, quality, states and chart."""

    def __init__(self, parent: tk.Misc, reading: servomex.Reading, span_s: float) -> None:
        super().__init__(
            parent, background=CARD, padx=10, pady=6, takefocus=True,
            highlightbackground=LINE, highlightcolor=TEXT, highlightthickness=2,
        )  # fmt: skip
        self.reading = reading
        self._digits = Digits()
        self.name = self._label(11, "bold")
        self.value = self._label(26, "bold")
        self.quality = self._label(10, "bold")
        self.states = self._label(10, "bold")
        self.chart = Chart(self, span_s)
        for row, label in enumerate((self.name, self.value, self.quality, self.states)):
            label.grid(row=row, column=0, sticky="ew")
        self.chart.grid(row=0, column=1, rowspan=4, padx=(12, 0), sticky="ew")
        width = round(TEXTS * scale_of(self))
        self.columnconfigure(0, minsize=width)
        for label in (self.name, self.states):  # a state that does not fit must not be hidden
            label.configure(wraplength=width, justify="left")
        self.columnconfigure(1, weight=1)
        self.rowconfigure(1, minsize=round(48 * scale_of(self)))  # whatever the value is, nothing else moves

    def _label(self, size: int, weight: str) -> tk.Label:
        return tk.Label(self, background=CARD, foreground=TEXT, font=(FONT, size, weight), anchor="w")

    def take(self, reading: servomex.Reading) -> None:
        """Take a new reading. A bad one is a gap, and what was in another unit is not shown with it."""
        if reading.unit_text != self.reading.unit_text:
            self.chart.points.clear()
        self.reading = reading
        value = None if reading.quality == servomex.Quality.BAD else reading.value
        certain = reading.quality == servomex.Quality.GOOD
        self.chart.points.append((reading.monotonic_ns / 1e9, value, certain))

    def refresh(self, *, stale: bool) -> None:
        """Show the newest reading; a stale one is grey and says how old it is."""
        reading, level = self.reading, level_of(self.reading)
        has_value = reading.quality != servomex.Quality.BAD
        if stale:
            self.chart.gap()
        self.chart.draw(time.monotonic(), quiet=stale or not has_value)
        loud = level is Level.ALARM and not stale
        self.configure(highlightbackground=ALARM if loud else LINE)
        words = ", ".join(reading.status.words) or ("no fault, no alarm" if has_value else "no value")
        self.name.configure(
            text="  ".join(filter(None, (reading.channel, reading.name, loud_words(reading) if loud else ""))),
            foreground="#000000" if loud else TEXT,
            background=ALARM if loud else CARD,
        )
        size, weight = (26, "bold") if has_value else (16, "normal")
        self.value.configure(
            text=self._digits.text(reading),
            foreground=value_colour(reading, stale=stale),
            font=(FONT, size, f"{weight} italic" if stale else weight),
        )
        quality = f"STALE, {reading.age_s:.0f} s old" if stale else f"quality {reading.quality}"
        self.quality.configure(text=quality, foreground=quality_colour(reading, stale=stale))
        colour = STALE_COLOUR if stale else DIM if level is Level.GOOD else COLOURS[level]
        self.states.configure(
            text=f"{words.upper() if reading.status.words else words}{' ?' * stale}", foreground=colour
        )


class Monitor:
    """The window."""

    def __init__(
        self, root: tk.Tk, port: str, *, rate_hz: float = 2.0, span_s: float = 120.0, protocol: str = "auto"
    ) -> None:
        self.root = root
        self.rows: dict[str, ChannelRow] = {}
        self._span_s = span_s
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.feed = LiveFeed(port, self._items.put, rate_hz=rate_hz, protocol=protocol)
        self.latest = Latest(self.feed)
        root.configure(background=BACK, padx=10, pady=8)
        root.geometry("1000x800")
        root.minsize(640, 360)
        root.protocol("WM_DELETE_WINDOW", self.close)
        self._lay_out()
        self.feed.start()
        self._tick()

    def _lay_out(self) -> None:
        self.state = self._head(12, "bold")
        self.message, self.analyser = self._head(10, "normal"), self._head(10, "normal")
        self.state.configure(foreground="#000000", padx=10, pady=5)
        self.area = tk.Canvas(self.root, background=BACK, highlightthickness=0, yscrollincrement=1)
        self.bar = tk.Scrollbar(
            self.root, command=self.area.yview, background=LINE, activebackground=DIM, troughcolor=BACK,
            borderwidth=0, highlightthickness=0, takefocus=False,
        )  # fmt: skip
        self.area.configure(yscrollcommand=self.bar.set)
        self.bar.pack(side="right", fill="y")
        self.area.pack(side="left", fill="both", expand=True)
        self.inside = tk.Frame(self.area, background=BACK)
        place = self.area.create_window(0, 0, window=self.inside, anchor="nw")
        self.inside.bind("<Configure>", lambda _: self.area.configure(scrollregion=self.area.bbox("all")))
        self.area.bind("<Configure>", lambda event: self.area.itemconfigure(place, width=event.width))
        for key, lines in SCROLL.items():
            self.root.bind(f"<{key}>", partial(self._scroll, lines))
        self.root.bind("<Button-4>", partial(self._scroll, -2))  # X11 has buttons for the wheel
        self.root.bind("<Button-5>", partial(self._scroll, 2))
        self.root.bind("<MouseWheel>", lambda event: self._scroll(-2 if event.delta > 0 else 2, event))

    def _head(self, size: int, weight: str) -> tk.Label:
        label = tk.Label(
            self.root, background=BACK, foreground=TEXT, font=(FONT, size, weight), anchor="w", justify="left"
        )
        label.bind("<Configure>", lambda event: label.configure(wraplength=event.width - 24))
        label.pack(fill="x", pady=(0, 4))
        return label

    def _scroll(self, lines: int, _event: object) -> None:
        if self.area.yview() != (0.0, 1.0):  # Tk would scroll beyond the ends of what fits
            self.area.yview_scroll(30 * lines, "units")

    def _show_whole(self, row: ChannelRow, _event: object) -> None:
        """Scroll to a channel that has the keyboard's focus."""
        height, top, bottom = self.inside.winfo_height(), row.winfo_y(), row.winfo_y() + row.winfo_height()
        first, last = (part * height for part in self.area.yview())
        if top < first or bottom > last:
            self.area.yview_moveto((top if top < first else bottom + 1 - (last - first)) / max(height, 1))

    def close(self) -> None:
        """Close the port first, in the background; the window closes when no thread is left."""
        self.latest.closing = True
        self.feed.stop()

    def _tick(self) -> None:
        if self.latest.closing and not self.feed.running:
            self.root.destroy()
            return
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._items.get_nowait())
        self._refresh()
        self.root.after(TICK_MS, self._tick)

    def _take(self, item: Item) -> None:
        self.latest.take(item)
        if isinstance(item, servomex.Frame):
            for reading in item:
                if reading.channel not in self.rows:
                    self.rows[reading.channel] = row = ChannelRow(self.inside, reading, self._span_s)
                    row.bind("<FocusIn>", partial(self._show_whole, row))
                    row.pack(fill="x", pady=3)
                self.rows[reading.channel].take(reading)
        else:
            for row in self.rows.values():
                row.chart.gap()

    def _refresh(self) -> None:
        for channel, row in self.rows.items():
            row.refresh(stale=self.latest.is_stale(channel))
        word, text, colour = self.latest.headline
        self.state.configure(text=word, background=colour)
        self.message.configure(text=text)
        self.root.title(f"{word}: {self.feed.port}")
        if self.latest.frame is not None:
            status = self.latest.frame.analyser
            words = [word for word, on in (("FAULT", status.fault), ("MAINTENANCE", status.maintenance)) if on]
            words += status.cal_words
            self.analyser.configure(
                text=f"analyser: {', '.join(words) or 'ok'}{' ?' if self.latest.stale else ''}"
            )


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
