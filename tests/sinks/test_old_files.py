"""Files with the columns of before: refused in every format, and left as they were."""

import gzip
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from servomex import to_pandas
from servomex.cli.convert import convert
from servomex.cli.replay import replay
from servomex.errors import ServomexSinkSchemaError
from servomex.recording.load import load
from servomex.sinks import check_targets, open_sink
from tests.helpers.commands import invoke
from tests.helpers.recordings import batches, write

HEADER = (
    "received_at,monotonic_ns,device,protocol,channel,kind,name,value,unit,unit_text,quality,ok,fault,maintenance,"
    "calibrating,warming_up,alarm1,alarm2,alarm3,alarm4,analyser_fault,analyser_maintenance,cal_groups,"
    "analyser_clock,requested_at,latency_s,error"
)
ROW = (
    "2026-03-01T12:30:45.500000+00:00,7,rig A,continuous,I1,measured,Oxygen,20.376,%,%,good,1,0,0,0,0,0,0,0,0,0,0,"
    "S1S1S1S1,2020-10-06T02:54:12,,,"
)
ERROR = "2026-03-01T12:30:46.500000+00:00,8,rig A,modbus_rtu,,,,,,,,,,,,,,,,,,,,,,,no reply"
NAMES = HEADER.split(",")
FLAGS = {*NAMES[11:22]}
RECORDS = [
    {
        name: None if not cell else bool(int(cell)) if name in FLAGS else cell
        for name, cell in zip(NAMES, line.split(","), strict=True)
    }
    for line in (ROW, ERROR)
]


def csv_file(path: Path) -> None:
    path.write_text(f"{HEADER}\n{ROW}\n{ERROR}\n", encoding="utf-8")


def csv_with_commas(path: Path) -> None:
    path.write_text(f"{HEADER.replace(',', ';')}\n{ROW.replace(',', ';')}\n", encoding="utf-8")


def packed_csv(path: Path) -> None:
    path.write_bytes(gzip.compress(f"{HEADER}\n{ROW}\n{ERROR}\n".encode()))


def json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")


def packed_json(path: Path) -> None:
    path.write_bytes(gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)))


def database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE samples ({', '.join(f'{name} TEXT' for name in NAMES)})")
        connection.execute("CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        places = ", ".join("?" * len(NAMES))
        connection.executemany(
            f"INSERT INTO samples VALUES ({places})", ([*record.values()] for record in RECORDS)
        )


def parquet(path: Path) -> None:
    table = pa.table({name: pa.array([record[name] for record in RECORDS]) for name in NAMES})
    pq.write_table(table, path)


OLD: dict[str, Callable[[Path], None]] = {
    "run.csv": csv_file,
    "comma.csv": csv_with_commas,
    "run.csv.gz": packed_csv,
    "run.jsonl": json_lines,
    "run.jsonl.gz": packed_json,
    "run.sqlite": database,
    "run.parquet": parquet,
}
WORDS = "does not have the columns that this package writes: it lacks 'error_type', 'tags'"


@pytest.fixture(params=OLD)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    OLD[request.param](path)
    return path


def test_it_is_not_read(path: Path) -> None:
    for read in (lambda: list(load(path)), lambda: to_pandas(path)):
        with pytest.raises(ServomexSinkSchemaError) as caught:
            read()
        assert WORDS in str(caught.value)
        assert path.name in str(caught.value)


def test_it_is_not_continued_and_stays_what_it_is(path: Path) -> None:
    before = path.read_bytes()
    for call in (lambda: open_sink(path, append=True), lambda: check_targets([path], append=True)):
        with pytest.raises(ServomexSinkSchemaError) as caught:
            call()
        assert WORDS in str(caught.value)
    assert path.read_bytes() == before


def test_it_is_not_converted_and_nothing_is_written(path: Path) -> None:
    target = path.with_name("new.csv")
    result = invoke(str(path), str(target), command=convert)
    assert result.exit_code != 0
    assert WORDS in result.stderr
    assert not target.exists()


def test_it_is_not_continued_by_a_conversion(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    write(tmp_path / "new.jsonl", batches(1))
    result = invoke(str(tmp_path / "new.jsonl"), str(path), "--append", command=convert)
    assert result.exit_code != 0
    assert WORDS in result.stderr
    assert path.read_bytes() == before


def test_it_is_not_played(path: Path) -> None:
    result = invoke(str(path), command=replay)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_columns_in_another_order_are_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    write(path, batches(1))
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([header.replace("error,error_type,tags", "tags,error,error_type"), *rows]))
    with pytest.raises(ServomexSinkSchemaError, match="they are in another order"):
        list(load(path))


def test_the_parts_of_a_killed_recording_are_refused_and_stay_what_they_are(tmp_path: Path) -> None:
    path, parts = tmp_path / "run.parquet", tmp_path / "run.parquet.parts"
    parts.mkdir()
    parquet(parts / "000001.parquet")
    before = (parts / "000001.parquet").read_bytes()
    for call in (
        lambda: list(load(path)),
        lambda: open_sink(path, append=True),
        lambda: check_targets([path], append=True),
    ):
        with pytest.raises(ServomexSinkSchemaError) as caught:
            call()
        assert WORDS in str(caught.value)
    assert [item.name for item in parts.glob("*.parquet*")] == ["000001.parquet"]
    assert (parts / "000001.parquet").read_bytes() == before
