"""Playing recordings again: broadcasts at their times, answers to their requests, and the loss of the port."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import serial

import servomex
from servomex.errors import (
    ServomexTimeoutError,
)
from servomex.simulator.playback import same_request
from servomex.simulator.urls import replay_url
from tests.helpers.frames import WIRE
from tests.helpers.modbus_bytes import ascii_, rtu
from tests.helpers.replaying import (
    BROADCASTS,
    FENCE,
    FENCE_NOW,
    LOSS,
    OTHER,
    OTHER_STATE,
    PROBE,
    REQUESTS,
    STATE,
    Reader,
    Step,
    trace,
)

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.txt"


class TestBroadcasts:
    @pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
    def test_they_come_at_their_own_times_by_the_speed(self, path: Path, speed: float) -> None:
        reader = Reader(trace(path, *BROADCASTS), speed=speed)
        for wait_s, data in ((1.0, WIRE[:50]), (0.5, WIRE[50:]), (2.5, WIRE)):
            assert reader.after(wait_s / speed - 0.01) == b""
            due = reader.line.next_due()
            assert due == pytest.approx(0.01)
            assert reader.after(0.011) == data
            reader.clock.now -= 0.001
        assert reader.line.ended
        assert reader.line.next_due() is None

    def test_as_fast_as_they_are_read_each_comes_by_itself(self, path: Path) -> None:
        reader = Reader(trace(path, *BROADCASTS), speed=0)
        assert [reader.first, *(reader.read() for _ in range(3))] == [WIRE[:50], WIRE[50:], WIRE, b""]
        assert reader.line.ended

    def test_nothing_that_is_written_is_heard(self, path: Path) -> None:
        reader = Reader(trace(path, *BROADCASTS))
        assert reader.ask(PROBE) == b""
        assert reader.after(1.0) == WIRE[:50]
        assert reader.line.recording.asked == []

    def test_bytes_that_were_not_requested_are_played_as_broadcasts_are(self, path: Path) -> None:
        reader = Reader(trace(path, (0.0, "!", "opened"), (2.0, "<", b"\xff\x00"), (3.0, "<", b"\xfe")))
        assert reader.line.recording.timed
        assert (reader.after(2.0), reader.after(1.0), reader.after(9.0)) == (b"\xff\x00", b"\xfe", b"")

    def test_they_begin_again_when_they_are_to(self, path: Path) -> None:
        reader = Reader(trace(path, *BROADCASTS[:4]), speed=0, loop=True)
        assert [reader.first, *(reader.read() for _ in range(3))] == [WIRE[:50], WIRE[50:]] * 2
        assert not reader.line.ended

    def test_a_trace_in_which_nothing_came_is_silent(self, path: Path) -> None:
        for steps in ((), ((0.0, "!", "opened"), (1.0, "!", "closed"))):
            reader = Reader(trace(path, *steps), loop=True)
            assert reader.after(100.0) == reader.ask(PROBE) == b""
            assert Reader(path).line.ended

    def test_a_second_session_follows_the_first(self, path: Path) -> None:
        again: list[Step] = [(at_s - 600, way, what) for at_s, way, what in BROADCASTS]
        reader = Reader(trace(path, *BROADCASTS, (0, "#", b""), *again))
        [[section]] = reader.line.recording.parts
        assert [piece.delay_s for piece in section.pieces] == pytest.approx([1.0, 1.5, 4.0, 10.0, 10.5, 13.0])
        assert [reader.after(9.0 if number % 3 == 0 else 0.0) for number in range(6)] == [
            *(WIRE[:50], WIRE[50:], WIRE),
            *(WIRE[:50], WIRE[50:], WIRE),
        ]


class TestRequests:
    def test_an_answer_comes_with_its_own_delays(self, path: Path) -> None:
        reader = Reader(trace(path, *REQUESTS))
        reader.clock.now += 50.0
        assert reader.ask(PROBE) == b""
        assert reader.after(0.19) == b""
        assert (reader.after(0.02), reader.after(0.1)) == (STATE[:3], STATE[3:])

    def test_an_answer_is_hurried_but_never_slowed_down(self, path: Path) -> None:
        for speed, wait_s in ((0.1, 0.2), (2.0, 0.1), (100.0, 0.002)):
            reader = Reader(trace(path, *REQUESTS), speed=speed)
            assert reader.ask(PROBE) == b""
            assert reader.after(wait_s * 0.9) == b""
            assert reader.after(wait_s * 0.11) == STATE[:3]

    def test_the_order_is_kept_and_what_is_not_asked_is_skipped(self, path: Path) -> None:
        reader = Reader(trace(path, *REQUESTS), speed=0)
        assert (reader.ask(PROBE), reader.read()) == (STATE[:3], STATE[3:])
        assert reader.line.position == 1
        assert reader.ask(PROBE) == STATE[:2], "the first was asked already"
        assert reader.line.position == 3
        assert reader.line.ended
        assert reader.ask(OTHER) == b"", "it came before that"

    def test_a_request_that_is_not_there_is_met_with_silence(self, path: Path) -> None:
        reader = Reader(trace(path, *REQUESTS), speed=0)
        for request in (rtu("02 02 03E8 0010"), rtu("01 04 0000 0010"), PROBE[:-1], FENCE, b""):
            assert reader.ask(request) == b""
        assert reader.line.position == 0
        assert reader.ask(OTHER) == OTHER_STATE

    def test_what_came_before_the_first_request_comes_by_itself(self, path: Path) -> None:
        reader = Reader(trace(path, (0.0, "!", "opened"), (0.5, "<", b"\0"), *REQUESTS[1:]))
        assert reader.after(0.6) == b"\0"

    def test_what_is_still_on_its_way_does_not_hold_up_the_next_answer(self, path: Path) -> None:
        reader = Reader(trace(path, (1.0, ">", PROBE), (1.1, "<", STATE), (2.9, "<", b"\0"), *REQUESTS[4:6]))
        assert (reader.ask(PROBE) or reader.after(0.11)) == STATE
        assert (reader.ask(OTHER) or reader.after(0.11)) == OTHER_STATE
        assert reader.after(2.0) == b"\0"

    def test_requests_are_due_when_they_were_sent(self, path: Path) -> None:
        for speed, wait_s in ((1.0, 5.0), (2.0, 2.5), (0, 0.0)):
            line = Reader(trace(path, *REQUESTS), speed=speed).line
            assert line.seconds_until(line.recording.asked[2]) == pytest.approx(wait_s)

    def test_they_begin_again_when_they_are_to(self, path: Path) -> None:
        reader = Reader(trace(path, *REQUESTS), speed=0, loop=True)
        for _ in range(3):
            assert (reader.ask(OTHER), reader.ask(PROBE)) == (OTHER_STATE, STATE[:2])
        assert reader.ask(FENCE) == b""

    @pytest.mark.parametrize("framed", [rtu, ascii_], ids=["RTU", "ASCII"])
    @pytest.mark.parametrize("cut", [0, 1, 5, 7])
    def test_a_loopback_comes_back_with_the_number_that_was_written(
        self, path: Path, framed: Any, cut: int
    ) -> None:
        then, now = framed("01 08 0000 1234"), framed("01 08 0000 ABCD")
        pieces: Iterable[Step] = [(1.1, "<", then[:cut]), (1.2, "<", then[cut:])] if cut else [(1.1, "<", then)]
        reader = Reader(trace(path, (1.0, ">", then), *pieces, *REQUESTS[4:]), speed=0)
        assert b"".join([reader.ask(now), *([reader.read()] if cut else [])]) == now
        assert reader.ask(OTHER) == OTHER_STATE

    def test_an_echo_of_a_loopback_and_a_late_answer_to_it_have_its_number_as_well(self, path: Path) -> None:
        second, second_now = rtu("01 08 0000 5678"), rtu("01 08 0000 9999")
        steps: list[Step] = [
            (1.0, ">", FENCE),
            (1.1, "<", FENCE),
            (2.0, ">", second),
            (2.1, "<", second + FENCE),
            (2.2, "<", second),
        ]
        reader = Reader(trace(path, *steps), speed=0)
        assert reader.ask(FENCE_NOW) == FENCE_NOW
        assert (reader.ask(second_now), reader.read()) == (second_now + FENCE_NOW, second_now)

    def test_a_damaged_answer_to_a_loopback_stays_damaged(self, path: Path) -> None:
        damaged = bytes([*FENCE[:-1], FENCE[-1] ^ 1])
        reader = Reader(trace(path, (1.0, ">", FENCE), (1.1, "<", damaged)), speed=0)
        assert reader.ask(FENCE_NOW) == damaged

    def test_only_loopbacks_of_one_shape_are_the_same(self) -> None:
        assert same_request(FENCE, FENCE_NOW)
        for other in (
            rtu("02 08 0000 ABCD"),
            rtu("01 08 0001 ABCD"),
            rtu("01 08 0000 ABCD EF"),
            ascii_("01 08 0000 ABCD"),
            bytes([*FENCE_NOW[:-1], 0]),
        ):
            assert not same_request(FENCE, other)
            assert not same_request(other, FENCE)
        assert not same_request(PROBE, rtu("01 02 03E8 0002"))


class TestLoss:
    @pytest.mark.parametrize("speed", [0, 1])
    def test_the_port_is_lost_where_it_was_lost_and_goes_on_behind_that(self, path: Path, speed: float) -> None:
        reader = Reader(trace(path, *LOSS), speed=speed)
        came = reader.ask(PROBE)
        while len(came) < len(STATE):
            came += reader.after(0.15)
        assert came == STATE
        reader.clock.now += 1.0
        with pytest.raises(serial.SerialException, match="in the recording the port was lost"):
            reader.read()
        with pytest.raises(serial.SerialException):
            reader.line.check(reader.number)
        reader.open()
        assert (reader.ask(PROBE) or reader.after(0.2)) == OTHER_STATE
        reader.clock.now += 1.0
        with pytest.raises(serial.SerialException):
            reader.read()
        assert reader.line.ended
        with pytest.raises(serial.SerialException, match="it does not come back"):
            reader.open()

    def test_a_request_from_behind_the_loss_loses_the_port(self, path: Path) -> None:
        reader = Reader(trace(path, *LOSS[:-3], (60.1, ">", OTHER)))
        with pytest.raises(serial.SerialException):
            reader.ask(OTHER)
        reader.open()
        assert reader.line.position == 1

    def test_broadcasts_go_on_behind_it(self, path: Path) -> None:
        lost: list[Step] = [(2.0, "!", "lost"), (500.0, "!", "reopened"), (501.0, "<", WIRE)]
        reader = Reader(trace(path, *BROADCASTS[:4], *lost))
        assert (reader.after(1.0), reader.after(0.5)) == (WIRE[:50], WIRE[50:])
        with pytest.raises(serial.SerialException):
            reader.after(0.5)
        reader.open()
        assert (reader.after(0.9), reader.after(0.1)) == (b"", WIRE)

    def test_a_line_has_one_reader(self, path: Path) -> None:
        reader = Reader(trace(path, *REQUESTS))
        with pytest.raises(serial.SerialException, match="in use"):
            reader.line.open(19200)
        reader.line.close(reader.number - 1)
        with pytest.raises(serial.SerialException, match="in use"):
            reader.line.open(19200)

    def test_an_opening_after_a_closing_starts_over(self, path: Path) -> None:
        reader = Reader(trace(path, *REQUESTS), speed=0)
        for _ in range(2):
            assert reader.ask(OTHER) == OTHER_STATE
            reader.line.close(reader.number)
            reader.open()

    def test_a_loop_goes_round_the_losses(self, path: Path) -> None:
        reader = Reader(trace(path, *LOSS), speed=0, loop=True)
        for _ in range(3):
            assert reader.ask(PROBE) == STATE[:3]
            assert reader.read() == STATE[3:]
            for answer in (OTHER_STATE, b""):
                with pytest.raises(serial.SerialException):
                    reader.read()
                reader.open()
                assert not answer or reader.ask(PROBE) == answer


def test_an_analyser_is_read_from_a_trace_and_its_failure_fails_again(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with servomex.open_device("sim://moving", protocol="modbus_rtu", gap=0.005, trace=path) as analyzer:
        frames = [analyzer.snapshot(), analyzer.poll(), analyzer.poll()]
    url = replay_url(str(path), 0)
    with servomex.open_device(url, protocol="modbus_rtu", gap=0.005) as analyzer:
        again = [analyzer.snapshot(), analyzer.poll(), analyzer.poll()]
        with pytest.raises(ServomexTimeoutError, match="no reply"):
            analyzer.poll(timeout=0.3)
    assert [[item.value for item in frame] for frame in again] == [
        [item.value for item in frame] for frame in frames
    ]
    assert [frame.analyser for frame in again] == [frame.analyser for frame in frames]
