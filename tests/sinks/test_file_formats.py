"""Recordings whose names do not say their format: it is chosen for writing, and found for reading."""

import re
from pathlib import Path

import pytest

from servomex import ServomexSinkError, ServomexValidationError, load, open_sink
from servomex.cli.convert import convert
from servomex.cli.record import record
from servomex.rows.file_kinds import FORMATS, format_of
from tests.helpers.commands import FAST, invoke
from tests.helpers.recordings import batches, joined, write

pytestmark = pytest.mark.virtual_time

NAMES = ("run", "run.2026-11-30", "site.A", "run.log")
CONTRADICTIONS = [("run.csv", "jsonl"), ("run.csv.gz", "sqlite"), ("run.db", "csv"), ("RUN.PARQUET", "csv")]


@pytest.mark.parametrize("file_format", FORMATS)
class TestChosen:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_file_has_the_format_and_the_name_that_were_chosen(
        self, file_format: str, name: str, tmp_path: Path
    ) -> None:
        written = write(tmp_path / name, batches(3), file_format=file_format)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert list(load(tmp_path / name)) == written
        assert format_of(tmp_path / name) == file_format

    def test_it_can_be_continued(self, file_format: str, tmp_path: Path) -> None:
        written = batches(2)
        for batch, append in zip(written, (False, True), strict=True):
            with open_sink(tmp_path / "run", file_format=file_format, append=append) as sink:
                sink.write(batch)
        assert list(load(tmp_path / "run")) == joined(written)

    def test_files_in_turn_have_it_as_well(self, file_format: str, tmp_path: Path) -> None:
        written = write(tmp_path / "run", batches(3), file_format=file_format, rotate="1d")
        files = [path for path in tmp_path.iterdir() if path.is_file()]
        assert all(path.name.startswith("run-20") and not path.suffix for path in files)
        assert list(load(files)) == written

    def test_a_suffix_that_says_the_same_is_no_contradiction(self, file_format: str, tmp_path: Path) -> None:
        path = tmp_path / f"run{FORMATS[file_format]}"
        write(path, batches(1), file_format=file_format)
        assert list(load(path)) == joined(batches(1))


@pytest.mark.parametrize("file_format", ["csv", "jsonl"])
def test_a_name_that_ends_with_gz_is_packed(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "run.gz"
    write(path, batches(2), file_format=file_format)
    assert path.read_bytes().startswith(b"\x1f\x8b")
    assert list(load(path)) == joined(batches(2))


@pytest.mark.parametrize("file_format", ["sqlite", "parquet"])
def test_what_cannot_be_packed_is_refused(file_format: str, tmp_path: Path) -> None:
    with pytest.raises(ServomexValidationError, match=f"cannot be compressed as {file_format}"):
        open_sink(tmp_path / "run.gz", file_format=file_format)


@pytest.mark.parametrize(("name", "file_format"), CONTRADICTIONS)
def test_a_suffix_that_says_another_format_is_refused(name: str, file_format: str, tmp_path: Path) -> None:
    with pytest.raises(ServomexValidationError, match=f"is not {file_format}, as .* shows. Omit file_format, or"):
        open_sink(tmp_path / name, file_format=file_format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("target", "file_format", "words"), [
    ("run", "xls", "unknown file format 'xls'; known are csv, jsonl, sqlite, parquet"),
    ("memory://x", "csv", "is not csv, as memory:// shows"),
    ("mongo://host/x", "csv", "is not a file, but csv is a format of files"),
])  # fmt: skip
def test_what_cannot_have_a_format_is_refused(target: str, file_format: str, words: str) -> None:
    with pytest.raises(ServomexValidationError, match=re.escape(words)):
        open_sink(target, file_format=file_format)


class TestFound:
    @pytest.mark.parametrize(("content", "found"), [
        (b"", None), (b"received_at", None), (b"received_at,mono", "csv"), (b"received_at;mono", "csv"),
        (b"\xef\xbb\xbfreceived_at,mono", "csv"), ("\ufeffreceived_at;mono".encode("utf-16-le"), "csv"),
        (b'{"received_at": ', "jsonl"), (b'{"device": ', None), (b"SQLite format 3\0", "sqlite"),
        (b"PAR1", "parquet"), (b"\x1f\x8b", None), (b"# servomex trace", None),
    ])  # fmt: skip
    def test_the_first_bytes_show_it(self, content: bytes, found: str | None, tmp_path: Path) -> None:
        (tmp_path / "run").write_bytes(content)
        assert format_of(tmp_path / "run") == found

    @pytest.mark.parametrize("content", [b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"received_at,", b""])
    def test_a_damaged_packed_file_is_none(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "run.gz").write_bytes(content)
        assert format_of(tmp_path / "run.gz") is None

    def test_the_parts_of_a_killed_recording_are_found(self, tmp_path: Path) -> None:
        with open_sink(tmp_path / "run", file_format="parquet") as sink:
            sink.write(joined(batches(2)))
            sink.flush()
            assert not (tmp_path / "run").exists()
            assert list(load(tmp_path / "run")) == joined(batches(2))

    def test_what_is_none_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("hello")
        with pytest.raises(ServomexValidationError, match="the name of a recording, and does not begin like one"):
            load(tmp_path / "run")
        with pytest.raises((ServomexValidationError, ServomexSinkError), match="is not there"):
            load(tmp_path / "away")


class TestCommands:
    def test_a_recording_is_written_and_converted(self, tmp_path: Path) -> None:
        run, copy = tmp_path / "run", tmp_path / "copy"
        args = ("sim://4100", str(run), *FAST, "--count", "2", "--rate", "50", "--format", "jsonl")
        assert invoke(*args, command=record).exit_code == 0
        assert invoke(str(run), str(copy), "--format", "sqlite", command=convert).exit_code == 0
        assert list(load(copy)) == list(load(run)) != []
        assert format_of(copy) == "sqlite"

    @pytest.mark.parametrize(("name", "file_format"), CONTRADICTIONS)
    def test_a_contradiction_is_refused_before_a_port_is_opened(self, name: str, file_format: str) -> None:
        result = invoke("/dev/nope", name, "--format", file_format, command=record)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"is not {file_format}, as " in result.stderr
        assert "shows. Omit --format, or choose another name" in result.stderr

    def test_without_it_the_error_names_it(self) -> None:
        result = invoke("/dev/nope", "run", command=record)
        assert result.exit_code == 2
        assert "Choose one, as in --format csv, or name a file that ends with .csv" in result.stderr

    def test_a_decimal_comma_goes_with_it(self, tmp_path: Path) -> None:
        args = ("sim://4100", str(tmp_path / "run"), *FAST, "--count", "1", "--format", "csv", "--decimal", ",")
        assert invoke(*args, command=record).exit_code == 0
        assert "20,376" in (tmp_path / "run").read_text(encoding="utf-8")
        assert {item.reading.value for item in load(tmp_path / "run") if item.reading} >= {20.376}
        refused = invoke("/dev/nope", "run", "--format", "jsonl", "--decimal", ",", command=record)
        assert "--decimal is for csv files" in refused.stderr
