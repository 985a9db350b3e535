"""What ends with the reader of broadcasts, and what the reader outlives."""

import threading
import time

import pytest

from servomex import (
    Analyzer,
    ContinuousReader,
    SerialLink,
    SerialSettings,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexStaleError,
    ServomexTimeoutError,
    ServomexTransportError,
    open_continuous,
    open_device,
    record,
)
from servomex.continuous import reader as continuous
from servomex.port import connection
from servomex.port.connect import open_port
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.background import no_thread_for
from tests.helpers.waiting import until_it_works, wait_until

pytestmark = pytest.mark.virtual_time


def test_what_waited_in_an_open_link_is_not_taken_for_new() -> None:
    analyser = VirtualAnalyzer(mode="continuous", period=0.1)
    line = VirtualLine(analyser)
    with SerialLink(line.url) as link:
        threading.Event().wait(0.5)
        assert line.waiting() > 3 * 206
        analyser.period = 0
        with pytest.raises(ServomexTimeoutError):
            open_continuous(link, listen=0.3)
        analyser.period = 0.1
        threading.Event().wait(0.5)
        assert line.waiting() > 3 * 206
        analyser.power_cycle("modbus_rtu")
        with open_device(link) as analyzer:
            assert analyzer.protocol == "modbus_rtu"


@pytest.mark.usefixtures("quick_reconnect")
def test_a_frame_from_before_a_loss_is_not_current_after_it() -> None:
    analyser = VirtualAnalyzer(mode="continuous", period=0.2)
    line = VirtualLine(analyser)
    with open_continuous(line.url) as analyzer:
        analyzer.poll(wait_fresh=True)
        analyser.period = 0
        line.unplug()
        wait_until(lambda: not analyzer.link.is_open)
        line.plug()
        wait_until(lambda: analyzer.link.is_open)
        threading.Event().wait(0.1)
        with pytest.raises(ServomexStaleError):
            analyzer.poll(timeout=0.1, max_age=60)


@pytest.mark.parametrize("end", ["link", "stop", "death"])
def test_a_queue_ends_with_its_reader(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    link = SerialLink(line.url).open()
    reader = continuous.ContinuousReader(link)
    queue = reader.subscribe(size=1)
    reader.start()
    queue.get(2.0)
    if end == "link":
        link.close()
    elif end == "death":
        monkeypatch.setattr("servomex.continuous.stream.parse_frame", None)
    else:
        reader.stop()
    ends = 0
    deadline = time.monotonic() + 5
    while ends < 2 and time.monotonic() < deadline:
        try:
            queue.get(2.0)
        except ServomexTimeoutError:
            pytest.fail("the queue was left open")
        except ServomexError:
            ends += 1
    assert ends == 2
    reader.stop()
    with pytest.raises(ServomexConnectionError):
        reader.subscribe().get(1.0)
    link.close()


def test_a_recording_ends_with_the_reason_for_which_its_reader_did() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with SerialLink(line.url) as link, link.lock_held():
        reader = ContinuousReader(link)
        reader.start()
        with (
            Analyzer(link, reader, owns_link=False) as analyzer,
            record(analyzer) as rec,
            pytest.raises(ServomexTimeoutError, match="other callers kept the port busy"),
        ):
            list(rec)


def test_a_recording_whose_reader_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with open_continuous(line.url) as analyzer, record(analyzer) as rec:
        rec.get(2.0)
        monkeypatch.setattr("servomex.continuous.stream.parse_frame", None)
        with pytest.raises(ServomexTransportError, match="thread that receives broadcasts died"):
            list(rec)


def test_closing_does_not_wait_for_the_pause_between_two_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(20.0, 20.0))
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    link = SerialLink(line.url).open()
    analyzer = open_continuous(link)
    line.unplug()
    wait_until(lambda: not link.is_open)
    started = time.monotonic()
    link.close()
    analyzer.close()
    assert time.monotonic() - started < 2.0


def test_a_link_has_one_reader() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with SerialLink(line.url) as link:
        with open_continuous(link) as analyzer:
            with pytest.raises(ServomexConfigurationError, match="has a reader already"):
                open_continuous(link)
            analyzer.poll(wait_fresh=True)
        with open_continuous(link) as analyzer:
            analyzer.poll(wait_fresh=True)


def test_a_reader_that_cannot_be_started_leaves_the_link_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with SerialLink(line.url) as link:
        with monkeypatch.context() as patch:
            no_thread_for("servomex-continuous", patch)
            with pytest.raises(ServomexError, match="cannot be started"):
                open_continuous(link)
        with open_continuous(link) as analyzer:
            analyzer.poll(wait_fresh=True)


@pytest.mark.usefixtures("quick_reconnect")
def test_a_reader_outlives_any_failure_to_reopen(monkeypatch: pytest.MonkeyPatch) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with open_continuous(line.url) as analyzer:
        failures = [0]

        def failing(port: str, settings: SerialSettings) -> object:
            failures[0] += 1
            if failures[0] < 3:
                raise ServomexConfigurationError("the adapter is not ready")
            return open_port(port, settings)

        monkeypatch.setattr(connection, "open_port", failing)
        line.unplug()
        threading.Event().wait(0.2)
        line.plug()
        until_it_works(lambda: analyzer.poll(wait_fresh=True), refused=ServomexError)
        assert analyzer.poll(wait_fresh=True)["I1"].value == 20.376
        assert failures[0] >= 3
