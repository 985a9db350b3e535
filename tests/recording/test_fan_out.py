"""Writing to several sinks: a failure that passes costs nothing, one that stays costs the other sinks nothing."""

from collections.abc import Callable, Sequence

import pytest

from servomex import (
    Sample,
    ServomexSinkError,
    ServomexSinkSchemaError,
    ServomexSinkSyncError,
    ServomexSinkWriteError,
)
from servomex.recording import retry
from servomex.recording.fan_out import FanOut
from servomex.recording.retry import AGAIN_S, LAST_S
from servomex.sinks import InMemorySink
from tests.helpers.recorded import sample

pytestmark = pytest.mark.virtual_time


def nothing(_samples: Sequence[Sample]) -> None:
    """Let everything pass."""


class OwnSink(InMemorySink):
    """A sink that does something before each write, such as to fail."""

    def __init__(self, before: Callable[[Sequence[Sample]], None] = nothing) -> None:
        super().__init__()
        self.before = before

    def write(self, samples: Sequence[Sample]) -> None:
        self.before(samples)
        super().write(samples)


def full(_samples: Sequence[Sample]) -> None:
    raise ServomexSinkWriteError("the disk is full")


def numbers(sink: InMemorySink) -> list[int]:
    return [item.monotonic_ns for item in sink.samples]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once what failed."""
    monkeypatch.setattr(retry, "RETRY_S", 0.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, at_once: None) -> None:
    """Leave out a sink that fails twice."""
    monkeypatch.setattr(retry, "PATIENCE_S", -1.0)


def test_a_sink_that_fails_for_a_moment_gets_everything_in_order(at_once: None) -> None:
    sink, other = OwnSink(full), InMemorySink()
    writer = FanOut([sink, other])
    for number in range(3):
        writer.write([sample(number)])
    assert (numbers(sink), numbers(other)) == ([], [0, 1, 2])
    sink.before = nothing
    writer.flush_if_due()
    assert numbers(sink) == [0, 1, 2]
    writer.write([sample(3)])
    writer.close()
    assert numbers(sink) == numbers(other) == [0, 1, 2, 3]
    assert writer.lost == 0


def test_it_is_not_tried_again_before_a_second_has_passed() -> None:
    tries = 0

    def counted(_samples: Sequence[Sample]) -> None:
        nonlocal tries
        tries += 1
        raise ServomexSinkWriteError("the disk is full")

    writer = FanOut([OwnSink(counted)])
    for number in range(100):
        writer.write([sample(number)])
    assert tries == 1
    with pytest.raises(ServomexSinkWriteError, match="disk is full"):
        writer.close()
    assert 2 < tries < 2 + 2 * LAST_S / AGAIN_S, "for some seconds more at the end"
    assert writer.lost == 100


def test_what_waits_at_the_end_is_tried_again_for_some_seconds() -> None:
    tries = 0

    def locked_a_while(_samples: Sequence[Sample]) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ServomexSinkWriteError("locked by another program")

    writer = FanOut([OwnSink(locked_a_while)])
    writer.write([sample(1)])
    writer.close()
    assert (tries, writer.lost) == (4, 0)


def test_what_waits_at_the_end_is_written(at_once: None) -> None:
    sink = OwnSink(full)
    writer = FanOut([sink])
    writer.write([sample(1), sample(2)])
    sink.before = nothing
    writer.close()
    assert numbers(sink) == [1, 2]
    assert (sink.closed, writer.lost) == (True, 0)


def test_a_sink_that_keeps_failing_is_left_out_and_what_it_misses_is_counted(impatient: None) -> None:
    sink, other = OwnSink(), InMemorySink()
    writer = FanOut([sink, other])
    writer.write([sample(0)])
    sink.before = full
    for number in range(1, 6):
        writer.write([sample(number)])
    assert sink.closed
    assert not other.closed
    with pytest.raises(ServomexSinkWriteError, match="disk is full"):
        writer.close()
    assert (numbers(sink), numbers(other), writer.lost) == ([0], [0, 1, 2, 3, 4, 5], 5)


def test_too_much_that_waits_ends_the_patience(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "MOST_WAITING", 10)
    writer = FanOut([OwnSink(full), InMemorySink()])
    for number in range(11):
        writer.write([sample(number)])
    assert writer.lost == 11
    with pytest.raises(ServomexSinkWriteError):
        writer.close()


def test_the_last_sink_that_is_left_out_is_an_error(impatient: None) -> None:
    writer = FanOut([OwnSink(full), OwnSink(full)])
    writer.write([sample(0)])
    with pytest.raises(ServomexSinkWriteError, match="disk is full"):
        writer.write([sample(1)])
    with pytest.raises(ServomexSinkWriteError, match="disk is full"):
        writer.close()
    assert writer.lost == 4


def test_a_sample_that_is_refused_costs_that_sample_only(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(samples: Sequence[Sample]) -> None:
        if any(item.monotonic_ns % 3 == 0 for item in samples):
            raise ServomexSinkSchemaError("not a number")

    sink, other = OwnSink(refuse), InMemorySink()
    writer = FanOut([sink, other])
    writer.write([sample(number) for number in range(1, 8)])
    assert (numbers(sink), len(other.samples)) == ([1, 2, 4, 5, 7], 7)
    assert caplog.text.count("a sample was not written: not a number") == 2
    with pytest.raises(ServomexSinkSchemaError, match="not a number"):
        writer.close()
    assert writer.lost == 2


def test_a_batch_that_is_in_but_not_synced_is_not_written_twice(at_once: None) -> None:
    class Unsynced(InMemorySink):
        def write(self, samples: Sequence[Sample]) -> None:
            super().write(samples)
            if len(self.samples) < 3:
                raise ServomexSinkSyncError("fsync failed")

    sink = Unsynced()
    writer = FanOut([sink])
    for number in range(4):
        writer.write([sample(number)])
    writer.close()
    assert numbers(sink) == [0, 1, 2, 3]


def test_a_refused_sample_and_a_full_disk_at_once(at_once: None) -> None:
    calls = 0

    def act(samples: Sequence[Sample]) -> None:
        nonlocal calls
        calls += 1
        if any(item.monotonic_ns == 2 for item in samples):
            raise ServomexSinkSchemaError("not a number")
        if calls == 4:
            raise ServomexSinkWriteError("the disk is full")

    sink = OwnSink(act)
    writer = FanOut([sink])
    writer.write([sample(number) for number in range(1, 6)])  # whole, 1, 2 (refused), 3 (full)
    assert numbers(sink) == [1]
    writer.write([sample(6)])
    assert numbers(sink) == [1, 3, 4, 5, 6]
    with pytest.raises(ServomexSinkSchemaError):
        writer.close()
    assert writer.lost == 1


def test_rows_that_only_waited_in_the_sink_are_counted_when_closing_loses_them() -> None:
    class Forgetful(InMemorySink):
        def close(self) -> None:
            if not self.closed:
                self.rows -= 2
            super().close()
            raise ServomexSinkWriteError("the last 2 rows are lost")

    writer = FanOut([Forgetful()])
    writer.write([sample(number) for number in range(5)])
    with pytest.raises(ServomexSinkError, match="last 2 rows"):
        writer.close()
    assert writer.lost == 2


def test_every_sink_is_closed_whatever_the_others_do() -> None:
    class Broken(InMemorySink):
        def close(self) -> None:
            super().close()
            raise OSError("not one of ours")

    sinks = [Broken(), InMemorySink(), Broken(), InMemorySink()]
    with pytest.raises(ServomexSinkWriteError, match="not one of ours"):
        FanOut(sinks).close()
    assert all(sink.closed for sink in sinks)


def test_what_waits_in_a_sink_at_the_end_is_tried_again(at_once: None) -> None:
    class Later(InMemorySink):
        attempts = 0

        def flush(self) -> None:
            self.attempts += 1
            if self.attempts < 3:
                raise ServomexSinkWriteError("the server is away")
            super().flush()

    sink = Later()
    writer = FanOut([sink])
    sink._flush_s = 1000.0
    writer.write([sample(1)])
    writer.close()
    assert (writer.lost, numbers(sink)) == (0, [1])


def test_samples_that_a_database_did_not_take_are_counted() -> None:
    class Choosy(InMemorySink):
        @property
        def refused(self) -> int:
            return min(2, self.rows)

    writer = FanOut([Choosy()])
    writer.write([sample(number) for number in range(5)])
    assert writer.lost == 2
    writer.close()
