"""``servomex simulate``: a virtual analyser for other programs, read here through the port that it prints."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from servomex.cli import servomex_group
from servomex.cli.simulate import simulate
from servomex.simulator.faults import FAULT_NAMES
from tests.helpers.commands import VALUES, finish, invoke, program, start
from tests.helpers.platforms import needs_pty, needs_signals


@contextlib.contextmanager
def simulated(*args: str) -> "Iterator[tuple[subprocess.Popen[bytes], str]]":
    """Run it in another process: that, and the port that it prints."""
    child = start("simulate", *args, main="main")
    try:
        assert child.stdout is not None
        yield child, child.stdout.readline().decode().rstrip("\n")
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


def values_at(port: str, *args: str) -> dict[str, float]:
    result = invoke(port, "--format", "json", *args)
    assert (result.exit_code, result.stderr) == (0, "")
    return {row["channel"]: row["value"] for row in json.loads(result.stdout)["readings"]}


def test_the_help_names_every_fault() -> None:
    text = " ".join(invoke("--help", command=simulate).stdout.split())
    assert f"Faults: {', '.join(FAULT_NAMES[:-1])} and {FAULT_NAMES[-1]}." in text


@needs_pty
@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "continuous"])
def test_a_pty_is_read(mode: str) -> None:
    with simulated("--mode", mode, "--pty", "--period", "0.1") as (child, port):
        assert os.path.exists(port)  # noqa: PTH110 (a device, not a file)
        assert values_at(port, "--protocol", mode) == VALUES
        child.send_signal(signal.SIGINT)
        assert finish(child) == (0, "", f"read it with: servomex-read {port}; end it with Ctrl-C\nstopped\n")


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_tcp_port_is_read(number: signal.Signals) -> None:
    with simulated("--mode", "modbus_rtu", "--tcp", "0", "--address", "7") as (child, port):
        assert port.startswith("socket://127.0.0.1:")
        assert values_at(port, "--protocol", "modbus_rtu", "--address", "7") == VALUES
        child.send_signal(number)
        code, stdout, stderr = finish(child)
    assert (code, stdout) == (0, "")
    assert f"servomex-read {port} --address 7;" in stderr


@needs_signals
def test_it_stops_while_it_is_read() -> None:
    with (
        simulated("--mode", "continuous", "--tcp", "127.0.0.1:0", "--period", "0.05") as (child, port),
        socket.create_connection(("127.0.0.1", int(port.rpartition(":")[2])), 5) as client,
    ):
        assert client.recv(10)
        child.send_signal(signal.SIGINT)
        assert finish(child)[0] == 0


@needs_pty
@pytest.mark.alone
def test_faults_moving_values_and_a_new_port_after_unplugging() -> None:
    args = ("--preset", "moving", "--pty", "--fault", "unplug:3", "--fault", "chunked", "--pace", "--seed", "3")
    with simulated(*args) as (child, port):
        values = values_at(port, "--protocol", "modbus_rtu")
        assert values.keys() == VALUES.keys()
        assert values["I1"] != VALUES["I1"]
        held = os.open(port, os.O_RDWR | os.O_NOCTTY)  # or the new one might get the same name
        try:
            assert child.stderr is not None
            assert child.stderr.readline().startswith(b"read it with")
            assert child.stderr.readline().startswith(b"it was unplugged; the port is now /dev/")
        finally:
            os.close(held)
        child.send_signal(signal.SIGINT)
        assert finish(child)[0] == 0


def test_a_closed_pipe_ends_it() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.Popen(program("simulate", "--tcp", "0", main="main"), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, stderr = child.communicate(timeout=60)
    assert (child.returncode, stderr) == (141, b"")


@pytest.mark.parametrize(("args", "words"), [
    ([], "--pty or --tcp"), (["--pty", "--tcp", "0"], "--pty or --tcp"), (["--tcp", "x"], "'--tcp'"),
    (["--tcp", "localhost:"], "'--tcp'"), (["--tcp", "65536"], "'--tcp'"), (["--tcp", "-1"], "'--tcp'"),
    (["--pty", "--mode", "auto"], "'--mode'"), (["--pty", "--address", "0"], "'--address'"),
    (["--pty", "--address", "300"], "'--address'"), (["--pty", "--period", "nan"], "'--period'"),
    (["--pty", "--period", "-1"], "'--period'"), (["--pty", "--baudrate", "1"], "'--baudrate'"),
    (["--pty", "--preset", "x"], "'--preset'"), (["--pty", "--fault", "frob"], "unknown fault 'frob'"),
    (["--pty", "--fault", "late:x"], "late"), (["--pty", "extra"], "extra"),
])  # fmt: skip
def test_wrong_usage(args: list[str], words: str) -> None:
    result = invoke(*args, command=simulate)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") in (1, 2)
    assert words in result.stderr


def test_a_tcp_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = invoke("simulate", "--tcp", address, command=servomex_group)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (3, "", 1)
    assert f"cannot listen on {address}" in result.stderr
