"""The monitor of Tk against virtual analysers, on a display that is not shown."""

import contextlib
import gc
import os
import queue
import shutil
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
from servomex.simulator import VirtualAnalyzer, VirtualLine, constant
from servomex.views.looks import COLOURS, STALE_COLOUR, Level
from tests.helpers.monitors import (
    BLOCKED_S,
    DEAD_S,
    HEADLINES,
    RTU,
    Breathe,
    assert_ends_on_ctrl_c,
    assert_nothing_left,
    is_stale,
    longest,
    luminance,
    opened_until,
    raise_alarm,
    raise_state,
    ten_channels,
)
from tests.helpers.paths import EXAMPLES
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    import tk_monitor


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

        def make(line: VirtualLine, *, scale: int = 1, **options: Any) -> tk_monitor.Monitor:
            root = tkinter.Tk()
            root.tk.call("tk", "scaling", scale * 96 / 72)  # pixels of a point
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
        wait_until(lambda: found.rows and not found.latest.stale, pause=breathing(found))
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
        assert monitor.state["text"] == "READING"
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
        wait_until(lambda: self.shown(monitor, "I3")[:2] == ("-", "quality bad"), pause=breathing(monitor))
        assert monitor.analyser["text"] == "analyser: FAULT"

    def test_a_pulled_cable_is_a_gap_and_reported_until_it_is_back(
        self, line: VirtualLine, monitor: "tk_monitor.Monitor"
    ) -> None:
        row, breathe = monitor.rows[servomex.ChannelId.I1], breathing(monitor)
        wait_until(lambda: len(row.chart.points) > 3, pause=breathe)
        line.unplug()
        wait_until(lambda: is_stale(self.shown(monitor, "I1")[1]), pause=breathe)
        assert monitor.state["text"] == "NO READINGS"
        assert "unplugged" in monitor.message["text"]
        assert self.shown(monitor, "I1")[2] == "no fault, no alarm ?"
        line.plug()
        wait_until(
            lambda: len(row.chart.pieces()) > 1 and monitor.state["text"].startswith("READING"), pause=breathe
        )
        wait_until(lambda: len(row.chart.find_withtag("course")) == len(row.chart.pieces()) > 1, pause=breathe)

    def test_silence_alone_makes_it_stale(self, monitor: "tk_monitor.Monitor") -> None:
        monitor._items = queue.SimpleQueue()  # as if the threads had died without a word
        wait_until(lambda: is_stale(self.shown(monitor, "I1")[1]), pause=breathing(monitor))
        assert "nothing has arrived since" in monitor.message["text"]

    @pytest.mark.parametrize(("state", "word", "level"), HEADLINES)
    def test_the_headline_is_green_only_when_nothing_is_wrong(
        self, analyser: VirtualAnalyzer, monitor: "tk_monitor.Monitor", state: str, word: str, level: Level
    ) -> None:
        raise_state(analyser, state)
        wait_until(lambda: monitor.state["text"] == word, pause=breathing(monitor))
        assert monitor.state["background"] == COLOURS[level]
        assert monitor.root.title().startswith(word)

    def test_a_faulty_channel_is_never_as_bright_as_a_good_one_and_a_stale_one_is_grey(
        self, analyser: VirtualAnalyzer, line: VirtualLine, monitor: "tk_monitor.Monitor"
    ) -> None:
        analyser["I1"].status = servomex.ChannelStatus(fault=True)
        faulty, good = (monitor.rows[servomex.ChannelId(channel)] for channel in ("I1", "I2"))
        wait_until(lambda: faulty.value["text"] == "-", pause=breathing(monitor))
        assert luminance(faulty.value["foreground"]) < 0.75 * luminance(good.value["foreground"])
        assert font_size(faulty.value) < font_size(good.value)
        assert faulty.name["text"] == "I1  Oxygen  fault"
        assert faulty.name["background"] == faulty["highlightbackground"] == COLOURS[Level.ALARM]
        assert {good.name["background"], good["highlightbackground"]}.isdisjoint(COLOURS.values())
        line.unplug()
        wait_until(lambda: is_stale(good.quality["text"]), pause=breathing(monitor))
        assert good.value["foreground"] == good.quality["foreground"] == STALE_COLOUR
        assert "italic" in good.value["font"]
        assert faulty["highlightbackground"] not in COLOURS.values()
        assert monitor.state["background"] == COLOURS[Level.ALARM]

    def test_what_is_uncertain_is_a_course_of_its_own(
        self, analyser: VirtualAnalyzer, monitor: "tk_monitor.Monitor"
    ) -> None:
        chart = monitor.rows[servomex.ChannelId.I1].chart
        wait_until(lambda: len(chart.points) > 3, pause=breathing(monitor))
        analyser["I1"].status = servomex.ChannelStatus(maintenance=True)
        wait_until(
            lambda: [certain for certain, piece in chart.pieces() if len(piece) > 2] == [True, False],
            pause=breathing(monitor),
        )
        breathing(monitor)(0.2)
        colours = [str(chart.itemcget(item, "fill")) for item in chart.find_withtag("course")]  # type: ignore[no-untyped-call]
        assert colours == [COLOURS[Level.GOOD], COLOURS[Level.WARNING]]

    @pytest.mark.parametrize("scale", [1, 2])
    def test_every_channel_can_be_reached_in_a_small_window(
        self, open_monitor: "Callable[..., tk_monitor.Monitor]", scale: int
    ) -> None:
        analyser = ten_channels()
        analyser["D4"].status = servomex.ChannelStatus(True, True, True, True, (True, True, True, True))
        line = VirtualLine(analyser)
        monitor = open_monitor(line, scale=scale)
        breathe, area = breathing(monitor), monitor.area
        monitor.root.geometry("800x480" if scale == 1 else "1280x960")
        wait_until(lambda: len(monitor.rows) == 10 and not monitor.latest.stale, pause=breathe)
        breathe(0.3)
        size = (monitor.root.winfo_width(), monitor.root.winfo_height())
        assert size == ((800, 480) if scale == 1 else (1280, 960))
        assert area.winfo_height() > 250
        rows = list(monitor.rows.values())
        for row in rows:
            monitor._show_whole(row, None)  # as Tab does
            breathe(0.02)
            top = row.winfo_rooty() - area.winfo_rooty()
            assert 0 <= top <= area.winfo_height() - row.winfo_height()
            assert row.winfo_width() <= area.winfo_width()
            assert row.chart.winfo_x() + row.chart.winfo_width() <= row.winfo_width()
            assert row.chart.winfo_width() >= row.chart.winfo_reqwidth()
            for label in (row.name, row.value, row.quality, row.states):
                assert label.winfo_reqwidth() <= label.winfo_width()
                assert label.winfo_reqheight() <= label.winfo_height()
                assert label.winfo_x() + label.winfo_width() <= row.chart.winfo_x()
        for before, after in pairwise(rows):
            assert before.winfo_y() + before.winfo_height() <= after.winfo_y()

    def test_wheel_and_keys_scroll(self, open_monitor: "Callable[..., tk_monitor.Monitor]") -> None:
        line = VirtualLine(ten_channels())
        monitor = open_monitor(line)
        breathe = breathing(monitor)
        monitor.root.geometry("800x480")
        wait_until(lambda: len(monitor.rows) == 10, pause=breathe)
        breathe(0.2)
        chart, before = monitor.rows[servomex.ChannelId.I1].chart, monitor.area.yview()
        for event in ("<Button-5>", "<Next>", "<Down>", "<End>"):
            if event == "<Button-5>":
                chart.event_generate(event)
            else:
                monitor.root.focus_force()
                monitor.root.event_generate(event)
            breathe(0.05)
            assert monitor.area.yview() > before, event
            before = monitor.area.yview()
        assert before[1] == 1.0

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
        assert (monitor.state["text"], monitor.message["text"]) == ("OPENING", f"opening {line.url}")
        analyser.faults.silent = False
        wait_until(lambda: monitor.rows, pause=breathing(monitor))
        assert longest([*beats, time.monotonic()]) < BLOCKED_S

    @pytest.mark.parametrize("state", ["reading", "opening", "unplugged"])
    def test_it_closes_at_any_time_and_leaves_nothing(
        self,
        line: VirtualLine,
        open_monitor: "Callable[..., tk_monitor.Monitor]",
        state: str,
    ) -> None:
        before = set(threading.enumerate())
        monitor = opened_until(state, line, open_monitor, lambda monitor: monitor.rows, breathing)
        monitor.close()
        wait_until(lambda: gone(monitor), 5.0, pause=breathing(monitor))
        assert_nothing_left(before, line)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other programs")
    def test_ctrl_c_closes_the_program(self, line: VirtualLine) -> None:
        assert_ends_on_ctrl_c("tk_monitor.py", line)


def gone(monitor: "tk_monitor.Monitor") -> bool:
    """Whether the window was destroyed."""
    import tkinter

    try:
        return not monitor.root.winfo_exists()
    except tkinter.TclError:
        return True


def font_size(label: Any) -> int:
    """The size of a label's font, in points."""
    return int(str(label["font"]).rpartition("}")[2].split()[0])


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
