"""Every gap is seen: each broadcast that came damaged is one error in its place, and noise is no flood of them."""

import os
import random
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from servomex import (
    Analyzer,
    Frame,
    Sample,
    ServomexChecksumError,
    ServomexError,
    ServomexParseError,
    ServomexTimeoutError,
    open_continuous,
    record,
)
from servomex.continuous.damage import Damage
from servomex.telegram import HEADER_SIZE, FrameSplitter, parse_frame
from servomex.testing import ScriptedPort
from tests.helpers.broadcasts import Sender
from tests.helpers.frames import REAL, WIRE, capture_frames, resealed
from tests.helpers.platforms import needs_pty
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.virtual_time

NEW_BYTES = b"\0\n\r ;0AI\x7f\xff"
"""What a byte becomes: what means something in a broadcast, and what does not."""
CADENCE_S = 2.2
"""That of the captured frames, by their clocks."""


@pytest.fixture
def port() -> ScriptedPort:
    return ScriptedPort()


@pytest.fixture
def analyzer(port: ScriptedPort) -> Iterator[Analyzer]:
    with open_continuous(port, identify=False) as opened:
        wait_until(lambda: not opened.link.lock.is_mine and opened.link.has_reader)
        time.sleep(0.1)
        yield opened


def captured(number: int) -> bytes:
    """The first captured frame as it would be sent as the so-many-th."""
    shown = b"06-10-20;%02d:%02d:%02d" % (number * 2 // 3600, number * 2 // 60 % 60, number * 2 % 60)
    return resealed(REAL.replace(b"06-10-20;02:54:12", shown)) + b"\r\n"


def with_byte(message: bytes, place: int, new: int) -> bytes:
    """A message with one byte damaged."""
    return message[:place] + bytes([new]) + message[place + 1 :]


def marks(*messages: bytes) -> str:
    """What comes of messages: ``F`` for each good frame, ``e`` for each broadcast that is missing."""
    splitter, damage, found = FrameSplitter(), Damage(), ""
    for number, message in enumerate(messages):
        for piece in splitter.feed(message):
            try:
                parse_frame(piece)
            except ServomexParseError:
                found += "e" * damage.is_broadcast(piece, float(number), 1.0)
            else:
                damage.note_good(len(piece), float(number))
                found += "F"
    return found


class TestDamage:
    """What of the input is a broadcast that is missing."""

    def test_one_damaged_byte_is_one_missing_broadcast(self) -> None:
        for place in range(len(REAL)):
            for new in set(NEW_BYTES) - {WIRE[place]}:
                found = marks(WIRE, with_byte(WIRE, place, new), WIRE, WIRE)
                assert found == "FeFF", (place, new)

    @pytest.mark.parametrize("place", [len(WIRE) - 2, len(WIRE) - 1])
    def test_a_damaged_line_end_is_none(self, place: int) -> None:
        for new in range(256):
            assert marks(WIRE, with_byte(WIRE, place, new), WIRE, WIRE) == "FFFF", new

    def test_a_broadcast_that_breaks_off_is_one(self) -> None:
        for size in range(4, len(REAL)):
            assert marks(WIRE, WIRE[:size], WIRE, WIRE) == "FeFF", size
        for size in range(HEADER_SIZE, len(REAL) - 40):
            assert marks(WIRE, WIRE[:size], WIRE[:size], WIRE) == "FeeF", size

    def test_a_broadcast_whose_beginning_is_lost_is_one(self) -> None:
        for size in range(3, len(WIRE)):
            assert marks(WIRE, WIRE[-size:], WIRE, WIRE) == "FeFF", size

    def test_a_few_bytes_of_noise_before_a_good_broadcast_are_none(self) -> None:
        for noise in (b"\xff", b"\0\0\0", b"  ", b"\x80\x91\xa2\xb3\xc4"):
            assert marks(WIRE, noise + WIRE, WIRE) == "FFF"

    def test_two_in_a_row_are_two(self) -> None:
        for new in set(NEW_BYTES) - {WIRE[60]}:
            damaged = with_byte(WIRE, 60, new)
            assert marks(WIRE, damaged, damaged, WIRE) == "FeeF", new


def rows_of(analyzer: Analyzer, port: ScriptedPort, messages: list[bytes], every: float) -> list[list[Sample]]:
    """Record messages that come one after the other."""
    with record(analyzer) as rec:
        port.schedule(messages, interval=every)
        wait_until(lambda: rec.summary.samples_emitted >= len(messages), limit_s=every * len(messages) + 30)
        time.sleep(1.2 * every)  # nothing more is to come
    batches = list(rec)
    assert rec.summary.errors == sum(batch[0].error is not None for batch in batches)
    assert (rec.summary.outages, rec.summary.disconnects, rec.summary.dropped) == (0, 0, 0)
    assert rec.summary.damaged == analyzer.dropped_frames
    return batches


def shown(batches: list[list[Sample]]) -> str:
    """``F`` for each reading, ``e`` for each error."""
    return "".join("e" if batch[0].error is not None else "F" for batch in batches)


@pytest.mark.parametrize("place", [0, 3, 20, 31, 34, 40, 50, 100, 198, 202])
def test_a_damaged_captured_broadcast_is_one_error_in_its_place(
    place: int, port: ScriptedPort, analyzer: Analyzer
) -> None:
    messages = [raw + b"\r\n" for raw in capture_frames()]
    messages[3] = with_byte(messages[3], place, messages[3][place] ^ 0x11)
    batches = rows_of(analyzer, port, messages, CADENCE_S)
    assert shown(batches) == "FFFeFF"
    readings = [batch[0].reading for batch in batches]
    assert [item.value for item in readings if item is not None] == [20.376] * 5
    times = [batch[0].received_at for batch in batches]
    assert times == sorted(times)
    assert abs((times[3] - times[2]).total_seconds() - CADENCE_S) < 0.5


def test_wherever_a_byte_is_damaged_the_error_is_in_its_place(port: ScriptedPort, analyzer: Analyzer) -> None:
    draw = random.Random(1)
    messages = [captured(number) for number in range(2 * len(REAL) + 1)]
    for place in range(len(REAL)):
        new = draw.choice([byte for byte in NEW_BYTES if byte != messages[2 * place + 1][place]])
        messages[2 * place + 1] = with_byte(messages[2 * place + 1], place, new)
    assert shown(rows_of(analyzer, port, messages, 2.0)) == "Fe" * len(REAL) + "F"


def test_the_error_has_the_time_at_which_the_damaged_broadcast_came(
    port: ScriptedPort, analyzer: Analyzer
) -> None:
    given: list[Frame | ServomexError] = []
    with analyzer.subscribe(given.append):
        damaged = (with_byte(captured(number), 60, 0) for number in (2, 3))
        port.schedule([captured(0), captured(1), *damaged, captured(4)], interval=2.0)
        wait_until(lambda: len(given) == 5)
    times = [item.monotonic_ns for item in given if isinstance(item, Frame | ServomexParseError)]
    steps_s = [(later - before) / 1e9 for before, later in pairwise(times) if later and before]
    assert [round(step_s) for step_s in steps_s] == [2, 2, 2, 2]
    assert [type(item) for item in given[2:4]] == [ServomexChecksumError] * 2


class TestNoise:
    """Noise at the full rate of a line: bytes that hold nothing readable, as fast as they can come."""

    RATE = 1920
    STEP_S = 0.05

    def noise(self, seconds: float, seed: int) -> Iterator[bytes]:
        draw = random.Random(seed)
        for _ in range(round(seconds / self.STEP_S)):
            yield draw.randbytes(round(self.RATE * self.STEP_S))

    def test_it_gives_one_error_a_period(self, port: ScriptedPort, analyzer: Analyzer) -> None:
        with record(analyzer) as rec:
            port.schedule((Sender().at(second) for second in range(5)), interval=1.0)
            wait_until(lambda: rec.summary.samples_emitted == 5)
            for data in self.noise(5.0, seed=3):
                port.feed(data)
                time.sleep(self.STEP_S)
            port.feed(b"\n" + Sender().at(10))
            wait_until(lambda: rec.summary.samples_emitted - rec.summary.errors == 6)
            time.sleep(1.1)
        errors = [batch[0].error for batch in rec if batch[0].error is not None]
        assert 5 <= len(errors) <= 7
        assert rec.summary.damaged == analyzer.dropped_frames > 20

    def test_between_good_broadcasts_it_gives_one_error_a_period(
        self, port: ScriptedPort, analyzer: Analyzer
    ) -> None:
        given: list[Frame | ServomexError] = []
        with analyzer.subscribe(given.append):
            for second in range(20):
                port.feed(Sender().at(second))
                for data in self.noise(1.0, seed=second):
                    port.feed(data + b"\n")
                    time.sleep(self.STEP_S)
            wait_until(lambda: sum(isinstance(item, Frame) for item in given) == 20)
            time.sleep(1.1)
        kinds = "".join("F" if isinstance(item, Frame) else "e" for item in given)
        assert "ee" not in kinds[4:-2]
        assert 18 <= kinds.count("e") <= 22
        counts = [
            item.context.extra.get("refused_broadcasts", 1)
            for item in given
            if isinstance(item, ServomexParseError)
        ]
        assert sum(counts) == analyzer.dropped_frames


def test_at_a_rate_damaged_broadcasts_are_counted(port: ScriptedPort, analyzer: Analyzer) -> None:
    messages = [Sender().at(second) + b"\r\n" for second in range(13)]
    port.feed(messages[0] + with_byte(messages[0], 60, 0))  # before it begins
    wait_until(lambda: analyzer.dropped_frames)
    before = analyzer.dropped_frames
    with record(analyzer, rate_hz=0.5) as rec:
        for number in (3, 7, 8):
            messages[number] = with_byte(messages[number], 60, 0)
        port.schedule(messages[1:], interval=1.0)
        wait_until(lambda: rec.summary.damaged == 3)
    assert rec.summary.damaged == analyzer.dropped_frames - before == 3
    assert rec.summary.errors == 0


@needs_pty
@pytest.mark.real_time
def test_a_damaged_broadcast_on_a_terminal_is_one_error_in_its_place() -> None:
    ours, theirs = os.openpty()
    sent = [Sender().at(number / 4) + b"\r\n" for number in range(12)]
    for number, place in ((4, 60), (7, 133), (9, 10)):
        sent[number] = with_byte(sent[number], place, ord("\n"))
    try:
        with open_continuous(os.ttyname(theirs), identify=False) as analyzer, record(analyzer) as rec:
            wait_until(lambda: analyzer.link.has_reader and not analyzer.link.lock.is_mine)
            threading.Event().wait(0.3)
            for message in sent:
                os.write(ours, message)
                threading.Event().wait(0.25)
            wait_until(lambda: rec.summary.samples_emitted - rec.summary.errors >= len(sent) - 3)
        read = [batch for batch in rec if not isinstance(batch[0].error, ServomexTimeoutError)]  # if it was busy
        assert shown(read) == "FFFFeFFeFeFF"
        assert rec.summary.damaged == 3
    finally:
        os.close(ours)
        os.close(theirs)
