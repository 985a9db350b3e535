"""A line that takes no bytes is an error within the deadline of the call, which says so."""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import servomex
from servomex.errors import ServomexConnectionError
from tests.helpers.platforms import needs_pty

BLOCKED = r"nothing can be sent on the line.*flow control"
GENEROUS_S = 1.0
"""Far less than the 2 s that a write may take without a deadline."""
WAIT_S = 10.0
QUIET_S = 0.3
READ_AHEAD = 4096
"""This many bytes count as received by the other end, which has not looked at them: they cannot be taken back."""


@contextlib.contextmanager
def terminal() -> Iterator[tuple[str, int, int]]:
    """Return a terminal whose other end reads nothing: its path, its descriptor and its other end."""
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    try:
        yield os.ttyname(slave), slave, master
    finally:
        os.close(master)
        os.close(slave)


def fill(descriptor: int) -> None:
    """Write until there is no room for a while: the system moves bytes from one buffer to the next."""
    while select.select([], [descriptor], [], 0.1)[1]:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, bytes(4096))


def fill_in_part(descriptor: int) -> None:
    """Leave room for some bytes that the other end does not receive yet."""
    os.write(descriptor, bytes(READ_AHEAD + 1024))


def drain(master: int, taken: bytearray) -> None:
    """Take what a terminal holds, until nothing more comes."""
    while select.select([master], [], [], QUIET_S)[0]:
        taken += os.read(master, 65536)


@needs_pty
@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_a_full_terminal_fails_within_the_deadline(mode: str) -> None:
    with (
        terminal() as (port, descriptor, _),
        servomex.open_device(port, protocol=mode, identify=False) as analyzer,
    ):
        fill(descriptor)
        begun = time.monotonic()
        with pytest.raises(
            ServomexConnectionError, match=r"nothing can be sent on the line.*flow control"
        ) as caught:
            analyzer.poll(timeout=0.2)
        assert time.monotonic() - begun < GENEROUS_S
        assert caught.value.context.port == port


def test_a_server_that_takes_nothing_fails_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with servomex.open_device(port, protocol="modbus_rtu", identify=False) as analyzer:
            client, _ = server.accept()
            with client:
                connection = analyzer.link._serial._socket
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        connection.send(bytes(65536))
                begun = time.monotonic()
                with pytest.raises(ServomexConnectionError, match="nothing can be sent on the line"):
                    analyzer.poll(timeout=0.3)
                assert time.monotonic() - begun < GENEROUS_S


@needs_pty
@pytest.mark.parametrize("block", [fill, fill_in_part])
def test_what_was_held_back_is_not_sent_later(block: Callable[[int], None]) -> None:
    """A request that failed must not reach the analyser once the flow control lets it through."""
    taken = bytearray()
    with terminal() as (port, descriptor, master):
        with servomex.SerialLink(port) as link:
            block(descriptor)
            with pytest.raises(ServomexConnectionError, match="nothing can be sent"):
                link.write(b"late" * 16384, time.monotonic() + 0.05)
            assert not link.is_open
        drain(master, taken)
    assert taken.strip(b"\0") == b""


@needs_pty
def test_a_line_that_takes_bytes_again_in_time_is_used() -> None:
    taken = bytearray()
    with terminal() as (port, descriptor, master), servomex.SerialLink(port) as link:
        fill(descriptor)
        draining = threading.Timer(0.2, drain, (master, taken))
        draining.start()
        link.write(b"one", time.monotonic() + WAIT_S)
        draining.join(WAIT_S)
        assert link.is_open
        link.write(b"two")
        drain(master, taken)
    assert taken.lstrip(b"\0") == b"onetwo"
