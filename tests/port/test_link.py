"""The link: what is read and when, what is traced, who may talk, and what happens when the port goes away."""

import contextlib
import gc
import logging
import os
import threading
import time
import types
from typing import Any

import pytest

from servomex.errors import ServomexConnectionError, ServomexValidationError
from servomex.port import connection, reopening
from servomex.port import link as link_module
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.modbus_bytes import PROBE, STATE
from tests.helpers.platforms import needs_pty
from tests.helpers.terminals import Terminal, lost, read_all, reading, talk
from tests.helpers.threads import GENEROUS_S, in_thread
from tests.helpers.waiting import soon, wait_until

pytestmark = pytest.mark.virtual_time


class Clock:
    """Time as the link sees it, standing still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    names = types.SimpleNamespace(monotonic=clock.monotonic, monotonic_ns=clock.monotonic_ns)
    for module in (connection, link_module, reopening):
        monkeypatch.setattr(module, "time", names)
    return clock


def test_input_that_waited_before_the_port_was_opened_is_dropped() -> None:
    port = ScriptedPort()
    port.feed(b"old")
    with SerialLink(port) as link:
        port.feed(b"new")
        assert link.read(soon()) == b"new"


@needs_pty
@pytest.mark.real_time
def test_input_that_waited_in_a_real_port_is_dropped(terminal: Terminal) -> None:
    os.write(terminal.master, b"old")
    with SerialLink(terminal.path) as link:
        os.write(terminal.master, b"new")
        assert read_all(link, 3) == b"new"


@pytest.mark.parametrize("size", [1, 2, 300, 4096])
def test_one_read_gives_everything_that_is_there(size: int) -> None:
    port = ScriptedPort()
    with SerialLink(port) as link:
        port.feed(bytes(size))
        assert link.read(soon()) == bytes(size)


def test_a_flood_is_read_in_bounded_pieces_and_nothing_of_it_is_lost() -> None:
    port, flood = ScriptedPort(), bytes(range(256)) * 200
    with SerialLink(port) as link:
        port.feed(flood)
        pieces = []
        while piece := link.read(0.0):
            pieces.append(piece)
    assert b"".join(pieces) == flood
    assert max(map(len, pieces)) <= 2 * link_module.MAX_CHUNK


@needs_pty
@pytest.mark.parametrize("wait", [-1.0, 0.0, 0.12])
@pytest.mark.real_time
def test_a_read_from_a_silent_port_ends_empty_at_its_deadline(terminal: Terminal, wait: float) -> None:
    with SerialLink(terminal.path) as link:
        deadline = soon(wait)
        assert link.read(deadline) == b""
        assert deadline <= time.monotonic() < deadline + 2.0


@needs_pty
@pytest.mark.real_time
def test_a_byte_ends_the_waiting(terminal: Terminal) -> None:
    with SerialLink(terminal.path) as link:
        future = reading(link)
        os.write(terminal.master, b"x")
        assert future.result(GENEROUS_S) == b"x"


def test_settling_on_a_silent_line_takes_the_silence_that_is_missing() -> None:
    with SerialLink(ScriptedPort()) as link:
        opened = time.monotonic()
        assert link.settle(0.2, soon()) == (b"", True)
        assert 0.19 <= time.monotonic() - opened < 2.0


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_silence_is_counted_from_the_last_byte_in_either_direction(clock: Clock, direction: str) -> None:
    port = ScriptedPort([(b"request", b"")])
    with SerialLink(port) as link:
        clock.now += 1.0
        if direction == "sent":
            link.write(b"request")
        else:
            port.feed(b"noise")
            assert link.settle(0.1, clock.now) == (b"noise", False)
        clock.now += 0.09
        assert link.settle(0.1, clock.now) == (b"", False)
        clock.now += 0.02
        assert link.settle(0.1, clock.now) == (b"", True)


def test_silence_is_counted_from_the_last_byte_that_came() -> None:
    port, pause = ScriptedPort(), threading.Event()

    def feed() -> float:
        for _ in range(5):
            pause.wait(0.04)
            fed = time.monotonic()
            port.feed(b"late")
        return fed

    with SerialLink(port) as link:
        feeder = in_thread(feed)
        dropped, silent = link.settle(0.5, soon())
        ended = time.monotonic()
    assert (dropped, silent) == (b"late" * 5, True)
    assert ended >= feeder.result(GENEROUS_S) + 0.49


def test_settling_on_a_babbling_line_ends_at_its_deadline() -> None:
    class Babbling(ScriptedPort):
        @property
        def in_waiting(self) -> int:
            self.feed(b"babble")
            return super().in_waiting

    with SerialLink(Babbling()) as link:
        deadline = soon(0.2)
        dropped, silent = link.settle(0.1, deadline)
        assert deadline <= time.monotonic() < deadline + 2.0
    assert not silent
    assert b"babble" in dropped
    assert len(dropped) <= link_module.MAX_CHUNK


def test_settling_is_not_reached_by_a_deadline_that_has_passed() -> None:
    with SerialLink(ScriptedPort()) as link:
        assert link.settle(5.0, soon(-1.0)) == (b"", False)


def test_every_byte_is_traced_exactly_once_in_both_directions(
    caplog: pytest.LogCaptureFixture, line: VirtualLine
) -> None:
    caplog.set_level(logging.DEBUG, "servomex.wire")
    line.analysers[0].faults.chunked = True
    with SerialLink(line.url) as link:
        link.write(PROBE)
        read = read_all(link, len(STATE))
        link.write(PROBE)
        settled, _ = link.settle(0.1, soon())
        link.read(time.monotonic())
    traced = {">": b"", "<": b""}
    for record in caplog.records:
        if record.name == "servomex.wire":
            port, direction, data = record.getMessage().split(" ", 2)
            assert port == line.url
            traced[direction] += bytes.fromhex(data)
    assert (read, settled) == (STATE, STATE)
    assert traced == {">": PROBE * 2, "<": STATE * 2}


def test_the_trace_names_the_port_the_direction_and_the_bytes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "servomex.wire")
    with SerialLink(ScriptedPort([(b"\x01\x02", b"\xff\x00")])) as link:
        link.write(b"\x01\x02")
        link.read(soon())
    assert [record.getMessage() for record in caplog.records] == ["scripted > 01 02", "scripted < ff 00"]


def test_a_tap_hears_every_byte_until_it_is_taken_off() -> None:
    port = ScriptedPort([(b"request", b"reply")])
    heard: list[tuple[bytes, int]] = []
    with SerialLink(port) as link:
        before = time.monotonic_ns()
        with link.tap(lambda data, when: heard.append((data, when))):
            link.write(b"request")
            assert link.read(soon()) == b"reply"
            port.feed(b"noise")
            link.settle(0.0, soon())
        port.feed(b"unheard")
        link.read(soon())
    assert [data for data, _ in heard] == [b"reply", b"noise"]
    assert before <= heard[0][1] <= heard[1][1] <= time.monotonic_ns()


def test_a_tap_is_taken_off_when_its_block_fails() -> None:
    port, heard = ScriptedPort(), []
    with SerialLink(port) as link:
        with contextlib.suppress(KeyError), link.tap(lambda data, _when: heard.append(data)):
            raise KeyError
        port.feed(b"unheard")
        link.read(soon())
    assert heard == []


def test_a_closed_link_says_so_and_can_be_opened_again(line: VirtualLine) -> None:
    link = SerialLink(line.url)
    for _ in range(2):
        assert not link.is_open
        for call in (lambda: link.write(b"x"), lambda: link.read(soon()), lambda: link.settle(0.1, soon())):
            with pytest.raises(ServomexConnectionError, match="closed"):
                call()
        with pytest.raises(ServomexConnectionError, match="the port is closed"), link.conversation(soon()):
            pass
        link.open()
        assert link.open() is link
        assert talk(link) == STATE
        link.close()
        link.close()
    assert link.generation == 2


@pytest.mark.real_time
def test_nothing_is_sent_once_another_thread_closes_the_port() -> None:
    line = VirtualLine()
    link = SerialLink(line.url).open()
    with link.conversation(soon()):
        closing = in_thread(link.close)
        wait_until(lambda: link.is_closed)
        with pytest.raises(ServomexConnectionError, match="closed"):
            link.write(PROBE)
    closing.result(GENEROUS_S)
    assert line.heard == []


@pytest.mark.parametrize("kind", ["virtual", pytest.param("terminal", marks=needs_pty)])
@pytest.mark.real_time
def test_close_ends_a_read_of_another_thread_with_an_error(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servomex.port.connect.READ_TICK_S", 0.02)
    port = request.getfixturevalue("line").url if kind == "virtual" else request.getfixturevalue("terminal").path
    for _ in range(50):
        link = SerialLink(port).open()
        future = reading(link)
        start = time.monotonic()
        link.close()
        error = future.exception(GENEROUS_S)
        assert time.monotonic() - start < 1.0
        assert type(error) is ServomexConnectionError
        assert "closed" in str(error)


@pytest.mark.parametrize("kind", ["virtual", pytest.param("terminal", marks=needs_pty)])
@pytest.mark.real_time
def test_close_lets_no_foreign_error_out_of_a_read_without_the_lock(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servomex.port.connect.READ_TICK_S", 0.02)
    port = request.getfixturevalue("line").url if kind == "virtual" else request.getfixturevalue("terminal").path
    for _ in range(50):
        link, begun = SerialLink(port).open(), threading.Event()
        future = in_thread(lambda link=link, begun=begun: (begun.set(), link.read(soon()))[1])  # type: ignore[misc]
        assert begun.wait(GENEROUS_S)
        start = time.monotonic()
        link.close()
        error = future.exception(GENEROUS_S)
        assert time.monotonic() - start < 1.0
        assert error is None or type(error) is ServomexConnectionError


def test_a_link_that_is_dropped_unclosed_warns_with_its_port_and_the_cure(line: VirtualLine) -> None:
    links = [SerialLink(line.url).open()]

    def drop() -> None:
        links.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match=rf"the port {line.url} was never closed: use 'with', or call close"):
        drop()
    with SerialLink(line.url) as other:
        assert other.is_open


def test_the_pause_between_two_tries_doubles_up_to_half_a_minute(line: VirtualLine, clock: Clock) -> None:
    with SerialLink(line.url) as link:
        line.unplug()
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0):
            lost(lambda: talk(link))
            assert link.retry_in_s == pytest.approx(pause)
            clock.now += pause / 2
            assert "next try in" in lost(lambda: talk(link))
            assert link.retry_in_s == pytest.approx(pause / 2), "the refusal counted as a try"
            clock.now += pause / 2


def test_bytes_that_come_shorten_the_pause_again_and_a_mere_reopening_does_not(
    line: VirtualLine, clock: Clock
) -> None:
    with SerialLink(line.url) as link:
        for pause, answers in ((0.5, False), (1.0, False), (2.0, True), (0.5, False), (1.0, False)):
            line.unplug()
            lost(lambda: link.write(PROBE))
            assert link.retry_in_s == pytest.approx(pause)
            clock.now += pause
            line.plug()
            with link.conversation(clock.now):
                if answers:
                    link.write(PROBE)
                    assert link.read(clock.now) == STATE


def test_without_reconnection_a_lost_port_stays_lost_until_it_is_opened_again(
    line: VirtualLine, clock: Clock
) -> None:
    with SerialLink(line.url, auto_reconnect=False) as link:
        line.unplug()
        assert "open it again" in lost(lambda: talk(link))
        line.plug()
        for _ in range(3):
            clock.now += 3600.0
            message = lost(lambda: talk(link))
            assert "open it again" in message
            assert "next try" not in message
        link.open()
        with link.conversation(clock.now):
            link.write(PROBE)
            assert link.read(clock.now) == STATE


def test_a_port_that_stays_away_for_days_is_still_a_connection_error(
    line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.0, 0.0))
    with SerialLink(line.url) as link:
        line.unplug()
        for _ in range(1100):
            lost(lambda: talk(link))


@pytest.mark.parametrize("port", ["", None, 42, b"/dev/ttyUSB0", object()])
def test_what_is_no_port_is_refused(port: Any) -> None:
    with pytest.raises(ServomexValidationError, match="port"):
        SerialLink(port)


@pytest.mark.parametrize("gap", [-0.1, 10.1, float("nan"), float("inf"), True, "0.05"])
def test_a_gap_that_cannot_be_is_refused(gap: float) -> None:
    with pytest.raises(ServomexValidationError, match="gap"):
        SerialLink("sim://4100", gap=gap)
