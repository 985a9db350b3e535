"""What the commands do to stdout and stderr: closed pipes, encodings, colour, traces, variables and help."""

import json
import logging
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import click
import pytest

import servomex
from servomex.cli import servomex_group
from servomex.cli.program import Program
from servomex.cli.read import read
from tests.helpers.commands import FAST, invoke, program, run, start
from tests.helpers.platforms import needs_pty


class TestStdout:
    @pytest.mark.parametrize("output_format", ["table", "json"])
    def test_a_closed_pipe_ends_it_quietly(self, output_format: str) -> None:
        child = start("sim://4100", *FAST, "--watch", "0.05", "--format", output_format)
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr is not None
        stderr = child.stderr.read()
        child.stderr.close()
        assert (child.wait(60), stderr) == (141, b"")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    @pytest.mark.parametrize("output_format", ["table", "csv"])
    def test_a_full_disk_is_an_error(self, output_format: str) -> None:
        command = program("sim://4100", *FAST, "--format", output_format)
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=90, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [b"Error: cannot write to stdout: No space left on device"]

    @pytest.mark.parametrize("locale", [
        {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ])  # fmt: skip
    def test_data_is_utf8_and_a_table_is_what_can_be_shown(self, locale: dict[str, str]) -> None:
        args = ("sim://4100", *FAST, "--channels", "I3", "--format")
        code, stdout, _ = run(*args, "csv", env=locale)
        assert (code, "CO₂" in stdout) == (0, True)
        code, stdout, _ = run(*args, "table", env=locale)
        assert (code, stdout.splitlines()[-1]) == (0, "I3       CO?   0.25   %     ok     good")

    @needs_pty
    @pytest.mark.parametrize("plain", [False, True])
    def test_a_terminal_gets_colour(self, plain: bool) -> None:
        code = (
            "from servomex.models.reading import ChannelStatus; import sys;"
            "from servomex.simulator import VirtualLine;"
            "from servomex.cli.read import read; line = VirtualLine();"
            "line.analysers[0]['I1'].status = ChannelStatus(fault=True); read([line.url, *sys.argv[1:]])"
        )
        master, terminal = os.openpty()
        env = {**os.environ, "TERM": "xterm"} | ({"NO_COLOR": "1"} if plain else {})
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, *FAST], stdout=terminal, timeout=90, env=env, check=False
            )
            shown = os.read(master, 10_000)
        finally:
            os.close(master)
            os.close(terminal)
        assert done.returncode == 0
        assert (b"\x1b[31mI1 " in shown) != plain
        assert b"20.376" in shown


@pytest.mark.parametrize("name", ["read", "record", "decode", "diag gap", "calibrate start", "simulate"])
def test_version_and_help_are_the_last_options_of_a_command(name: str) -> None:
    text = invoke(*name.split(), "--help", command=servomex_group).stdout
    assert re.findall(r"^  (?:-\w, )?--(\w+)", text, re.MULTILINE)[-2:] == ["version", "help"]


class TestEnvironment:
    def test_every_option_has_its_variable(self) -> None:
        given = [item for item in read.params if item.name not in ("version", "help")]
        names = {str(item.envvar) for item in given}
        assert names == {"SERVOMEX_" + max(item.opts, key=len).lstrip("-").upper() for item in given}
        help_text = invoke("--help").stdout
        assert all(name in help_text for name in names)

    def test_both_commands_take_them(self) -> None:
        env = {
            "SERVOMEX_PORT": "sim://4100?address=9&mode=modbus_ascii",
            "SERVOMEX_PROTOCOL": "modbus_ascii",
            "SERVOMEX_ADDRESS": "9",
            "SERVOMEX_FORMAT": "json",
            "SERVOMEX_CHANNELS": "I2",
            "SERVOMEX_COUNT": "2",
            "SERVOMEX_GAP": "0",
            "SERVOMEX_QUIET": "1",
            "SERVOMEX_WATCH": "",
            "SERVOMEX_TRACE": "",
        }
        for args, main in (((), "read_main"), (("read",), "main")):
            code, stdout, stderr = run(*args, main=main, env=env)
            assert (code, stderr) == (0, "")
            records = [json.loads(line) for line in stdout.splitlines()]
            assert [[row["value"] for row in record["readings"]] for record in records] == [[0.084]] * 2
            assert {record["device"] for record in records} == {env["SERVOMEX_PORT"] + ":9"}

    def test_the_command_line_wins(self) -> None:
        env = {"SERVOMEX_PORT": "/dev/nope", "SERVOMEX_FORMAT": "json", "SERVOMEX_PROTOCOL": "continuous"}
        result = invoke("sim://4100", *FAST, "--format", "influx", env=env)
        assert result.stdout.startswith("servomex,")

    def test_a_bad_value_is_reported_with_its_variable(self) -> None:
        result = invoke("sim://4100", env={"SERVOMEX_ADDRESS": "300"})
        assert (result.exit_code, result.stderr.count("\n")) == (2, 2)
        assert "--address" in result.stderr


class TestTrace:
    HEADER = re.compile(r"# servomex trace 1 version=\S+ started=\S+ settings=19200,8N1 gap=0 port=sim://4100")
    LINE = re.compile(r"(\d+\.\d{9}) (\S+) ([<>]) ([0-9a-f]{2}( [0-9a-f]{2})*)")

    def test_every_byte_of_both_directions(self, tmp_path: Path) -> None:
        trace = tmp_path / "wire.log"
        for _ in range(2):
            assert invoke("sim://4100", *FAST, "--trace", str(trace)).exit_code == 0
        lines = trace.read_text().splitlines()
        first = len(lines) // 2
        for header, opened, *_, closed in (lines[:first], lines[first:]):
            assert self.HEADER.fullmatch(header)
            assert (opened.split(" ", 2)[2], closed.split(" ", 2)[2]) == ("! opened", "! closed")
        matches = [self.LINE.fullmatch(line) for line in lines[2 : first - 1] + lines[first + 2 : -1]]
        assert all(matches)
        found = [match.groups() for match in matches if match]
        for at in (0, 1):
            assert [item[at] for item in found] == sorted(item[at] for item in found)
        assert {datetime.fromisoformat(moment).utcoffset() for _, moment, *_ in found} == {timedelta(0)}
        assert [way for *_, way, _, _ in found] == [">", "<"] * (len(found) // 2)
        second = len(found) // 2
        assert [item[2:4] for item in found[:2]] == [item[2:4] for item in found[second : second + 2]]
        assert sum("41 a3 02 0c 4f 78 79 67 65 6e" in data for *_, data, _ in found) == 2  # 20.376 Oxygen
        assert logging.getLogger("servomex.trace").handlers == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_reported_once(self) -> None:
        result = invoke("sim://4100", *FAST, "--trace", "/dev/full")
        assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
        assert "the trace /dev/full is not complete" in result.stderr
        assert invoke("sim://4100", *FAST, "--trace", "/dev/full", "-q").stderr == ""

    def test_verbosity(self, tmp_path: Path) -> None:
        once = invoke("sim://4100", *FAST, "-v").stderr
        assert re.findall(r"^\S+ (opening|found) sim://4100", once, re.MULTILINE) == ["opening", "found"]
        assert " > " not in once
        assert "sim://4100 > 01 04" in invoke("sim://4100", *FAST, "-vv").stderr
        assert invoke("sim://4100", *FAST, "-vv", "-q").stderr == ""
        assert " > " not in invoke("sim://4100", *FAST, "-v", "--trace", str(tmp_path / "wire.log")).stderr


class TestHelp:
    def test_it_shows_examples_exit_codes_and_variables(self) -> None:
        for command, args in ((read, ["--help"]), (servomex_group, ["read", "--help"])):
            result = invoke(*args, command=command)
            assert result.exit_code == 0
            for words in ("servomex-read /dev/ttyUSB0\n", "130  ended by Ctrl-C", "SERVOMEX_PORT", "sim://4100"):
                assert words in result.stdout
        assert "_SERVOMEX_COMPLETE=bash_source" in invoke("--help", command=servomex_group).stdout
        assert invoke(command=servomex_group).stdout == invoke("--help", command=servomex_group).stdout

    def test_version(self) -> None:
        assert invoke("--version").stdout == f"servomex, version {servomex.__version__}\n"
        assert invoke("--version", command=servomex_group).stdout == invoke("--version").stdout

    def test_it_loads_nothing_heavy(self) -> None:
        code = (
            "import atexit, sys; atexit.register(lambda: print([name for name in sys.modules if "
            "name.startswith(('pymodbus', 'servomex.simulator', 'servomex.cli.'))]));"
            "from servomex.cli import read_main; read_main()"
        )
        done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=True, timeout=90)
        loaded = done.stdout.decode().splitlines()[-1]
        assert "'servomex.cli.read'" in loaded
        assert not any(name in loaded for name in ("pymodbus", "simulator", "simulate", "decode"))

    def test_shell_completion(self) -> None:
        code, stdout, _ = run(env={"_SERVOMEX_READ_COMPLETE": "bash_source"})
        assert (code, "_servomex_read_completion" in stdout) == (0, True)
        words = {"COMP_WORDS": "servomex rea", "COMP_CWORD": "1", "_SERVOMEX_COMPLETE": "bash_complete"}
        assert run(main="main", env=words)[:2] == (0, "plain,read\n")

    def test_an_unknown_command(self) -> None:
        result = invoke("frob", command=servomex_group)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 2)
        assert "No such command 'frob'" in result.stderr


def test_ctrl_c_in_the_wait_of_a_lock_is_ctrl_c() -> None:
    """Python may fail to give the lock back that was waited for, and raise that instead."""

    @click.command(cls=Program)
    def command() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("cannot release un-acquired lock")

    result = invoke(command=command)
    assert (result.exit_code, result.stderr) == (130, "")
