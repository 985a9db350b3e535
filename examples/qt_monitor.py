"""Show an analyser live: values, states and strip charts. Needs PySide6-Essentials and pyqtgraph.

The window never waits for the line: a LiveFeed reads in threads, and its frames come by a queued signal. In the
folder with the sources:

    python -m pip install . "PySide6-Essentials!=6.12.0" pyqtgraph

PySide6 6.12.0 ends a program with a fatal error after a minute with Python 3.11. On Debian, Qt needs the packages
libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0, and for windows on X11 also libxcb-cursor0
libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0 libxcb-shape0 libxcb-xkb1 libxkbcommon-x11-0.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections import deque

os.environ.setdefault("PYQTGRAPH_QT_LIB", "PySide6")

import numpy as np
import pyqtgraph as pg
from live_feed import Item, LiveFeed
from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

import servomex

TICK_MS = 200
"""How often ages and charts are brought up to date."""
POINTS = 20_000
BACK, CARD, LINE, TEXT, DIM = "#0f141a", "#182028", "#3a4652", "#f0f4f8", "#9aa7b4"
GOOD, WARN, BAD, INFO, STALE = "#56d364", "#ffb340", "#ff6b60", "#6cb6ff", "#8b96a1"
LAMPS = {
    "fault": BAD,
    "maintenance": WARN,
    "calibrating": INFO,
    "warming up": INFO,
    **{f"alarm {number}": BAD for number in range(1, 5)},
}
QUALITY = {"good": GOOD, "uncertain": WARN, "bad": BAD}
STYLE = f"""
    QWidget {{ background: {BACK}; color: {TEXT}; font-size: 13px; }}
    QWidget {{ font-family: "DejaVu Sans", "Segoe UI", "Helvetica Neue", sans-serif; }}
    QFrame#card, QFrame#card QLabel {{ background: {CARD}; }}
    QFrame#card {{ border: 1px solid {LINE}; border-radius: 8px; }}
    QScrollArea {{ border: none; }}
"""


class Label(QLabel):
    """A text with a look, which is set only when it changes: to set one costs more than all the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.look = ""
        self.setTextFormat(Qt.TextFormat.PlainText)  # names and units come from the instrument

    def show_text(self, text: str, look: str) -> None:
        """Show a text; ``look`` is a style sheet."""
        if self.text() != text:
            self.setText(text)
        if self.look != look:
            self.look = look
            self.setStyleSheet(look)


class Lamp(Label):
    """A state with its name. Lit, it has a filled mark, bold text and a colour; stale, a question mark."""

    def __init__(self, text: str, colour: str) -> None:
        super().__init__()
        self._text, self._colour = text, colour
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.show_state(lit=False, stale=True)

    def show_state(self, *, lit: bool, stale: bool, text: str | None = None) -> None:
        """Show whether it is lit; ``stale`` takes its colour, since it is not known whether it still is."""
        self.lit, self.stale = lit, stale
        back = STALE if stale else self._colour
        look = f"background: {back}; color: #000; font-weight: bold;" if lit else f"color: {DIM};"
        edge = back if lit else LINE
        self.show_text(
            f"{'●' if lit else '○'} {text or self._text}{' ?' if stale else ''}",
            f"{look} border: 1px solid {edge}; border-radius: 8px; padding: 2px 6px; font-size: 12px;",
        )


class SecondsAgo(pg.AxisItem):  # type: ignore[misc]  # pyqtgraph has no types
    """The axis of time."""

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: N802, ARG002
        return ["now" if value == 0 else f"{value:g} s" for value in values]


class Chart(pg.PlotWidget):  # type: ignore[misc]  # pyqtgraph has no types
    """The course of one channel. It breaks where readings failed or went stale; what is uncertain is dashed."""

    def __init__(self, span_s: float) -> None:
        super().__init__(background=CARD, axisItems={"bottom": SecondsAgo("bottom")}, enableMenu=False)
        self._span_s = span_s
        self._unit = ""
        self._points: deque[tuple[float, float, bool]] = deque(maxlen=POINTS)
        lone = {"symbol": "o", "symbolSize": 3, "symbolBrush": GOOD, "symbolPen": None}  # no line leads to it
        self.good = self.plot(pen=pg.mkPen(GOOD, width=2), connect="finite", **lone)
        dashes = pg.mkPen(WARN, width=2, style=Qt.PenStyle.DashLine)
        self.uncertain = self.plot(pen=dashes, connect="finite")
        self.setMouseEnabled(x=False, y=False)
        self.hideButtons()
        self.showGrid(x=True, y=True, alpha=0.25)
        self.setXRange(-span_s, 0.03 * span_s, padding=0)
        self.getAxis("left").setWidth(76)
        self.getAxis("left").enableAutoSIPrefix(False)
        for name in ("left", "bottom"):
            self.getAxis(name).setPen(LINE)
            self.getAxis(name).setTextPen(TEXT)

    def show_unit(self, unit: str) -> None:
        """Show the unit. When it was changed on the analyser's panel, the curve starts over."""
        if unit != self._unit:
            self._unit = unit
            self._points.clear()
            self.setLabel("left", unit, color=TEXT)

    def add(self, at_s: float, value: float | None, *, certain: bool) -> None:
        """Add a value at a moment of ``time.monotonic()``; ``None`` is a gap."""
        self._points.append((at_s, math.nan if value is None else value, certain))

    def gap(self) -> None:
        """Break the line here, once."""
        if self._points and not math.isnan(self._points[-1][1]):
            self.add(time.monotonic(), None, certain=True)

    def show_until(self, now_s: float) -> None:
        """Draw what came in the seconds before ``now_s``."""
        while self._points and self._points[0][0] < now_s - self._span_s:
            self._points.popleft()
        if not self._points:
            return
        table = np.array(self._points, dtype=float)
        at_s, values, certain = table[:, 0] - now_s, table[:, 1], table[:, 2] > 0
        for curve, of_curve in ((self.good, certain), (self.uncertain, ~certain)):
            shown = np.where(of_curve, values, np.nan)
            if np.isfinite(shown).any():
                curve.setData(at_s, shown)
            else:
                curve.setData([], [])
        finite = values[np.isfinite(values)]
        if finite.size:
            middle, half = (finite.max() + finite.min()) / 2, (finite.max() - finite.min()) / 2
            half = max(1.15 * half, 0.01 * abs(middle), 1e-3)
            self.setYRange(middle - half, middle + half, padding=0)


class ChannelCard(QFrame):
    """One channel: name, value and unit, quality, lamps and chart."""

    def __init__(self, reading: servomex.Reading, span_s: float) -> None:
        super().__init__()
        self.setObjectName("card")
        self.reading = reading
        self.title, self.value, self.quality = Label(), Label(), Label()
        self.lamps = {text: Lamp(text, colour) for text, colour in LAMPS.items()}
        self.chart = Chart(span_s)
        self.chart.setMinimumHeight(116)
        left, lamps = QVBoxLayout(), QGridLayout()
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.quality)
        left.addLayout(head)
        left.addWidget(self.value, 1)
        lamps.setSpacing(4)
        for column in range(4):
            lamps.setColumnMinimumWidth(column, 128)
        for place, lamp in enumerate(self.lamps.values()):
            lamps.addWidget(lamp, place // 4, place % 4)
        left.addLayout(lamps)
        layout = QHBoxLayout(self)
        layout.addLayout(left)
        layout.addWidget(self.chart, 1)

    def take(self, reading: servomex.Reading) -> None:
        """Take a new reading."""
        self.reading = reading
        value = None if reading.quality == servomex.Quality.BAD else reading.value
        certain = reading.quality == servomex.Quality.GOOD
        self.chart.show_unit(reading.unit_text)
        self.chart.add(reading.monotonic_ns / 1e9, value, certain=certain)

    def refresh(self, *, stale: bool) -> None:
        """Show the newest reading; a stale one is grey and says how old it is."""
        reading, age_s = self.reading, self.reading.age_s
        if stale:
            self.chart.gap()
        self.chart.show_until(time.monotonic())
        self.title.show_text(f"{reading.channel}  {reading.name or ''}", "font-size: 16px; font-weight: bold;")
        number = "no value" if reading.value is None else f"{reading.value:.3f} {reading.unit_text}"
        look = f"color: {STALE}; font-style: italic;" if stale else f"color: {TEXT};"
        self.value.show_text(number, f"font-size: 38px; font-weight: bold; {look}")
        quality = f"STALE, {age_s:.0f} s old" if stale else reading.quality.upper()
        colour = STALE if stale else QUALITY[reading.quality]
        self.quality.show_text(quality, f"color: {colour}; font-weight: bold;")
        for text, lamp in self.lamps.items():
            lamp.show_state(lit=text in reading.status.words, stale=stale)


class Bridge(QObject):
    """Carries what a LiveFeed delivers from its threads to the window's."""

    came = Signal(object)


class Monitor(QWidget):
    """The window."""

    def __init__(self, port: str, *, rate_hz: float = 2.0, span_s: float = 120.0, protocol: str = "auto") -> None:
        super().__init__()
        self.setWindowTitle(f"Gas analyser on {port}")
        self.setStyleSheet(STYLE)
        self.resize(1140, 870)
        self._span_s = span_s
        self.frame: servomex.Frame | None = None
        self.trouble: str | None = None
        self.cards: dict[str, ChannelCard] = {}
        self._lay_out()
        self._bridge = Bridge()
        self._bridge.came.connect(self._take, Qt.ConnectionType.QueuedConnection)
        self.feed = LiveFeed(port, self._bridge.came.emit, rate_hz=rate_hz, protocol=protocol)
        self._closing = False
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)
        self.feed.start()

    def _lay_out(self) -> None:
        self.state, self.message = Label(), Label()
        self.message.setWordWrap(True)
        self.fault = Lamp("analyser fault", BAD)
        self.maintenance = Lamp("maintenance", WARN)
        self.groups = [Lamp(f"group {number}", INFO) for number in range(1, 5)]
        self.lamps = QWidget()
        self.lamps.hide()  # until something is known of them
        top, lamps, layout = QHBoxLayout(), QHBoxLayout(self.lamps), QVBoxLayout(self)
        lamps.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.state)
        top.addWidget(self.message, 1)
        for lamp in (self.fault, self.maintenance, *self.groups):
            lamps.addWidget(lamp)
        lamps.addStretch(1)
        inside = QWidget()
        self._rows = QVBoxLayout(inside)
        self._rows.setContentsMargins(0, 0, 0, 0)
        area = QScrollArea(widgetResizable=True)
        area.setWidget(inside)
        layout.addLayout(top)
        layout.addWidget(self.lamps)
        layout.addWidget(area, 1)

    @property
    def stale(self) -> bool:
        """Whether what is shown is not current."""
        if self.frame is None or self.trouble is not None:
            return True
        return self.frame.age_s > self.feed.stale_after_s

    def _take(self, item: Item) -> None:
        if self._closing:
            return
        if isinstance(item, servomex.Frame):
            self.frame, self.trouble = item, None
            for reading in item:
                self._card(reading).take(reading)
        else:
            self.trouble = item if isinstance(item, str) else item.text
            for card in self.cards.values():
                card.chart.gap()
        self._refresh()

    def _card(self, reading: servomex.Reading) -> ChannelCard:
        if reading.channel not in self.cards:
            self.cards[reading.channel] = card = ChannelCard(reading, self._span_s)
            self._rows.addWidget(card)
        return self.cards[reading.channel]

    def _tick(self) -> None:
        if self._closing and not self.feed.running:
            self.close()
        else:
            self._refresh()

    def _refresh(self) -> None:
        self._show_state()
        stale = self.stale
        for channel, card in self.cards.items():
            card.refresh(stale=stale or self.frame is None or channel not in self.frame)
        if self.frame is not None:
            status = self.frame.analyser
            self.lamps.show()
            self.fault.show_state(lit=status.fault, stale=stale)
            self.maintenance.show_state(lit=status.maintenance, stale=stale)
            for lamp, group in zip(self.groups, status.cal_groups, strict=False):
                where = {"idle": "sample", "cal_gas_1": "cal gas 1", "cal_gas_2": "cal gas 2"}[group.phase]
                lamp.show_state(lit=group.calibrating, stale=stale, text=f"group {group.group}: {where}")

    def _show_state(self) -> None:
        if self._closing:
            word, colour, text = "CLOSING", STALE, "the port is being closed"
        elif self.frame is None:
            word, colour, text = "OPENING", INFO, self.trouble or ""
        elif self.stale:
            since = f"last frame {self.frame.age_s:.0f} s ago"
            word, colour, text = "NO READINGS", BAD, f"{since}: {self.trouble or 'nothing has arrived since'}"
        else:
            arrived = self.frame.received_at.astimezone()
            word, colour = "READING", GOOD
            text = f"{self.feed.port}, {self.frame.protocol}, last frame {arrived:%H:%M:%S}"
        edges = "padding: 5px 12px; border-radius: 8px;"
        self.state.show_text(
            word, f"background: {colour}; color: #000; font-weight: bold; font-size: 15px; {edges}"
        )
        self.message.show_text(text, "")

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 (its name in Qt)
        """Close the port first, in the background; the window closes when no thread is left."""
        self._closing = True
        self.feed.stop()
        if self.feed.running:
            event.ignore()
            self._show_state()
        else:
            self._timer.stop()
            event.accept()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", help="such as /dev/ttyUSB0, COM3 or sim://moving")
    parser.add_argument("--protocol", default="auto", help="auto, continuous, modbus_rtu or modbus_ascii")
    parser.add_argument("--rate", type=float, default=2.0, help="readings per second over Modbus")
    parser.add_argument("--span", type=float, default=120.0, help="seconds in the charts")
    given = parser.parse_args()
    app = QApplication(sys.argv[:1])
    monitor = Monitor(given.port, rate_hz=given.rate, span_s=given.span, protocol=given.protocol)
    signal.signal(signal.SIGINT, lambda *_: monitor.close())
    monitor.show()
    code = app.exec()
    monitor.feed.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
