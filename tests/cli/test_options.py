"""What the options of all commands have in common: their names, their help, the modes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from servomex import load
from servomex.cli import servomex_group
from servomex.cli.discover import discover
from servomex.cli.options import MODES
from servomex.cli.read import read
from servomex.cli.record import record
from servomex.cli.replay import replay
from servomex.cli.simulate import simulate
from servomex.cli.stream import stream
from servomex.enums import ProtocolKind
from tests.helpers.commands import FAST, finish, invoke, rows_of, run
from tests.helpers.paths import CAPTURE
from tests.helpers.platforms import needs_signals

pytestmark = pytest.mark.virtual_time

NARROW = 52
"""The narrowest that click writes for."""


def commands(group: click.Group = servomex_group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command with the words that it is called by, groups included."""
    context = click.Context(group)
    yield path, group
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
class TestHelp:
    def test_h_is_short_for_help(self, path: tuple[str, ...]) -> None:
        short, long = (invoke(*path, name, command=servomex_group) for name in ("-h", "--help"))
        assert (short.exit_code, short.stdout) == (0, long.stdout)

    def test_what_an_option_takes_is_named(self, path: tuple[str, ...]) -> None:
        text = invoke(*path, "-h", command=servomex_group).stdout
        assert not re.search(r"\b(INTEGER|FLOAT|TEXT|PATH|FILENAME|RANGE)\b", text)

    def test_it_can_be_read_on_a_narrow_terminal(self, path: tuple[str, ...]) -> None:
        text = invoke(*path, "-h", command=servomex_group, terminal_width=NARROW).stdout
        usage, _, rest = text.partition("\n\n")
        assert usage.startswith("Usage:")
        ordinary = re.split(r"\n *(?:Examples|Exit codes|An autocalibration)", rest)[0]
        for line in ordinary.splitlines():
            assert len(line) <= NARROW or len(line.split()) <= 2, line


@pytest.mark.parametrize(
    ("short", "mode"), [("rtu", "modbus_rtu"), ("ascii", "modbus_ascii"), ("RTU", "modbus_rtu")]
)
class TestModes:
    def test_rtu_and_ascii_are_short_for_the_modbus_modes(self, short: str, mode: str) -> None:
        result = invoke(f"sim://4100?mode={mode}", "--protocol", short)
        assert result.stdout.startswith(f"sim://4100?mode={mode}, {mode}, address 1: analyser ok")

    def test_the_environment_may_name_them(self, short: str, mode: str) -> None:
        result = invoke(f"sim://4100?mode={mode}", env={"SERVOMEX_PROTOCOL": short})
        assert (result.exit_code, f", {mode}, " in result.stdout) == (0, True)

    def test_a_search_takes_them(self, short: str, mode: str) -> None:
        wanted = ("--protocol", f"{short},continuous", "--address", "1", "--listen", "0.3")
        result = invoke(f"sim://4100?mode={mode}", *wanted, command=discover)
        assert (result.exit_code, f" {mode} " in result.stdout) == (0, True)


@pytest.mark.parametrize(
    ("command", "option"), [(read, "--protocol"), (discover, "--protocol"), (simulate, "--mode")]
)
def test_every_mode_is_listed_and_another_is_answered_with_the_list(command: click.Command, option: str) -> None:
    names = [name for name in MODES if name != "auto" or command is not simulate]
    for text in (invoke("-h", command=command).stdout, invoke(option, "rs232", "x", command=command).stderr):
        assert all(re.search(rf"\b{name}\b", text) for name in names)


def test_every_mode_of_the_api_can_be_typed() -> None:
    assert {mode: MODES[mode] for mode in ProtocolKind} == {mode: mode for mode in ProtocolKind}


CONTINUOUS = "sim://4100?mode=continuous&period=0.1"
NAMED: dict[str, tuple[tuple[str, ...], click.Command]] = {
    "read": (("sim://4100", *FAST), read),
    "stream": (("sim://4100", *FAST, "--rate", "50", "--count", "1"), stream),
    "stream, continuous": ((CONTINUOUS, "--protocol", "continuous", "--count", "1"), stream),
    "replay": ((str(CAPTURE), "--speed", "0"), replay),
}
BAD_TAGS = {
    "no value": (("site",), "'site' is not KEY=VALUE"),
    "empty value": (("site=",), "text of 1 to 256 characters"),
    "no key": (("=mill-3",), "the key of a tag must be"),
    "a key with a space": (("my site=x",), "the key of a tag must be"),
    "the name of a column": (("device=x",), "cannot be named 'device'"),
    "two lines": (("site=a\nb",), "on one line"),
    "twice": (("site=a", "line=1", "site=b"), "the tag 'site' is given twice, as 'a' and as 'b'"),
    "too many": (tuple(f"tag{number}=x" for number in range(33)), "at most 32"),
}


TAGS = {"site": "mill-3", "line": "A, =b"}


class TestNaming:
    """``--name`` and ``--tag``."""

    @pytest.mark.parametrize(("args", "command"), NAMED.values(), ids=NAMED)
    def test_each_row_carries_the_name(self, args: tuple[str, ...], command: click.Command) -> None:
        result = invoke(*args, "--name", "stack 1", "--format", "csv", command=command)
        assert result.exit_code == 0
        assert {row["device"] for row in rows_of(result.stdout)} == {"stack 1"}

    @pytest.mark.parametrize(("args", "command"), NAMED.values(), ids=NAMED)
    def test_each_row_carries_the_tags(self, args: tuple[str, ...], command: click.Command) -> None:
        tags = ("--tag", "site=mill-3", "--tag", "line=A, =b")
        rows = rows_of(invoke(*args, *tags, "--format", "csv", command=command).stdout)
        assert [json.loads(row["tags"]) for row in rows] == [TAGS] * len(rows)
        lines = invoke(*args, *tags, "--format", "json", command=command).stdout.splitlines()
        assert [json.loads(line)["tags"] for line in lines] == [TAGS] * len(lines)
        lines = invoke(*args, *tags, "--format", "influx", command=command).stdout.splitlines()
        assert all(",site=mill-3,line=A\\,\\ \\=b " in line for line in lines)
        assert len(lines) == len(rows) > 0

    def test_a_table_begins_with_it(self) -> None:
        assert invoke("sim://4100", *FAST, "--name", "stack 1").stdout.startswith(
            "stack 1, sim://4100, modbus_rtu"
        )

    def test_a_recording_carries_it(self, tmp_path: Path) -> None:
        target = tmp_path / "run.csv"
        args = ("sim://4100?fault=unplug:0.4", str(target), *FAST, "--rate", "10", "--duration", "1s", "-q")
        assert invoke(*args, "--name", "stack 1", "--tag", "site=mill-3", command=record).exit_code == 0
        rows = [(item.device, item.metadata, bool(item.error)) for item in load(target)]
        assert {(device, failed) for device, _, failed in rows} == {("stack 1", False), ("stack 1", True)}
        assert all(tags == {"site": "mill-3"} for _, tags, _ in rows)

    @pytest.mark.parametrize(("tags", "words"), BAD_TAGS.values(), ids=BAD_TAGS)
    @pytest.mark.parametrize("command", [read, record])
    def test_bad_tags_are_refused_before_a_port_is_opened(
        self, tags: tuple[str, ...], words: str, command: click.Command
    ) -> None:
        given = [part for tag in tags for part in ("--tag", tag)]
        result = invoke("/dev/nope", *["run.csv"] * (command is record), *given, command=command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr

    @pytest.mark.parametrize("name", ["", " ", "x" * 129, "a\tb"])
    def test_a_bad_name_is_refused_before_a_port_is_opened(self, name: str) -> None:
        result = invoke("/dev/nope", "--name", name)
        assert (result.exit_code, "the name of an analyser must be" in result.stderr) == (2, True)

    def test_a_bad_tag_of_the_environment_is_refused_with_its_variable(self) -> None:
        result = invoke("/dev/nope", env={"SERVOMEX_TAG": "site=a,line"})
        assert result.exit_code == 2
        assert "(environment variable SERVOMEX_TAG): 'line' is not KEY=VALUE" in result.stderr


@pytest.mark.real_time
class TestModule:
    """``python -m servomex``."""

    def test_it_is_the_command(self) -> None:
        code, stdout, stderr = module("read", "sim://4100", *FAST, "--format", "csv", "--channels", "I1")
        assert (code, stderr) == (0, "")
        assert ",I1," in stdout.splitlines()[1]

    def test_the_usage_says_how_it_was_called(self) -> None:
        assert module("-h")[1].startswith("Usage: python -m servomex [OPTIONS]")
        code, stdout, stderr = module("read", "--frob")
        assert (code, stdout) == (2, "")
        assert stderr.endswith("Try 'python -m servomex read --help'.\n")
        assert run("-h", main="main")[1].startswith("Usage: servomex [OPTIONS]")

    @needs_signals
    def test_ctrl_c_ends_it_with_its_code(self) -> None:
        code = (
            "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "runpy.run_module('servomex', run_name='__main__')"
        )
        args = ("read", "sim://4100", *FAST, "--watch", "0.05", "--format", "csv")
        child = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        code_, _, stderr = finish(child)
        assert (code_, stderr.count("\n")) == (130, 1)

    @pytest.mark.parametrize("args", [("-h",), ("read", "sim://4100", *FAST, "--watch", "0.05")])
    def test_a_closed_pipe_ends_it_quietly(self, args: tuple[str, ...]) -> None:
        reader, writer = os.pipe()
        child = subprocess.Popen(module_program(*args), stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        os.close(reader)
        assert child.stderr is not None
        stderr = child.stderr.read()
        child.stderr.close()
        assert (child.wait(60), stderr) == (141, b"")


def module_program(*args: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "servomex", *args]


def module(*args: str) -> tuple[int, str, str]:
    done = subprocess.run(module_program(*args), capture_output=True, timeout=90, check=False)
    stdout, stderr = (text.decode().replace(os.linesep, "\n") for text in (done.stdout, done.stderr))
    return done.returncode, stdout, stderr
