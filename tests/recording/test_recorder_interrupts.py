"""A recorder that is interrupted or stopped from anywhere writes what it took."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from servomex import (
    Recorder,
    Sample,
    load,
)
from servomex.sinks import InMemorySink
from tests.helpers.background import ended
from tests.helpers.paths import ROOT
from tests.helpers.recorded import OwnSource
from tests.helpers.recorders import SlowSink, numbers

pytestmark = pytest.mark.virtual_time
GENEROUS_S = 5.0


class EndingSink(SlowSink):
    """Remembers how often it was brought to an end, and what was written after that."""

    ends = 0

    def write(self, samples: Sequence[Sample]) -> None:
        assert not self.ends
        super().write(samples)

    def sync(self) -> None:
        self.ends += 1
        super().sync()


class TestInterruptedStarts:
    """Wherever a start ends: every sink is ended once, and every reading is in it or counted."""

    @pytest.fixture
    def sink(self) -> EndingSink:
        return EndingSink(takes_s=0.1)

    @pytest.fixture
    def late(self) -> list[threading.Thread]:
        """Threads that the system has not started yet."""
        return []

    @pytest.fixture
    def start(
        self, sink: EndingSink, late: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[str], Recorder]:
        """Start a recorder; ``how`` is when a Ctrl-C comes while its writing thread is started."""

        def start(how: str) -> Recorder:
            def begin(thread: threading.Thread) -> None:
                if thread.name.startswith("servomex-recorder"):
                    time.sleep(0.2)  # some readings wait
                    late.extend([thread] * (how == "in the middle"))
                    if how == "after it":
                        begin_as_usual(thread)
                        time.sleep(0.05)
                    raise KeyboardInterrupt
                begin_as_usual(thread)

            begin_as_usual = threading.Thread.start
            recorder = Recorder(OwnSource(), sinks=[sink], rate_hz=50)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", begin)
                with pytest.raises(KeyboardInterrupt):
                    recorder.start()
            return recorder

        return start

    def test_after_the_thread_has_begun_all_is_written(
        self, sink: EndingSink, start: Callable[[str], Recorder]
    ) -> None:
        recorder = start("after it")
        assert numbers(sink) == list(range(1, recorder.summary.samples_emitted + 1))
        assert (sink.ends, recorder.summary.unwritten, recorder.running) == (1, 0, False)

    @pytest.mark.parametrize("how", ["before it", "in the middle"])
    def test_before_it_has_begun_what_was_read_is_counted_as_dropped(
        self, how: str, sink: EndingSink, late: list[threading.Thread], start: Callable[[str], Recorder]
    ) -> None:
        recorder = start(how)
        for thread in late:
            thread.start()
            thread.join(GENEROUS_S)
        assert (numbers(sink), sink.ends) == ([], 1)
        assert recorder.summary.samples_emitted == 0
        assert recorder.summary.dropped > 5
        begun = time.monotonic()
        recorder.close()
        assert (sink.ends, recorder.running) == (1, False)
        assert time.monotonic() - begun < 1.0


class TestStoppingFromWithin:
    def test_a_source_may_stop_it(self) -> None:
        def stop(number: int) -> None:
            if number == 3:
                recorder.close()

        sink = InMemorySink()
        recorder = Recorder(OwnSource(act=stop), sinks=[sink], rate_hz=50)
        started = time.monotonic()
        with recorder:
            assert recorder.join(5)
        assert time.monotonic() - started < 5
        assert numbers(sink) == [1, 2, 3]
        assert not sink.closed

    def test_a_sink_may_stop_it(self) -> None:
        class Enough(InMemorySink):
            def write(self, samples: Sequence[Sample]) -> None:
                super().write(samples)
                if len(self.samples) >= 3:
                    recorder.close()

        sink = Enough()
        recorder = Recorder(OwnSource(), sinks=[sink], rate_hz=50)
        with recorder:
            assert recorder.join(5)
        assert len(sink.samples) == recorder.summary.samples_emitted >= 3
        assert not sink.closed


class TestInterrupts:
    """Ctrl-C, sent to a program whose sink takes its time."""

    PROGRAM = """
import sys, time
from servomex import pipe, record, Recorder
from servomex.sinks.csv import CsvSink
from tests.helpers.recorded import OwnSource

class Slow(CsvSink):
    def write(self, samples):
        print(len(samples), flush=True)
        time.sleep(0.3)
        super().write(samples)

slow, path = Slow(sys.argv[1] + "/slow.csv"), sys.argv[1] + "/other.csv"
source = OwnSource()
try:
    if sys.argv[2] == "pipe":
        with record(source, rate_hz=50) as recording:
            pipe(recording, slow, path)
    else:
        with Recorder(source, [slow, path], rate_hz=50) as recorder:
            recording = recorder.recording
            recorder.join()
except KeyboardInterrupt:
    summary = recording.summary
    print(summary.samples_emitted, summary.dropped, summary.unwritten, slow.closed, flush=True)
slow.close()
"""

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send to a program on Windows")
    @pytest.mark.parametrize("times", [1, 2])
    @pytest.mark.parametrize("how", ["pipe", "recorder"])
    @pytest.mark.real_time
    def test_every_reading_is_in_every_sink_or_counted(self, how: str, times: int, tmp_path: Path) -> None:
        command = [sys.executable, "-c", self.PROGRAM, str(tmp_path), how]
        with ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)) as program:
            assert program.stdout
            written = 0
            while written <= 10:
                written += int(program.stdout.readline())
            for _ in range(times):
                program.send_signal(signal.SIGINT)
                time.sleep(0.1)
            *_, last = program.stdout.read().splitlines()
        emitted, dropped, unwritten, closed = last.split()
        assert (closed, unwritten) == ("False", "0")
        rows = [[item.monotonic_ns for item in load(tmp_path / name)] for name in ("slow.csv", "other.csv")]
        assert rows[0] == rows[1] == list(range(1, int(emitted) + 1))
        assert len(rows[0]) > 10
        assert int(dropped) == 0 or times == 2
