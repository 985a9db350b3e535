"""What the options of all commands have in common: their names, their help, the modes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from servomex.cli import servomex_group
from servomex.cli.discover import discover
from servomex.cli.options import MODES
from servomex.cli.read import read
from servomex.cli.simulate import simulate
from servomex.enums import ProtocolKind
from tests.conftest import needs_signals
from tests.test_cli_read import FAST, finish, invoke, run

pytestmark = pytest.mark.virtual_time

NARROW = 52
"""The narrowest that click writes for."""


def commands(group: click.Group = servomex_group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Give each command with the words that it is called by, groups included."""
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
        assert short.stdout.startswith(
            f"Usage: {' '.join((servomex_group.name or '', *path))} ".replace("-group", "")
        )

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
