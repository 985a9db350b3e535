"""How the window of Qt looks: what is wrong is loudest, and everything can be reached in a small window."""

import re
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

import servomex
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.views.looks import COLOURS, STALE_COLOUR, Level
from tests.helpers.monitors import HEADLINES, Breathe, is_stale, luminance, raise_alarm, raise_state, ten_channels
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    import qt_monitor


def card(monitor: "qt_monitor.Monitor", channel: str) -> "qt_monitor.ChannelCard":
    return monitor.cards[servomex.ChannelId(channel)]


def font_px(label: "qt_monitor.Label") -> int:
    found = re.search(r"font-size: (\d+)px", label.look)
    assert found
    return int(found[1])


def brightest(widget: Any) -> float:
    """The luminance of the brightest pixel that a widget shows."""
    image = widget.grab().toImage()
    pixels = (image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height()))
    return max(map(luminance, pixels))


@pytest.mark.parametrize(("state", "word", "level"), HEADLINES)
def test_the_headline_is_green_only_when_nothing_is_wrong(
    analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe, state: str, word: str, level: Level
) -> None:
    raise_state(analyser, state)
    wait_until(lambda: monitor.state.text() == word, pause=breathe)
    assert f"background: {COLOURS[level]}" in monitor.state.look
    assert monitor.windowTitle().startswith(word)
    assert (COLOURS[Level.GOOD] in monitor.state.look) == (state == "")


def test_a_faulty_channel_is_never_as_bright_as_a_good_one(
    analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
) -> None:
    analyser["I1"].status = servomex.ChannelStatus(fault=True)
    faulty, good = card(monitor, "I1"), card(monitor, "I2")
    wait_until(lambda: faulty.value.text() == "-", pause=breathe)
    assert font_px(faulty.value) < font_px(good.value) == 38
    assert brightest(faulty.value) < 0.75 * brightest(good.value)
    assert faulty.chart.good.opacity() < good.chart.good.opacity() == 1.0
    assert good.property("loud") is False
    assert faulty.property("loud") is True
    assert f"background: {COLOURS[Level.ALARM]}" in faulty.title.look
    assert faulty.accessibleName() == "I1 Oxygen: -, BAD, fault"


def test_an_alarm_is_marked_in_the_title_and_its_value_stays_good(
    analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
) -> None:
    raise_alarm(analyser, 2)
    found = card(monitor, "I2")
    wait_until(lambda: found.title.text() == "I2  CO  alarm 2", pause=breathe)
    assert f"background: {COLOURS[Level.ALARM]}" in found.title.look
    assert (found.value.text(), found.quality.text()) == ("0.084 %", "GOOD")
    assert COLOURS[Level.GOOD] in found.quality.look


def test_what_is_stale_is_grey_and_raises_nothing_anew(
    analyser: VirtualAnalyzer, line: VirtualLine, monitor: "qt_monitor.Monitor", breathe: Breathe
) -> None:
    raise_alarm(analyser, 1)
    found = card(monitor, "I2")
    wait_until(lambda: "alarm 1" in found.title.text(), pause=breathe)
    bright = brightest(found.value)
    line.unplug()
    wait_until(lambda: is_stale(found.quality.text()), pause=breathe)
    assert STALE_COLOUR in found.value.look
    assert STALE_COLOUR in found.quality.look
    assert brightest(found.value) < 0.75 * bright
    assert found.title.text() == "I2  CO"
    assert found.property("loud") is False
    assert f"background: {COLOURS[Level.ALARM]}" in monitor.state.look


@pytest.fixture
def ten() -> VirtualLine:
    """The line of an analyser with ten channels, of which some have long words."""
    analyser = ten_channels()
    for channel in ("I2", "D4"):
        alarms = (True, True, True, True)
        analyser[channel].status = servomex.ChannelStatus(True, True, True, True, alarms)
    return VirtualLine(analyser)


@pytest.fixture
def small(
    ten: VirtualLine, open_monitor: "Callable[..., qt_monitor.Monitor]", breathe: Breathe
) -> "qt_monitor.Monitor":
    """A window of 800x480 that shows all of them."""
    found = open_monitor(ten)
    found.resize(800, 480)
    wait_until(lambda: len(found.cards) == 10 and not found.latest.stale, pause=breathe)
    breathe(0.2)
    return found


def test_every_channel_can_be_reached_in_a_small_window(small: "qt_monitor.Monitor", breathe: Breathe) -> None:
    from PySide6.QtCore import QPoint, QRect

    assert (small.width(), small.height()) == (800, 480)
    assert small.area.horizontalScrollBar().maximum() == 0
    assert_apart([small.state, small.message, small.lamps, small.area])
    view = small.area.viewport()
    assert view.height() >= 180
    for found in small.cards.values():
        found.setFocus()  # as Tab does
        breathe(0.02)
        place = QRect(found.mapTo(view, QPoint(0, 0)), found.size())
        assert view.rect().contains(place)
        assert_apart([found.title, found.quality, found.value, found.chart, *found.lamps.values()])
        for label in (found.quality, found.value, *found.lamps.values()):
            assert label.sizeHint().width() <= label.width(), label.text()
    assert_apart(small.cards.values())


def assert_apart(widgets: Iterable[Any]) -> None:
    """Check that no two widgets of one parent overlap, and none sticks out of it."""
    listed = list(widgets)
    for one, other in combinations(listed, 2):
        assert not one.geometry().intersects(other.geometry()), (one, other)
    for widget in listed:
        assert widget.parentWidget().rect().contains(widget.geometry()), widget


def test_wheel_and_keys_scroll(app: Any, small: "qt_monitor.Monitor", breathe: Breathe) -> None:
    from PySide6.QtCore import QPoint, QPointF, Qt
    from PySide6.QtGui import QWheelEvent
    from PySide6.QtTest import QTest

    def turned(widget: Any) -> bool:
        """Turn the wheel over a widget; return whether it kept that to itself."""
        middle = QPointF(widget.rect().center())
        event = QWheelEvent(
            middle, QPointF(widget.mapToGlobal(middle.toPoint())), QPoint(), QPoint(0, -120),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        app.sendEvent(widget, event)
        return event.isAccepted()

    bar, found = small.area.verticalScrollBar(), card(small, "I1")
    assert not any(map(turned, (found.chart.viewport(), found.value, found))), "it is for the window"
    assert turned(small.area.viewport())
    assert bar.value() > 0
    before = bar.value()
    QTest.keyClick(small.area, Qt.Key.Key_PageDown)
    breathe(0.02)
    assert bar.value() > before
    before = bar.value()
    QTest.keyClick(card(small, "I4"), Qt.Key.Key_Down)
    assert bar.value() > before
