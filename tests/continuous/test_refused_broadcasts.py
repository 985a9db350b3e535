"""A broadcast that is refused is seen: in its place comes an error, and poll says why there is no new one."""

import contextlib
import re
import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from servomex import (
    Analyzer,
    Frame,
    Recorder,
    Recording,
    Sample,
    ServomexChecksumError,
    ServomexConnectionError,
    ServomexError,
    ServomexParseError,
    ServomexProtocolError,
    ServomexStaleError,
    ServomexTimeoutError,
    open_continuous,
    record,
)
from servomex.sinks import InMemorySink
from servomex.telegram import FrameSplitter, parse_frame
from servomex.testing import ScriptedPort
from tests.helpers.broadcasts import Sender
from tests.helpers.frames import WIRE, resealed
from tests.helpers.waiting import wait_until

PERIOD = 0.25
DAMAGED = WIRE.replace(b"20.376", b"20.377")
BROKEN = resealed(WIRE.rstrip().replace(b"20.376", b"2..376")) + b"\r\n"


@pytest.fixture
def port() -> ScriptedPort:
    return ScriptedPort()


@pytest.fixture
def analyzer(port: ScriptedPort) -> Iterator[Analyzer]:
    with open_continuous(port, identify=False) as opened:
        wait_until(lambda: not opened.link.lock.is_mine and opened.link.has_reader)
        threading.Event().wait(0.1)
        yield opened


def test_each_damaged_broadcast_reaches_subscribers_streams_and_recordings(
    port: ScriptedPort, analyzer: Analyzer
) -> None:
    given: list[Frame | ServomexError] = []
    memory = InMemorySink()
    with analyzer.subscribe(given.append), analyzer.stream() as stream, Recorder(analyzer, [memory]) as recorder:
        messages = [Sender().at(second) + b"\r\n" for second in range(8)]
        messages[3], messages[6] = DAMAGED, BROKEN
        port.schedule(messages, interval=PERIOD)
        wait_until(lambda: len(given) == 8)
        wait_until(lambda: recorder.summary.samples_emitted == 8)
        samples = [stream.get(1.0) for _ in range(6 * 3 + 2)]
    kinds = [type(item) for item in given[:8]]
    assert kinds == [Frame] * 3 + [ServomexChecksumError] + [Frame] * 2 + [ServomexParseError] + [Frame]
    assert str(given[3]).startswith("damaged frame: checksum 2A1D, its bytes sum to 2A1E [scripted, continuous")
    for rows in (samples, memory.samples):
        assert [str(row.error)[:14] for row in rows if row.error][:2] == ["damaged frame:"] * 2
    summary = recorder.summary
    assert summary.samples_emitted - summary.errors == 6
    assert (summary.damaged, summary.disconnects) == (2, 0)
    assert summary.errors == sum(bool(row.error) for row in memory.samples)
    assert analyzer.dropped_frames == 2


def test_noise_is_no_flood_of_errors(port: ScriptedPort, analyzer: Analyzer) -> None:
    given: list[Frame | ServomexError] = []
    with analyzer.subscribe(given.append):
        port.schedule((Sender().at(second) for second in range(5)), interval=0.2)
        wait_until(lambda: len(given) == 5)
        for _ in range(30):
            port.feed(DAMAGED)
            threading.Event().wait(0.01)
        wait_until(lambda: analyzer.dropped_frames == 30)
        threading.Event().wait(0.2)
        port.feed(DAMAGED)
        wait_until(lambda: analyzer.dropped_frames == 31)
        threading.Event().wait(0.1)
    errors = [item for item in given if isinstance(item, ServomexError)]
    assert 2 <= len(errors) <= 15
    assert any(error.context.extra.get("refused_broadcasts", 1) > 1 for error in errors)


def reported(errors: Iterable[str]) -> int:
    """Return how many refused broadcasts errors stand for; that no good one comes is another error."""
    refusals = [error for error in errors if not error.startswith("no new broadcast")]
    return sum(int((re.findall(r"refused_broadcasts (\d+)", error) or ["1"])[0]) for error in refusals)


def errors_of(rec: Recording) -> list[str]:
    """Take what is left of a recording; return its errors."""
    batches: list[list[Sample]] = []
    with contextlib.suppress(ServomexConnectionError):  # the end of one whose analyser was closed
        batches.extend(rec)
    return [str(item.error) for batch in batches for item in batch if item.error]


def emit(port: ScriptedPort, *messages: bytes) -> None:
    """Send messages one by one, faster than they are reported."""
    for message in messages:
        port.feed(message.rstrip() + b"\r\n")
        time.sleep(0.01)


class TestReports:
    """However many broadcasts are refused, and whenever: the errors say how many there were."""

    pytestmark = pytest.mark.virtual_time

    def test_there_is_one_report_a_period_and_the_rest_is_in_the_next(
        self, port: ScriptedPort, analyzer: Analyzer
    ) -> None:
        given: list[Frame | ServomexError] = []
        with analyzer.subscribe(given.append):
            port.schedule((Sender().at(second) for second in range(5)), interval=0.2)
            wait_until(lambda: len(given) == 5)
            emit(port, DAMAGED, DAMAGED, DAMAGED, BROKEN, Sender().at(5))
            wait_until(lambda: sum(isinstance(item, Frame) for item in given) == 6)
            wait_until(lambda: len(given) == 8)
        first, frame, rest = given[5:]
        assert (type(first), type(frame), type(rest)) == (ServomexChecksumError, Frame, ServomexParseError)
        assert "2..376" in str(rest)
        assert str(rest).endswith(", refused_broadcasts 3]")

    def test_a_single_one_is_reported_as_it_is(self, port: ScriptedPort, analyzer: Analyzer) -> None:
        given: list[Frame | ServomexError] = []
        with analyzer.subscribe(given.append):
            port.schedule((Sender().at(second) for second in range(5)), interval=0.2)
            wait_until(lambda: len(given) == 5)
            emit(port, DAMAGED, DAMAGED, Sender().at(5))
            wait_until(lambda: len(given) == 8)
        assert str(given[5]) == str(given[7])

    @pytest.mark.parametrize("end", ["recording", "analyser"])
    def test_the_rest_is_the_last_error(self, end: str, port: ScriptedPort, analyzer: Analyzer) -> None:
        with record(analyzer) as rec:
            emit(port, Sender().at(0), *[DAMAGED] * 30)
            wait_until(lambda: analyzer.dropped_frames == 30)
            if end == "analyser":
                analyzer.close()
                wait_until(lambda: rec.summary.finished_at)
        errors = errors_of(rec)
        assert reported(errors) == 30 == rec.summary.damaged
        assert len(errors) == rec.summary.errors < 5

    def test_those_from_before_are_not_reported_to_a_new_subscriber(
        self, port: ScriptedPort, analyzer: Analyzer
    ) -> None:
        given: list[Frame | ServomexError] = []
        with record(analyzer) as rec:
            emit(port, Sender().at(0), *[DAMAGED] * 5)
            wait_until(lambda: analyzer.dropped_frames == 5)
            with analyzer.subscribe(given.append):
                emit(port, Sender().at(1))
                wait_until(lambda: given)
        assert [type(item) for item in given] == [Frame]
        assert reported(errors_of(rec)) == 5


def test_what_was_cut_off_by_joining_in_the_middle_is_silent(port: ScriptedPort, analyzer: Analyzer) -> None:
    given: list[Frame | ServomexError] = []
    with analyzer.subscribe(given.append):
        port.feed(WIRE[60:] + WIRE)
        wait_until(lambda: given)
    assert [type(item) for item in given] == [Frame]
    assert analyzer.dropped_frames == 0


def test_poll_says_that_broadcasts_are_damaged(port: ScriptedPort, analyzer: Analyzer) -> None:
    port.feed(WIRE)
    analyzer.poll(timeout=2)
    port.feed(DAMAGED)
    wait_until(lambda: analyzer.dropped_frames == 1)
    with pytest.raises(
        ServomexStaleError, match=r"1 damaged broadcast arrived since \(last: damaged frame: checksum"
    ):
        analyzer.poll(timeout=0.1, wait_fresh=True)
    port.feed(DAMAGED + BROKEN)
    wait_until(lambda: analyzer.dropped_frames == 3)
    with pytest.raises(
        ServomexStaleError, match=r"3 damaged broadcasts arrived since .*. Check the cable and the"
    ):
        analyzer.poll(timeout=0.1, wait_fresh=True)
    port.feed(WIRE)
    analyzer.poll(timeout=2, max_age=0)
    with pytest.raises(ServomexStaleError, match="Check that the analyser is on"):
        analyzer.poll(timeout=0.1, wait_fresh=True)


def test_a_changed_configuration_that_is_not_confirmed_yet_is_an_error(
    port: ScriptedPort, analyzer: Analyzer
) -> None:
    given: list[Frame | ServomexError] = []
    sender = Sender()
    with analyzer.subscribe(given.append):
        for second in range(6):
            sender.name = b"Oxygen" if second < 3 else b"CO    "
            port.feed(sender.at(second))
            wait_until(lambda second=second: len(given) == second + 1)  # type: ignore[misc]
            threading.Event().wait(0.1)
    kinds = [type(item) for item in given]
    assert kinds == [Frame] * 3 + [ServomexParseError] + [Frame] * 2
    assert "names, units or channels changed" in str(given[3])


@pytest.mark.parametrize("other", [Sender(name=b"CO    "), Sender(ahead_s=-3600)], ids=["names", "clock"])
def test_two_analysers_on_a_line_are_an_error_for_every_call(
    other: Sender, port: ScriptedPort, analyzer: Analyzer
) -> None:
    given: list[Frame | ServomexError] = []
    with analyzer.subscribe(given.append):
        port.schedule(((Sender(), other)[number % 2].at(0.1 * number) for number in range(24)), interval=0.1)
        wait_until(lambda: any("two analysers broadcast" in str(item) for item in given))
        for call in (analyzer.poll, analyzer.read_all, analyzer.analyser_status):
            with pytest.raises(ServomexProtocolError, match="Connect one analyser to a port"):
                call()
        port.schedule((Sender().at(5 + 0.1 * number) for number in range(40)), interval=0.1)
        before = len(given)
        wait_until(lambda: any(isinstance(item, Frame) for item in given[before:]))
        assert analyzer.poll(max_age=60)["I1"].name == "Oxygen"


def test_a_broadcast_that_is_repeated_is_stale_and_says_so(port: ScriptedPort, analyzer: Analyzer) -> None:
    port.schedule([*(Sender().at(second) for second in range(5)), *[Sender().at(4)] * 60], interval=0.1)
    wait_until(lambda: analyzer.dropped_frames > 3)
    with pytest.raises(ServomexStaleError, match="the same broadcast is repeated byte for byte") as caught:
        analyzer.poll(timeout=0.3)
    assert caught.value.age_s is not None
    assert caught.value.age_s > 0.25
    with pytest.raises(ServomexStaleError):
        analyzer.poll(timeout=0.3, wait_fresh=True)
    port.feed(Sender().at(9))
    wait_until(lambda: analyzer.snapshot()["I1"].value == 9.0)


@pytest.mark.parametrize("end", [b"\r\0", b"\r\0\n", b"\r\n", b"\n", b"\r", b""])
def test_any_line_end_is_none_of_the_damage(end: bytes) -> None:
    raw = WIRE.rstrip()
    port = ScriptedPort()
    with open_continuous(port, identify=False) as analyzer:
        threading.Event().wait(0.1)
        for second in range(5):
            port.feed(Sender().at(second) + end)
            wait_until(lambda second=second: _newest(analyzer) == float(second))  # type: ignore[misc]
        assert analyzer.dropped_frames == 0
        assert analyzer.reader is not None
        assert analyzer.reader.discarded_bytes == 0
    splitter = FrameSplitter()
    pieces = splitter.feed((raw + end) * 3) + splitter.flush()
    assert len([piece for piece in pieces if parse_frame(piece)]) == len(pieces) == 3


def _newest(analyzer: Analyzer) -> float | None:
    try:
        return analyzer.snapshot()["I1"].value
    except ServomexTimeoutError:
        return None
