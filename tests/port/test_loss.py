"""A port that goes away while it is used is an error of ours, and comes back by itself."""

import os
import time
from collections.abc import Callable

import pytest

from servomex.errors import ServomexConnectionError
from servomex.port.link import SerialLink
from servomex.simulator import VirtualLine
from tests.helpers.modbus_bytes import PROBE, STATE
from tests.helpers.platforms import needs_pty
from tests.helpers.terminals import Terminal, lost, reading, talk
from tests.helpers.threads import GENEROUS_S
from tests.helpers.waiting import soon, until_it_works

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(
    "kind",
    ["virtual", pytest.param("terminal", marks=[needs_pty, pytest.mark.real_time, pytest.mark.alone])],
)
def test_an_unplugged_port_ends_the_read_and_is_lost_until_its_next_try(
    kind: str, request: pytest.FixtureRequest
) -> None:
    port: VirtualLine | Terminal = request.getfixturevalue("line" if kind == "virtual" else "terminal")
    with SerialLink(port.url if isinstance(port, VirtualLine) else port.path) as link:
        future = reading(link)
        start = time.monotonic()
        port.unplug()
        error = future.exception(GENEROUS_S)
        assert time.monotonic() - start < 2.0
        assert type(error) is ServomexConnectionError
        assert "was lost" in error.message
        assert "Check the cable and the adapter; it is reopened automatically" in error.text
        assert error.context.port == link.port
        assert not link.is_open
        start = time.monotonic()
        assert "was lost" in lost(lambda: talk(link))
        assert time.monotonic() - start < 0.4, "it did not say so at once"
        assert 0.0 < link.retry_in_s <= 0.5
        assert "next try in 0." in lost(lambda: talk(link))


@needs_pty
@pytest.mark.parametrize("use", ["write", "read", "settle"])
@pytest.mark.real_time
def test_no_way_of_using_an_unplugged_port_lets_a_foreign_error_out(terminal: Terminal, use: str) -> None:
    with SerialLink(terminal.path) as link:
        calls: dict[str, Callable[[], object]] = {
            "write": lambda: link.write(PROBE),
            "read": lambda: link.read(soon()),
            "settle": lambda: link.settle(0.1, soon()),
        }
        terminal.unplug()
        lost(calls[use])
        for call in calls.values():
            assert "was lost" in lost(call)


@pytest.mark.usefixtures("quick_reconnect")
def test_a_virtual_port_comes_back_by_itself(line: VirtualLine) -> None:
    with SerialLink(line.url) as link:
        line.unplug()
        lost(lambda: talk(link))
        line.plug()
        assert until_it_works(lambda: talk(link)) == STATE
        assert (link.is_open, link.generation) == (True, 2)


@needs_pty
@pytest.mark.usefixtures("quick_reconnect")
@pytest.mark.real_time
def test_a_real_port_comes_back_by_itself(terminal: Terminal) -> None:
    with SerialLink(terminal.path) as link:
        terminal.unplug()
        lost(lambda: link.read(soon()))
        for _ in range(3):
            lost(lambda: talk(link))
        terminal.plug()

        def ask() -> bytes:
            with link.conversation(soon()):
                os.write(terminal.master, b"back")
                return link.read(soon())

        assert until_it_works(ask).startswith(b"b")
        assert link.generation == 2


@needs_pty
@pytest.mark.real_time
def test_a_port_that_takes_no_bytes_is_lost_rather_than_waited_for(terminal: Terminal) -> None:
    with SerialLink(terminal.path) as link:
        assert "nothing can be sent on the line" in lost(lambda: link.write(bytes(1_000_000)))
