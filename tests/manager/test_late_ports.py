"""Ports of the system that appear after the program has started: pseudo-terminals under links, and TCP ports."""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from servomex import ServomexManager, record
from servomex.simulator import PtyServer, TcpServer
from tests.helpers.managing import SOON_S, line_in, read, silenced, values
from tests.helpers.platforms import needs_pty
from tests.helpers.waiting import seconds_until

BUSY_S = 1.0
"""What a computer that runs other tests may take longer."""


@needs_pty
@pytest.mark.parametrize("missing", ["modbus_rtu", "continuous", "auto modbus_ascii", "auto continuous"])
def test_a_manager_of_four_starts_without_a_port_and_an_analyser_and_reads_them_when_they_appear(
    missing: str, manager: ServomexManager, tmp_path: Path
) -> None:
    modes = {"first": "modbus_rtu", "second": missing, "third": "modbus_rtu", "fourth": "continuous"}
    lines = {name: line_in(mode, number) for number, (name, mode) in enumerate(modes.items(), 1)}
    silenced(lines["third"])
    with contextlib.ExitStack() as servers:
        ports = {name: tmp_path / f"tty-{name}" for name in modes}
        served = {name: servers.enter_context(PtyServer(line)) for name, line in lines.items()}
        for name in ("first", "third", "fourth"):
            ports[name].symlink_to(served[name].port)
        started = time.monotonic()
        for number, (name, mode) in enumerate(modes.items(), 1):
            protocol = "auto" if mode.startswith("auto") else mode
            manager.add(name, ports[name], protocol=protocol, address=number, wait=False)
        assert time.monotonic() - started < BUSY_S
        assert values(manager) == {"first": 1.0, "second": None, "third": None, "fourth": 4.0}
        assert time.monotonic() - started < SOON_S + BUSY_S
        with record(manager, rate_hz=10) as recording:
            batches = iter(recording.stream)
            first = next(batches)
            ports["second"].symlink_to(served["second"].port)
            assert seconds_until(lambda: read(manager, "second")) < SOON_S + BUSY_S
            lines["third"].analysers[0].faults.silent = False
            assert seconds_until(lambda: read(manager, "third")) < SOON_S + BUSY_S
            begun = time.monotonic_ns()
            last = next(batch for batch in batches if batch[0].monotonic_ns > begun)
    assert {item.device for item in first if item.error} == {"second", "third"}
    assert {item.device for item in last if item.reading} == set(modes)


def test_a_server_that_is_started_later_is_reached(manager: ServomexManager) -> None:
    line = line_in("modbus_rtu", 3)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    started = time.monotonic()
    manager.add("late", f"socket://127.0.0.1:{number}", protocol="modbus_rtu", address=3, wait=False)
    assert not read(manager, "late")
    assert time.monotonic() - started < BUSY_S
    with TcpServer(line, port=number):
        assert seconds_until(lambda: read(manager, "late")) < SOON_S + BUSY_S
        manager.close()
