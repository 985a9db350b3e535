"""``servomex run`` reads a fleet until it is ended, stores what it reads, and takes over what changed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex.recording.load import load
from tests.helpers.waiting import wait_until

FLEET = """\
[site]
name = "mill-3"
[outbox]
path = "{folder}/outbox.sqlite"
[[analyser]]
name = "a"
port = "sim://moving"
protocol = "modbus_rtu"
every = "100ms"
[[sink]]
path = "{folder}/run.csv"
"""
ANOTHER = '[[analyser]]\nname = "b"\nport = "sim://4100?address=2"\naddress = 2\nevery = "100ms"\n'
GONE = '[[analyser]]\nname = "gone"\nport = "/dev/servomex-nowhere"\n'
needs_hangup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")


class Run:
    """A ``servomex run`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "fleet.toml"
        self.csv = folder / "run.csv"
        self.log = folder / "stderr"
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self.write(FLEET)

    def write(self, text: str) -> None:
        self.file.write_text(text.replace("{folder}", self._folder.as_posix()))

    def start(self) -> None:
        command = [sys.executable, "-X", "dev", "-m", "servomex", "run", str(self.file)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code, self.process = self.process.wait(30), None
        return code

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def rows(self, device: str) -> int:
        if not self.csv.exists():
            return 0
        return self.csv.read_text().count(f",{device},modbus_rtu,I1,")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    if run.process is not None:
        run.end(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def checked(run: Run) -> tuple[int, str]:
    command = [sys.executable, "-m", "servomex", "run", str(run.file), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr.replace(str(run.file), "fleet.toml")


def test_a_file_without_mistakes_passes_the_check_and_opens_nothing(run: Run) -> None:
    assert checked(run) == (0, "fleet.toml: 1 analyser, 1 sink, nothing wrong\n")
    assert not run.csv.exists()
    assert not (run.csv.parent / "outbox.sqlite").exists()


def test_every_mistake_is_told_with_its_line(run: Run) -> None:
    run.write(FLEET.replace('every = "100ms"', 'evry = "100ms"').replace("run.csv", "run.txt"))
    code, said = checked(run)
    assert code == 2
    first, second, last = said.splitlines()
    assert first == "fleet.toml:9: unknown key 'evry' in [[analyser]] number 1: did you mean 'every'?"
    assert second.startswith("fleet.toml:11: path in [[sink]] number 1: ")
    assert last == "Error: fleet.toml cannot be used: 2 mistakes"


def test_readings_are_stored_until_it_is_ended_and_one_that_is_gone_stops_no_other(run: Run) -> None:
    run.write(FLEET + GONE)
    run.start()
    wait_until(lambda: run.rows("a") >= 5)
    assert run.end() == 143
    samples = list(load(run.csv))
    assert {sample.metadata["site"] for sample in samples} == {"mill-3"}
    errors = [sample for sample in samples if sample.device == "gone"]
    assert errors
    assert all(sample.error is not None for sample in errors)
    assert not re.search("Traceback|Warning", run.log.read_text())


@needs_hangup
def test_a_hangup_adds_what_is_new_and_a_mistake_changes_nothing(run: Run) -> None:
    run.start()
    wait_until(lambda: run.rows("a") >= 2)
    run.write(FLEET + ANOTHER)
    assert run.process is not None
    run.process.send_signal(signal.SIGHUP)
    wait_until(lambda: run.rows("b") >= 2)
    assert run.said("reloaded: b added")
    run.write(FLEET + ANOTHER.replace('name = "b"', 'nam = "b"'))
    run.process.send_signal(signal.SIGHUP)
    wait_until(lambda: run.said("not reloaded: "))
    before = run.rows("b")
    wait_until(lambda: run.rows("b") >= before + 2)
    assert run.end() == 143


@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGKILL")
def test_a_kill_loses_nothing_and_doubles_nothing(run: Run) -> None:
    for _ in range(3):
        run.start()
        before = run.rows("a")
        wait_until(lambda before=before: run.rows("a") >= before + 3)  # type: ignore[misc]
        run.end(signal.SIGKILL)
    run.start()
    before = run.rows("a")
    wait_until(lambda: run.rows("a") >= before + 3)
    run.end()
    readings = [(s.channel, s.monotonic_ns) for s in load(run.csv) if s.reading is not None]
    assert len(readings) == len(set(readings))


def test_systemd_hears_when_it_is_ready(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = pytest.importorskip("socket")
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system has no Unix sockets")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        run.start()
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=1 analyser")
        assert b"WATCHDOG=1" in manager.recv(1000)
        run.end()
        told = b""
        while b"STOPPING=1" not in told:
            told = manager.recv(1000)


def test_a_sink_that_cannot_be_reached_is_told_and_its_rows_wait(run: Run, tmp_path: Path) -> None:
    run.write(FLEET + '[[sink]]\npath = "{folder}/missing/run.csv"\n')
    run.start()
    wait_until(lambda: run.said("there is no folder"))
    wait_until(lambda: run.rows("a") >= 2)
    (tmp_path / "missing").mkdir()
    wait_until(lambda: (tmp_path / "missing" / "run.csv").exists())
    run.end()
    assert list(load(tmp_path / "missing" / "run.csv")) == list(load(run.csv))


def test_an_outbox_in_a_folder_that_is_not_there_is_an_error(run: Run) -> None:
    run.write(FLEET.replace("{folder}/outbox", "{folder}/missing/outbox"))
    run.start()
    assert run.process is not None
    assert run.process.wait(30) == 1
    assert run.said("Error: there is no folder ")
    assert not run.said("Traceback")
