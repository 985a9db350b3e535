"""load(): which files are meant, in which order, and what is told of those that cannot be read."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import servomex
from servomex.errors import ServomexSinkReadError, ServomexSinkSchemaError, ServomexValidationError
from servomex.models.sample import Sample
from servomex.recording.load import load, load_metadata
from servomex.sinks import open_sink
from tests.helpers.recordings import ONE_EACH, TEXT_FILES, batch, batches, joined, write
from tests.helpers.unprivileged import refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with one recording of each format in it, of a batch each."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(ONE_EACH):
        write(tmp_path / name, [batch(number)])
    return tmp_path


def test_the_package_gives_it() -> None:
    assert servomex.load is load


class TestSources:
    @pytest.mark.parametrize("kind", [str, Path, os.fspath])
    def test_one_path(self, folder: Path, kind: Any) -> None:
        assert list(load(kind(folder / "run.csv"))) == batch(0)
        assert list(load(kind("run.csv"))) == batch(0)

    def test_several_in_the_order_in_which_they_are_given(self, folder: Path) -> None:
        names: list[str | Path] = ["run.parquet", folder / "run.csv", "run.sqlite"]
        assert list(load(names)) == batch(5) + batch(0) + batch(4)
        assert list(load(iter(names))) == list(load(names))
        assert list(load([])) == []

    def test_a_pattern_gives_the_files_that_fit_in_the_order_of_their_names(self, folder: Path) -> None:
        assert list(load("run.[cj]s*")) == joined(batches(4))
        assert list(load(["run.j*", "run.c*"])) == batch(2) + batch(3) + batch(0) + batch(1)
        assert list(load(f"{folder}/*.parquet")) == batch(5)

    def test_a_file_that_is_meant_twice_is_read_once(self, folder: Path) -> None:
        assert list(load(["run.csv", "run.c*", "run.csv"])) == batch(0) + batch(1)

    def test_a_file_whose_name_looks_like_a_pattern_is_a_file(self, folder: Path) -> None:
        written = write(folder / "run[1]*.csv", [batch(9)])
        assert list(load("run[1]*.csv")) == written

    def test_a_pattern_without_a_suffix_gives_the_recordings_with_what_belongs_to_them(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("run.sqlite-shm", "run.csv.tmp", "run.lock", "run.txt"):
            Path(name).write_bytes(b"x")
        Path("run-folder").mkdir()
        with open_sink("run2.sqlite") as database, open_sink("run3.parquet") as table:
            for sink in (database, table):
                sink.write(batch(6))
                sink.flush()
            assert Path("run2.sqlite-wal").exists()
            assert Path("run3.parquet.parts").exists()
            found = list(load("run*"))
        assert found == batch(0) + batch(1) + batch(2) + batch(3) + batch(5) + batch(4) + batch(6) * 2
        assert caplog.messages == []
        with pytest.raises(ServomexSinkReadError, match=r"no recording matches run\.t\*"):
            load("run.t*")

    @pytest.mark.parametrize("script", ["", "PRAGMA user_version = 1"])
    def test_a_database_that_was_just_begun_gives_no_rows_among_others(
        self, script: str, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        blank = Path("run-1.sqlite")
        blank.touch()
        with contextlib.closing(sqlite3.connect(blank)) as connection:
            connection.execute(script)
        write(folder / "run-2.sqlite", [batch(7)])
        assert list(load("run-*.sqlite")) == batch(7)
        assert [message.partition(":")[0] for message in caplog.messages] == ["run-1.sqlite has no tables"]
        with pytest.raises(ServomexSinkSchemaError, match="it has no table 'samples', it is empty"):
            list(load(blank))

    def test_a_folder_for_parts_that_has_none_gives_no_rows_among_others(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (folder / "run-1.parquet.parts").mkdir()
        (folder / "run-1.parquet.parts" / ".lock").touch()
        write(folder / "run-2.parquet", [batch(7)])
        assert list(load("run-*.parquet")) == list(load("run-*")) == batch(7)
        assert [message.partition(" is empty")[0] for message in caplog.messages] == ["run-1.parquet.parts"] * 2
        assert list(load("run-1*")) == []

    def test_nothing_is_held_open_when_the_reading_is_broken_off(self, folder: Path) -> None:
        for name in ONE_EACH:
            samples = load(name)
            next(samples)
            del samples
            open_sink(name, overwrite=True).close()


class TestErrors:
    @pytest.mark.parametrize(("source", "kind", "words"), [
        ("nope.csv", ServomexSinkReadError, "there is no file nope.csv"),
        ("nope.parquet", ServomexSinkReadError, "there is no file nope.parquet"),
        ("nope-*.csv", ServomexSinkReadError, "no file matches nope-*.csv"),
        ("run.txt", ServomexValidationError, "ends with .csv, .csv.gz"),
        ("memory://", ServomexValidationError, "memory:// cannot be read back: only files and tables of Postgre"),
        (["run.csv", "nope.csv"], ServomexSinkReadError, "there is no file nope.csv"),
    ])  # fmt: skip
    def test_a_source_that_cannot_be_is_reported_at_once(
        self, source: Any, kind: type[Exception], words: str, folder: Path
    ) -> None:
        with pytest.raises(kind) as caught:
            load(source)
        assert words in str(caught.value)

    def test_a_folder_without_parts_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(ServomexSinkReadError, match="is a folder without parts of a recording"):
            list(load(tmp_path))

    @pytest.mark.parametrize("name", [name for name in ONE_EACH if name in TEXT_FILES])
    def test_a_file_that_vanishes_is_reported(self, name: str, folder: Path) -> None:
        samples = load(name)
        (folder / name).unlink()
        with pytest.raises(ServomexSinkReadError, match=f"there is no file {name}"):
            next(samples)

    def test_a_file_that_may_not_be_read_is_reported(self, folder: Path) -> None:
        names = [name for name in ONE_EACH if (folder / name).is_file()]
        for name in names:
            (folder / name).chmod(0)
        told = refused("list(load(name))", folder, names)
        assert told == [
            f"ServomexSinkReadError {name} cannot be read: permission denied. Check its permissions"
            for name in names
        ]

    def test_what_was_good_is_given_before_the_damage_is_reported(self, folder: Path) -> None:
        with (folder / "run.jsonl").open("ab") as file:
            file.write(b"{}\n")
        samples = load(["run.csv", "run.jsonl", "run.parquet"])
        given: list[Sample] = []
        with pytest.raises(ServomexSinkSchemaError, match=r"run\.jsonl, line 6: it lacks 'received_at'"):
            given += samples
        assert given == batch(0) + batch(2)


class TestMetadata:
    def test_it_returns_where_the_format_has_a_place_for_it(self, tmp_path: Path) -> None:
        metadata = {"port": "COM3", "software": "servomex 0.1"}
        for name in ONE_EACH:
            has_place = name.endswith(("sqlite", "parquet"))
            write(tmp_path / name, batches(1), **({"metadata": metadata} if has_place else {}))
            assert load_metadata(tmp_path / name) == (metadata if has_place else {})

    def test_a_file_that_is_missing_is_reported(self) -> None:
        with pytest.raises(ServomexSinkReadError, match=r"there is no file nope\.db"):
            load_metadata("nope.db")
