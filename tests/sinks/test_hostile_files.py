"""Damaged files, and files that were made to do harm, end in an error of ours, soon, and without much memory."""

import gzip
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from servomex.models.columns import ROW_COLUMNS
from servomex.recording.load import load
from servomex.sinks import open_sink
from tests.fuzz.files import FILES, flipped
from tests.helpers.reading_apart import ReadApart
from tests.helpers.recordings import batch, batches, write


def packed(pieces: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])


HEADER = ",".join(ROW_COLUMNS).encode() + b"\n"
TEXTS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "many megabytes of nothing": (
        "run.csv.gz",
        lambda _: packed(iter([HEADER, *[bytes(1 << 20)] * 250])),
        "longer than 1000000 bytes",
    ),
    "many megabytes of line ends": (
        "run.csv.gz",
        lambda _: packed(iter([HEADER, *[b"\r\n" * (1 << 19)] * 250])),
        "more than 1000 empty lines",
    ),
    "many empty members": (
        "run.csv.gz",
        lambda _: gzip.compress(HEADER) + gzip.compress(b"") * 100_000,
        "more than 1000 empty members",
    ),
    "brackets in brackets": ("run.jsonl", lambda row: row + b"[" * 900_000 + b"\n", "nested too deeply"),
    "a number without end": (
        "run.jsonl",
        lambda row: row.replace(b'"value": 20.0', b'"value": ' + b"9" * 4000),
        "invalid value: 9999",
    ),
    "a number of more than 64 bits": (
        "run.jsonl",
        lambda row: row.replace(b'"monotonic_ns": 0', b'"monotonic_ns": ' + b"9" * 20),
        "invalid monotonic_ns",
    ),
    "a time before all times": (
        "run.jsonl",
        lambda row: json.dumps(json.loads(row) | {"received_at": "0001-01-01T00:00:00+23:59"}).encode() + b"\n",
        "invalid received_at",
    ),
    "half a character": ("run.jsonl", lambda row: row.replace(b'"rig A"', b'"\\ud800"'), "invalid device:"),
    "what a terminal obeys": (
        "run.jsonl",
        lambda row: row.replace(b'"I1"', b'"' + b"\\u001b[2J" * 9999 + b'"'),
        "invalid channel: '\\x1b[2J",
    ),
    "a long text": ("run.jsonl", lambda row: row.replace(b"rig A", b"x" * 900_000), "invalid device: 'xxx"),
    "a long name of a column": (
        "run.jsonl",
        lambda row: row.replace(b'"error"', b'"' + b"x" * 900_000 + b'"'),
        "it also has 'xxx",
    ),
    "long groups": ("run.jsonl", lambda row: row.replace(b"S1S1S1S1", b"S1" * 9000), "invalid cal_groups"),
    "a clock with a zone": (
        "run.jsonl",
        lambda row: row.replace(b'02:54:12"', b'02:54:12+00:00"'),
        "invalid analyser_clock",
    ),
    "many cells": ("run.csv", lambda _: HEADER + b"," * 900_000 + b"\n", "900001 cells instead of 29"),
    "PowerShell's csv": (
        "run.csv",
        lambda _: HEADER.decode().replace("\n", "\r\n").encode("utf-16"),
        "is in UTF-16, as Windows PowerShell",
    ),
    "PowerShell's JSON": (
        "run.jsonl",
        lambda row: row.decode().encode("utf-16"),
        "is in UTF-16, as Windows PowerShell",
    ),
}


@pytest.mark.parametrize(("name", "make", "words"), TEXTS.values(), ids=TEXTS)
def test_a_hostile_text_is_refused(
    name: str, make: Callable[[bytes], bytes], words: str, tmp_path: Path, read_apart: ReadApart
) -> None:
    write(tmp_path / "one.jsonl", [batch(0)[:1]])
    (tmp_path / name).write_bytes(make((tmp_path / "one.jsonl").read_bytes()))
    rows, text = read_apart(tmp_path / name)
    assert rows <= 1
    assert words in text
    with pytest.raises(ValueError, match=r"run\."):
        list(load(tmp_path / name))


ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
COLUMNS = ", ".join(f"n AS {column}" for column in ROW_COLUMNS)
DATABASES = {
    "an endless view": (
        f"DROP TABLE samples; CREATE VIEW Samples AS {ENDLESS} SELECT {COLUMNS} FROM r WHERE n < 0",
        "its 'samples' is not a table as this package makes it",
    ),
    "an endless view of metadata": (
        f"DROP TABLE metadata; CREATE VIEW metadata(key, value) AS {ENDLESS} SELECT n, n FROM r WHERE n < 0",
        "its 'metadata' is not a table as this package makes it",
    ),
    "a virtual table": (
        f"DROP TABLE samples; CREATE VIRTUAL TABLE samples USING fts5({', '.join(ROW_COLUMNS)})",
        "its 'samples' is not a table as this package makes it",
    ),
    "computed columns": (
        "DROP TABLE samples; CREATE TABLE samples("
        + ", ".join(f"{column} AS (hex(zeroblob(100000000)))" for column in ROW_COLUMNS[:-1])
        + ", tags TEXT)",
        "the column 'received_at' is",
    ),
    "a huge value": ("UPDATE samples SET device = zeroblob(200000000) WHERE rowid = 2", "too big"),
    "a huge declaration": ("CREATE TABLE big(a CHECK (a <> '" + "x" * 5_000_000 + "'))", "too big"),
    "no Unicode": ("UPDATE samples SET device = CAST(x'ff' AS TEXT) WHERE rowid = 2", "Could not decode to UTF-8"),
    "what a terminal obeys": (
        "UPDATE samples SET channel = char(27) || hex(zeroblob(99999)) WHERE rowid = 2",
        "invalid channel: '\\x1b0000",
    ),
    "nothing": ("DROP TABLE samples; DROP TABLE metadata", "it has no table 'samples', it is empty"),
}


@pytest.mark.parametrize(("script", "words"), DATABASES.values(), ids=DATABASES)
def test_a_hostile_database_is_refused(script: str, words: str, tmp_path: Path, read_apart: ReadApart) -> None:
    path = tmp_path / "run.sqlite"
    write(path, [batch(0)])
    _alter(path, script)
    rows, text = read_apart(path)
    assert rows <= 1
    assert words in text


def _alter(path: Path, script: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(script)
    connection.close()


def test_a_trigger_of_a_database_is_not_run_by_appending(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    written = write(path, [batch(0)])
    _alter(
        path,
        f"CREATE TRIGGER t AFTER INSERT ON samples BEGIN INSERT INTO metadata {ENDLESS} SELECT n, n FROM r; END",
    )
    assert list(load(path)) == written
    with pytest.raises(ValueError, match="its table 'samples' has a trigger"):
        open_sink(path, append=True)


def _inner_page(path: Path) -> tuple[bytearray, int]:
    """Return a database, and where the root page of its table begins."""
    connection = sqlite3.connect(path)
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'samples'").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    raw, page = bytearray(path.read_bytes()), (root - 1) * size
    assert raw[page] == 5, "an inner page"
    return raw, page


def test_pages_of_a_database_that_lead_in_a_circle_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    write(path, batches(300))
    raw, page = _inner_page(path)
    cells = [
        page + int.from_bytes(raw[page + 12 + 2 * number : page + 14 + 2 * number], "big")
        for number in range(int.from_bytes(raw[page + 3 : page + 5], "big"))
    ]
    for cell in cells[1:]:
        raw[cell : cell + 4] = raw[cells[0] : cells[0] + 4]
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"is damaged: its row 1 comes after row \d+"):
        list(load(path))


def test_a_page_that_a_database_has_lost_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    written = write(path, batches(300))
    raw, page = _inner_page(path)
    raw[page + 4] -= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"is damaged: it has \d+ rows, its index \d+ or more"):
        list(load(path))
    connection = sqlite3.connect(path)
    connection.execute("DROP INDEX samples_received_at")
    connection.close()
    assert len(list(load(path))) < len(written), "without an index nothing shows it"


def _with(path: Path, column: str, values: "pa.Array", **options: object) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(ROW_COLUMNS.index(column), column, values), path, **options)


TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a huge text": (
        lambda path: _with(path, "device", pa.array(["x" * 200_000_000] + ["a"] * 4)),
        "200000009 bytes",
    ),
    "a large text in all rows": (
        lambda path: _with(path, "device", pa.array(["x" * 9_000_000] * 5).dictionary_encode()),
        "invalid device: 'x",
    ),
    "not a number": (lambda path: _with(path, "value", pa.array([float("nan")] * 5)), "invalid value: nan"),
    "a time that Python has not": (
        lambda path: _with(path, "received_at", pa.array([2**62] * 5, pa.timestamp("us", "UTC"))),
        "out of range",
    ),
    "a time with nanoseconds": (
        lambda path: _with(path, "received_at", pa.array([1001] * 5, pa.timestamp("ns", "UTC"))),
        "would lose data",
    ),
    "a time without a zone": (
        lambda path: _with(path, "received_at", pa.array([0] * 5, pa.timestamp("us"))),
        "the column 'received_at' is timestamp[us] instead of timestamp[us, tz=UTC]",
    ),
    "an integer of more than 64 bits": (
        lambda path: _with(path, "monotonic_ns", pa.array([2**64 - 1] * 5, pa.uint64())),
        "not in range",
    ),
    "many columns": (
        lambda path: pq.write_table(pa.table({f"{number}\x1b": [1] for number in range(5000)}), path),
        "lacks 'received_at'",
    ),
    "nested columns": (
        lambda path: pq.write_table(pa.table({column: [[[1]]] for column in ROW_COLUMNS}), path),
        "the column 'received_at' is list",
    ),
    "a footer beyond the file": (
        lambda path: path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1"),
        "footer would have 2147483647",
    ),
    "nothing": (lambda path: path.write_bytes(b""), "damaged or not a Parquet file"),
}


@pytest.mark.parametrize(("spoil", "words"), TABLES.values(), ids=TABLES)
def test_a_hostile_table_is_refused(
    spoil: Callable[[Path], object], words: str, tmp_path: Path, read_apart: ReadApart
) -> None:
    path = tmp_path / "run.parquet"
    write(path, [batch(0)])
    spoil(path)
    rows, text = read_apart(path)
    assert rows == 0
    assert words in text


def test_a_large_file_is_read_in_little_memory(tmp_path: Path, read_apart: ReadApart) -> None:
    path = tmp_path / "run.parquet"
    write(path, [batch(0)])
    table = pa.concat_tables([pq.read_table(path)] * 4000)
    device = pa.DictionaryArray.from_arrays(pa.array([0] * table.num_rows, pa.int32()), pa.array(["x" * 19_000]))
    pq.write_table(table.set_column(2, "device", device), path)
    assert read_apart(path) == (20_000, "")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_reported_or_changes_nothing_that_has_a_checksum(name: str, tmp_path: Path) -> None:
    counts = flipped(tmp_path, name, 12, "suite")
    assert counts.total() == 12
    assert counts["refused"] + counts["warned"] > 2
