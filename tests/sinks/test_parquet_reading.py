"""Parquet recordings as they are read: from other programs, in parts, and while another program closes them."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from servomex import to_pandas
from servomex.errors import ServomexSinkSchemaError
from servomex.models.sample import Sample
from servomex.recording.load import load, load_metadata
from servomex.sinks import open_sink
from servomex.sinks.parquet_parts import MERGED, RECORDING, parts_of
from tests.helpers.recordings import batch, batches, joined, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.parquet"


def _changed(path: Path, change: Callable[["pa.Field"], "pa.DataType"]) -> None:
    table = pq.read_table(path)
    pq.write_table(table.cast(pa.schema([field.with_type(change(field)) for field in table.schema])), path)


def _text(wanted: "pa.DataType") -> Callable[["pa.Field"], "pa.DataType"]:
    return lambda field: wanted if pa.types.is_dictionary(field.type) else field.type


def _time(unit: str, zone: str) -> Callable[["pa.Field"], "pa.DataType"]:
    def change(field: "pa.Field") -> "pa.DataType":
        is_time = pa.types.is_timestamp(field.type)
        return pa.timestamp(unit, field.type.tz and zone) if is_time else field.type

    return change


PROGRAMS: dict[str, Callable[[Path], object]] = {
    "pandas": lambda path: pd.read_parquet(path).to_parquet(path),
    "a table of ours": lambda path: to_pandas(path).to_parquet(path),
    "no schema of Arrow": lambda path: pq.write_table(pq.read_table(path), path, store_schema=False),
    "no dictionaries": lambda path: pq.write_table(pq.read_table(path), path, use_dictionary=False),
    "pages of version 2": lambda path: pq.write_table(pq.read_table(path), path, data_page_version="2.0"),
    "plain texts": lambda path: _changed(path, _text(pa.string())),
    "large texts": lambda path: _changed(path, _text(pa.large_string())),
    "nanoseconds": lambda path: _changed(path, _time("ns", "+00:00")),
    "another zone": lambda path: _changed(path, _time("us", "Etc/UTC")),
    "a local zone": lambda path: _changed(path, _time("us", "Europe/Berlin")),
}


@pytest.mark.parametrize("through", PROGRAMS.values(), ids=PROGRAMS)
def test_what_went_through_another_program_is_read_and_continued(
    through: Callable[[Path], object], path: Path
) -> None:
    written = write(path, batches(9))
    through(path)
    assert list(load(path)) == written
    assert list(load(path)) + write(path, [batch(9)], append=True) == list(load(path))


def test_a_flipped_byte_is_not_merged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_sink(path, flush_s=0) as sink:
        sink.write(batch(0))
        part = next(parts_of(path).glob("*.parquet"))
        raw = part.read_bytes()
        kept = shutil.copytree(path.parent, path.parent / "kept") / parts_of(path).name / part.name
    place = raw.index(b"rig A")
    kept.write_bytes(raw[:place] + b"pig A" + raw[place + 5 :])
    with pytest.raises(ValueError, match=r"000001\.parquet is damaged"):
        list(load(kept.parents[1] / path.name))
    assert write(kept.parents[1] / path.name, batches(1, 1), append=True) == list(
        load(kept.parents[1] / path.name)
    )
    assert "it is set aside" in caplog.text
    assert kept.with_name("000001.parquet.damaged").exists()


def test_a_damaged_file_is_not_continued(path: Path) -> None:
    write(path, batches(2))
    raw = path.read_bytes()
    place = raw.index(b"rig A")
    path.write_bytes(raw[:place] + b"pig A" + raw[place + 5 :])
    with pytest.raises(ValueError, match=r"run\.parquet is damaged"):
        open_sink(path, append=True)
    assert list(path.parent.iterdir()) == [path]


def _parts(path: Path, count: int, *, recording: bytes = b"") -> list[Sample]:
    """Leave a recording in parts, as a kill does."""
    parts_of(path).mkdir()
    for number in range(1, count + 1):
        one = path.parent / "one.parquet"
        write(one, [batch(100 * number)], overwrite=True)
        table = pq.read_table(io.BytesIO(one.read_bytes()))
        notes = {RECORDING: recording} if recording else {}
        pq.write_table(table.replace_schema_metadata(notes), parts_of(path) / f"{number:06}.parquet")
        one.unlink()
    return joined(batch(100 * number) for number in range(1, count + 1))


def _named(path: Path, recording: bytes, merged: int) -> None:
    """Say in a finished file which recording it is."""
    notes = {RECORDING: recording, MERGED: json.dumps({recording.decode(): merged}).encode()}
    pq.write_table(pq.read_table(path).replace_schema_metadata(notes), path)


def test_parts_that_are_missing_are_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written = _parts(path, 5)
    for number in (1, 3, 4):
        (parts_of(path) / f"{number:06}.parquet").unlink()
    assert list(load(path)) == written[5:10] + written[-5:]
    assert caplog.messages == [f"{path}: 3 of its parts are missing, and the rows in them"]
    caplog.clear()
    assert list(load(parts_of(path))) == written[5:10] + written[-5:]
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "3 of its parts are missing, and the rows in them"
    ]


def test_parts_of_the_recording_count_when_they_are_later(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written = write(path, batches(2))
    _named(path, b"a", 2)
    parts = _parts(path, 3, recording=b"a")
    assert list(load(path)) == written + parts[10:]
    _named(path, b"a", 3)
    assert list(load(path)) == written
    assert caplog.messages == []


@pytest.mark.parametrize("recording", [b"b", b""])
def test_parts_of_another_recording_are_further_rows(
    recording: bytes, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = write(path, batches(2))
    _named(path, b"a", 2)
    parts = _parts(path, 3, recording=recording)
    assert list(load(path)) == written + parts
    assert caplog.messages == []


def test_the_name_of_a_recording_is_not_said_of_it(path: Path) -> None:
    write(path, batches(1))
    _named(path, b"a", 1)
    assert load_metadata(path) == {}


@pytest.mark.parametrize("given", [0, 1, 7, 30])
def test_a_recording_that_is_closed_meanwhile_is_read_to_its_end(
    given: int, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_sink(path, flush_s=0, fsync_s=0) as sink:
        for part in batches(10):
            sink.write(part)
        samples = load(path)
        found = [next(samples) for _ in range(given)]
    assert found + list(samples) == joined(batches(10))
    assert caplog.messages == []


def test_a_recording_that_is_continued_and_closed_meanwhile_is_read_to_its_end(path: Path) -> None:
    written = write(path, batches(2))
    with open_sink(path, flush_s=0, fsync_s=0, append=True) as sink:
        for part in batches(10):
            sink.write(part)
        samples = load(path)
        found = [next(samples) for _ in range(12)]
    assert found + list(samples) == written + joined(batches(10))


def test_a_time_zone_that_is_no_text_is_damage(path: Path) -> None:
    with open_sink(path) as sink:
        sink.write(batch(0))
    content = path.read_bytes()
    place = content.index(b"ARROW:schema") + len(b"ARROW:schema")
    found = re.search(rb"[A-Za-z0-9+/=]{200,}", content[place:])
    assert found is not None
    schema = base64.b64decode(found[0])
    assert b"UTC" in schema
    changed = base64.b64encode(schema.replace(b"UTC", b"U\xc4C"))
    path.write_bytes(content.replace(found[0], changed))
    with pytest.raises(ServomexSinkSchemaError, match="is damaged or not a Parquet file"):
        list(load(path))
