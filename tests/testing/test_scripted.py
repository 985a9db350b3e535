"""The help for testing: a port that follows a script, and the loader of captures."""

import contextlib
import gc
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotDoneError
from pathlib import Path

import pytest
import serial

from servomex.analyzer.opening import open_continuous
from servomex.errors import ServomexConnectionError
from servomex.port.link import SerialLink
from servomex.telegram import parse_frame
from servomex.testing import ScriptedPort, load_capture
from tests.helpers.frames import GOOD_3, REAL
from tests.helpers.imported import loaded_by
from tests.helpers.paths import CAPTURE
from tests.helpers.threads import in_thread

pytestmark = pytest.mark.virtual_time

GENEROUS_S = 5.0


def test_requests_in_the_right_order_get_their_replies() -> None:
    port = ScriptedPort([(b"one", b"1"), (b"two", b""), (b"three", b"333")])
    assert port.write(b"one") == 3
    assert port.read(10) == b"1"
    port.write(b"two")
    assert port.in_waiting == 0
    port.write(b"three")
    assert port.in_waiting == 3
    assert port.read(3) == b"333"
    port.check()
    assert port.writes == (b"one", b"two", b"three")


@pytest.mark.parametrize("request_", [b"two", b"One", b"one ", b""])
def test_a_request_that_is_not_the_next_one_fails_at_once(request_: bytes) -> None:
    port = ScriptedPort([(b"one", b"1"), (b"two", b"2")])
    with pytest.raises(AssertionError, match="where the script expects 6f 6e 65"):
        port.write(request_)
    assert port.in_waiting == 0


def test_a_request_after_the_end_of_the_script_fails() -> None:
    with pytest.raises(AssertionError, match="6f 6e 65 was written where the script expects nothing"):
        ScriptedPort().write(b"one")


def test_a_wrong_request_fails_through_a_link_as_well() -> None:
    with SerialLink(ScriptedPort([(b"one", b"1")])) as link, pytest.raises(AssertionError, match="the script"):
        link.write(b"two")


def test_requests_that_were_not_sent_fail_the_check() -> None:
    port = ScriptedPort([(b"one", b""), (b"two", b""), (b"three", b"")])
    port.write(b"one")
    with pytest.raises(AssertionError, match="2 requests of the script were never sent"):
        port.check()


def test_bytes_that_were_not_read_fail_the_check() -> None:
    port = ScriptedPort([(b"one", b"12")])
    port.write(b"one")
    port.read(1)
    with pytest.raises(AssertionError, match="b'2' was never read"):
        port.check()


def test_bytes_may_come_unasked_and_may_be_dropped() -> None:
    port = ScriptedPort()
    port.feed(b"noise")
    assert port.in_waiting == 5
    port.reset_input_buffer()
    assert port.in_waiting == 0
    port.check()


def test_a_read_waits_for_its_timeout_and_no_longer() -> None:
    port = ScriptedPort()
    port.feed(b"12")
    start = time.monotonic()
    assert port.read(3) == b"12"
    assert 0.04 <= time.monotonic() - start < 2.0
    port.timeout = 0
    assert port.read(3) == b""


def test_a_read_without_a_timeout_waits_until_all_is_there() -> None:
    port = ScriptedPort()
    port.timeout = None
    future = in_thread(port.read, 2)
    port.feed(b"1")
    with pytest.raises(NotDoneError):
        future.result(0.05)
    port.feed(b"2")
    assert future.result(GENEROUS_S) == b"12"


def test_a_read_takes_what_comes_by_itself_and_wakes_for_it() -> None:
    port = ScriptedPort()
    port.timeout = GENEROUS_S
    start = time.monotonic()
    port.schedule([b"1", b"2", b"3"], interval=0.1)
    assert port.in_waiting == 0
    assert port.read(1) == b"1"
    assert 0.1 <= time.monotonic() - start < GENEROUS_S / 2
    assert port.read(2) == b"23"
    assert 0.3 <= time.monotonic() - start < GENEROUS_S / 2
    port.check()


def test_what_is_emitted_wakes_a_read_that_waits_already() -> None:
    port = ScriptedPort()
    port.timeout = None
    future = in_thread(port.read, 3)
    port.schedule([b"late"], interval=0.05)
    assert future.result(GENEROUS_S) == b"lat"


def test_bytes_that_were_emitted_arrive_in_the_order_of_their_moments() -> None:
    port = ScriptedPort()
    port.timeout = GENEROUS_S
    port.schedule([b"c"], interval=0.15)
    port.schedule([b"a", b"b"], interval=0.05)
    port.feed(b"now")
    assert port.read(6) == b"nowabc"


def test_bytes_that_are_on_their_way_fail_the_check_and_are_not_dropped_with_the_input() -> None:
    port = ScriptedPort()
    port.schedule([b"soon"], interval=0.2)
    port.reset_input_buffer()
    with pytest.raises(AssertionError, match="b'soon' is still on its way"):
        port.check()
    port.timeout = GENEROUS_S
    assert port.read(4) == b"soon"


def test_bytes_that_have_arrived_since_they_were_emitted_were_not_read() -> None:
    port = ScriptedPort()
    port.schedule([b"soon"], interval=0.0)
    with pytest.raises(AssertionError, match="b'soon' was never read"):
        port.check()


LOOPBACKS = [
    bytes.fromhex("01 08 00 00 A5 37 DA 8D"),
    b":01080000A5371B\r\n",
]


@pytest.mark.parametrize("loopback", LOOPBACKS)
def test_loopbacks_are_answered_on_request_only(loopback: bytes) -> None:
    port = ScriptedPort([(b"one", b"1")], loopbacks=True)
    port.write(loopback)
    assert port.read(len(loopback)) == loopback
    port.write(b"one")
    assert port.read(1) == b"1"
    port.check()
    with pytest.raises(AssertionError, match="expects nothing"):
        ScriptedPort().write(loopback)


def test_a_loopback_that_the_script_names_gets_the_reply_of_the_script() -> None:
    port = ScriptedPort([(LOOPBACKS[0], b"wrong")], loopbacks=True)
    port.write(LOOPBACKS[0])
    assert port.read(5) == b"wrong"
    port.check()


@pytest.mark.parametrize("request_", [bytes.fromhex("01 04 0000 0007 B008"), b":010400000007F4\r\n", b"\x08\0\0"])
def test_other_requests_are_no_loopbacks(request_: bytes) -> None:
    with pytest.raises(AssertionError, match="where the script expects nothing"):
        ScriptedPort(loopbacks=True).write(request_)


def hiding(port: ScriptedPort, *requests: bytes) -> None:
    """A program that hides errors."""
    with port:
        for request in requests:
            with contextlib.suppress(AssertionError):
                port.write(request)


@pytest.mark.parametrize("requests", [(b"two", b"one"), (b"two", b"three", b"one")])
def test_a_wrong_request_that_a_program_hides_fails_the_check_and_the_block(requests: tuple[bytes, ...]) -> None:
    port = ScriptedPort([(b"one", b"")])
    with pytest.raises(AssertionError, match=r"^74 77 6f was written where the script expects 6f 6e 65"):
        hiding(port, *requests)
    assert port.writes == requests
    with pytest.raises(AssertionError, match=r"^74 77 6f was written"):
        port.check()


def given_up(port: ScriptedPort) -> None:
    """A program that hides one error behind another."""
    with port:
        with contextlib.suppress(AssertionError):
            port.write(b"one")
        raise TimeoutError("nothing came")


def test_an_error_of_the_program_comes_with_the_request_that_broke_the_script() -> None:
    with pytest.raises(TimeoutError) as caught:
        given_up(ScriptedPort())
    assert caught.value.__notes__ == ["6f 6e 65 was written where the script expects nothing"]
    with pytest.raises(AssertionError) as broken, ScriptedPort() as port:
        port.write(b"one")
    assert not hasattr(broken.value, "__notes__")


def test_a_port_is_closed_at_the_end_of_its_block() -> None:
    with ScriptedPort() as port:
        assert port.is_open
    assert not port.is_open


def test_leftovers_fail_the_block_but_do_not_cover_its_own_error() -> None:
    with pytest.raises(AssertionError, match="1 requests of the script"), ScriptedPort([(b"one", b"")]):
        pass
    with pytest.raises(KeyError), ScriptedPort([(b"one", b"")]):
        raise KeyError


def test_a_closed_port_is_of_no_use_but_for_its_check() -> None:
    port = ScriptedPort([(b"one", b"")])
    port.feed(b"1")
    port.close()
    port.close()
    assert not port.is_open
    uses: list[Callable[[], object]] = [
        port.read, port.reset_input_buffer, lambda: port.write(b"one"), lambda: port.in_waiting,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(serial.PortNotOpenError):
            use()
    assert port.writes == ()
    with pytest.raises(AssertionError, match="1 requests"):
        port.check()


def test_closing_ends_a_read_that_waits() -> None:
    port = ScriptedPort()
    port.timeout = None
    future = in_thread(port.read, 1)
    with pytest.raises(NotDoneError):
        future.result(0.05)
    port.close()
    with pytest.raises(serial.PortNotOpenError):
        future.result(GENEROUS_S)


def test_a_read_can_be_cancelled_and_gives_what_is_there() -> None:
    port = ScriptedPort()
    port.timeout = None
    port.feed(b"1")
    future = in_thread(port.read, 2)
    with pytest.raises(NotDoneError):
        future.result(0.05)
    port.cancel_read()
    assert future.result(GENEROUS_S) == b"1"
    port.cancel_read()
    assert port.read(1) == b""
    port.timeout = 0.05
    start = time.monotonic()
    assert port.read(1) == b""
    assert time.monotonic() - start >= 0.05


def test_broadcasts_of_a_capture_are_read_as_they_come() -> None:
    port = ScriptedPort()
    with port, open_continuous(port, identify=False) as analyzer:
        port.schedule(load_capture(CAPTURE)[:3], interval=0.05)
        clocks = [analyzer.poll(wait_fresh=True).analyser.clock for _ in range(3)]
    assert [clock.second for clock in clocks if clock] == [12, 14, 16]


@pytest.mark.real_time
def test_pytest_is_not_loaded_with_it() -> None:
    assert "pytest" not in loaded_by("import servomex, servomex.testing")


def test_a_port_of_the_caller_is_neither_closed_nor_warned_about() -> None:
    port = ScriptedPort()
    with SerialLink(port) as link:
        assert (link.port, link.is_open, port.timeout) == ("scripted", True, 0.05)
    link.open()
    del link
    gc.collect()
    assert port.is_open


def test_a_port_of_the_caller_that_fails_is_left_to_the_caller() -> None:
    class Failing(ScriptedPort):
        def read(self, size: int = 1) -> bytes:
            raise serial.SerialException("pulled")

    with SerialLink(Failing()) as link:
        with pytest.raises(ServomexConnectionError, match=r"pulled.*open it again"):
            link.read(time.monotonic())
        for _ in range(3):
            with (
                pytest.raises(ServomexConnectionError, match="open it again"),
                link.conversation(time.monotonic()),
            ):
                pytest.fail("it was reopened")


def test_the_capture_of_the_bench_unit_is_cut_into_its_six_frames() -> None:
    frames = load_capture(CAPTURE)
    assert len(frames) == 6
    assert frames[0].rstrip(b"\r\n") == REAL
    assert load_capture(str(CAPTURE)) == frames
    clocks = [parse_frame(frame).analyser.clock for frame in frames]
    assert [clock.second for clock in clocks if clock] == [12, 14, 16, 18, 21, 23]


def test_damage_between_frames_is_not_lost(tmp_path: Path) -> None:
    capture = tmp_path / "damaged.bin"
    capture.write_bytes(b"half a frame\r\n" + GOOD_3 + b"\r\n" + REAL[:50])
    pieces = load_capture(capture)
    assert b"".join(pieces).replace(b"\r\n", b"") == b"half a frame" + GOOD_3 + REAL[:50]
    assert GOOD_3 in [piece.rstrip(b"\r\n") for piece in pieces]


def test_an_empty_capture_holds_nothing(tmp_path: Path) -> None:
    capture = tmp_path / "empty.bin"
    capture.write_bytes(b"")
    assert load_capture(capture) == []
