"""When a sink stores what it was given, and what becomes of it when that fails."""

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from servomex.errors import ServomexSinkWriteError, ServomexValidationError
from servomex.sinks import base
from servomex.sinks.base import MOST_PENDING, BufferedSink
from tests.helpers.recordings import batch, batches, joined


class Store(BufferedSink):
    """A sink whose disk is a list, and fails when it is told to."""

    def __init__(self, **options: Any) -> None:
        self.stored: list[Any] = []
        self.broken: BaseException | None = None
        self.sync_broken: BaseException | None = None
        self.synced = self.finished = 0
        super().__init__("store", **options)

    def _prepared(self, samples: Any) -> list[Any]:
        return list(samples)

    def _store(self, rows: list[Any]) -> None:
        if self.broken:
            raise self.broken
        self.stored += rows

    def _sync(self) -> None:
        if self.sync_broken:
            raise self.sync_broken
        self.synced += 1

    def _finish(self) -> None:
        self.finished += 1


FULL = ServomexSinkWriteError("the disk is full")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of the sinks, in a hand that moves it."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


@pytest.fixture
def store(clock: SimpleNamespace) -> Iterator[Store]:
    with Store() as sink:
        yield sink


class TestIntervals:
    def test_rows_wait_for_a_second_and_then_are_flushed_with_the_batch_that_comes(
        self, store: Store, clock: SimpleNamespace
    ) -> None:
        store.write(batch(0))
        assert (store.stored, store.pending, store.rows) == ([], 5, 5)
        clock.now += 0.9
        store.write(batch(1))
        assert store.stored == []
        clock.now += 0.1
        store.write(batch(2))
        assert (store.stored, store.pending, store.rows) == (joined(batches(3)), 0, 15)

    def test_a_batch_after_a_pause_is_flushed_at_once(self, store: Store, clock: SimpleNamespace) -> None:
        clock.now += 5
        store.write(batch(0))
        assert store.stored == batch(0)

    def test_without_a_batch_the_interval_is_kept_by_the_call_for_it(
        self, store: Store, clock: SimpleNamespace
    ) -> None:
        store.write(batch(0))
        store.flush_if_due()
        assert store.stored == []
        clock.now += 1
        store.flush_if_due()
        assert store.stored == batch(0)

    def test_0_is_at_once(self) -> None:
        with Store(flush_s=0, fsync_s=0) as sink:
            sink.write(batch(0))
            assert (sink.stored, sink.synced) == (batch(0), 1)

    def test_many_rows_do_not_wait(self, store: Store) -> None:
        many = batch(0) * (MOST_PENDING // 5)
        store.write(many[:-1])
        assert store.stored == []
        store.write(many[-1:])
        assert len(store.stored) == MOST_PENDING

    def test_a_sync_comes_every_minute_when_there_is_something_new(
        self, store: Store, clock: SimpleNamespace
    ) -> None:
        clock.now += 59
        store.write(batch(0))
        assert store.synced == 0
        clock.now += 1
        store.flush_if_due()
        assert store.synced == 1
        clock.now += 3600
        store.flush_if_due()
        assert store.synced == 1
        store.write(batch(1))
        assert store.synced == 2

    def test_a_sync_is_a_flush_first(self, clock: SimpleNamespace) -> None:
        with Store(flush_s=1000, fsync_s=60) as sink:
            clock.now += 60
            sink.write(batch(0))
            assert (sink.stored, sink.synced) == (batch(0), 1)
            sink.write(batch(1))
            sink.sync()
            assert (sink.stored, sink.synced) == (joined(batches(2)), 2)

    def test_none_leaves_power_to_the_system(self, clock: SimpleNamespace) -> None:
        with Store(fsync_s=None) as sink:
            clock.now += 1e5
            sink.write(batch(0))
            sink.flush_if_due()
        assert (sink.stored, sink.synced) == (batch(0), 0)

    @pytest.mark.parametrize("options", [{"flush_s": -1}, {"flush_s": float("nan")}, {"fsync_s": "60"}])
    def test_an_interval_is_a_number_of_seconds(self, options: dict[str, Any]) -> None:
        with pytest.raises(ServomexValidationError, match=next(iter(options))):
            Store(**options)


class TestFailures:
    def test_a_batch_whose_flush_fails_is_not_in_and_those_before_it_wait(
        self, store: Store, clock: SimpleNamespace
    ) -> None:
        store.write(batch(0))
        store.broken = FULL
        clock.now += 1
        for _ in range(3):
            with pytest.raises(ServomexSinkWriteError, match="disk is full"):
                store.write(batch(1))
        assert (store.pending, store.rows) == (5, 5)
        store.broken = None
        store.write(batch(2))
        assert store.stored == batch(0) + batch(2)

    def test_it_is_not_in_either_when_it_is_a_sync_that_is_due(self, clock: SimpleNamespace) -> None:
        with Store(flush_s=1000, fsync_s=60) as sink:
            sink.write(batch(0))
            sink.broken = FULL
            clock.now += 60
            with pytest.raises(ServomexSinkWriteError):
                sink.write(batch(1))
            assert (sink.pending, sink.rows) == (5, 5)
            sink.broken = None
        assert sink.stored == batch(0)

    def test_an_interrupt_loses_nothing_either(self, store: Store, clock: SimpleNamespace) -> None:
        store.write(batch(0))
        store.broken = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            store.flush()
        store.broken = None
        store.flush()
        assert store.stored == batch(0)

    def test_a_failed_sync_is_reported_although_the_rows_are_in(
        self, store: Store, clock: SimpleNamespace
    ) -> None:
        store.sync_broken = FULL
        clock.now += 60
        with pytest.raises(ServomexSinkWriteError):
            store.write(batch(0))
        assert (store.stored, store.rows, store.pending) == (batch(0), 5, 0)
        store.sync_broken = None
        store.flush_if_due()
        assert store.synced == 1

    def test_closing_says_what_is_lost_and_lets_go(self, clock: SimpleNamespace) -> None:
        sink = Store()
        released: list[str] = []
        sink._held.callback(released.append, "file")
        clock.now += 1
        sink.write(batch(0))
        sink.write(batch(1))
        sink.broken = FULL
        with pytest.raises(ServomexSinkWriteError) as caught:
            sink.close()
        assert str(caught.value) == ("the disk is full. The last 5 rows are lost; those before them are in store")
        assert (released, sink.rows, sink.closed, sink.finished) == (["file"], 5, True, 0)
        sink.close()

    def test_the_error_of_the_block_is_the_one_that_is_raised(self, clock: SimpleNamespace) -> None:
        sink = Store()
        sink.write(batch(0))
        sink.broken = FULL
        with pytest.raises(KeyError) as caught, sink:
            raise KeyError("first")
        assert caught.value.__notes__ == [
            "on closing store: the disk is full. The last 5 rows are lost; those before them are in store"
        ]

    def test_without_another_error_that_of_closing_is_raised(self, clock: SimpleNamespace) -> None:
        sink = Store()
        sink.write(batch(0))
        sink.broken = FULL
        with pytest.raises(ServomexSinkWriteError, match="rows are lost"), sink:
            pass

    def test_a_sink_that_is_forgotten_is_reported_by_its_name(self) -> None:
        stored: list[Any] = []

        def forget() -> None:
            sink = Store()
            sink.stored = stored
            sink.write(batch(0))
            del sink
            gc.collect()

        with pytest.warns(ResourceWarning, match="store was never closed: use 'with', or call close"):
            forget()
        assert stored == batch(0)

    def test_what_could_not_be_opened_needs_no_closing(self) -> None:
        class Broken(Store):
            def _open(self) -> None:
                self._held.callback(released.append, "file")
                raise FULL

        released: list[str] = []
        with pytest.raises(ServomexSinkWriteError):
            Broken()
        gc.collect()
        assert released == ["file"]
