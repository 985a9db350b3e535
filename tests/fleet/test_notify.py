"""systemd hears from a service through a datagram socket, and nothing else depends on it."""

import os
import socket
from pathlib import Path

import pytest

from servomex.fleet.notify import notify, watchdog_s

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@needs_unix
@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if abstract and os.uname().sysname != "Linux":
        pytest.skip("only Linux has abstract names")
    place = f"\0servomex-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(place)
        monkeypatch.setenv("NOTIFY_SOCKET", place.replace("\0", "@"))
        notify("READY=1", "STATUS=3 analysers")
        manager.settimeout(5)
        assert manager.recv(1000) == b"READY=1\nSTATUS=3 analysers"


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


@needs_unix
def test_a_service_manager_that_is_gone_is_told_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    assert "systemd cannot be notified" in caplog.text


@pytest.mark.parametrize(("microseconds", "pid", "expected"), [
    ("30000000", None, 30.0),
    ("30000000", "own", 30.0),
    ("30000000", "1", None),
    ("0", None, None),
    ("", None, None),
    ("soon", None, None),
])  # fmt: skip
def test_the_time_of_the_watchdog_is_that_of_the_unit(
    microseconds: str, pid: str | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert watchdog_s() == expected
