"""Continuous mode: fresh or an error, never an old frame that looks new; no thread dies or hangs silently."""

import threading
import time
from collections.abc import Iterator

import pytest

from servomex import (
    ChannelStatus,
    ServomexConnectionError,
    ServomexProtocolUnsupportedError,
    ServomexTimeoutError,
    ServomexTransportError,
    open_continuous,
)
from servomex.analyzer.analyzer import Analyzer
from servomex.port import link
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.simulator import PtyServer, VirtualAnalyzer, VirtualLine, constant
from servomex.telegram import parse_frame
from servomex.testing import ScriptedPort, load_capture
from tests.helpers.paths import CAPTURE
from tests.helpers.platforms import needs_pty
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.virtual_time

PERIOD = 0.1


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    return VirtualAnalyzer(mode="continuous", period=PERIOD)


@pytest.fixture
def analyzer(line: VirtualLine) -> Iterator[Analyzer]:
    with open_continuous(line.url) as opened:
        yield opened


def test_a_frame_carries_the_arrival_of_its_last_byte(analyzer: Analyzer) -> None:
    frame = analyzer.poll(wait_fresh=True)
    assert frame.age_s < 0.5
    assert abs(frame.received_at.timestamp() - time.time()) < 1.0
    assert frame.received_at.utcoffset() is not None
    assert frame.requested_at is None
    assert frame.latency_s is None
    assert frame.raw.startswith(b" ")
    again = analyzer.snapshot()
    assert again.monotonic_ns >= frame.monotonic_ns


def test_a_damaged_frame_is_dropped_counted_and_costs_no_other(
    analyzer: Analyzer, analyser: VirtualAnalyzer
) -> None:
    analyser.faults.corrupt = 1.0
    wait_until(lambda: analyzer.dropped_frames >= 3)
    analyser.faults.corrupt = 0.0
    assert analyzer.poll(wait_fresh=True)["I1"].value == 20.376


def test_joining_in_the_middle_of_a_frame_counts_nothing() -> None:
    frames = CAPTURE.read_bytes()
    port = ScriptedPort()
    with open_continuous(port, identify=False) as analyzer:
        wait_until(lambda: analyzer.link.is_open and port.timeout == 0.05)
        threading.Event().wait(0.1)
        port.feed(frames[100:])
        wait_until(lambda: port.in_waiting == 0)
        assert analyzer.poll(timeout=2.0)["I1"].value == 20.376
        assert analyzer.dropped_frames == 0


@pytest.mark.parametrize("change", ["unit", "name", "channels"])
def test_a_change_of_configuration_needs_two_frames_that_agree(
    analyzer: Analyzer, analyser: VirtualAnalyzer, change: str
) -> None:
    reader = analyzer.reader
    assert reader is not None
    queue = reader.subscribe()
    before = analyzer.poll(wait_fresh=True)
    dropped = analyzer.dropped_frames
    if change == "unit":
        analyser["I2"].unit = "vpm"
    elif change == "name":
        analyser["I2"].name = "NO"
    else:
        del analyser.channels[analyser["I2"].channel]
    wait_until(lambda: analyzer.dropped_frames == dropped + 1)
    after = analyzer.poll(wait_fresh=True)
    if change == "unit":
        assert (before["I2"].unit_text, after["I2"].unit_text) == ("%", "vpm")
    elif change == "name":
        assert (before["I2"].name, after["I2"].name) == ("CO", "NO")
    else:
        assert "I2" in before
        assert "I2" not in after
    reader.unsubscribe(queue)
    assert analyzer.dropped_frames == dropped + 1


def test_a_unit_that_was_only_damaged_is_never_seen() -> None:
    """The checksum lets it through: an `m` that became `q` in a unit, and an `I` that became `E` in a name."""
    good = b" 06-10-20;02:54:12;  ;S1S1S1S1;03;I1;NITRIC;  1.00;vpm;    ;  ; ; ;E1;||||||;   0.0; mA;    ;  ; ; ;"
    good += b"E2;||||||;   0.0; mA;    ;  ; ; ;"
    good += b"%04X;" % (sum(good[1:]) & 0xFFFF)
    swapped = good.replace(b"NITRIC", b"NETRIC").replace(b";vpm;", b";vpq;")
    assert parse_frame(swapped)["I1"].unit_text == "vpq"
    port = ScriptedPort()
    with open_continuous(port, identify=False) as analyzer:
        threading.Event().wait(0.1)
        seen = []
        for raw in (good, good, swapped, good):
            port.feed(raw + b"\r\n")
            threading.Event().wait(0.1)
            seen.append(analyzer.snapshot()["I1"].unit_text)
        assert seen == ["vpm"] * 4
        assert analyzer.dropped_frames == 1


def test_babble_without_a_line_end_is_bounded_and_harmless() -> None:
    port = ScriptedPort()
    with open_continuous(port, identify=False) as analyzer:
        threading.Event().wait(0.1)
        reader = analyzer.reader
        assert reader is not None
        for _ in range(10):
            port.feed(b"\xff" * 1_000_000)
        with pytest.raises(ServomexTimeoutError, match="bytes arrived, but no valid frame"):
            analyzer.poll(timeout=0.2)
        wait_until(lambda: port.in_waiting == 0)
        assert 10_000_000 - 5000 < reader.discarded_bytes <= 10_000_000
        port.feed(load_capture(CAPTURE)[0])
        assert analyzer.poll(timeout=2.0)["I1"].value == 20.376


@pytest.mark.parametrize("part", [slice(0, 120), slice(60, 190), slice(150, None)], ids=["begin", "middle", "end"])
def test_part_of_a_broadcast_asks_for_more_time_and_not_for_other_settings(part: slice) -> None:
    port = ScriptedPort()
    with open_continuous(port, identify=False) as analyzer:
        threading.Event().wait(0.1)
        port.feed(load_capture(CAPTURE)[0][part])
        with pytest.raises(ServomexTimeoutError, match="part of a broadcast arrived") as caught:
            analyzer.poll(timeout=0.2)
    assert "longer listen" in caught.value.cure
    assert "baud" not in str(caught.value)


def test_damage_is_not_taken_for_a_part_of_a_broadcast() -> None:
    port = ScriptedPort()
    with open_continuous(port, identify=False) as analyzer:
        threading.Event().wait(0.1)
        port.feed(bytes(byte ^ 0x55 for byte in load_capture(CAPTURE)[0][:120]))
        with pytest.raises(ServomexTimeoutError) as caught:
            analyzer.poll(timeout=0.2)
    assert caught.value.cure == "Check the baud rate and the other serial settings"


def test_what_waited_in_the_port_before_it_was_opened_is_dropped() -> None:
    port = ScriptedPort()
    port.feed(load_capture(CAPTURE)[0])
    with open_continuous(port, identify=False) as analyzer, pytest.raises(ServomexTimeoutError):
        analyzer.poll(timeout=0.2)


def test_unplugged_is_an_error_at_the_next_call_and_comes_back_by_itself(
    line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.1, 0.2))
    with open_continuous(line.url) as analyzer:
        analyzer.poll(wait_fresh=True)
        reader = analyzer.reader
        assert reader is not None
        queue = reader.subscribe()
        line.unplug()
        threading.Event().wait(0.15)
        for call in (analyzer.poll, analyzer.read_all, analyzer.analyser_status):
            with pytest.raises(ServomexConnectionError, match=r"lost|unplugged"):
                call()
        line.plug()
        wait_until(lambda: analyzer.link.is_open)
        called = time.monotonic_ns()
        frame = analyzer.poll(wait_fresh=True, timeout=3.0)
        assert frame.monotonic_ns > called
        errors = 0
        while len(queue):
            try:
                queue.get(0)
            except ServomexConnectionError:
                errors += 1
        assert errors == 1


@needs_pty
@pytest.mark.real_time
def test_a_real_terminal_that_vanishes_is_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.1, 0.2))
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=PERIOD))
    with PtyServer(line) as server, open_continuous(server.port) as analyzer:
        analyzer.poll(wait_fresh=True)
        line.unplug()

        def lost() -> bool:
            try:
                analyzer.poll(timeout=0.05)
            except ServomexConnectionError:
                return True
            except ServomexTimeoutError:
                return False
            return False

        wait_until(lost)


def test_without_reconnection_a_lost_port_stays_lost(line: VirtualLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))
    with open_continuous(line.url, auto_reconnect=False) as analyzer:
        line.unplug()
        wait_until(lambda: not analyzer.link.is_open)
        line.plug()
        threading.Event().wait(0.3)
        with pytest.raises(ServomexConnectionError):
            analyzer.poll()


def test_a_thread_that_dies_is_an_error_at_the_next_call(
    analyzer: Analyzer, analyser: VirtualAnalyzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("servomex.continuous.stream.parse_frame", broken)
    wait_until(lambda: not any("servomex-continuous" in thread.name for thread in threading.enumerate()))
    with pytest.raises(ServomexTransportError, match="a defect"):
        analyzer.poll()


def test_closing_ends_a_waiting_call_at_once(line: VirtualLine, analyser: VirtualAnalyzer) -> None:
    analyzer = open_continuous(line.url)
    analyser.faults.silent = True
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            analyzer.poll(wait_fresh=True, timeout=30)
        except ServomexConnectionError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    threading.Event().wait(0.1)
    started = time.monotonic()
    analyzer.close()
    waiting.join(2.0)
    assert raised
    assert time.monotonic() - started < 1.0
    with pytest.raises(ServomexConnectionError):
        analyzer.poll()


def test_closing_a_shared_link_under_a_running_reader_does_not_hang(line: VirtualLine) -> None:
    shared = link.SerialLink(line.url).open()
    analyzer = open_continuous(shared)
    closer = threading.Thread(target=shared.close)
    closer.start()
    closer.join(5.0)
    assert not closer.is_alive()
    with pytest.raises(ServomexConnectionError):
        analyzer.poll()
    analyzer.close()


def test_a_subscriber_that_never_reads_costs_nothing_but_its_queue(analyzer: Analyzer) -> None:
    reader = analyzer.reader
    assert reader is not None
    idle, reading = reader.subscribe(size=2), reader.subscribe()
    stamps = [reading.get(2.0).monotonic_ns for _ in range(6)]
    assert stamps == sorted(set(stamps))
    assert len(idle) == 2
    assert idle.dropped >= 3
    assert idle.get(0).monotonic_ns >= stamps[-3]


def test_nothing_can_be_sent_in_this_mode(analyzer: Analyzer) -> None:
    with pytest.raises(ServomexProtocolUnsupportedError, match="continuous mode"):
        analyzer.loopback(b"ab")


def test_states_arrive_with_the_value(analyzer: Analyzer, analyser: VirtualAnalyzer) -> None:
    analyser["I1"].status = ChannelStatus(True, True, True, True, (True, False, True, False))
    analyser["I2"].signal = constant(None)
    analyser["E1"].status = ChannelStatus(fault=True)
    analyser.fault = True
    frame = analyzer.poll(wait_fresh=True)
    assert frame["I1"].status.words == ("fault", "maintenance", "calibrating", "warming up", "alarm 1", "alarm 3")
    assert frame["I2"].value is None
    assert frame["E1"].value is None
    assert frame.analyser.fault
    assert not frame.ok


def test_a_first_broadcast_that_does_not_come_in_time_names_the_frame_frequency() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=60))
    started = time.monotonic()
    with pytest.raises(ServomexTimeoutError, match="frame frequency"):
        open_continuous(line.url, listen=0.2)
    assert time.monotonic() - started < 1.0
    line.unplug()
    line.plug()
    with pytest.raises(ServomexTimeoutError):  # and the port was given back
        open_continuous(line.url, listen=0.1)


def test_the_ordinary_period_opens_with_the_defaults() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=2.0))
    with open_continuous(line.url) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376
