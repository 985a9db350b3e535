"""``servomex serve``: its options, what it writes, and how it ends."""

import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from servomex.cli.serve import serve
from servomex.simulator import TcpServer, VirtualLine
from tests.helpers import commands
from tests.helpers.commands import invoke
from tests.helpers.platforms import needs_signals
from tests.helpers.serving import TOKEN
from tests.helpers.waiting import wait_until

FAST = ("--protocol", "modbus_rtu", "--gap", "0")


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        found: bytes = answer.read()
    return found.decode()


class Running:
    """The command in another process."""

    def __init__(self, *args: str) -> None:
        self.child = commands.start("serve", *args, "--http-port", "0", main="main")
        assert self.child.stdout is not None
        self.url = self.child.stdout.readline().decode().strip()

    def finish(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        self.child.send_signal(number)
        return commands.finish(self.child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.child.returncode is None:
            self.child.kill()
            self.child.communicate()


@needs_signals
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM"])
def test_it_serves_readings_of_several_ports_until_it_is_ended(end: str) -> None:
    with Running("sim://4100", "sim://moving", *FAST, "--every", "100ms", "--tag", "site=mill-3") as running:
        wait_until(
            lambda: (
                "servomex_up" in (text := get(f"{running.url}metrics")) and 'up{analyser="sim://moving"} 1' in text
            )
        )
        assert '"I1","Oxygen"' not in get(f"{running.url}api/state")
        assert "mill-3" in get(f"{running.url}download.csv")
        code, stdout, stderr = running.finish(getattr(signal, end))
    assert (code, stdout, stderr) == (0, "", "end it with Ctrl-C\nstopped\n")


@needs_signals
def test_an_analyser_that_is_missing_is_reported_and_found_later() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with Running(f"socket://127.0.0.1:{port}", *FAST, "--every", "100ms", "--name", "stack-1") as running:
        metrics = f"{running.url}metrics"
        wait_until(lambda: 'servomex_up{analyser="stack-1"} 0' in get(metrics))
        with TcpServer(VirtualLine(), port=port):
            assert running.child.stderr is not None
            lines = [running.child.stderr.readline().decode() for _ in range(3)]
            assert 'servomex_up{analyser="stack-1"} 1' in get(metrics)
            assert running.finish()[0] == 0
    assert lines[1].startswith("stack-1: no readings: ")
    assert lines[2].startswith("stack-1 is back after ")


@needs_signals
def test_other_addresses_need_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="utf-8")
    with Running("sim://4100", *FAST, "--host", "0.0.0.0", "--token-file", str(path), "-q") as running:
        state = f"http://127.0.0.1:{running.url.rstrip('/').rpartition(':')[2]}/api/state"
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            get(state)
        caught.value.close()
        assert "sim://4100" in get(state, Authorization=f"Bearer {TOKEN}")
        assert running.finish()[2] == ""


@pytest.mark.parametrize(("args", "code", "said"), [
    ((), 2, "Missing argument 'PORT...'"),
    (("sim://4100", "sim://4100"), 2, "A port is given twice."),
    (("sim://4100", "sim://moving", "--name", "a"), 2, "--name is for one port"),
    (("sim://4100", "--host", "0.0.0.0"), 2, "--token-file"),
    (("sim://4100", "--token-file", "none"), 2, "cannot be read"),
    (("sim://4100", "--http-port", "65536"), 2, "65536"),
    (("sim://4100", "--allow-host", "https://a.example"), 2, "is not a name of a computer"),
    (("sim://4100", "--hold", "0"), 2, "--hold"),
    (("sim://4100", "--trace", "a.txt"), 2, "No such option"),
    (("sim://nope",), 2, "nope"),
])  # fmt: skip
def test_mistakes_are_found_before_anything_is_served(args: tuple[str, ...], code: int, said: str) -> None:
    result = invoke(*args, command=serve)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""


def test_a_port_of_the_page_that_is_in_use_is_an_error() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = invoke("sim://4100", *FAST, "--http-port", str(other.getsockname()[1]), command=serve)
    assert result.exit_code == 1
    assert "the page cannot be served at 127.0.0.1" in result.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_package_is_named_with_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result: Any = invoke("sim://4100", *FAST, command=serve)
    assert result.exit_code == 1
    assert 'pip install "servomex[web]"' in result.stderr
