"""The help for testing: a port that follows a script, and the loader of captures."""

import gc
import time
from concurrent.futures import TimeoutError as NotDoneError
from pathlib import Path

import pytest
import serial

from servomex.errors import ServomexConnectionError
from servomex.link import SerialLink
from servomex.telegram import parse_frame
from servomex.testing import ScriptedPort, load_capture
from tests.conftest import CAPTURE
from tests.frames import GOOD_3, REAL
from tests.test_lock import in_thread

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
    assert port.written == [b"one", b"two", b"three"]


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


def test_a_port_of_the_caller_is_neither_closed_nor_warned_about() -> None:
    class Closing(ScriptedPort):
        closed = False

        def close(self) -> None:
            self.closed = True

    port = Closing()
    with SerialLink(port) as link:
        assert (link.port, link.is_open, port.timeout) == ("scripted", True, 0.05)
    link.open()
    del link
    gc.collect()
    assert not port.closed


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
