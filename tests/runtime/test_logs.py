"""A handler of the program's that raises ends no thread of the package, and keeps no error from its owner."""

import io
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import servomex
from servomex.errors import ServomexConnectionError, ServomexSinkWriteError
from servomex.runtime.logs import package_log
from servomex.runtime.worker import Worker
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.sinks import InMemorySink

GENEROUS_S = 5.0


class Failing(logging.Handler):
    """A handler as users write them: it does not expect to fail.

    Attributes:
        seen: What it was to write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())
        raise RuntimeError("the handler failed")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    handler = Failing()
    logger = logging.getLogger("servomex")
    level = logger.level
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.mark.usefixtures("quick_reconnect")
def test_the_reader_of_broadcasts_lives_on(failing: Failing) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    with servomex.open_device(line.url, protocol="continuous") as analyzer:
        assert analyzer.reader is not None
        queue = analyzer.reader.subscribe()
        line.unplug()
        with pytest.raises(ServomexConnectionError, match="was lost"):
            list(iter(lambda: queue.get(GENEROUS_S), None))
        with pytest.raises(ServomexConnectionError, match="was lost"):
            analyzer.poll(wait_fresh=True)
        line.plug()
        assert queue.get(GENEROUS_S)
        assert analyzer.poll(timeout=GENEROUS_S).ok
    assert any("was lost" in text for text in failing.seen)


@pytest.mark.usefixtures("quick_reconnect", "failing")
def test_a_modbus_call_ends_as_it_would() -> None:
    line = VirtualLine(VirtualAnalyzer())
    with servomex.open_device(line.url, protocol="modbus_rtu") as analyzer:
        assert analyzer.poll().ok
        line.unplug()
        with pytest.raises(ServomexConnectionError, match="was lost"):
            analyzer.poll()
        line.plug()
        time.sleep(0.15)
        assert analyzer.poll().ok


def test_the_owner_of_a_thread_is_reported_of_its_death(failing: Failing) -> None:
    told = threading.Event()

    def die(_stopping: threading.Event) -> None:
        raise ValueError("broken")

    worker = Worker("servomex-test", die, lambda _error: told.set())
    worker.start()
    worker.stop()
    assert told.is_set()
    assert isinstance(worker.error, ValueError)
    assert failing.seen == ["the thread 'servomex-test' died"]


def test_a_recording_whose_sinks_fail_goes_on(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(InMemorySink):
        full = True

        def _store(self, rows: list[object]) -> None:
            if self.full:
                raise ServomexSinkWriteError("the disk is full")
            super()._store(rows)

    monkeypatch.setattr("servomex.recording.retry.RETRY_S", 0.05)
    sink = Full()
    line = VirtualLine(VirtualAnalyzer())
    with (
        servomex.open_device(line.url, protocol="modbus_rtu", gap=0) as analyzer,
        servomex.Recorder(analyzer, [sink], rate_hz=20, count=20) as recorder,
    ):
        time.sleep(0.3)
        sink.full = False
        assert recorder.join(GENEROUS_S)
    assert recorder.summary.unwritten == 0
    assert len({item.monotonic_ns for item in sink.samples}) == recorder.summary.samples_emitted > 0
    assert any("the disk is full" in text for text in failing.seen)


@pytest.mark.usefixtures("failing")
def test_a_callback_that_fails_does_not_end_its_subscription() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.02))
    again = threading.Event()
    calls = []

    def callback(_item: object) -> None:
        calls.append(1)
        if len(calls) > 2:
            again.set()
        raise ValueError("the callback's own")

    with servomex.open_device(line.url, protocol="continuous") as analyzer, analyzer.subscribe(callback) as found:
        assert again.wait(GENEROUS_S)
        assert found.error is None


def test_a_failure_is_shown_as_logging_does_it(
    failing: Failing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = package_log("servomex")
    log.warning("silent")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    log.warning("loud")
    assert "RuntimeError: the handler failed" in capsys.readouterr().err
    assert failing.seen == ["silent", "loud"]


@pytest.mark.parametrize("error", [ValueError("I/O operation on closed file"), BrokenPipeError()], ids=repr)
def test_a_failure_that_cannot_be_shown_is_none_of_the_thread(
    error: Exception, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise error

    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(sys, "stderr", Gone())
    package_log("servomex").warning("unseen")
    assert failing.seen == ["unseen"]


def test_a_message_says_where_it_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    package_log("servomex").warning("here %d", 1)
    [record] = caplog.records
    assert (record.getMessage(), record.funcName) == ("here 1", "test_a_message_says_where_it_comes_from")
    assert Path(record.pathname) == Path(__file__)
