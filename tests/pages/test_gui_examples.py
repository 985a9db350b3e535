"""The monitors are run against virtual analysers: with Qt off screen, with Tk on a display that nobody sees."""

import contextlib
import gc
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import servomex
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine, constant
from tests.helpers.paths import ROOT
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    import qt_monitor
    import tk_monitor
    from live_feed import Item

Breathe = Callable[[float], None]
"""Lets a window work for some seconds."""
EXAMPLES = ROOT / "examples"
WAIT_S = 60.0
BLOCKED_S = 2.0
"""Longer than this no window may stand still. To make the widgets takes 0.4 s, and opening a dead line 10 s."""
DEAD_S = 3.0
BEATS = 30
"""So often at least a window is free in these seconds, of 300 times. One that reads by itself is free twice."""
RTU = "modbus_rtu"


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    return VirtualAnalyzer()


@pytest.fixture
def line(analyser: VirtualAnalyzer) -> VirtualLine:
    return VirtualLine(analyser)


def raise_alarm(analyser: VirtualAnalyzer, number: int) -> None:
    """Raise an alarm of I2."""
    alarms = (number == 1, number == 2, number == 3, number == 4)
    analyser["I2"].status = servomex.ChannelStatus(alarms=alarms)


@pytest.mark.virtual_time
class TestLiveFeed:
    """The backend without a window."""

    @pytest.fixture
    def items(self) -> "list[Item]":
        return []

    @pytest.mark.parametrize("mode", [RTU, "continuous"])
    @pytest.mark.parametrize("state", ["reading", "opening a dead line", "a dead line", "unplugged", "not there"])
    def test_it_ends_soon_whatever_it_does(
        self, analyser: VirtualAnalyzer, line: VirtualLine, items: "list[Item]", mode: str, state: str
    ) -> None:
        from live_feed import LiveFeed

        analyser.period = 0.1
        analyser.power_cycle(mode)
        analyser.faults.silent = state == "opening a dead line"
        if state == "not there":
            line.unplug()
        feed = LiveFeed(line.url, items.append, rate_hz=10)
        feed.start()
        opens = state in ("reading", "a dead line", "unplugged")
        wait_until(lambda: any(isinstance(item, servomex.Frame) == opens for item in items))
        if state == "a dead line":
            analyser.faults.silent = True
            time.sleep(0.3)
        elif state == "unplugged":
            line.unplug()
            wait_until(lambda: isinstance(items[-1], servomex.ServomexError))
        begun = time.monotonic()
        feed.stop()
        assert time.monotonic() - begun < 0.5
        feed.close()
        assert time.monotonic() - begun < 3.0
        assert not feed.running

    def test_a_port_that_is_not_there_is_tried_again(
        self, line: VirtualLine, items: "list[Item]", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import live_feed

        monkeypatch.setattr(live_feed, "RETRY_S", 0.1)
        line.unplug()
        feed = live_feed.LiveFeed(line.url, items.append, rate_hz=10)
        feed.start()
        wait_until(lambda: sum(isinstance(item, servomex.ServomexConnectionError) for item in items) > 1)
        line.plug()
        wait_until(lambda: isinstance(items[-1], servomex.Frame))
        feed.close()

    def test_a_name_that_can_never_work_is_told(self, items: "list[Item]") -> None:
        from live_feed import LiveFeed

        feed = LiveFeed("sim://nothing", items.append)
        feed.start()
        wait_until(lambda: any(isinstance(item, servomex.ServomexError) for item in items))
        feed.close()


def is_free(line: VirtualLine) -> bool:
    """Whether somebody else can open the port."""
    with servomex.SerialLink(line.url):
        return True


def only_these(threads: set[threading.Thread]) -> bool:
    return set(threading.enumerate()) <= threads


class TestQt:
    @pytest.fixture(autouse=True)
    def app(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
        widgets = pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError, reason="PySide6 is not installed")
        pytest.importorskip("pyqtgraph", reason="pyqtgraph is not installed")
        return widgets.QApplication.instance() or widgets.QApplication([])

    @pytest.fixture
    def breathe(self, app: Any) -> Breathe:
        def let_it_work(seconds: float) -> None:
            end = time.monotonic() + seconds
            while True:
                app.processEvents()
                if time.monotonic() >= end:
                    return
                time.sleep(0.003)

        return let_it_work

    @pytest.fixture
    def open_monitor(self, breathe: Breathe) -> "Iterator[Callable[..., qt_monitor.Monitor]]":
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
        self,
        line: VirtualLine,
        open_monitor: "Callable[..., qt_monitor.Monitor]",
        breathe: Breathe,
    ) -> "qt_monitor.Monitor":
        """One that shows readings."""
        found = open_monitor(line)
        wait_until(lambda: found.cards and not found.stale, pause=breathe)
        return found

    @staticmethod
    def card(monitor: "qt_monitor.Monitor", channel: str) -> "qt_monitor.ChannelCard":
        return monitor.cards[servomex.ChannelId(channel)]

    def test_it_shows_what_the_analyser_measures(self, monitor: "qt_monitor.Monitor") -> None:
        shown = [(card.title.text(), card.value.text(), card.quality.text()) for card in monitor.cards.values()]
        assert shown == [
            ("I1  Oxygen", "20.376 %", "GOOD"),
            ("I2  CO", "0.084 %", "GOOD"),
            ("I3  CO₂", "0.250 %", "GOOD"),
            ("E1  ", "0.000 mA", "GOOD"),
            ("E2  ", "0.000 mA", "GOOD"),
        ]
        assert monitor.state.text() == "READING"
        assert monitor.fault.text() == "○ analyser fault"
        assert not any(lamp.lit for card in monitor.cards.values() for lamp in card.lamps.values())

    def test_continuous_mode_is_shown_as_well(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        open_monitor: "Callable[..., qt_monitor.Monitor]",
        breathe: Breathe,
    ) -> None:
        analyser.period = 0.1
        analyser.power_cycle("continuous")
        monitor = open_monitor(line, protocol="auto")
        wait_until(lambda: monitor.cards and not monitor.stale, pause=breathe)
        assert self.card(monitor, "I1").value.text() == "20.376 %"
        breathe(1.0)
        analyser.faults.silent = True
        wait_until(lambda: "STALE" in self.card(monitor, "I1").quality.text(), pause=breathe)

    @pytest.mark.parametrize("number", [1, 2, 3, 4])
    def test_an_alarm_lights_its_lamp(
        self,
        analyser: VirtualAnalyzer,
        monitor: "qt_monitor.Monitor",
        breathe: Breathe,
        number: int,
    ) -> None:
        lamps = self.card(monitor, "I2").lamps
        raise_alarm(analyser, number)
        wait_until(lambda: lamps[f"alarm {number}"].lit, pause=breathe)
        assert lamps[f"alarm {number}"].text() == f"● alarm {number}"
        assert [text for text, lamp in lamps.items() if lamp.lit] == [f"alarm {number}"]
        raise_alarm(analyser, 0)
        wait_until(lambda: not lamps[f"alarm {number}"].lit, pause=breathe)

    @pytest.mark.parametrize(
        ("state", "quality"),
        [
            ("fault", "BAD"),
            ("maintenance", "UNCERTAIN"),
            ("calibrating", "UNCERTAIN"),
            ("warming_up", "UNCERTAIN"),
        ],
    )
    def test_a_state_lights_its_lamp_and_shows_in_the_quality(
        self,
        analyser: VirtualAnalyzer,
        monitor: "qt_monitor.Monitor",
        breathe: Breathe,
        state: str,
        quality: str,
    ) -> None:
        card = self.card(monitor, "I1")
        flags: dict[str, Any] = {state: True}
        analyser["I1"].status = servomex.ChannelStatus(**flags)
        wait_until(lambda: card.lamps[state.replace("_", " ")].lit, pause=breathe)
        assert card.quality.text() == quality

    def test_the_analyser_s_own_state_is_shown(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        analyser.fault = analyser.maintenance = True
        analyser.write_coils(1, [True])
        wait_until(lambda: monitor.fault.lit and monitor.maintenance.lit and monitor.groups[1].lit, pause=breathe)
        assert monitor.groups[1].text() == "● group 2: cal gas 1"
        assert monitor.groups[0].text() == "○ group 1: sample"

    def test_no_value_is_no_number(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        analyser["I1"].signal = constant(None)
        wait_until(lambda: self.card(monitor, "I1").value.text() == "no value", pause=breathe)
        assert self.card(monitor, "I1").quality.text() == "BAD"

    def test_another_unit_begins_another_course(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        card = self.card(monitor, "I2")
        analyser["I2"].unit, analyser["I2"].signal = "vpm", constant(840.0)
        wait_until(lambda: card.value.text() == "840.000 vpm", pause=breathe)
        breathe(0.3)
        assert set(finite(card.chart)) == {840.0}

    def test_a_pulled_cable_is_a_gap_and_told_until_it_is_back(
        self, line: VirtualLine, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        card = self.card(monitor, "I1")
        raise_alarm(line.analysers[0], 1)
        wait_until(
            lambda: len(finite(card.chart)) > 3 and self.card(monitor, "I2").lamps["alarm 1"].lit, pause=breathe
        )
        line.unplug()
        wait_until(lambda: monitor.state.text() == "NO READINGS", pause=breathe)
        assert "unplugged" in monitor.message.text()
        wait_until(lambda: re.fullmatch(r"STALE, [1-9]\d* s old", card.quality.text()), pause=breathe)
        assert card.value.text() == "20.376 %"
        assert "italic" in card.value.look
        lamp = self.card(monitor, "I2").lamps["alarm 1"]
        assert (lamp.lit, lamp.stale, lamp.text()) == (True, True, "● alarm 1 ?")
        line.plug()
        wait_until(lambda: monitor.state.text() == "READING", pause=breathe)
        assert "italic" not in card.value.look
        wait_until(lambda: len(pieces(card.chart)) > 1, pause=breathe)

    def test_silence_alone_makes_it_stale(self, monitor: "qt_monitor.Monitor", breathe: Breathe) -> None:
        monitor._bridge.came.disconnect()  # as if the threads had died without a word
        wait_until(
            lambda: re.fullmatch(r"STALE, [1-9]\d* s old", self.card(monitor, "I1").quality.text()), pause=breathe
        )
        assert monitor.state.text() == "NO READINGS"
        assert "nothing has come since" in monitor.message.text()

    @pytest.mark.alone
    def test_a_line_that_dies_never_stops_the_window(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        with heartbeat() as beats:
            analyser.faults.silent = True
            wait_until(lambda: monitor.trouble is not None, pause=breathe)
            assert "Check that the analyser is on" in monitor.message.text()
            before = len(beats)
            breathe(DEAD_S)
            assert len(beats) - before > BEATS
            analyser.faults.silent = False
            wait_until(lambda: not monitor.stale, pause=breathe)
        assert longest(beats) < BLOCKED_S

    @pytest.mark.alone
    def test_opening_a_dead_line_never_stops_the_window(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        open_monitor: "Callable[..., qt_monitor.Monitor]",
        breathe: Breathe,
    ) -> None:
        analyser.faults.silent = True
        with heartbeat() as beats:
            monitor = open_monitor(line, protocol="auto")
            breathe(DEAD_S)
            assert monitor.state.text() == "OPENING"
            assert line.url in monitor.message.text()
            assert not monitor.lamps.isVisible()
            analyser.faults.silent = False
            wait_until(lambda: monitor.state.text() == "READING", pause=breathe)
        assert longest(beats) < BLOCKED_S

    @pytest.mark.parametrize("state", ["reading", "opening", "dead", "unplugged"])
    @pytest.mark.alone
    def test_it_closes_at_any_time_and_leaves_nothing(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        open_monitor: "Callable[..., qt_monitor.Monitor]",
        breathe: Breathe,
        state: str,
    ) -> None:
        before = set(threading.enumerate())
        analyser.faults.silent = state == "opening"
        monitor = open_monitor(line, protocol="auto")
        if state == "opening":
            breathe(0.3)
        else:
            wait_until(lambda: monitor.cards, pause=breathe)
        if state == "dead":
            analyser.faults.silent = True
            breathe(0.5)
        elif state == "unplugged":
            line.unplug()
            wait_until(lambda: monitor.trouble, pause=breathe)
        with heartbeat() as beats:
            monitor.close()
            wait_until(lambda: not monitor.isVisible(), 5.0, pause=breathe)
        assert longest(beats) < BLOCKED_S
        assert only_these(before)
        line.plug()
        assert is_free(line)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other programs")
    def test_ctrl_c_closes_the_program(self, line: VirtualLine) -> None:
        with TcpServer(line) as server:
            command = [sys.executable, str(EXAMPLES / "qt_monitor.py"), server.port, "--protocol", RTU]
            assert_ends_on_ctrl_c(command, line)


def assert_ends_on_ctrl_c(command: list[str], line: VirtualLine) -> None:
    """Start a program, wait until it reads, and interrupt it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            wait_until(lambda: len(line.heard) > 6)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err


class heartbeat:  # noqa: N801 (it is used like a function)
    """Notes the moments at which the window's thread was free, every 10 ms."""

    def __enter__(self) -> list[float]:
        from PySide6.QtCore import QTimer

        self.beats = [time.monotonic()]
        self.timer = QTimer()
        self.timer.timeout.connect(lambda: self.beats.append(time.monotonic()))
        self.timer.start(10)
        return self.beats

    def __exit__(self, *_: object) -> None:
        self.timer.stop()
        self.beats.append(time.monotonic())


def longest(beats: list[float]) -> float:
    """The longest time between two beats, in seconds."""
    return max(after - before for before, after in pairwise(beats))


def drawn(chart: "qt_monitor.Chart") -> list[float]:
    """The values that a chart draws, NaN in the gaps."""
    found = chart.good.getOriginalDataset()[1]
    return [] if found is None else list(found)


def finite(chart: "qt_monitor.Chart") -> list[float]:
    return [value for value in drawn(chart) if value == value]


def pieces(chart: "qt_monitor.Chart") -> list[list[float]]:
    """The unbroken pieces that a chart draws; only its line is looked at, which ends at NaN."""
    assert chart.good.opts["connect"] == "finite"
    found: list[list[float]] = [[]]
    for value in drawn(chart):
        if value == value:
            found[-1].append(value)
        else:
            found.append([])
    return [piece for piece in found if piece]


def interpreter_with_tk() -> str | None:
    """Another Python of a version that will do, which has tkinter."""
    names = [f"python3.{minor}" for minor in range(11, 16)]
    found = [shutil.which("python3", path="/usr/bin"), *map(shutil.which, names)]
    check = "import sys, tkinter; sys.exit(sys.version_info < (3, 11))"
    for path in filter(None, found):
        if subprocess.run([path, "-c", check], capture_output=True).returncode == 0:
            return path
    return None


def has_tk() -> bool:
    try:
        import tkinter  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.skipif(has_tk(), reason="this Python has tkinter: its own tests run")
def test_tk_with_another_python() -> None:
    python = interpreter_with_tk()
    if python is None:
        pytest.skip("no Python here has tkinter")
    path = os.pathsep.join([str(EXAMPLES.parent), *(item for item in sys.path if item.endswith("site-packages"))])
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "TestTk", __file__]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def hidden_display(server: str, log: Path) -> Iterator[str]:
    """Run Xvfb and give the name of its display."""
    read, write = os.pipe()
    command = [server, "-displayfd", str(write), "-screen", "0", "1280x1024x24"]
    with log.open("w") as told, subprocess.Popen(command, pass_fds=[write], stderr=told, stdout=told) as process:
        os.close(write)
        try:
            with os.fdopen(read) as number:
                name = number.readline().strip()
            assert name, log.read_text()
            yield f":{name}"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def display(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A display that nobody sees, where there is Xvfb; else the one that is there."""
    import tkinter

    with contextlib.ExitStack() as ends:
        server = shutil.which("Xvfb")
        if server:
            name = ends.enter_context(hidden_display(server, tmp_path_factory.mktemp("display") / "log"))
            ends.enter_context(pytest.MonkeyPatch.context()).setenv("DISPLAY", name)
        try:
            tkinter.Tk().destroy()  # keeps its connection for all windows that follow
        except tkinter.TclError:
            pytest.skip("there is neither a display nor Xvfb")
        yield


@pytest.mark.skipif(not has_tk(), reason="this Python has no tkinter")
@pytest.mark.usefixtures("display")
class TestTk:
    @pytest.fixture(autouse=True)
    def collected_here(self) -> Iterator[None]:
        """Free windows in this thread: Tcl ends a program that frees one in another."""
        gc.disable()
        yield
        gc.collect()
        gc.enable()

    @pytest.fixture
    def open_monitor(self) -> "Iterator[Callable[..., tk_monitor.Monitor]]":
        import tkinter

        import tk_monitor

        opened = []

        def make(line: VirtualLine, **options: Any) -> tk_monitor.Monitor:
            root = tkinter.Tk()
            opened.append(tk_monitor.Monitor(root, line.url, **{"rate_hz": 10, "protocol": RTU, **options}))
            return opened[-1]

        yield make
        for monitor in opened:
            monitor.close()
            wait_until(lambda monitor=monitor: gone(monitor), pause=breathing(monitor))  # type: ignore[misc]
        opened.clear()

    @pytest.fixture
    def monitor(
        self, line: VirtualLine, open_monitor: "Callable[..., tk_monitor.Monitor]"
    ) -> "tk_monitor.Monitor":
        """One that shows readings."""
        found = open_monitor(line)
        wait_until(lambda: found.rows and not found.stale, pause=breathing(found))
        return found

    @staticmethod
    def shown(monitor: "tk_monitor.Monitor", channel: str) -> tuple[str, str, str]:
        row = monitor.rows[servomex.ChannelId(channel)]
        return row.value["text"], row.quality["text"], row.states["text"]

    def test_it_shows_what_the_analyser_measures(self, monitor: "tk_monitor.Monitor") -> None:
        breathing(monitor)(0.2)
        names = [row.name["text"].strip() for row in monitor.rows.values()]
        assert names == [
            "I1  Oxygen",
            "I2  CO",
            "I3  CO₂",
            "E1",
            "E2",
        ]
        assert self.shown(monitor, "I1") == ("20.376 %", "quality good", "no fault, no alarm")
        assert monitor.state["text"].startswith("READING")
        assert monitor.analyser["text"] == "analyser: ok"

    def test_states_and_alarms_are_shown_in_words(
        self, analyser: VirtualAnalyzer, monitor: "tk_monitor.Monitor"
    ) -> None:
        raise_alarm(analyser, 3)
        analyser.fault = True
        analyser["I1"].status = servomex.ChannelStatus(warming_up=True)
        analyser["I3"].signal = constant(None)
        wait_until(lambda: self.shown(monitor, "I2")[2] == "ALARM 3", pause=breathing(monitor))
        wait_until(
            lambda: self.shown(monitor, "I1")[1:] == ("quality uncertain", "WARMING UP"), pause=breathing(monitor)
        )
        wait_until(lambda: self.shown(monitor, "I3")[:2] == ("no value", "quality bad"), pause=breathing(monitor))
        assert monitor.analyser["text"] == "analyser: FAULT"

    def test_a_pulled_cable_is_a_gap_and_told_until_it_is_back(
        self, line: VirtualLine, monitor: "tk_monitor.Monitor"
    ) -> None:
        row, breathe = monitor.rows[servomex.ChannelId.I1], breathing(monitor)
        wait_until(lambda: len(row.chart.points) > 3, pause=breathe)
        line.unplug()
        wait_until(lambda: re.fullmatch(r"STALE, [1-9]\d* s old", self.shown(monitor, "I1")[1]), pause=breathe)
        assert "unplugged" in monitor.state["text"]
        assert self.shown(monitor, "I1")[2] == "no fault, no alarm ?"
        line.plug()
        wait_until(
            lambda: len(row.chart.pieces()) > 1 and monitor.state["text"].startswith("READING"), pause=breathe
        )
        wait_until(lambda: len(row.chart.find_withtag("course")) == len(row.chart.pieces()) > 1, pause=breathe)

    def test_silence_alone_makes_it_stale(self, monitor: "tk_monitor.Monitor") -> None:
        monitor._items = queue.SimpleQueue()  # as if the threads had died without a word
        wait_until(
            lambda: re.fullmatch(r"STALE, [1-9]\d* s old", self.shown(monitor, "I1")[1]), pause=breathing(monitor)
        )
        assert "nothing has come since" in monitor.state["text"]

    @pytest.mark.alone
    def test_opening_a_dead_line_never_stops_the_window(
        self, analyser: VirtualAnalyzer, line: VirtualLine, open_monitor: "Callable[..., tk_monitor.Monitor]"
    ) -> None:
        analyser.faults.silent = True
        monitor = open_monitor(line, protocol="auto")
        beats = [time.monotonic()]

        def beat() -> None:
            beats.append(time.monotonic())
            monitor.root.after(10, beat)

        beat()
        breathing(monitor)(DEAD_S)
        assert monitor.state["text"] == f"OPENING: opening {line.url}"
        analyser.faults.silent = False
        wait_until(lambda: monitor.rows, pause=breathing(monitor))
        assert longest([*beats, time.monotonic()]) < BLOCKED_S

    @pytest.mark.parametrize("state", ["reading", "opening", "unplugged"])
    def test_it_closes_at_any_time_and_leaves_nothing(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        open_monitor: "Callable[..., tk_monitor.Monitor]",
        state: str,
    ) -> None:
        before = set(threading.enumerate())
        analyser.faults.silent = state == "opening"
        monitor = open_monitor(line, protocol="auto")
        if state == "opening":
            breathing(monitor)(0.3)
        else:
            wait_until(lambda: monitor.rows, pause=breathing(monitor))
        if state == "unplugged":
            line.unplug()
            wait_until(lambda: monitor.trouble, pause=breathing(monitor))
        monitor.close()
        wait_until(lambda: gone(monitor), 5.0, pause=breathing(monitor))
        assert only_these(before)
        line.plug()
        assert is_free(line)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other programs")
    def test_ctrl_c_closes_the_program(self, line: VirtualLine) -> None:
        with TcpServer(line) as server:
            command = [sys.executable, str(EXAMPLES / "tk_monitor.py"), server.port, "--protocol", RTU]
            assert_ends_on_ctrl_c(command, line)


def gone(monitor: "tk_monitor.Monitor") -> bool:
    """Whether the window was destroyed."""
    import tkinter

    try:
        return not monitor.root.winfo_exists()
    except tkinter.TclError:
        return True


def breathing(monitor: "tk_monitor.Monitor") -> Breathe:
    """Let the window work for some seconds."""

    def breathe(seconds: float) -> None:
        end = time.monotonic() + seconds
        while not gone(monitor):
            monitor.root.update()
            if time.monotonic() >= end:
                return
            time.sleep(0.003)

    return breathe
