"""What the README and the pages of docs show, cut into blocks, with what runs the commands among them."""

import contextlib
import doctest
import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from servomex.simulator import PtyServer, TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.paths import ROOT

README = ROOT / "README.rst"
DOCS = sorted((ROOT / "docs").rglob("*.rst"))
TUTORIAL = ROOT / "docs" / "tutorial" / "first-recording.rst"
WITH_SERVER = [ROOT / "docs" / "howto" / f"{name}.rst" for name in ("postgresql", "mqtt", "influx")]
"""Pages whose blocks need a server: ``tests/servers`` runs them."""
NEWS = sorted((ROOT / "changes").glob("*.rst"))
PAGES = [README, *DOCS, ROOT / "CHANGELOG.rst", ROOT / "CONTRIBUTING.rst", ROOT / "SECURITY.rst", *NEWS]
INSTALL = "python -m pip install . && "
TEST = "python -m pip install tox && python -m tox"
"""Neither is run from here: the first is about this environment, the second runs this very test."""
OUTPUT_S = 50.0
MARK = "@@ended"


def _served(*addresses: int) -> "contextlib.AbstractContextManager[Any]":
    line = VirtualLine(*(VirtualAnalyzer(address=address) for address in addresses or (1,)))
    return TcpServer(line) if sys.platform == "win32" else PtyServer(line)


PORTS: dict[str, Callable[[], Any]] = {
    "/dev/ttyUSB0": _served,
    "/dev/ttyUSB1": lambda: "sim://4100?mode=continuous&period=0.3",
    "/dev/ttyUSB2": lambda: "sim://4100?baudrate=9600",
    "/dev/ttyUSB3": lambda: "sim://moving?seed=1",
    "/dev/ttyUSB4": lambda: _served(1, 2),
    "/dev/ttyUSB5": lambda: "sim://moving?mode=continuous&period=0.3",
    "/dev/cu.usbserial-1410": lambda: "sim://4100?mode=modbus_ascii",
    "COM11": lambda: "sim://4100?address=3",
    "socket://192.168.0.7:4001": lambda: TcpServer(VirtualLine(VirtualAnalyzer())),
}
"""What stands in for a port that is named in the text: a URL, or a server whose port is taken."""


@attrs.frozen
class Block:
    """A block of code in a page."""

    page: Path
    line: int
    kind: str
    text: str
    end: int

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


needs_bash = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("bash"), reason="the commands are written for bash"
)


def blocks_of(page: Path) -> Iterator[Block]:
    """Give the blocks of a page: what is indented below a ``code-block``."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not (found := re.match(r"( *)\.\. (?:code-block|code|sourcecode)::(.*)", line)):
            continue
        indent = len(found[1]) + 1
        body = []
        for following in lines[number:]:
            if following.strip() and len(following) - len(following.lstrip()) < indent:
                break
            body.append(following)
        text = "\n".join(body)
        inner = min((len(item) - len(item.lstrip()) for item in body if item.strip()), default=0)
        text = "\n".join(item[inner:] for item in body).strip("\n")
        yield Block(page, number, found[2].strip(), text, number + len(body))


@contextlib.contextmanager
def stand_ins(text: str) -> Iterator[dict[str, str]]:
    """Give what stands in for the ports that a text names."""
    with contextlib.ExitStack() as servers:
        found = {}
        for name in PORTS:
            if name in text:
                made = PORTS[name]()
                found[name] = made if isinstance(made, str) else servers.enter_context(made).port
        yield found


def replaced(text: str, names: dict[str, str]) -> str:
    """Replace names, the longest first."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def normalised(text: str) -> str:
    """Replace what differs from run to run by its shape. The time of the capture stays: it is data."""
    for pattern, shape in (
        (r"(?!2020-10-06)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?", "<time>"),
        (r"\b\d+\.\d+ s\b", "<seconds> s"),
        (r"\b\d+\.\d+ seconds\b", "<seconds> seconds"),
        (r'"latency_s": [0-9.]+', '"latency_s": <seconds>'),
        (r'("monotonic_ns": |\+00:00,)\d+', r"\1<ns>"),
        (r"(\+00:00,)\d\.\d+(,|$)", r"\1<seconds>\2"),
        (r" \d{19}$", " <ns>"),
        (r"/dev/pts/\d+", "/dev/pts/N"),
        (r"(127\.0\.0\.1:)\d+", r"\1<port>"),
    ):
        text = re.sub(pattern, shape, text, flags=re.MULTILINE)
    return text


class Checker(doctest.OutputChecker):
    """Compares output by its shape where it differs from run to run."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(normalised(want), normalised(got), optionflags | doctest.ELLIPSIS)


@attrs.define
class Command:
    """A command of a console block, what the page shows of its output, and what came."""

    line: str
    shown: list[str] = attrs.field(factory=list)
    came: list[str] = attrs.field(factory=list)
    code: int | None = None

    @property
    def stops_after(self) -> int | None:
        """How many lines come before the Ctrl-C; ``None`` without one."""
        return self.shown.index("^C") if "^C" in self.shown else None

    def check(self) -> None:
        """Compare what came with what is shown."""
        shown, came = "\n".join(item for item in self.shown if item != "^C"), "\n".join(self.came)
        if self.code is None:
            pytest.fail(f"$ {self.line}\ndid not end:\n{came}", pytrace=False)
        if self.shown and not Checker().check_output(f"{shown}\n", f"{came}\n", 0):
            pytest.fail(f"$ {self.line}\nis shown with\n{shown}\nand writes\n{came}", pytrace=False)
        explained = "Error: " in shown or "^C" in self.shown
        if self.code and not explained:
            pytest.fail(f"$ {self.line}\nended with exit code {self.code}:\n{came}", pytrace=False)


@attrs.frozen
class Script:
    """Commands that one shell runs, as a page shows them."""

    name: str
    text: str

    def __str__(self) -> str:
        return self.name

    def commands(self) -> list[Command]:
        """Cut it into its commands."""
        commands: list[Command] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                commands.append(Command(line[2:]))
            else:
                commands[-1].shown.append(line.rstrip())
        for command in commands:
            _strip(command.shown)
        return commands

    def run(self, folder: Path) -> list[Command]:
        """Run it in a new folder, with a stand-in for each port that it names."""
        return self.run_in(workplace(folder))

    def run_in(self, folder: Path) -> list[Command]:
        """Run it in a folder, with a stand-in for each port that it names."""
        commands = self.commands()
        with stand_ins(self.text) as ports:
            quoted = {name: shlex.quote(port) for name, port in ports.items()}
            for command in commands:
                command.line = replaced(command.line.removeprefix(INSTALL), quoted)
            _type(commands, folder)
        back = {port: name for name, port in ports.items()}
        for command in commands:
            command.line = replaced(command.line, back)
            command.came = [replaced(line, back) for line in command.came]
        return commands


def _strip(lines: list[str]) -> None:
    """Drop empty lines from the end."""
    while lines and not lines[-1]:
        lines.pop()


@functools.cache
def programs() -> str:
    """The folder with this environment's ``python``, ``servomex`` and ``servomex-read``."""
    folder = sysconfig.get_path("scripts")
    assert shutil.which("servomex-read", path=folder), f"the package is not installed in {folder}"
    return folder


def environment() -> dict[str, str]:
    """The environment of a command: this one's, with its programs first and no settings of the commands."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SERVOMEX_")}
    path = os.pathsep.join((programs(), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {**kept, "PATH": path, "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"}


def workplace(folder: Path) -> Path:
    """A folder in which the paths of the text exist and nothing can be spoilt."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "captures", folder / "tests" / "captures")
    return folder


def _type(commands: list[Command], folder: Path) -> None:
    """Run commands in one shell, as if they were typed, and note what they write."""
    script = ["trap : INT", *(f"{item.line}\ncode=$?; echo; echo {MARK} $code" for item in commands)]
    shell = subprocess.Popen(
        [shutil.which("bash") or "bash", "--norc", "-c", "\n".join(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment(),
        encoding="utf-8",
        start_new_session=True,
    )
    killer = threading.Timer(OUTPUT_S, os.killpg, (shell.pid, signal.SIGKILL))
    killer.start()
    with shell:
        _listen(shell, commands)
        killer.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    killer.join()


def _listen(shell: "subprocess.Popen[str]", commands: list[Command]) -> None:
    assert shell.stdout is not None
    waiting = iter(commands)
    command = next(waiting)
    for line in shell.stdout:
        if line.startswith(MARK):
            command.code = int(line.split()[1])
            _strip(command.came)
            command = next(waiting, command)
            continue
        command.came.append(line.rstrip())
        if len(command.came) == command.stops_after:
            os.killpg(shell.pid, signal.SIGINT)
