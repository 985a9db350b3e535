"""A disk that hangs is told, and neither the end of a recording nor that of a program waits for it for ever."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from servomex import Recorder, ServomexSinkWriteError
from servomex.models.sample import Sample
from servomex.sinks import InMemorySink
from tests.helpers.recorded import OwnSource
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.real_time


class Hanging(InMemorySink):
    """A sink whose calls do not come back until the disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = threading.Event()
        self.disk = threading.Event()

    def write(self, samples: Sequence[Sample]) -> None:
        if self.hangs.is_set():
            self.disk.wait()
        super().write(samples)


@pytest.fixture
def sink() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.disk.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servomex.recording.writer.HUNG_S", 1.0)
    monkeypatch.setattr("servomex.recording.writer.WARN_S", 0.3)
    monkeypatch.setattr("servomex.recording.retry.LONG_S", 0.3)


def test_stopping_does_not_wait_for_it_and_says_what_may_be_lost(sink: Hanging, quick: None) -> None:
    recorder = Recorder(OwnSource(), [sink], rate_hz=100).start()
    wait_until(lambda: sink.rows > 3)
    sink.hangs.set()
    wait_until(lambda: recorder.summary.samples_emitted > sink.rows + 10)
    begun = time.monotonic()
    with pytest.raises(
        ServomexSinkWriteError, match=r"memory.*its disk, network folder or server does not answer"
    ):
        recorder.close()
    assert time.monotonic() - begun < 10
    assert not recorder.running
    assert recorder.summary.unwritten + recorder.summary.dropped >= 10
    recorder.close()
    sink.disk.set()
    wait_until(lambda: not [item for item in threading.enumerate() if "servomex-recorder" in item.name])


def test_a_caller_that_waits_is_warned_of_a_hang_and_of_its_end(
    sink: Hanging, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    with Recorder(OwnSource(), [sink], rate_hz=100) as recorder:
        sink.hangs.set()
        with caplog.at_level(logging.WARNING):
            wait_until(lambda: recorder.join(0.1) or "a write has not returned" in caplog.text)
            sink.hangs.clear()
            sink.disk.set()
            wait_until(lambda: "the write returned after" in caplog.text)
    assert recorder.summary.unwritten == 0
    assert sink.rows == recorder.summary.samples_emitted
    assert caplog.text.count("a write has not returned") == 1
