"""Makes the pictures of the manual from virtual analysers: ``python docs/pictures.py [NAME...]``.

Without names it makes all of them. It needs the extras tui and web, the groups docs, gui and browser, Xvfb and
Chromium, and a Python with tkinter, and takes five minutes. ``--folder`` and ``--size 800x480`` are for looking at
them before they are kept.
"""

# ruff: noqa: S603 (the programs are our own)

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from servomex import ChannelStatus, ServomexManager
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from servomex.simulator.channels import moving_channels

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
LARGEST = 150_000
"""Bytes that a picture may have."""
SPAN_S = 40.0
STALE_S = 8.0
SLOWLY = 2.5
"""How much longer everything takes on the page, whose charts show two minutes."""
OPTIONS = {"rate_hz": 4.0, "span_s": SPAN_S, "protocol": "modbus_rtu"}


class Scene:
    """A line on which things happen: a pulled cable, a calibration, an alarm, a fault."""

    def __init__(self, slowly: float = 1.0) -> None:
        self._slowly = slowly
        self.analyser = VirtualAnalyzer(moving_channels())
        self.analyser.cal_phase_s = slowly * SPAN_S
        self.line = VirtualLine(self.analyser)
        self._begun = time.monotonic()
        self._happens = [
            (9.0, self.line.unplug),
            (16.0, self.line.plug),
            (28.0, lambda: self.analyser.write_coils(0, [True])),
            (30.0, lambda: self._raise("I3", ChannelStatus(maintenance=True))),
            (32.0, lambda: self._raise("E2", ChannelStatus(fault=True))),
        ]

    def _raise(self, channel: str, status: ChannelStatus) -> None:
        self.analyser[channel].status = status

    def play(self, breathe: Callable[[float], object], seconds: float) -> None:
        """Let it happen, and ``breathe``, which lets a window work for some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while self._happens and self._slowly * self._happens[0][0] <= time.monotonic() - self._begun:
                self._happens.pop(0)[1]()
            breathe(0.05)


def qt_monitor(target: Path, size: tuple[int, int]) -> None:
    """Show the window of Qt, also when it is stale."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    sys.path.insert(0, str(EXAMPLES))
    import qt_monitor as example
    from PySide6.QtWidgets import QApplication

    def breathe(seconds: float) -> None:
        app.processEvents()
        time.sleep(seconds)

    app = QApplication([])
    scene = Scene()
    monitor = example.Monitor(scene.line.url, **OPTIONS)
    monitor.resize(*size)
    monitor.show()
    scene.play(breathe, SPAN_S)
    monitor.grab().save(str(target))
    scene.line.unplug()
    scene.play(breathe, STALE_S)
    monitor.grab().save(str(other(target, "stale")))
    monitor.close()
    while monitor.isVisible():
        breathe(0.05)


def tk_monitor(target: Path, size: tuple[int, int]) -> None:
    """Show the window of Tk, also when it is stale, on a display of its own."""
    import tkinter

    from PIL import ImageGrab

    sys.path.insert(0, str(EXAMPLES))
    import tk_monitor as example

    def breathe(seconds: float) -> None:
        with contextlib.suppress(tkinter.TclError):  # it is closed
            root.update()
        time.sleep(seconds)

    with hidden_display() as display:
        root = tkinter.Tk(screenName=display)
        scene = Scene()
        monitor = example.Monitor(root, scene.line.url, **OPTIONS)
        root.geometry(f"{size[0]}x{size[1]}+0+0")
        scene.play(breathe, SPAN_S)
        ImageGrab.grab((0, 0, *size), xdisplay=display).save(target)
        scene.line.unplug()
        scene.play(breathe, STALE_S)
        ImageGrab.grab((0, 0, *size), xdisplay=display).save(other(target, "stale"))
        monitor.close()
        while monitor.feed.running:
            breathe(0.05)
        breathe(0.2)


def page(target: Path, size: tuple[int, int]) -> None:
    """Show the page of ``servomex serve``, on a desktop and on a phone."""
    scene = Scene(SLOWLY)
    with TcpServer(scene.line) as server:
        more = ["--http-port", "0", "--rate", str(OPTIONS["rate_hz"]), "--protocol", "modbus_rtu"]
        command = [sys.executable, "-m", "servomex", "serve", server.port, "--name", "Mill 3", *more]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as program:
            try:
                address = (program.stdout or sys.exit("it has no output")).readline().strip()
                scene.play(time.sleep, SLOWLY * SPAN_S)
                photograph(address, target, size)
                photograph(address, other(target, "phone"), (375, 812))
            finally:
                program.terminate()


def plot(target: Path, _size: tuple[int, int]) -> None:
    """Draw the plots, as a picture and as a page."""
    sys.path.insert(0, str(ROOT / "docs"))
    import draw_plots

    draw_plots.HOWTO = target.parent
    draw_plots.main()


def watch(target: Path, size: tuple[int, int]) -> None:
    """Show the screen of ``servomex watch`` with two analysers; the size is in characters."""
    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME

    from servomex.views.board import Board
    from servomex.views.gathering import Gathering
    from servomex.views.terminal.picture import Shown, picture

    scene, board = Scene(), Board()
    console = Console(
        record=True, width=size[0], file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    with ServomexManager() as manager:
        for name, port in (("mill", scene.line.url), ("kiln", "sim://4100")):
            manager.add(name, port, protocol=OPTIONS["protocol"])
        gathering = Gathering(manager, 1.0, board.take)
        for name, port in (("mill", "/dev/ttyUSB0"), ("kiln", "/dev/ttyUSB1")):
            board.add(name, port, lambda name=name: gathering.figures(name))
        with gathering:
            scene.play(time.sleep, SPAN_S)
            shown = Shown(views=board.view(), events=board.events(8), now=datetime.now(UTC))
            for line in picture(shown, *size):
                console.print(line, crop=True)
    text = console.export_svg(title="servomex watch /dev/ttyUSB0 /dev/ttyUSB1", theme=SVG_EXPORT_THEME)
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL), encoding="utf-8")


def photograph(address: str, target: Path, size: tuple[int, int]) -> None:
    """Take a picture of a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="dark")
        opened.goto(address)
        opened.select_option("#span", "120")
        opened.wait_for_timeout(4000)
        opened.screenshot(path=target)
        browser.close()


@contextlib.contextmanager
def hidden_display() -> Iterator[str]:
    """Run Xvfb, and return the name of its display."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24"]
    with (
        subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as process,
        os.fdopen(read) as number,
    ):
        os.close(write)
        try:
            yield f":{number.readline().strip()}"
        finally:
            process.terminate()


def other(target: Path, what: str) -> Path:
    """Return the name of another picture of the same, which is to be looked at only."""
    return target.with_stem(f"{target.stem}-{what}")


def packed(path: Path) -> None:
    """Make a picture small."""
    from PIL import Image

    if path.suffix == ".png":
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        sys.exit(f"{path} has {path.stat().st_size} bytes")


Make = Callable[[Path, tuple[int, int]], None]
PICTURES: dict[str, tuple[Make, Path, tuple[int, int]]] = {
    "qt": (qt_monitor, EXAMPLES / "qt_monitor.png", (1140, 870)),
    "tk": (tk_monitor, EXAMPLES / "tk_monitor.png", (1140, 760)),
    "page": (page, ROOT / "docs" / "howto" / "serving.png", (1200, 900)),
    "watch": (watch, ROOT / "docs" / "howto" / "watching.svg", (100, 26)),
    "plot": (plot, ROOT / "docs" / "howto" / "plotting.png", (1000, 900)),
}


def python_for(name: str) -> str:
    """Return this Python, or for Tk another one that has tkinter."""
    check = ["-c", "import sys, tkinter; sys.exit(sys.version_info[:2] != tuple(map(int, sys.argv[1:])))"]
    version = [*map(str, sys.version_info[:2])]
    for python in (sys.executable, "/usr/bin/python3") if name == "tk" else (sys.executable,):
        if name != "tk" or subprocess.run([python, *check, *version], capture_output=True).returncode == 0:
            return python
    sys.exit("no Python of this version has tkinter")


def main() -> None:
    """Make the pictures, each in a process of its own: Qt and Tk end with theirs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PICTURES)}; all when omitted")
    parser.add_argument("--folder", type=Path, help="where to put them; their places in the manual when omitted")
    parser.add_argument("--size", help="of the windows, such as 800x480")
    parser.add_argument("--here", action="store_true", help="in this process")
    given = parser.parse_args()
    for name in given.names or PICTURES:
        make, place, size = PICTURES[name]
        if not given.here:
            more = ["--folder", str(given.folder)] * (given.folder is not None) + ["--size", given.size] * bool(
                given.size
            )
            path = os.pathsep.join([str(ROOT), *(item for item in sys.path if item.endswith("site-packages"))])
            command = [python_for(name), str(Path(__file__)), "--here", name, *more]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
            continue
        target = given.folder / place.name if given.folder else place
        make(target, tuple(map(int, given.size.split("x"))) if given.size else size)
        if not given.folder:
            for what in ("stale", "phone"):
                other(target, what).unlink(missing_ok=True)
        packed(target)


if __name__ == "__main__":
    main()
