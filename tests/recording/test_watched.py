"""A recording can be watched while it is written, and a sink that hangs does not stop that."""

import logging
import threading
from collections.abc import Sequence

import pytest

from servomex import Recorder, open_device
from servomex.cli.progress import _wrong
from servomex.errors import ServomexSinkWriteError
from servomex.models.sample import Sample
from servomex.recording.retry import SinkState
from servomex.simulator import VirtualLine
from servomex.sinks.memory import InMemorySink
from tests.helpers.waiting import wait_until


class Hanging(InMemorySink):
    """A sink whose disk does not answer for a time."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def write(self, samples: Sequence[Sample]) -> None:
        self.answers.wait(30)
        super().write(samples)


def test_what_is_read_is_seen_while_a_disk_hangs(line: VirtualLine) -> None:
    seen: list[list[Sample]] = []
    sink = Hanging()
    with open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer:
        recorder = Recorder(analyzer, sink, rate_hz=50.0)
        recorder.recording.watch(seen.append)
        with recorder:
            wait_until(lambda: len(seen) >= 10)
            [state] = recorder.sink_states
            assert (state.rows, state.dropped) == (0, False)
            assert state.standing_s > 0
            sink.answers.set()
            wait_until(lambda: recorder.sink_states[0].rows >= 50)
        assert recorder.sink_states[0].standing_s == 0.0


def test_who_watches_and_fails_is_not_called_again_and_stops_nothing(
    line: VirtualLine, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fail(batch: list[Sample]) -> None:
        calls.append(len(batch))
        raise RuntimeError("no screen")

    with (
        caplog.at_level(logging.WARNING, "servomex"),
        open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer,
    ):
        sink = InMemorySink()
        recorder = Recorder(analyzer, sink, rate_hz=50.0, count=5)
        recorder.recording.watch(fail)
        with recorder:
            assert recorder.join(30)
    assert calls == [5]
    assert recorder.summary.samples_emitted == 5
    assert "is not watched any more" in caplog.text


@pytest.mark.parametrize(("changes", "shown"), [
    ({}, ""),
    ({"standing_s": 1.0}, ""),
    ({"standing_s": 12.0, "waiting": 3}, "does not answer for 12 s, 3 rows waiting"),
    ({"failure": ServomexSinkWriteError("disk full"), "waiting": 1}, "CANNOT BE WRITTEN: disk full, 1 row waiting"),  # noqa: E501
    ({"failure": ServomexSinkWriteError("disk full"), "dropped": True}, "DROPPED: disk full"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_in_words(changes: dict[str, object], shown: str) -> None:
    fine = {"name": "run.csv", "rows": 5, "waiting": 0, "standing_s": 0.0, "failure": None, "dropped": False}
    assert _wrong(SinkState(**{**fine, **changes})) == shown  # type: ignore[arg-type]


class Full(InMemorySink):
    """A sink on a disk that is full at first."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True

    def write(self, samples: Sequence[Sample]) -> None:
        if self.full:
            raise ServomexSinkWriteError("the disk is full")
        super().write(samples)


def test_a_sink_that_fails_is_seen_to_fail_and_to_recover(
    line: VirtualLine, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Full()
    with (
        caplog.at_level(logging.WARNING, "servomex"),
        open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer,
        Recorder(analyzer, sink, rate_hz=20.0) as recorder,
    ):
        wait_until(lambda: recorder.sink_states[0].failure is not None)
        [state] = recorder.sink_states
        assert (str(state.failure), state.waiting > 0, state.dropped) == ("the disk is full", True, False)
        sink.full = False
        wait_until(lambda: recorder.sink_states[0].failure is None)
    assert [record.getMessage().partition(", after")[0] for record in caplog.records] == [
        "the disk is full. Retrying for 30 s",
        "memory:// can be written again",
    ]
