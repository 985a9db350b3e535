"""The examples are run as a user would run them, against virtual analysers."""

import ast
import runpy
import shlex
import shutil
import signal
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import attrs
import pytest

import servomex
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine, constant
from tests.helpers.examples import LONG_S, example, recorded, run, servomex_program, started
from tests.helpers.paths import EXAMPLES
from tests.helpers.waiting import wait_until

SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if not path.name.startswith("live_"))
NEEDS = {
    "qt_monitor": ["PySide6.QtWidgets", "pyqtgraph"],
    "tk_monitor": ["tkinter"],
    "notebook_plot": ["matplotlib", "pandas"],
}
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other programs")


class TestAllOfThem:
    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
    def test_without_a_port_it_says_how_to_use_it(self, path: Path) -> None:
        for module in NEEDS.get(path.stem, []):
            pytest.importorskip(module, exc_type=ImportError)
        code, out, err = run(path.stem)
        assert code != 0
        assert out == ""
        assert "usage: " in err
        assert "port" in err.lower()
        assert "Traceback" not in err

    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
    def test_it_says_what_it_does_and_is_typed(self, path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        assert ast.get_docstring(tree)
        functions = [item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef)]
        assert functions
        for function in functions:
            arguments = [item for item in function.args.args if item.arg not in ("self", "_")]
            assert function.returns, function.name
            assert all(item.annotation for item in arguments), function.name
        assert len(source.splitlines()) < (400 if path.stem.endswith("monitor") else 230)

    @pytest.mark.parametrize(
        ("name", "more"), [("read_once", ()), ("log_to_sqlite", ("x.sqlite",)), ("several_on_a_line", ("1",))]
    )
    def test_a_port_that_is_missing_is_reported_in_words(
        self, name: str, more: tuple[str, ...], tmp_path: Path
    ) -> None:
        missing = "COM250" if sys.platform == "win32" else "/dev/ttyMISSING"
        code, _, err = run(name, missing, *more, cwd=tmp_path)
        assert code == 1
        assert missing in err
        assert "Traceback" not in err


def test_read_once_prints_every_channel() -> None:
    code, out, err = run("read_once", "sim://4100")
    assert (code, err) == (0, "")
    assert out == "Oxygen: 20.376 %\nCO: 0.084 %\nCO₂: 0.250 %\nE1: 0.000 mA\nE2: 0.000 mA\n"


class TestLogToSqlite:
    def test_it_writes_a_file_and_goes_on_with_it(self, tmp_path: Path) -> None:
        for turn in (1, 2):
            code, out, err = run(
                "log_to_sqlite", "sim://4100", "a.sqlite", "--every", "0.1", "--seconds", "0.3", cwd=tmp_path
            )
            assert (code, err) == (0, "")
            assert " readings, 0 failed" in out
            rows = list(servomex.load(tmp_path / "a.sqlite"))
            assert len(rows) % 5 == 0
            assert 5 * turn <= len(rows) <= 15 * turn
            assert f"I1 Oxygen: mean 20.376 % of {len(rows) // 5} good readings" in out

    @needs_signals
    def test_ctrl_c_ends_it_with_everything_written(self, tmp_path: Path) -> None:
        file = tmp_path / "a.sqlite"
        with started("log_to_sqlite", "sim://4100", str(file), "--every", "0.1") as process:
            wait_until(lambda: rows_in(file) >= 5, LONG_S)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LONG_S)
        assert (process.returncode, err) == (0, "")
        assert int(out.split()[0]) * 5 == rows_in(file)


def rows_in(file: Path) -> int:
    """How many rows a database has; 0 before there is one."""
    if not file.exists():
        return 0
    database = sqlite3.connect(file)
    try:
        return int(database.execute("SELECT count(*) FROM samples").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0
    finally:
        database.close()


class _Smtp(socketserver.StreamRequestHandler):
    """One dialogue of a mail server, as RFC 5321 has it."""

    def handle(self) -> None:
        self.say("220 ready")
        for line in iter(self.rfile.readline, b""):
            word = line[:4].upper()
            if word == b"DATA":
                self.say("354 go on")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(b"".join(lines).decode())  # type: ignore[attr-defined]
            self.say("221 bye" if word == b"QUIT" else "250 ok")
            if word == b"QUIT":
                return

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class MailServer(socketserver.TCPServer):
    """A mail server that keeps what it is given."""

    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        self.mails: list[str] = []
        super().__init__(("127.0.0.1", port), _Smtp)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def wait(self, text: str) -> str:
        """Wait for a mail with this text."""
        wait_until(lambda: any(text in mail for mail in self.mails), LONG_S)
        return next(mail for mail in self.mails if text in mail)


@pytest.fixture
def line() -> VirtualLine:
    return VirtualLine(VirtualAnalyzer())


class TestWatchAlarms:
    @pytest.fixture
    def watching(self, line: VirtualLine, request: pytest.FixtureRequest) -> Iterator[MailServer]:
        with MailServer() as server, TcpServer(line) as tcp:
            arguments = ["--server", server.address, "--sender", "lab@example.org", "--to", "me@example.org"]
            unread = getattr(request, "param", "30")
            process = started("watch_alarms", tcp.port, *arguments, "--every", "0.1", "--unread", unread)
            try:
                yield server
            finally:
                process.kill()
                process.communicate()

    def alarm(self, line: VirtualLine, *, raised: bool) -> None:
        channel = line.analysers[0]["I2"]
        channel.status = attrs.evolve(channel.status, alarms=(raised, False, False, False))

    def test_a_mail_reports_an_alarm_and_of_its_end(self, line: VirtualLine, watching: MailServer) -> None:
        self.alarm(line, raised=True)
        mail = watching.wait("I2 CO alarm 1: raised")
        assert "From: lab@example.org" in mail
        assert "To: me@example.org" in mail
        self.alarm(line, raised=False)
        watching.wait("I2 CO alarm 1: cleared")
        assert len(watching.mails) == 2

    @pytest.mark.parametrize("watching", ["0.3"], indirect=True)
    def test_a_mail_reports_that_nothing_can_be_read(self, line: VirtualLine, watching: MailServer) -> None:
        self.alarm(line, raised=True)
        watching.wait("alarm 1: raised")
        line.analysers[0].faults.silent = True
        watching.wait("no readings for")
        line.analysers[0].faults.silent = False
        watching.wait("readings have come back")
        assert not any("cleared" in mail for mail in watching.mails)
        assert sum("alarm 1: raised" in mail for mail in watching.mails) == 1

    def test_a_mail_that_was_not_taken_is_sent_later(
        self, line: VirtualLine, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with MailServer() as server:
            port = int(server.address.rpartition(":")[2])
        mails = example("watch_alarms").Mails(f"127.0.0.1:{port}", "lab@example.org", ["me@example.org"])
        mails.put("I2 CO alarm 1: raised")
        mails.send()
        assert "was not sent" in capfd.readouterr().err
        with MailServer(port) as server:
            mails.send()
            mails.send()
        assert len(server.mails) == 1
        assert "I2 CO alarm 1: raised" in server.mails[0]

    def test_what_is_trouble(self, line: VirtualLine) -> None:
        analyser = line.analysers[0]
        analyser.fault = True
        analyser["I1"].status = servomex.ChannelStatus(fault=True, maintenance=True)
        analyser["I3"].signal = constant(None)
        with servomex.open_device(line.url, protocol="modbus_rtu") as analyzer:
            found = example("watch_alarms").troubles(analyzer.poll())
        assert found == {"analyser fault", "I1 Oxygen fault", "I3 CO₂ no value"}


def test_several_on_a_line_shows_each_and_what_is_wrong_with_one() -> None:
    line = VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2))
    line.analysers[1].faults.silent = True
    with TcpServer(line) as server:
        code, out, err = run("several_on_a_line", server.port, "1", "2", "--rounds", "2", "--every", "0.1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 6
    assert lines[1] == lines[4] == "  unit 1: Oxygen 20.376 %, CO 0.084 %, CO₂ 0.250 %, E1 0.000 mA, E2 0.000 mA"
    assert lines[2].startswith("  unit 2: no reply from address 2")
    assert lines[5].startswith("  unit 2: it did not answer")


class TestCalibrateWithProgress:
    def test_it_shows_how_far_it_is_and_reports(self) -> None:
        code, out, err = run("calibrate_with_progress", "sim://4100?cal=1.2", "1", "--yes", "--settle", "1")
        assert (code, err) == (0, "")
        assert "s  cal_gas_1  Oxygen 20.376 %" in out
        assert " UTC on sample, seen for " in out
        assert "Oxygen: 20.376 % before, 20.376 after" in out.splitlines()[-1]

    def test_nothing_moves_without_yes(self, line: VirtualLine) -> None:
        with TcpServer(line) as server:
            code, out, err = run("calibrate_with_progress", server.port, "1")
        assert (code, out) == (1, "")
        assert "moves calibration gas" in err
        assert line.analysers[0].coil_log == []

    @needs_signals
    @pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
    def test_an_interrupt_stops_it(self, line: VirtualLine, number: str) -> None:
        analyser = line.analysers[0]
        analyser.cal_phase_s = 1000.0
        with TcpServer(line) as server, started("calibrate_with_progress", server.port, "1", "--yes") as process:
            wait_until(lambda: analyser.cal_gas(1), LONG_S)
            process.send_signal(getattr(signal, number))
            _, err = process.communicate(timeout=LONG_S)
        assert process.returncode == 1
        assert analyser.cal_gas(1) == 0
        assert "stopped" in err
        assert "Traceback" not in err


class TestNotebookPlot:
    def test_it_plots_what_was_read_with_a_gap_where_nothing_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("matplotlib")
        pytest.importorskip("pandas")
        picture = tmp_path / "plot.png"
        monkeypatch.setattr(sys, "argv", ["notebook_plot.py", "sim://4100?fault=unplug:3.5", str(picture)])
        names = runpy.run_path(str(EXAMPLES / "notebook_plot.py"))
        panels = names["figure"].axes[::2]
        legends = [axes.get_legend().get_texts()[0].get_text() for axes in panels]
        assert legends == ["I1 Oxygen", "I2 CO", "I3 CO₂"]
        values = list(panels[0].lines[0].get_ydata())
        finite = [value == value for value in values]
        assert False in finite[finite.index(True) :]
        assert {value for value, there in zip(values, finite, strict=True) if there} == {20.376}
        column = names["table"]["I1 [%]"]
        assert column.isna().sum() == sum(item.reading is None for item in names["samples"]) > 0
        assert set(column.dropna()) == {20.376}
        assert names["table"]["I1 [%] quality"].dropna().unique().tolist() == ["good"]
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert names["figure"]._repr_png_().startswith(b"\x89PNG"), "what a notebook shows"


class TestServices:
    @staticmethod
    def unit() -> dict[str, str]:
        text = (EXAMPLES / "servomex-record.service").read_text(encoding="utf-8")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))

    @staticmethod
    def task() -> dict[str, str]:
        root = ET.parse(EXAMPLES / "servomex-record.xml").getroot()
        assert root.tag == "{http://schemas.microsoft.com/windows/2004/02/mit/task}Task"
        return {
            item.tag.rpartition("}")[2]: (item.text or "").strip()
            for item in root.iter()
            if isinstance(item.tag, str)
        }

    def test_the_command_of_the_unit_records(self, tmp_path: Path) -> None:
        program, *arguments = shlex.split(self.unit()["ExecStart"])
        assert Path(program).name == "servomex"
        assert arguments[1].startswith("/dev/")
        for turn in (1, 2):  # a second start writes nothing over
            assert len(recorded(arguments, "sim://4100", tmp_path)) == 10 * turn
            time.sleep(1.1)

    def test_the_unit_names_variables_that_the_command_knows(self) -> None:
        names = [item.partition("=")[0] for item in shlex.split(self.unit()["Environment"])]
        shown = subprocess.run(
            [servomex_program(), "record", "--help"], check=True, capture_output=True, encoding="utf-8"
        )
        assert names
        assert all(name in shown.stdout for name in names)

    @pytest.mark.skipif(
        sys.platform == "win32" or not shutil.which("systemd-analyze"), reason="systemd-analyze is not there"
    )
    @pytest.mark.parametrize("name", ["servomex-record.service", "servomex-run.service"])
    def test_systemd_accepts_the_unit(self, name: str, tmp_path: Path) -> None:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        copy = tmp_path / name
        copy.write_text(text.replace("/opt/servomex/bin/servomex", servomex_program()), encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, encoding="utf-8")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_the_command_of_the_task_records(self, tmp_path: Path) -> None:
        task = self.task()
        assert task["Command"].endswith("servomex.exe")
        arguments = task["Arguments"].split()
        assert arguments[1].startswith("COM")
        assert len(recorded(arguments, "sim://4100", tmp_path)) == 10

    def test_the_task_goes_on_for_ever_and_begins_again(self) -> None:
        task = self.task()
        assert task["ExecutionTimeLimit"] == "PT0S"
        assert task["MultipleInstancesPolicy"] == "IgnoreNew"
        assert task["Interval"] == "PT5M"
        assert task["StopIfGoingOnBatteries"] == "false"
