"""The examples with a window can be imported, and show a virtual analyser."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.monitors import RTU, Breathe
from tests.helpers.paths import EXAMPLES
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    import qt_monitor


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    return VirtualAnalyzer()


@pytest.fixture
def line(analyser: VirtualAnalyzer) -> VirtualLine:
    return VirtualLine(analyser)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application of Qt, off screen."""
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    widgets = pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError, reason="PySide6 is not installed")
    pytest.importorskip("pyqtgraph", reason="pyqtgraph is not installed")
    return widgets.QApplication.instance() or widgets.QApplication([])


@pytest.fixture
def breathe(app: Any) -> Breathe:
    """Lets the windows of Qt work for some seconds."""

    def let_it_work(seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            app.processEvents()
            if time.monotonic() >= end:
                return
            time.sleep(0.003)

    return let_it_work


@pytest.fixture
def open_monitor(breathe: Breathe) -> "Iterator[Callable[..., qt_monitor.Monitor]]":
    """Opens a window of Qt on a line; it is closed at the end."""
    import qt_monitor

    opened = []

    def make(line: VirtualLine, **options: Any) -> qt_monitor.Monitor:
        opened.append(qt_monitor.Monitor(line.url, **{"rate_hz": 10, "protocol": RTU, **options}))
        opened[-1].show()
        return opened[-1]

    yield make
    for monitor in opened:
        monitor.close()
        wait_until(lambda monitor=monitor: not monitor.isVisible(), pause=breathe)  # type: ignore[misc]
        monitor.deleteLater()
    breathe(0.01)


@pytest.fixture
def monitor(
    line: VirtualLine, open_monitor: "Callable[..., qt_monitor.Monitor]", breathe: Breathe
) -> "qt_monitor.Monitor":
    """A window of Qt that shows readings."""
    found = open_monitor(line)
    wait_until(lambda: found.cards and not found.latest.stale, pause=breathe)
    return found
