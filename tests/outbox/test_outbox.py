"""Outbox: what is added comes out for each sink, in order, also after a restart; one process at a time uses it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from servomex.errors import (
    ServomexConfigurationError,
    ServomexSinkError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.models.columns import ROW_COLUMNS
from servomex.outbox import Outbox, look
from servomex.outbox.database import VERSION
from tests.helpers.outboxes import killed, numbers, row, rows
from tests.helpers.recordings import batches, joined


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def all_of(outbox: Outbox, sink: str) -> list[int]:
    """Store all that a sink is handed, and give the numbers."""
    found: list[int] = []
    while batch := outbox.take(sink):
        found += numbers(batch.samples)
        outbox.done(batch)
    return found


def test_each_sink_gets_all_that_was_added_as_it_was(path: Path) -> None:
    with Outbox(path, ["db", "file"]) as outbox:
        for batch in batches(20):
            assert outbox.add(batch)
        for name in outbox.sinks:
            taken = outbox.take(name)
            assert taken is not None
            assert [*taken.samples] == joined(batches(20))


def test_what_is_not_done_comes_again_after_a_restart(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 10))
        first = outbox.take("db")
        assert first is not None
        outbox.done(first, 4)
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(10, 12))
        again = outbox.take("db")
        assert again is not None
        assert (numbers(again.samples), again.stored_before) == ([*range(4, 12)], 6)
        outbox.done(again)
        assert all_of(outbox, "db") == []


def test_a_kill_loses_nothing_that_was_added(path: Path, tmp_path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 5))
        copy = killed(path, tmp_path / "copy")
    with Outbox(copy, ["db"]) as outbox:
        assert all_of(outbox, "db") == [0, 1, 2, 3, 4]


def test_a_kill_while_the_first_rows_are_added_leaves_an_outbox(path: Path, tmp_path: Path) -> None:
    with Outbox(path, ["db"]):
        copy = killed(path, tmp_path / "copy")
    with Outbox(copy, ["db"]) as outbox:
        assert all_of(outbox, "db") == []


def test_rows_are_deleted_when_every_sink_has_them(path: Path) -> None:
    with Outbox(path, ["one", "two"]) as outbox:
        outbox.add(rows(0, 100))
        all_of(outbox, "one")
        assert (outbox.figures().rows, outbox.figures().sink("two").waiting) == (100, 100)
        assert outbox.figures().sink("one").delivered == 100
        all_of(outbox, "two")
        assert (outbox.figures().rows, outbox.figures().oldest_age_s) == (0, None)
        outbox.tend()
        assert outbox._store._oldest(1) == []


def test_many_rows_come_in_batches(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 2_500))
        outbox.add(rows(2_500, 2_600))
        sizes = []
        while batch := outbox.take("db"):
            sizes.append(len(batch.samples))
        assert sizes == [1_000, 1_000, 600]
        outbox.rewind("db")
        assert all_of(outbox, "db") == [*range(2_600)]


def test_a_new_sink_gets_what_is_added_from_now_on(path: Path) -> None:
    with Outbox(path, ["old"]) as outbox:
        outbox.add(rows(0, 3))
        outbox.name_sinks(["old", "new"])
        outbox.add(rows(3, 5))
        assert (all_of(outbox, "old"), all_of(outbox, "new")) == ([0, 1, 2, 3, 4], [3, 4])


def test_the_rows_of_a_sink_that_is_no_longer_named_stay(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Outbox(path, ["old"]) as outbox:
        outbox.add(rows(0, 3))
    with Outbox(path, ["new"]) as outbox:
        assert "keeps 3 rows for the sink old, which is no longer named" in caplog.text
        assert (outbox.figures().rows, outbox.figures().sink("old").is_named) == (3, False)
        with pytest.raises(ServomexValidationError, match="no sink 'old'"):
            outbox.take("old")
    with Outbox(path, ["old"]) as outbox:
        assert all_of(outbox, "old") == [0, 1, 2]


def test_a_sink_without_rows_is_forgotten_when_it_is_no_longer_named(path: Path) -> None:
    with Outbox(path, ["old", "other"]) as outbox:
        outbox.name_sinks(["other"])
        assert [sink.name for sink in outbox.figures().sinks] == ["other"]


def test_numbers_go_on_after_all_was_delivered(path: Path) -> None:
    for number in range(3):
        with Outbox(path, ["db"]) as outbox:
            outbox.add([row(number)])
            assert all_of(outbox, "db") == [number]
            assert outbox.figures().sink("db").delivered == number + 1


def test_a_row_that_no_file_can_hold_is_replaced_by_an_error(path: Path) -> None:
    bad = attrs.evolve(row(1), latency_s=float("nan"))
    with Outbox(path, ["db"]) as outbox:
        outbox.add([row(0), bad, row(2)])
        batch = outbox.take("db")
        assert batch is not None
        assert [str(sample.error) for sample in batch.samples] == [
            "row 0",
            "a row cannot be stored: latency_s is nan; use None for an invalid value",
            "row 2",
        ]


def test_a_second_process_is_refused_and_may_look(path: Path) -> None:
    source = f"from servomex.outbox import Outbox; Outbox({str(path)!r}, ['db'])"
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 7))
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
        assert "is being written by another program" in done.stderr
        look_at = f"from servomex.outbox import look; print(look({str(path)!r}).sink('db').waiting)"
        seen = subprocess.run([sys.executable, "-c", look_at], capture_output=True, text=True, check=True)
        assert seen.stdout == "7\n"
        outbox.add(rows(7, 8))
        assert all_of(outbox, "db") == [*range(8)]


def test_looking_shows_what_the_owner_sees(path: Path) -> None:
    with Outbox(path, ["one", "two"]) as outbox:
        outbox.add(rows(0, 10))
        all_of(outbox, "one")
        seen, own = look(path), outbox.figures()
        assert [(sink.name, sink.waiting, sink.delivered) for sink in seen.sinks] == [
            ("one", 0, 10),
            ("two", 10, 0),
        ]
        assert (seen.rows, seen.size) == (own.rows, own.size)
        assert seen.oldest_age_s is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_cannot_use_it(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        pid = os.fork()
        if not pid:
            try:
                outbox.add(rows(0, 1))
            except ServomexConfigurationError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        outbox.add(rows(0, 2))
        assert all_of(outbox, "db") == [0, 1]


def test_after_the_end_it_refuses_and_can_be_closed_again(path: Path) -> None:
    outbox = Outbox(path, ["db"])
    outbox.close()
    outbox.close()
    with pytest.raises(ServomexSinkError, match="is closed"):
        outbox.add(rows(0, 1))
    assert not path.with_name("outbox.sqlite-lock").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sinks": []}, "one or more sinks"),
        ({"sinks": ["a", "a"]}, "same name"),
        ({"sinks": ["a\n"]}, "name"),
        ({"max_size": "5kB"}, "1MB or more"),
        ({"max_size": True}, "1MB or more"),
        ({"max_age": "soon"}, "not a duration"),
        ({"max_age": 0}, "max_age"),
        ({"fsync_s": -1}, "fsync_s"),
        ({"most_waiting": 5}, "most_waiting"),
    ],
)
def test_wrong_arguments_are_named(path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ServomexValidationError, match=words):
        Outbox(path, **{"sinks": ["db"], **arguments})  # type: ignore[arg-type]
    assert not path.exists()


def test_samples_only(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox, pytest.raises(ServomexValidationError, match="list of samples"):
        outbox.add(["no"])  # type: ignore[list-item]


def test_another_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("received_at,value\n" * 20)
    with pytest.raises(ServomexSinkSchemaError, match="is not an outbox"):
        Outbox(path, ["db"])
    assert path.read_text().startswith("received_at")


def test_a_recording_is_refused_and_left_alone(tmp_path: Path) -> None:
    from servomex.sinks import open_sink

    path = tmp_path / "run.sqlite"
    with open_sink(path) as sink:
        sink.write(joined(batches(2)))
    for use in (lambda: Outbox(path, ["db"]), lambda: look(path)):
        with pytest.raises(ServomexSinkSchemaError, match="is not an outbox"):
            use()


def test_another_version_is_refused_and_left_alone(path: Path) -> None:
    with Outbox(path, ["db"]) as outbox:
        outbox.add(rows(0, 3))
        outbox._store._ledger._connection.execute("PRAGMA user_version = 99")
    for use in (lambda: Outbox(path, ["db"]), lambda: look(path)):
        with pytest.raises(ServomexSinkSchemaError, match=f"version 99, and this package has version {VERSION}"):
            use()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServomexSinkWriteError, match="missing"):
        Outbox(tmp_path / "missing" / "outbox.sqlite", ["db"])


def test_the_version_changes_with_the_columns() -> None:
    assert (VERSION, len(ROW_COLUMNS), ROW_COLUMNS[-1]) == (1, 29, "tags"), (
        "rows of older outboxes must stay readable"
    )


def test_any_number_of_threads_may_add(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Outbox(path, ["db"]) as outbox, caplog.at_level(logging.WARNING):

        def add(device: int) -> None:
            for number in range(50):
                outbox.add([row(number, f"rig {device}")])

        with ThreadPoolExecutor(8) as pool:
            [*pool.map(add, range(8))]
        batch = outbox.take("db")
        assert batch is not None
        for device in range(8):
            own = [sample for sample in batch.samples if sample.device == f"rig {device}"]
            assert numbers(own) == [*range(50)]
    assert caplog.text == ""
