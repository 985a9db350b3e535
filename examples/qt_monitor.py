"""Show an analyser live: values, states and strip charts. Needs PySide6-Essentials and pyqtgraph.

The headline says what is wrong and where, and is green only when nothing is. The window scrolls by wheel and keys,
Tab goes from channel to channel, and a screen reader hears each of them in words. The window never waits for the
line: a LiveFeed reads in threads, and its frames come by a queued signal. In the folder with the sources:

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
from live_view import BACK, CARD, DIM, LINE, TEXT, Digits, Latest, loud_words, quality_colour, value_colour
from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QFocusEvent, QResizeEvent, QWheelEvent
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
from servomex.views.looks import COLOURS, LEVELS, STALE_COLOUR, Level, level_of

TICK_MS = 200
"""How often ages and charts are brought up to date."""
POINTS = 20_000
NARROW = 1000
"""Below this width the lamps of the analyser are in two rows."""
QUIET = 0.35
"""How opaque the course of a channel is that has no value, or none that is current."""
ALARM = COLOURS[Level.ALARM]
STYLE = f"""
    QWidget {{ background: {BACK}; color: {TEXT}; font-size: 13px; }}
    QWidget {{ font-family: "DejaVu Sans", "Segoe UI", "Helvetica Neue", sans-serif; }}
    QFrame#card, QFrame#card QLabel {{ background: {CARD}; }}
    QFrame#card {{ border: 2px solid {LINE}; border-radius: 8px; }}
    QFrame#card[loud="true"] {{ border-color: {ALARM}; }}
    QFrame#card:focus {{ border-color: {TEXT}; }}
    QScrollArea {{ border: none; }}
    QScrollBar:vertical {{ background: {BACK}; width: 12px; }}
    QScrollBar::handle:vertical {{ background: {LINE}; border-radius: 5px; min-height: 30px; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ height: 0; }}
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

    def __init__(self, text: str, level: Level) -> None:
        super().__init__()
        self._text, self._colour = text, COLOURS[level]
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.show_state(lit=False, stale=True)

    def show_state(self, *, lit: bool, stale: bool, text: str | None = None) -> None:
        """Show whether it is lit; ``stale`` takes its colour, since it is not known whether it still is."""
        self.lit, self.stale = lit, stale
        back = STALE_COLOUR if stale else self._colour
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
        lone = {
            "symbol": "o",
            "symbolSize": 3,
            "symbolBrush": COLOURS[Level.GOOD],
            "symbolPen": None,
        }  # no line leads to it
        self.good = self.plot(pen=pg.mkPen(COLOURS[Level.GOOD], width=2), connect="finite", **lone)
        dashes = pg.mkPen(COLOURS[Level.WARNING], width=2, style=Qt.PenStyle.DashLine)
        self.uncertain = self.plot(pen=dashes, connect="finite")
        self.setMouseEnabled(x=False, y=False)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hideButtons()
        self.showGrid(x=True, y=True, alpha=0.25)
        self.setXRange(-span_s, 0.03 * span_s, padding=0)
        self.getAxis("left").setWidth(76)
        self.getAxis("left").enableAutoSIPrefix(False)
        for name in ("left", "bottom"):
            self.getAxis(name).setPen(LINE)
            self.getAxis(name).setTextPen(TEXT)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 (its name in Qt)
        """Leave the wheel to the window, which scrolls."""
        event.ignore()

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

    def show_until(self, now_s: float, *, quiet: bool) -> None:
        """Draw what came in the seconds before ``now_s``; ``quiet`` draws it faintly."""
        for curve in (self.good, self.uncertain):
            curve.setOpacity(QUIET if quiet else 1.0)
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

    focused = Signal(object)

    def __init__(self, reading: servomex.Reading, span_s: float) -> None:
        super().__init__()
        self.setObjectName("card")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.reading = reading
        self._digits = Digits()
        self.title, self.value, self.quality = Label(), Label(), Label()
        self.title.setMinimumWidth(1)  # a long name does not widen the window
        self.value.setMinimumHeight(52)  # whatever it shows, nothing else moves
        self.lamps = {text: Lamp(text, level) for text, level in LEVELS.items()}
        self.chart = Chart(span_s)
        self.chart.setMinimumSize(190, 116)
        left, lamps = QVBoxLayout(), QGridLayout()
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.quality)
        left.addLayout(head)
        left.addWidget(self.value, 1)
        lamps.setSpacing(4)
        for column in range(4):
            lamps.setColumnMinimumWidth(column, 124)
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
        reading, level = self.reading, level_of(self.reading)
        has_value = reading.quality != servomex.Quality.BAD
        if stale:
            self.chart.gap()
        self.chart.show_until(time.monotonic(), quiet=stale or not has_value)
        loud = level is Level.ALARM and not stale
        title = "  ".join(filter(None, (reading.channel, reading.name, loud_words(reading) if loud else "")))
        look = f"background: {ALARM}; color: #000; padding: 1px 6px; border-radius: 4px;" if loud else ""
        self.title.show_text(title, f"font-size: 16px; font-weight: bold; {look}")
        if self.property("loud") != loud:
            self.setProperty("loud", loud)
            self.style().polish(self)
        size = "38px; font-weight: bold" if has_value else "24px"
        colour = value_colour(reading, stale=stale)
        number = self._digits.text(reading)
        self.value.show_text(number, f"font-size: {size}; color: {colour};{' font-style: italic;' * stale}")
        quality = f"STALE, {reading.age_s:.0f} s old" if stale else reading.quality.upper()
        colour = quality_colour(reading, stale=stale)
        self.quality.show_text(quality, f"color: {colour}; font-weight: bold;")
        self.setAccessibleName(f"{reading.channel} {reading.name or ''}: {number}, {quality}, {reading.status}")
        for text, lamp in self.lamps.items():
            lamp.show_state(lit=text in reading.status.words, stale=stale)

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802 (its name in Qt)
        """Have the window scroll to it."""
        super().focusInEvent(event)
        self.focused.emit(self)


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
        self.cards: dict[str, ChannelCard] = {}
        self._lay_out()
        self._bridge = Bridge()
        self._bridge.came.connect(self._take, Qt.ConnectionType.QueuedConnection)
        self.feed = LiveFeed(port, self._bridge.came.emit, rate_hz=rate_hz, protocol=protocol)
        self.latest = Latest(self.feed)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)
        self.feed.start()

    def _lay_out(self) -> None:
        self.state, self.message = Label(), Label()
        self.message.setWordWrap(True)
        self.state.setWordWrap(True)
        self.fault = Lamp("analyser fault", Level.ALARM)
        self.maintenance = Lamp("maintenance", Level.WARNING)
        self.groups = [Lamp(f"group {number}", Level.NOTICE) for number in range(1, 5)]
        self.lamps = QWidget()
        self.lamps.hide()  # until something is known of them
        top, self._grid, layout = QHBoxLayout(), QGridLayout(self.lamps), QVBoxLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.state, 1)
        top.addWidget(self.message, 1)
        self._arrange(wide=True)
        inside = QWidget()
        self._rows = QVBoxLayout(inside)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self.area = QScrollArea(widgetResizable=True)
        self.area.setWidget(inside)
        self.area.setFocus()
        layout.addLayout(top)
        layout.addWidget(self.lamps)
        layout.addWidget(self.area, 1)

    def _arrange(self, *, wide: bool) -> None:
        for place, lamp in enumerate((self.fault, self.maintenance, *self.groups)):
            self._grid.addWidget(lamp, *((0, place) if wide else divmod(place, 3)))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 (its name in Qt)
        """Put the lamps of the analyser into as many rows as the width needs."""
        super().resizeEvent(event)
        self._arrange(wide=event.size().width() >= NARROW)

    def _take(self, item: Item) -> None:
        if self.latest.closing:
            return
        self.latest.take(item)
        if isinstance(item, servomex.Frame):
            for reading in item:
                self._card(reading).take(reading)
        else:
            for card in self.cards.values():
                card.chart.gap()
        self._refresh()

    def _card(self, reading: servomex.Reading) -> ChannelCard:
        if reading.channel not in self.cards:
            self.cards[reading.channel] = card = ChannelCard(reading, self._span_s)
            card.focused.connect(self.area.ensureWidgetVisible)
            self._rows.addWidget(card)
        return self.cards[reading.channel]

    def _tick(self) -> None:
        if self.latest.closing and not self.feed.running:
            self.close()
        else:
            self._refresh()

    def _refresh(self) -> None:
        self._show_state()
        for channel, card in self.cards.items():
            card.refresh(stale=self.latest.is_stale(channel))
        if (frame := self.latest.frame) is not None:
            status, stale = frame.analyser, self.latest.stale
            self.lamps.show()
            self.fault.show_state(lit=status.fault, stale=stale)
            self.maintenance.show_state(lit=status.maintenance, stale=stale)
            for lamp, group in zip(self.groups, status.cal_groups, strict=False):
                where = {"idle": "sample", "cal_gas_1": "cal gas 1", "cal_gas_2": "cal gas 2"}[group.phase]
                lamp.show_state(lit=group.calibrating, stale=stale, text=f"group {group.group}: {where}")

    def _show_state(self) -> None:
        word, text, colour = self.latest.headline
        look = "color: #000; font-weight: bold; font-size: 16px; padding: 5px 12px; border-radius: 8px;"
        self.state.show_text(word, f"background: {colour}; {look}")
        self.message.show_text(text, "")
        self.setWindowTitle(f"{word}: {self.feed.port}")

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 (its name in Qt)
        """Close the port first, in the background; the window closes when no thread is left."""
        self.latest.closing = True
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
