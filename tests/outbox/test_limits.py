"""Over its limits, on a full disk and after damage an outbox goes on, and each sink is told what it lacks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex.outbox import Outbox, look
from servomex.outbox.limits import AgeClock
from servomex.outbox.packing import Chunk
from servomex.runtime.clock import time
from tests.helpers.outboxes import Disk, gap_of, is_gap, numbers, row, rows
from tests.helpers.recordings import batch as readings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def disk() -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(patch)


def drained(outbox: Outbox, sink: str) -> list:  # type: ignore[type-arg]
    """Store all that a sink is handed, and give it."""
    found: list[object] = []
    while batch := outbox.take(sink):
        found += batch.samples
        outbox.done(batch)
    return found


def used(path: Path) -> int:
    return sum(
        item.stat().st_size for item in path.parent.iterdir() if item.name in (path.name, f"{path.name}-wal")
    )


def fill(outbox: Outbox, first: int, end: int) -> None:
    for number in range(first, end):
        outbox.add(readings(number))


def test_over_its_size_the_oldest_go_and_only_the_sink_that_lacks_them_is_told(path: Path) -> None:
    with Outbox(path, ["away", "well"], max_size="1MB") as outbox:
        largest, got = 0, 0
        for number in range(0, 6_000, 100):
            fill(outbox, number, number + 100)
            got += len(drained(outbox, "well"))
            largest = max(largest, used(path))
        assert largest <= 1_300_000
        figures = outbox.figures()
        assert (figures.sink("well").dropped, figures.sink("well").waiting) == (0, 0)
        dropped = figures.sink("away").dropped
        assert dropped > 1_000
        gap, *rest = drained(outbox, "away")
        assert gap_of(gap) == (dropped, readings(0)[0].received_at, gap.received_at)
        assert rest[0].received_at > gap.received_at
        assert len(rest) + dropped == got
        assert rest[-1] == readings(5_999)[-1]
        assert not any(map(is_gap, rest))


def test_a_gap_is_told_for_each_analyser_once(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add([row(0, "A"), row(1, "B")])
        outbox.add([row(2, "A")])
        outbox.add([row(3, "B")])
        store = outbox._store
        store._drop(store._oldest(1), "a limit")
        store._drop(store._oldest(1), "a limit")
        first, second, last = drained(outbox, "db")
        assert [(sample.device, gap_of(sample)[0]) for sample in (first, second)] == [("A", 2), ("B", 1)]
        assert str(first.error).endswith("rows from " + str(first.error).partition("rows from ")[2])
        assert last == row(3, "B")
    with Outbox(path, ["db"]) as outbox:
        assert drained(outbox, "db") == []


def test_rows_that_a_sink_stores_while_they_are_dropped_are_no_gap(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 5))
        outbox.add(rows(5, 8))
        batch = outbox.take("db", 5)
        assert batch is not None
        outbox._store._drop(outbox._store._oldest(2), "a limit")
        outbox.done(batch)
        (gap,) = drained(outbox, "db")
        assert gap_of(gap)[0] == 3


def test_rows_that_a_sink_could_not_store_before_they_were_dropped_are_a_gap(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 5))
        outbox.take("db")
        outbox._store._drop(outbox._store._oldest(1), "a limit")
        outbox.rewind("db")
        (gap,) = drained(outbox, "db")
        assert gap_of(gap)[0] == 5


def test_what_is_too_old_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servomex.outbox.store.TEND_S", 0.0)
    with Outbox(path, ["db"], max_age=0.2) as outbox:
        outbox.add(rows(0, 5))
        time.sleep(0.3)
        outbox.add(rows(5, 7))
        gap, *rest = drained(outbox, "db")
        assert (gap_of(gap)[0], numbers(rest)) == (5, [5, 6])
        assert "age limit" in str(gap.error)


@pytest.mark.parametrize("step_s", [-3_600.0, 40 * 365 * 86_400.0])
def test_a_clock_that_is_set_changes_neither_order_nor_age(
    path: Path, step_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = time.time
    with Outbox(path, ["db"], max_age="1h") as outbox:
        outbox.add(rows(0, 5))
        monkeypatch.setattr(time, "time", lambda: wall() + step_s)
        outbox.add(rows(5, 10))
        outbox.tend()
        age = outbox.figures().oldest_age_s
        assert age is not None
        assert 0 <= age < 60
    if step_s < 0:
        with Outbox(path, ["db"], max_age="1h") as outbox:
            outbox.add(rows(10, 12))
            assert numbers(drained(outbox, "db")) == [*range(12)]


def test_time_passes_while_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Chunk(1, 1, at=1_000.0, wall=5_000.0, data=b"")
    monkeypatch.setattr(time, "time", lambda: 5_600.0)
    assert AgeClock(last).now() == pytest.approx(1_600.0, abs=1)
    monkeypatch.setattr(time, "time", lambda: 4_000.0)
    assert AgeClock(last).now() == pytest.approx(1_000.0, abs=1)


def test_rows_wait_in_memory_while_the_disk_is_full_and_are_delivered_meanwhile(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    with Outbox(path, ["well", "away"]) as outbox:
        assert outbox.add(rows(0, 3))
        disk.full = True
        assert not outbox.add(rows(3, 6))
        assert numbers(drained(outbox, "well")) == [*range(6)]
        assert outbox.figures().in_memory == 3
        assert "is full" in str(outbox.figures().last_error)
        disk.full = False
        outbox._store._disk.try_at_once()
        assert outbox.add(rows(6, 7))
        assert outbox.figures().last_error is None
    assert caplog.text.count("is full") == 1
    with Outbox(path, ["well", "away"]) as outbox:
        assert numbers(drained(outbox, "well")) == [6]
        assert numbers(drained(outbox, "away")) == [*range(7)]


def test_memory_is_bounded_and_what_it_loses_is_counted_and_told(path: Path, disk: Disk) -> None:
    with Outbox(path, ["db"], most_waiting=1_000) as outbox:
        disk.full = True
        for first in range(0, 3_000, 100):
            outbox.add(rows(first, first + 100))
        assert (outbox.figures().in_memory, outbox.figures().lost) == (1_000, 2_000)
        disk.full = False
        outbox._store._disk.try_at_once()
        outbox.add(rows(3_000, 3_001))
        assert outbox.figures().rows == 3_001
    assert look(path).lost == 2_000
    with Outbox(path, ["db"]) as outbox:
        gap, *rest = drained(outbox, "db")
        assert gap_of(gap) == (2_000, row(0).received_at, row(1_999).received_at)
        assert numbers(rest) == [*range(2_000, 3_001)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a disk")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a disk in memory is mounted as on Linux")
def test_on_a_disk_that_is_really_full_the_newest_rows_are_kept(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        outbox = Outbox(small / "outbox.sqlite", ["db"], max_size="8MB", most_waiting=2_000)
        with outbox:
            for number in range(12_000):
                outbox.add(readings(number))
            got = drained(outbox, "db")
            outbox._store._disk.try_at_once()
            assert outbox.add(readings(12_000))
            assert small.joinpath("outbox.sqlite-reserve").exists()
        wanted = sum(len(readings(number)) for number in range(12_000))
        missing = sum(gap_of(sample)[0] for sample in got if is_gap(sample))
        kept = [sample for sample in got if not is_gap(sample)]
        assert len(kept) > 5_000
        assert len(kept) + missing == wanted
        assert kept[-1] == readings(11_999)[-1]
        assert [sample.received_at for sample in kept] == sorted(sample.received_at for sample in kept)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def damage(path: Path) -> None:
    """Overwrite all pages but the first."""
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(os.urandom(path.stat().st_size - 4_096))


def test_a_damaged_file_is_put_aside_and_each_sink_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 100))
    damage(path)
    with Outbox(path, ["db"]) as outbox:
        aside = path.with_name("outbox-damaged.sqlite")
        assert (outbox.figures().put_aside, aside.exists()) == (aside, True)
        assert f"{path} is damaged" in caplog.text
        assert "put aside as outbox-damaged.sqlite" in caplog.text
        assert outbox.add(rows(100, 103))
        gap, *rest = drained(outbox, "db")
        assert str(gap.error).startswith("an unknown number of rows")
        assert numbers(rest) == [100, 101, 102]


def test_a_file_that_is_damaged_while_it_is_open_is_put_aside(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 10))
        outbox.add(rows(10, 2_000))
        outbox._store._ledger.shorten_log()
        damage(path)
        outbox._store._ledger._connection.execute("PRAGMA cache_size = 0")
        for number in range(2_000, 2_010):
            outbox.add(rows(number, number + 1))
        outbox._store._disk.try_at_once()
        outbox.add(rows(2_010, 2_011))
        samples = drained(outbox, "db")
        samples += drained(outbox, "db")
        assert outbox.figures().put_aside is not None
        missing = sum(gap_of(sample)[0] for sample in samples if is_gap(sample))
        assert len(numbers(samples)) + missing == 2_011


def test_rows_of_zeros_after_a_loss_of_power_are_put_aside(path: Path) -> None:
    path.write_bytes(bytes(8_192))
    with Outbox(path, ["db"]) as outbox:
        assert outbox.figures().put_aside is not None
        assert outbox.add(rows(0, 1))


def test_a_chunk_that_cannot_be_read_is_a_gap_and_the_rest_goes_on(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 5))
        outbox.add(rows(5, 7))
        with outbox._store._ledger.transaction():
            outbox._store._ledger._connection.execute("UPDATE chunks SET data = x'00ff' WHERE first = 1")
        gap, *rest = drained(outbox, "db")
        assert gap_of(gap)[0] == 5
        assert "are damaged" in str(gap.error)
        assert numbers(rest) == [5, 6]


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
def test_a_file_that_another_program_removes_is_begun_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servomex.outbox.disk.LOOK_S", 0.0)
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 5))
        path.unlink()
        outbox.add(rows(5, 7))
        outbox.tend()
        samples = drained(outbox, "db")
        assert (gap_of(samples[0])[0], numbers(samples)) == (5, [5, 6])
        assert path.exists()
    with Outbox(path, ["db"]) as outbox:
        assert drained(outbox, "db") == []
