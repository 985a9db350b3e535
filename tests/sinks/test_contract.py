"""What every sink does, whatever its format: what returns, which file may be written by whom, what is told."""

import importlib
import logging
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import servomex
import servomex.sinks
from servomex.errors import (
    ServomexSinkDependencyError,
    ServomexSinkError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.models.sample import Sample
from servomex.recording.load import load
from servomex.sinks import (
    CsvSink,
    InMemorySink,
    JsonlSink,
    ParquetSink,
    Sink,
    SinkOptions,
    SqliteSink,
    check_targets,
    open_sink,
    options_of,
)
from tests.helpers.any_samples import samples
from tests.helpers.recordings import FILES, ONE_EACH, TEXT_FILES, batch, batches, joined, write
from tests.helpers.unprivileged import refused

every_file = pytest.mark.parametrize("name", FILES)
every_format = pytest.mark.parametrize("name", ONE_EACH)


class TestMemory:
    def test_samples_are_at_hand_at_once_and_stay_what_they_are(self) -> None:
        sink = open_sink("memory://", metadata={"port": "COM3"})
        assert isinstance(sink, InMemorySink)
        first = batch(0)
        sink.write(first)
        assert all(mine is yours for mine, yours in zip(sink.samples, first, strict=True))
        sink.close()
        assert (sink.samples, sink.rows, sink.metadata, sink.name) == (first, 5, {"port": "COM3"}, "memory://")


class TestEveryFile:
    @every_file
    def test_what_is_written_is_read(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        parts = batches(30)
        with open_sink(path) as sink:
            for part in parts:
                sink.write(part)
            sink.write([])
            assert (sink.rows, sink.closed, sink.name) == (len(joined(parts)), False, str(path))
        assert sink.closed
        sink.close()
        assert list(load(path)) == joined(parts)
        left = [item.name for item in tmp_path.iterdir()]
        assert left == [name]

    @every_format
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(parts=st.lists(st.lists(samples(), max_size=4), max_size=3))
    def test_every_sample_returns_as_it_was(self, name: str, parts: list[list[Sample]], tmp_path: Path) -> None:
        path = tmp_path / name
        written = write(path, parts, overwrite=True, flush_s=0, fsync_s=None)
        assert list(load(path)) == written

    @every_format
    def test_flushed_rows_are_there_for_others(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        with open_sink(path, flush_s=1000) as sink:
            sink.write(batch(0))
            sink.flush()
            sink.write(batch(1))
            assert list(load(path)) == batch(0)
            sink.sync()
            assert list(load(path)) == joined(batches(2))

    @every_format
    def test_a_recording_without_rows_is_one(self, name: str, tmp_path: Path) -> None:
        assert write(tmp_path / name, []) == []
        assert list(load(tmp_path / name)) == []
        assert write(tmp_path / name, batches(1), append=True) == list(load(tmp_path / name))

    @every_format
    def test_it_may_be_opened_and_written_in_different_threads(self, name: str, tmp_path: Path) -> None:
        sink = open_sink(tmp_path / name, flush_s=0)
        thread = threading.Thread(target=sink.write, args=(batch(0),))
        thread.start()
        thread.join()
        sink.close()
        assert list(load(tmp_path / name)) == batch(0)

    @every_format
    def test_after_closing_nothing_is_written(self, name: str, tmp_path: Path) -> None:
        sink = open_sink(tmp_path / name)
        sink.close()
        with pytest.raises(ServomexSinkError, match=rf"{name} is closed: nothing more can be written to it"):
            sink.write(batch(0))
        sink.flush()
        sink.sync()
        sink.flush_if_due()

    @every_format
    def test_a_sample_that_cannot_be_written_takes_its_batch_with_it(self, name: str, tmp_path: Path) -> None:
        good, bad = batch(0), [*batch(1)]
        bad[3] = attrs.evolve(bad[3], latency_s=float("nan"))
        with open_sink(tmp_path / name) as sink:
            sink.write(good)
            with pytest.raises(ServomexSinkSchemaError, match=rf"{name} cannot hold a sample: latency_s is nan"):
                sink.write(bad)
            sink.write(batch(2))
        assert list(load(tmp_path / name)) == good + batch(2)

    @every_format
    @pytest.mark.parametrize("options", [{}, {"rotate": "5s"}])
    def test_it_stays_in_its_folder_when_the_program_goes_to_another(
        self, name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "here").mkdir()
        (tmp_path / "there").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        with open_sink(name, flush_s=0, **options) as sink:
            sink.write(batch(0))
            monkeypatch.chdir(tmp_path / "there")
            for part in batches(4, 1):
                sink.write(part)
        assert list((tmp_path / "there").iterdir()) == []
        assert list(load(sorted((tmp_path / "here").iterdir()))) == joined(batches(5))

    @every_format
    def test_odd_names_of_files_are_names(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / f"a b%23&'ü[1]{name}"
        written = write(path, batches(2))
        assert list(load(str(path))) == written

    def test_suffixes_may_be_in_capitals(self, tmp_path: Path) -> None:
        for name in ("RUN.CSV", "Run.Jsonl.GZ", "RUN.SQLITE", "RUN.Parquet"):
            assert write(tmp_path / name, batches(2)) == list(load(tmp_path / name))
        assert (tmp_path / "Run.Jsonl.GZ").read_bytes()[:2] == b"\x1f\x8b"


class TestExistingFiles:
    @every_format
    def test_a_file_that_exists_is_left_alone(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        written = write(path, batches(2))
        before = path.read_bytes()
        with pytest.raises(ServomexSinkWriteError, match=rf"{name} exists already"):
            open_sink(path)
        assert path.read_bytes() == before
        assert list(load(path)) == written

    @every_format
    def test_append_goes_on_with_it(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        for first in (0, 20, 40):
            write(path, batches(20, first), append=True)
        assert list(load(path)) == joined(batches(60))
        assert [item.name for item in tmp_path.iterdir()] == [name]

    @every_format
    def test_overwrite_starts_over(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.write_bytes(b"anything\n")
        for first in (0, 20):
            written = write(path, batches(20, first), overwrite=True)
            assert list(load(path)) == written

    @every_format
    def test_not_both(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ServomexValidationError, match="appended to or overwritten, not both"):
            open_sink(tmp_path / name, append=True, overwrite=True)
        assert list(tmp_path.iterdir()) == []

    @every_format
    def test_an_empty_file_can_be_continued(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.touch()
        if name.endswith("parquet"):
            with pytest.raises(ServomexSinkSchemaError, match="damaged or not a Parquet file"):
                open_sink(path, append=True)
        else:
            assert write(path, batches(2), append=True) == list(load(path))

    @every_format
    def test_a_file_of_another_make_is_not_continued(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        if name.endswith(".gz"):
            write(path.with_suffix(""), [])
            path.write_bytes(b"\x1f\x8b\x08 no gz at all")
        else:
            path.write_text("name;value\nOxygen;20\n" * 100)
        before = path.read_bytes()
        with pytest.raises(ServomexSinkSchemaError, match=re.escape(str(path))):
            open_sink(path, append=True)
        assert path.read_bytes() == before
        assert not path.with_name(f"{name}.parts").exists()

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks on Windows")
    @pytest.mark.parametrize("name", [*TEXT_FILES, "run.parquet"])
    def test_two_do_not_write_to_one_file(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        with open_sink(path) as sink:
            sink.write(batch(0))
            sink.flush()
            for option in ("append", "overwrite"):
                with pytest.raises(ServomexSinkWriteError, match=rf"{name} is being written by another program"):
                    open_sink(path, **{option: True})  # type: ignore[arg-type]
            sink.write(batch(1))
        assert list(load(path)) == joined(batches(2))


class TestWhereNothingCanBeWritten:
    @every_format
    def test_no_such_folder(self, name: str, tmp_path: Path) -> None:
        folder = tmp_path / "nowhere"
        with pytest.raises(ServomexSinkWriteError) as caught:
            open_sink(folder / name)
        assert str(caught.value) == f"there is no folder {folder}. Create it, or choose another"
        assert isinstance(caught.value.__cause__, FileNotFoundError)

    @every_format
    def test_a_file_in_place_of_the_folder(self, name: str, tmp_path: Path) -> None:
        folder = tmp_path / "file"
        folder.touch()
        with pytest.raises(ServomexSinkWriteError, match=rf"{re.escape(str(folder))} is not a folder"):
            open_sink(folder / name)

    @every_format
    def test_a_folder_in_place_of_the_file(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).mkdir()
        every: list[dict[str, Any]] = [{}, {"append": True}, {"overwrite": True}]
        for options in every:
            with pytest.raises(ServomexSinkError, match=re.escape(str(tmp_path / name))):
                open_sink(tmp_path / name, **options)

    @pytest.mark.parametrize("how", ["open_sink(name)", "check_targets([name])", "open_sink(name, rotate='1d')"])
    def test_a_folder_that_may_not_be_written(self, how: str, tmp_path: Path) -> None:
        tmp_path.chmod(0o555)
        try:
            told = refused(how, tmp_path, ONE_EACH)
        finally:
            tmp_path.chmod(0o755)
        words = "cannot be written: permission denied. Check the permissions of the file and its folder"
        assert told == [f"ServomexSinkWriteError {name} {words}" for name in ONE_EACH]

    @pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(30, "read-only"), OSError(28, "full")])
    @every_format
    def test_an_error_of_the_system_is_explained(
        self, name: str, error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = {13: "cannot be written: permission denied", 30: "read-only disk", 28: "is full"}

        def refuse(*_args: object, **_options: object) -> None:
            raise error

        for place in ("servomex.sinks.places.io.FileIO", "pathlib.Path.open", "pathlib.Path.mkdir"):
            monkeypatch.setattr(place, refuse)
        with pytest.raises(ServomexSinkWriteError, match=words[error.errno or 0]):
            open_sink(tmp_path / name)
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == []

    def test_missing_pyarrow_is_reported_before_anything_is_touched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        for rotate in (None, "1d"):
            with pytest.raises(ServomexSinkDependencyError, match=r'pip install "servomex\[parquet\]"'):
                open_sink(tmp_path / "run.parquet", rotate=rotate)
        assert list(tmp_path.iterdir()) == []


class TestTable:
    @pytest.mark.parametrize("target", ["run.xls", "run", "csv", "run.csv.zip", "mongo://host/x", "x.parquet.gz"])
    def test_an_unknown_suffix_is_reported_with_the_known_ones(self, target: str) -> None:
        with pytest.raises(ServomexValidationError) as caught:
            open_sink(target)
        assert str(caught.value).endswith(
            "ends with .csv, .csv.gz, .jsonl, .ndjson, .jsonl.gz, .sqlite, .sqlite3, .db, .parquet, or a table, "
            "as postgresql://USER@HOST/DATABASE"
        )
        assert target in str(caught.value)

    def test_a_url_is_found_by_its_scheme_and_not_by_its_end(self) -> None:
        with open_sink("memory://run.csv") as sink:
            assert isinstance(sink, InMemorySink)
        with pytest.raises(ServomexValidationError, match=r"not a file: it cannot be rotated"):
            open_sink("memory://", rotate="1d")

    @pytest.mark.parametrize(("name", "option", "formats"), [
        ("run.jsonl", {"decimal": ","}, ".csv, .csv.gz"),
        ("run.csv", {"table": "x"}, ".sqlite, .sqlite3, .db, postgresql://"),
        ("run.sqlite", {"compression": "zstd"}, ".parquet"), ("run.parquet", {"decimal": "."}, ".csv, .csv.gz"),
        ("run.csv.gz", {"metadata": {"a": "b"}}, ".sqlite, .sqlite3, .db, .parquet, postgresql://, mqtt:"),
        ("memory://", {"append": True}, ".csv, .csv.gz, .jsonl, .ndjson, .jsonl.gz, .sqlite, .sqlite3, .db, .par"),
        ("memory://", {"fsync_s": None}, ".csv, .csv.gz, .jsonl, "),
    ])  # fmt: skip
    @pytest.mark.parametrize("rotate", [None, "1d"])
    def test_an_option_of_another_format_is_reported_with_the_formats_that_have_it(
        self, name: str, option: Any, formats: str, rotate: str | None, tmp_path: Path
    ) -> None:
        target = name if "://" in name else tmp_path / name
        with pytest.raises(ServomexValidationError) as caught:
            open_sink(target, rotate=rotate, **option)
        assert f"{target} has no {next(iter(option))}: that is for {formats}" in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_of_several_files_each_is_given_what_it_has(self, tmp_path: Path) -> None:
        options: SinkOptions = {"decimal": ",", "compression": "snappy", "metadata": {"a": "b"}, "flush_s": 2.0}
        assert options_of("run.csv", options) == {"decimal": ",", "flush_s": 2.0}
        assert options_of("run.parquet", options) == {
            "compression": "snappy", "metadata": {"a": "b"}, "flush_s": 2.0,
        }  # fmt: skip
        assert options_of("memory://", options) == {"metadata": {"a": "b"}}
        check_targets([tmp_path / "run.csv", tmp_path / "run.parquet"], **options)
        with pytest.raises(
            ServomexValidationError, match=r"no file to be written has compression: that is for \.par"
        ):
            check_targets([tmp_path / "run.csv", tmp_path / "run.jsonl"], **options)

    @every_format
    def test_its_class_can_be_used_alone(self, name: str, tmp_path: Path) -> None:
        kinds = {"csv": CsvSink, "jsonl": JsonlSink, "sqlite": SqliteSink, "parquet": ParquetSink}
        kind: Any = kinds[name.removesuffix(".gz").rpartition(".")[2]]
        with open_sink(tmp_path / f"other-{name}") as sink:
            assert type(sink) is kind
        with kind(tmp_path / name) as sink:
            sink.write(batch(0))
            sink.write(batch(1))
        assert list(load(tmp_path / name)) == joined(batches(2))
        with kind(tmp_path / name, append=True, flush_s=0, fsync_s=None) as sink:
            sink.write(batch(2))
        assert list(load(tmp_path / name)) == joined(batches(3))

    def test_what_is_not_there_is_no_attribute(self) -> None:
        for name in ("MongoSink", "_SINKS2", "csv_sink"):
            assert not hasattr(servomex.sinks, name)
        assert set(importlib.import_module("servomex.sinks").__all__) <= set(dir(servomex.sinks))

    def test_a_sink_shows_what_it_is(self, tmp_path: Path) -> None:
        with open_sink(tmp_path / "run.csv") as sink:
            assert repr(sink) == f"<CsvSink {tmp_path / 'run.csv'} open, 0 rows>"
        assert repr(sink) == f"<CsvSink {tmp_path / 'run.csv'} closed, 0 rows>"

    def test_the_package_gives_it(self) -> None:
        assert servomex.open_sink is open_sink
        assert issubclass(InMemorySink, Sink)


def test_nothing_is_logged_when_nothing_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "servomex")
    for name in ONE_EACH:
        write(tmp_path / name, batches(3))
        write(tmp_path / name, batches(3), append=True)
        list(load(tmp_path / name))
    assert caplog.messages == []


def test_a_heavy_package_is_imported_when_it_is_wanted(call_fresh: Callable[[str], str]) -> None:
    assert call_fresh("import servomex") == "[]"
    assert call_fresh("import servomex.sinks, servomex.recording.load, servomex.recording.dataframes") == "[]"
    assert call_fresh("import servomex; servomex.load, servomex.open_sink, servomex.to_pandas") == "[]"


@pytest.fixture
def call_fresh() -> Callable[[str], str]:
    """Run a line in a new interpreter and tell which of the heavy packages it imported."""
    import subprocess

    def call(line: str) -> str:
        heavy = "print([n for n in ('pandas', 'pyarrow', 'sqlite3', 'numpy', 'pymodbus') if n in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; {line}; {heavy}"], capture_output=True, check=True, timeout=30
        )
        return done.stdout.decode().strip()

    return call
