"""The wire trace: its text byte for byte, what reads it again, and that it never disturbs the reading."""

import gc
import logging
import re
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import servomex
from servomex.errors import ServomexConfigurationError, ServomexConnectionError, ServomexError
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.settings import SerialSettings
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from servomex.trace import Session, TraceLine, TraceWriter, is_trace, read_trace
from tests.helpers.modbus_bytes import PROBE, STATE
from tests.helpers.terminals import read_all
from tests.helpers.waiting import soon

pytestmark = pytest.mark.virtual_time

HEADER = (
    "# servomex trace 1 version=0.1.0 started=2026-03-01T12:30:45.500000+00:00"
    " settings=19200,8N1 gap=0.05 port=COM3\n"
)
LITERAL = f"""\
{HEADER}\
5012.000000000 2026-03-01T12:30:45.500000+00:00 ! opened
5012.050000001 2026-03-01T12:30:45.550000+00:00 > 01 02 03 e8 00 02 79 bb
5012.070000000 2026-03-01T12:30:45.570000+00:00 < 01 02 01 00 a1 88
5013.000000000 2026-03-01T12:30:46.500000+00:00 ! lost device disconnected
5013.500000000 2026-03-01T12:30:47.000000+00:00 ! reopened
5014.000000000 2026-03-01T12:30:47.500000+00:00 ! closed
"""
STARTED = datetime(2026, 3, 1, 12, 30, 45, 500_000, tzinfo=UTC)
SESSION = Session("COM3", SerialSettings(), 0.05, "0.1.0", STARTED)
LINE = re.compile(r"\d+\.\d{9} \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00 (.*)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.txt"


def said(path: Path) -> list[str]:
    """What the lines of a trace say, without their times; a header is shown as ``#``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    return [match[1] if match else line[0] for match, line in zip(found, lines, strict=True)]


def writer(path: Path) -> TraceWriter:
    return TraceWriter(path, "COM3", SerialSettings(), 0.05)


def test_the_literal_text_is_read(path: Path) -> None:
    path.write_text(LITERAL, encoding="utf-8")
    opened, sent, came, lost, reopened, closed = read_trace(path)
    assert {line.session for line in (opened, sent, came, lost, reopened, closed)} == {SESSION}
    assert sent == TraceLine(
        SESSION,
        3,
        5012_050_000_001,
        STARTED + timedelta(seconds=0.05),
        "sent",
        PROBE[:4] + bytes.fromhex("000279bb"),
    )
    assert (came.kind, came.data) == ("came", bytes.fromhex("01020100a188"))
    assert (opened.kind, reopened.kind, closed.kind) == ("opened", "reopened", "closed")
    assert (lost.kind, lost.data, lost.text) == ("lost", b"", "device disconnected")
    assert (closed.number, closed.monotonic_ns) == (7, 5014_000_000_000)


def test_the_literal_header_is_written() -> None:
    assert SESSION.header() + "\n" == HEADER
    settings = SerialSettings(baudrate=2400, bytesize=7, parity="E", stopbits=2, rtscts=True, xonxoff=True)
    text = Session("a port, with = and spaces", settings, 0, "1", STARTED).header()
    assert " settings=2400,7E2,rtscts,xonxoff gap=0 port=a port, with = and spaces" in text


def test_what_happens_on_a_port_is_what_is_written(path: Path, line: VirtualLine) -> None:
    settings = SerialSettings(xonxoff=True)
    with SerialLink(line.url, settings, gap=0.01, trace=path) as link:
        link.write(PROBE)
        assert read_all(link, len(STATE)) == STATE
    assert said(path) == ["#", "! opened", f"> {PROBE.hex(' ')}", f"< {STATE.hex(' ')}", "! closed"]
    first, *_, last = read_trace(path)
    assert (first.session.port, first.session.settings, first.session.gap_s) == (line.url, settings, 0.01)
    assert first.session.version == servomex.__version__
    assert abs(datetime.now(UTC) - first.session.started_at) < timedelta(seconds=30)
    assert first.monotonic_ns <= last.monotonic_ns <= time.monotonic_ns()


def test_the_trace_holds_also_what_was_dropped_while_waiting_for_silence(path: Path) -> None:
    port = ScriptedPort()
    with SerialLink(port, trace=path) as link:
        port.feed(b"noise")
        link.settle(0.0, soon())
        port.feed(b"more")
        link.read_waiting()
    assert said(path)[2:4] == [f"< {b'noise'.hex(' ')}", f"< {b'more'.hex(' ')}"]


def test_a_lost_port_is_an_event_and_so_is_its_return(
    path: Path, line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.0, 0.0))
    with SerialLink(line.url, trace=path) as link:
        for unplugged in (True, False):
            if unplugged:
                line.unplug()
                with pytest.raises(ServomexConnectionError):
                    link.read(soon())
                with pytest.raises(ServomexConnectionError):  # a vain try is no event
                    link.ensure_open(soon())
                line.plug()
                link.ensure_open(soon())
            link.write(PROBE)
    lost, reopened, *_ = said(path)[2:]
    assert re.fullmatch(r"! lost device disconnected: .*unplugged", lost)
    assert reopened == "! reopened"
    assert [item.kind for item in read_trace(path)].count("sent") == 2


def test_a_second_opening_is_a_second_session_of_the_same_file(path: Path, line: VirtualLine) -> None:
    link = SerialLink(line.url, trace=path)
    for _ in range(2):
        with link:
            link.open()  # it is open already
        link.close()
    assert said(path) == ["#", "! opened", "! closed"] * 2
    first, _, second, _ = read_trace(path)
    assert first.session is not second.session


def test_a_port_that_cannot_be_opened_leaves_no_open_file(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        link = SerialLink("/dev/nope", trace=path)
        for _ in range(2):
            with pytest.raises(ServomexConnectionError):
                link.open()
        del link
        gc.collect()
    assert said(path) == ["#", "#"]
    assert [*read_trace(path)] == []


def test_open_device_traces_too_but_not_on_a_link_of_others(path: Path, line: VirtualLine) -> None:
    with servomex.open_device(line.url, protocol="modbus_rtu", trace=path):
        pass
    assert said(path)[-1] == "! closed"
    with (
        SerialLink(line.url) as link,
        pytest.raises(ServomexConfigurationError, match="belongs to the SerialLink"),
    ):
        servomex.open_device(link, trace=path)


def test_broadcasts_are_traced(path: Path) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with servomex.open_continuous(line.url, trace=path) as analyzer:
        raw = analyzer.poll().raw
    assert raw in b"".join(item.data for item in read_trace(path))


CHUNKS = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=300)), max_size=20)


@given(chunks=CHUNKS, reason=st.text(max_size=40))
@example(chunks=[(True, b"\n# servomex trace 1\r\n")], reason="\n# \x1b[31m\ud800 é")
def test_whatever_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[bool, bytes]], reason: str
) -> None:
    path = tmp_path_factory.mktemp("trace") / "trace.txt"
    trace = writer(path)
    trace.opened()
    for was_sent, data in chunks:
        (trace.sent if was_sent else trace.came)(data)
    trace.lost(reason)
    trace.close()
    opened, *found, lost, closed = read_trace(path)
    assert [(line.kind == "sent", line.data) for line in found] == chunks
    assert (opened.kind, lost.kind, closed.kind) == ("opened", "lost", "closed")
    assert all(char.isprintable() for char in lost.text)


def test_threads_that_write_at_once_do_not_mix_their_lines(path: Path) -> None:
    trace = writer(path)
    trace.opened()

    def write(number: int) -> None:
        for _ in range(100):
            (trace.sent if number % 2 else trace.came)(bytes([number]) * 50)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    found = [*read_trace(path)][1:-1]
    assert sorted(line.data for line in found) == sorted(
        bytes([number]) * 50 for number in range(4) for _ in range(100)
    )
    times = [line.monotonic_ns for line in found]
    assert times == sorted(times)


def test_each_line_is_in_the_file_at_once(path: Path) -> None:
    trace = writer(path)
    trace.opened()
    trace.sent(b"\x01")
    assert said(path) == ["#", "! opened", "> 01"]
    trace.close()
    trace.close()
    trace.came(b"\x02")  # a thread that was late
    assert said(path) == ["#", "! opened", "> 01", "! closed"]


def test_a_program_that_was_killed_in_the_middle_of_a_line_costs_that_line(path: Path) -> None:
    whole = LITERAL.encode()
    complete = [*lines_of(path, whole)]
    for cut in range(len(HEADER) - 5, len(whole)):
        assert lines_of(path, whole[:cut]) == complete[: max(0, whole[:cut].count(b"\n") - 1)], cut


def lines_of(path: Path, text: bytes) -> list[TraceLine]:
    path.write_bytes(text)
    return [*read_trace(path)]


@pytest.mark.parametrize("cut", [-9, LITERAL.index(" e8 00 02") - len(LITERAL), 40 - len(LITERAL)])
def test_a_cut_line_does_not_spoil_the_next_session(path: Path, cut: int) -> None:
    whole = lines_of(path, LITERAL[:cut].encode())
    trace = writer(path)
    trace.opened()
    trace.close()
    *before, opened, closed = read_trace(path)
    assert before == whole
    assert (opened.kind, closed.kind) == ("opened", "closed")


def test_comments_empty_lines_and_other_line_ends_are_no_matter(path: Path) -> None:
    wanted = lines_of(path, LITERAL.encode())
    changed = LITERAL.replace("\n", "\r\n").encode()
    assert lines_of(path, changed) == wanted
    first, _, rest = LITERAL.partition("\n")
    noted = lines_of(path, f"{first}\n# it was raining\n\n{rest}".encode())
    assert [(line.kind, line.data) for line in noted] == [(line.kind, line.data) for line in wanted]
    assert lines_of(path, LITERAL.replace("01 02 01 00 a1 88", "01 02 01 00 A1 88").encode()) == wanted


BROKEN = {
    "another text": ("hello\n", 1, "a trace begins with '# servomex trace'"),
    "nothing": ("", 1, "a trace begins with"),
    "another version": (HEADER.replace("trace 1", "trace 2"), 1, "version 2; this program reads version 1"),
    "a header without settings": ("# servomex trace 1\n", 1, "does not say how the port was set"),
    "settings that cannot be": (HEADER.replace("19200", "1"), 1, "baudrate must be"),
    "no bytes": (HEADER + "1.000000000 2026-03-01T12:30:45+00:00 > \n", 2, "neither bytes nor an event"),
    "half a byte": (HEADER + "1.000000000 2026-03-01T12:30:45+00:00 > 0\n", 2, "neither bytes nor an event"),
    "an unknown event": (HEADER + "1.000000000 2026-03-01T12:30:45+00:00 ! sold\n", 2, "neither bytes nor"),
    "a time without a zone": (HEADER + "1.000000000 2026-03-01T12:30:45 > 00\n", 2, "has no zone"),
    "a date that cannot be": (HEADER + "1.000000000 2026-13-01T12:30:45+00:00 > 00\n", 2, "month"),
    "a broken line in the middle": (LITERAL.replace("5012.07", "5012,07"), 4, "neither bytes nor an event"),
}


@pytest.mark.parametrize(("text", "number", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_trace_is_refused_with_its_line(path: Path, text: str, number: int, words: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ServomexConfigurationError) as caught:
        [*read_trace(path)]
    assert caught.value.message.startswith(f"{path}, line {number}: ")
    assert words in caught.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for place, words in ((tmp_path / "nope", "No such file"), (tmp_path, "directory|Permission denied")):
        for look in (is_trace, lambda place: [*read_trace(place)]):
            with pytest.raises(ServomexConfigurationError, match=words) as caught:
                look(place)
            assert str(place) in str(caught.value)


def test_a_file_that_cannot_be_written_is_reported_before_the_port_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ServomexError, match=r"cannot write the trace .*nope.*: No such file"):
        SerialLink("/dev/nope", trace=tmp_path / "nope" / "trace").open()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_logged_once_and_the_reading_goes_on(
    caplog: pytest.LogCaptureFixture, line: VirtualLine
) -> None:
    with SerialLink(line.url, trace="/dev/full") as link:
        for _ in range(3):
            link.write(PROBE)
            assert read_all(link, len(STATE)) == STATE
    told = [record for record in caplog.records if record.name == "servomex.trace"]
    assert [record.getMessage() for record in told] == [
        "the trace /dev/full is not complete: [Errno 28] No space left on device"
    ]
    assert told[0].levelno == logging.WARNING


def test_without_a_trace_nothing_is_written(
    tmp_path: Path, line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SerialLink(line.url) as link:
        link.write(PROBE)
    assert [*tmp_path.iterdir()] == []


def test_a_trace_is_not_added_to_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("received_at,value\n")
    line = VirtualLine(VirtualAnalyzer())
    link = SerialLink(line.url, trace=path)
    with pytest.raises(ServomexConfigurationError, match="holds something other than a trace"):
        link.open()
    assert path.read_text() == "received_at,value\n"


def test_a_second_writer_is_refused(path: Path) -> None:
    pytest.importorskip("fcntl")
    first = writer(path)
    with pytest.raises(ServomexError, match="another program or port writes to it: end that one first"):
        writer(path)
    first.close()
    writer(path).close()
    assert said(path) == ["#", "#"]


def test_a_trace_that_is_full_continues_in_a_new_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servomex.trace.LARGEST", 3000)
    monkeypatch.setattr("servomex.trace.KEPT", 3)
    trace = writer(path)
    trace.opened()
    for number in range(1000):
        trace.sent(number.to_bytes(8, "big"))
    trace.close()
    files = [*(path.with_name(f"{path.name}.{number}") for number in (3, 2, 1)), path]
    assert sorted(path.parent.iterdir()) == sorted(files)
    assert max(file.stat().st_size for file in files) < 3200
    lines = [line for file in files for line in read_trace(file)]
    numbers = [int.from_bytes(line.data, "big") for line in lines if line.kind == "sent"]
    assert numbers == [*range(numbers[0], 1000)]
    assert lines[-1].kind == "closed"
    assert {(line.session.port, line.session.gap_s) for line in lines} == {("COM3", 0.05)}


@pytest.mark.parametrize(("line", "words"), [
    ("x" * 5_000_000, "longer than 4000000 bytes"),
    ("9" * 5000 + ".000000000 2026-03-01T12:30:45+00:00 > 00", "line 2: "),
    ("9" * 20 + ".000000000 2026-03-01T12:30:45+00:00 > 00", "impossible number of seconds"),
    ("1.000000000 0001-01-01T00:00:00+23:59 > 00", "is not a time"),
    ("1.000000000 " + "9" * 9999 + " > 00", "is not a time"),
    (HEADER.replace("gap=0.05", "gap=9e99").rstrip(), "gap must be at most 10 seconds"),
    (HEADER.replace("settings=19200", "settings=" + "9" * 5000).rstrip(), "line 2: "),
], ids=["long", "digits", "seconds", "time", "date", "gap", "baudrate"])  # fmt: skip
def test_a_hostile_line_is_refused_in_few_words(path: Path, line: str, words: str) -> None:
    path.write_text(f"{HEADER}{line}\n", encoding="utf-8")
    with pytest.raises(ServomexConfigurationError) as caught:
        list(read_trace(path))
    assert words in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300
