"""Playing recordings again: broadcasts at their times, answers to their requests, and the loss of the port."""

import contextlib
import gc
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import serial

import servomex
from servomex import link as link_module
from servomex.errors import (
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.link import SerialLink
from servomex.settings import SerialSettings
from servomex.simulator.recording import load_recording, same_request
from servomex.simulator.replay import REOPENED_S, ReplayLine, replay_line
from servomex.simulator.urls import replay_from_url, replay_url
from tests.conftest import CAPTURE
from tests.frames import REAL, WIRE, capture_frames
from tests.modbus_bytes import ascii_, rtu
from tests.test_simulator import Clock

HEADER = "# servomex trace 1 version=0.1.0 started=2026-03-01T12:30:45+00:00 settings=9600,8E1 gap=0.07 port=COM3"
PROBE, STATE = rtu("01 02 03E8 0010"), rtu("01 02 02 0000")
OTHER, OTHER_STATE = rtu("01 02 0000 0010"), rtu("01 02 02 0100")
FENCE, FENCE_NOW = rtu("01 08 0000 1234"), rtu("01 08 0000 ABCD")

Step = tuple[float, str, bytes | str]


def trace(path: Path, *steps: Step) -> Path:
    """Write a trace from seconds, ``>``, ``<`` or ``!``, and bytes or an event; ``#`` begins a session."""
    lines = [HEADER]
    for at_s, way, what in steps:
        text = what if isinstance(what, str) else what.hex(" ")
        stamp = f"{700 + at_s:.9f} 2026-03-01T12:30:45.000000+00:00"
        lines.append(HEADER if way == "#" else f"{stamp} {way} {text}")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


class Reader:
    """A reader of a line whose clock stands still until it is moved."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.clock = Clock()
        self.line = ReplayLine(load_recording(path), clock=self.clock, **options)
        self.open()

    def open(self) -> None:
        self.number = self.line.open(19200)
        self.line.discard()
        self.first = self.read()

    def read(self) -> bytes:
        """What one call of SerialLink.read gives."""
        self.line.check(self.number)
        data = self.line.take(1)
        while data and (waiting := self.line.waiting()):
            data += self.line.take(waiting)
        return data

    def after(self, seconds: float) -> bytes:
        self.clock.now += seconds
        return self.read()

    def ask(self, request: bytes) -> bytes:
        self.line.check(self.number)
        self.line.write(request)
        return self.read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.txt"


BROADCASTS: tuple[Step, ...] = (
    (0.0, "!", "opened"),
    (0.1, ">", PROBE),
    (1.0, "<", WIRE[:50]),
    (1.5, "<", WIRE[50:]),
    (4.0, "<", WIRE),
    (9.0, "!", "closed"),
)


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

    def test_bytes_that_nobody_asked_for_are_played_as_broadcasts_are(self, path: Path) -> None:
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


REQUESTS: tuple[Step, ...] = (
    (0.0, "!", "opened"),
    (1.0, ">", PROBE),
    (1.2, "<", STATE[:3]),
    (1.3, "<", STATE[3:]),
    (3.0, ">", OTHER),
    (3.1, "<", OTHER_STATE),
    (5.0, ">", PROBE),
    (5.2, "<", STATE[:2]),
)


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
    STEPS: tuple[Step, ...] = (
        *REQUESTS[:4],
        (2.0, "!", "lost device disconnected"),
        (60.0, "!", "reopened"),
        (60.1, ">", PROBE),
        (60.2, "<", OTHER_STATE),
        (61.0, "!", "lost"),
        (62.0, "!", "closed"),
    )

    @pytest.mark.parametrize("speed", [0, 1])
    def test_the_port_is_lost_where_it_was_lost_and_goes_on_behind_that(self, path: Path, speed: float) -> None:
        reader = Reader(trace(path, *self.STEPS), speed=speed)
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
        reader = Reader(trace(path, *self.STEPS[:-3], (60.1, ">", OTHER)))
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

    def test_an_opening_after_a_closing_begins_anew(self, path: Path) -> None:
        reader = Reader(trace(path, *REQUESTS), speed=0)
        for _ in range(2):
            assert reader.ask(OTHER) == OTHER_STATE
            reader.line.close(reader.number)
            reader.open()

    def test_a_loop_goes_round_the_losses(self, path: Path) -> None:
        reader = Reader(trace(path, *self.STEPS), speed=0, loop=True)
        for _ in range(3):
            assert reader.ask(PROBE) == STATE[:3]
            assert reader.read() == STATE[3:]
            for answer in (OTHER_STATE, b""):
                with pytest.raises(serial.SerialException):
                    reader.read()
                reader.open()
                assert not answer or reader.ask(PROBE) == answer


class TestCaptures:
    def play(self, path: Path, data: bytes, **options: Any) -> list[tuple[float, bytes]]:
        path.write_bytes(data)
        recording = load_recording(path, **options)
        assert recording.timed
        [[section]] = recording.parts
        return [(piece.delay_s, piece.data) for piece in section.pieces]

    def test_the_clocks_of_the_frames_tell_their_times(self, path: Path) -> None:
        pieces = self.play(path, CAPTURE.read_bytes())
        assert [at_s for at_s, _ in pieces] == [2, 4, 6, 8, 11, 13]
        assert [data for _, data in pieces] == [frame + b"\n" for frame in capture_frames()]

    @pytest.mark.parametrize("end", [b"\r\n", b"\n", b""])
    def test_every_byte_is_played_whatever_ends_a_line(self, path: Path, end: bytes) -> None:
        data = b"".join(frame + end for frame in capture_frames())
        pieces = self.play(path, data, period=0.5)
        assert [at_s for at_s, _ in pieces] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
        assert b"".join(piece for _, piece in pieces) == data

    def test_damage_comes_with_the_frame_before_it(self, path: Path) -> None:
        damaged = WIRE.replace(b"20.376", b"20.377")
        pieces = self.play(path, b"cut off;\r\n" + WIRE + damaged + WIRE)
        assert pieces == [(2.0, b"cut off;\r\n" + WIRE + damaged), (4.0, WIRE)]

    def test_clocks_that_stand_still_or_jump_tell_nothing(self, path: Path) -> None:
        frames = capture_frames()
        pieces = self.play(path, b"\n".join([REAL, REAL, frames[-1], frames[0]]))
        assert [at_s for at_s, _ in pieces] == [2.0, 4.0, 15.0, 17.0]
        assert [at_s for at_s, _ in self.play(path, WIRE)] == [2.0]

    def test_it_is_read_like_an_analyser(self) -> None:
        with servomex.open_continuous(f"sim://replay?file={CAPTURE}&period=0.05&loop=1") as analyzer:
            clocks = {analyzer.poll(wait_fresh=True).analyser.clock for _ in range(10)}
        assert len(clocks) == 6


class TestUrls:
    @pytest.mark.parametrize("name", ["a b.txt", "50%.txt", "a&b=c#d?.txt", "a+b;ü.txt", "%41.txt"])
    def test_a_file_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        trace(tmp_path / name, *REQUESTS)
        line = replay_from_url(replay_url(str(tmp_path / name)))
        assert line is not None
        assert len(line.recording.asked) == 3
        assert line.recording.settings == SerialSettings(baudrate=9600, parity="E")
        assert line.recording.gap_s == 0.07

    def test_a_relative_path_and_a_plus_are_taken_as_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "below").mkdir()
        trace(tmp_path / "below" / "a+b.txt", *REQUESTS)
        monkeypatch.chdir(tmp_path)
        with SerialLink("sim://replay?file=below/a+b.txt&speed=0") as link:
            link.write(OTHER)
            assert link.read(time.monotonic() + 5) == OTHER_STATE

    @pytest.mark.parametrize(("options", "words"), [
        ("", "names no file"),
        ("?file=", "names no file"),
        ("?file=/nope/a%20b", "cannot read /nope/a b: No such file"),
        ("?file={folder}", "cannot read"),
        ("?file={text}", "neither a trace nor a capture: there is no broadcast in it"),
        ("?file={broken}", "broken, line 2: neither bytes nor an event"),
        ("?file={trace}&speed=-1", "speed must be 0 or more"),
        ("?file={trace}&speed=nan", "speed must be"),
        ("?file={trace}&speed=fast", "speed must be a number, not 'fast'"),
        ("?file={trace}&speed=1e7", "speed must be at most"),
        ("?file={trace}&loop=2", "loop is 1 or 0"),
        ("?file={trace}&period=1", "it has times of its own"),
        (f"?file={quote(str(CAPTURE))}&period=0", "period must be more than 0"),
        ("?file={trace}&mode=continuous", "unknown option 'mode'"),
        ("/file", "more than a name and options"),
    ])  # fmt: skip
    def test_what_cannot_be_played_is_told(self, tmp_path: Path, options: str, words: str) -> None:
        places = {name: tmp_path / name for name in ("trace", "text", "broken", "folder")}
        trace(places["trace"], *REQUESTS)
        places["text"].write_text("hello\n" * 1000)
        places["broken"].write_text(f"{HEADER}\nhello\nhello\n")
        places["folder"].mkdir()
        with pytest.raises(ServomexConfigurationError) as caught:
            SerialLink("sim://replay" + options.format(**places)).open()
        assert words in str(caught.value)

    def test_every_opening_begins_anew(self, path: Path) -> None:
        url = f"{replay_url(str(trace(path, *REQUESTS)))}&speed=0"
        for _ in range(2):
            with SerialLink(url) as one, SerialLink(url) as other:
                for link in (one, other):
                    link.write(OTHER)
                    assert link.read(time.monotonic() + 5) == OTHER_STATE

    def test_a_lost_port_comes_back_by_the_same_url(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(link_module, "BACK_OFF_S", (0.0, 0.0))
        url = f"{replay_url(str(trace(path, *TestLoss.STEPS)))}&speed=0"
        with SerialLink(url) as link:
            link.write(PROBE)
            came = link.read(time.monotonic() + 5) + link.read(time.monotonic() + 5)
            assert came == STATE
            with pytest.raises(ServomexConnectionError, match="in the recording the port was lost here"):
                link.read(time.monotonic() + 5)
            link.ensure_open(time.monotonic() + 5)
            link.write(PROBE)
            assert link.read(time.monotonic() + 5) == OTHER_STATE
            with pytest.raises(ServomexConnectionError):
                link.read(time.monotonic() + 5)
            with pytest.raises(ServomexConnectionError, match="it does not come back"):
                link.ensure_open(time.monotonic() + 5)

    def test_what_is_not_opened_again_is_played_from_the_beginning_later(self, path: Path) -> None:
        reader = Reader(trace(path, *TestLoss.STEPS), speed=0, url="sim://replay?file=x")
        assert reader.ask(PROBE) + reader.read() == STATE
        assert not reader.line.waits
        with pytest.raises(serial.SerialException):
            reader.read()
        assert reader.line.waits
        reader.clock.now += REOPENED_S
        assert not reader.line.waits

    def test_it_is_kept_for_the_next_opening_although_nobody_else_has_it(self, path: Path) -> None:
        reader = Reader(trace(path, *TestLoss.STEPS), speed=0, url="sim://replay?file=y")
        with contextlib.suppress(serial.SerialException):
            while reader.ask(PROBE):
                pass
        del reader
        gc.collect()
        line = replay_from_url("sim://replay?file=y")
        assert line is not None
        line.close(line.open(19200))
        del line
        gc.collect()
        assert replay_line("sim://replay?file=y") is None

    def test_a_line_of_this_process_is_found_as_long_as_it_lives(self, path: Path) -> None:
        line = ReplayLine(load_recording(trace(path, *REQUESTS)), speed=0)
        url = line.url
        with SerialLink(url) as link:
            link.write(OTHER)
            assert link.read(time.monotonic() + 5) == OTHER_STATE
        del link, line
        gc.collect()
        assert replay_line(url) is None
        with pytest.raises(ServomexConfigurationError, match="there is no virtual analyser"):
            SerialLink(url).open()

    def test_a_speed_that_cannot_be_is_refused(self, path: Path) -> None:
        recording = load_recording(trace(path, *REQUESTS))
        for speed in (-1.0, float("inf"), float("nan")):
            with pytest.raises(ServomexValidationError, match="speed must be"):
                ReplayLine(recording, speed=speed)


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
