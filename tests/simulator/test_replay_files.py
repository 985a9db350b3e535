"""What can be played again, and how it is named: captures of broadcasts, and sim://replay URLs."""

import contextlib
import gc
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import serial

import servomex
from servomex.errors import (
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexValidationError,
)
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.settings import SerialSettings
from servomex.simulator.playback import load_recording
from servomex.simulator.replay import REOPENED_S, ReplayLine, replay_line
from servomex.simulator.urls import replay_from_url, replay_url
from tests.helpers.frames import REAL, WIRE, capture_frames
from tests.helpers.paths import CAPTURE
from tests.helpers.replaying import (
    HEADER,
    LOSS,
    OTHER,
    OTHER_STATE,
    PROBE,
    REQUESTS,
    STATE,
    Reader,
    trace,
)

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.txt"


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
        """At each new round its clock goes back: the first broadcast is refused until the second confirms that."""
        with servomex.open_continuous(f"sim://replay?file={CAPTURE}&period=0.05&loop=1") as analyzer:
            clocks = {analyzer.poll(wait_fresh=True).analyser.clock for _ in range(10)}
            dropped = analyzer.dropped_frames
        assert len(clocks) == 5
        assert dropped >= 1


ASKS = "" if sys.platform == "win32" else "?"
"""A question mark, where a file's name may have one."""


class TestUrls:
    @pytest.mark.parametrize("name", ["a b.txt", "50%.txt", f"a&b=c#d{ASKS}.txt", "a+b;ü.txt", "%41.txt"])
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
        ("?file={trace}&loop=2", "loop must be 1 or 0"),
        ("?file={trace}&period=1", "it has its own times"),
        (f"?file={quote(str(CAPTURE))}&period=0", "period must be more than 0"),
        ("?file={trace}&mode=continuous", "unknown option 'mode'"),
        ("/file", "more than a name and options"),
    ])  # fmt: skip
    def test_what_cannot_be_played_is_reported(self, tmp_path: Path, options: str, words: str) -> None:
        places = {name: tmp_path / name for name in ("trace", "text", "broken", "folder")}
        trace(places["trace"], *REQUESTS)
        places["text"].write_text("hello\n" * 1000)
        places["broken"].write_text(f"{HEADER}\nhello\nhello\n")
        places["folder"].mkdir()
        with pytest.raises(ServomexConfigurationError) as caught:
            SerialLink("sim://replay" + options.format(**places)).open()
        assert words in str(caught.value)

    def test_every_opening_starts_over(self, path: Path) -> None:
        url = f"{replay_url(str(trace(path, *REQUESTS)))}&speed=0"
        for _ in range(2):
            with SerialLink(url) as one, SerialLink(url) as other:
                for link in (one, other):
                    link.write(OTHER)
                    assert link.read(time.monotonic() + 5) == OTHER_STATE

    def test_a_lost_port_comes_back_by_the_same_url(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SerialLink, "pauses", Pauses(0.0, 0.0))
        url = f"{replay_url(str(trace(path, *LOSS)))}&speed=0"
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
        reader = Reader(trace(path, *LOSS), speed=0, url="sim://replay?file=x")
        assert reader.ask(PROBE) + reader.read() == STATE
        assert not reader.line.waits
        with pytest.raises(serial.SerialException):
            reader.read()
        assert reader.line.waits
        reader.clock.now += REOPENED_S
        assert not reader.line.waits

    def test_it_is_kept_for_the_next_opening_although_it_is_not_referenced(self, path: Path) -> None:
        reader = Reader(trace(path, *LOSS), speed=0, url="sim://replay?file=y")
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
