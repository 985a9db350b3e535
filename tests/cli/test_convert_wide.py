"""``servomex convert --wide``: what other people open in a spreadsheet."""

import csv
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import openpyxl
import pandas as pd
import pytest

from servomex import ChannelStatus, Sample, ServomexTimeoutError, Unit, to_pandas
from servomex.cli import wide
from servomex.rows.wide import Layout
from tests.helpers.commands import converted
from tests.helpers.frames import RECEIVED_AT
from tests.helpers.recordings import batch, batches, joined, write

EVIL = '=HYPERLINK("http://evil.test")'


def with_reading(sample: Sample, **changes: Any) -> Sample:
    assert sample.reading
    return attrs.evolve(sample, reading=attrs.evolve(sample.reading, **changes))


def cells(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def sheets(path: Path) -> list[list[tuple[Any, ...]]]:
    book = openpyxl.load_workbook(path)
    return [[tuple(cell.value for cell in row) for row in sheet.iter_rows()] for sheet in book]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A gap, an alarm, a fault, a warm-up, and units that changed."""
    samples = joined(batches(2))
    samples += [
        with_reading(batch(2)[0], value=203760.0, unit=Unit.VPM, unit_text="vpm"),
        with_reading(batch(3)[0], value=7.5, status=ChannelStatus(warming_up=True)),
        with_reading(batch(4)[0], value=8.5, status=ChannelStatus(fault=True)),
        with_reading(batch(5)[0], value=9.5, unit=Unit.UNKNOWN, unit_text="mg"),
    ]
    gap = attrs.evolve(samples[-1], reading=None, analyser=None, error=ServomexTimeoutError("no reply"))
    samples.append(attrs.evolve(gap, received_at=gap.received_at + timedelta(seconds=1)))
    write(tmp_path / "run.jsonl", [samples])
    return tmp_path / "run.jsonl"


@pytest.mark.parametrize("keep", [None, "uncertain"])
def test_csv_holds_what_to_pandas_gives(source: Path, tmp_path: Path, keep: str | None) -> None:
    target = tmp_path / "wide.csv"
    result = converted("--wide", source, target, *(["--keep", keep] if keep else []))
    assert (result.exit_code, result.stderr) == (0, f"7 rows written to {target}\n")
    heading, *rows = cells(target)
    table = to_pandas(source, wide=True, keep=keep)
    assert heading == ["received_at", *table.columns]
    assert heading[1:3] + heading[3:5] == ["I1 [%]", "I1 [%] quality", "I1 [mg]", "I1 [mg] quality"]
    assert [datetime.fromisoformat(row[0]) for row in rows] == list(table.index)
    for place, label in enumerate(table.columns, 1):
        expected = ["" if value != value else value for value in table[label].tolist()]
        assert [float(row[place]) if isinstance(value, float) else row[place] for row, value in zip(
            rows, expected, strict=True
        )] == expected  # fmt: skip
    assert [row[1] for row in rows] == ["20.0", "20.001", "20.376", "7.5" if keep else "", "", "", ""]
    assert [row[2] for row in rows] == ["good", "good", "good", "uncertain", "bad", "", ""]


def test_a_workbook_holds_the_same_with_numbers_times_and_texts(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "wide.xlsx"
    assert converted("--wide", source, target).exit_code == 0
    ((heading, *rows),) = sheets(target)
    table = to_pandas(source, wide=True)
    assert heading == ("received_at (UTC)", *table.columns)
    assert [row[0] for row in rows] == [
        moment.replace(tzinfo=None) for moment in pd.DatetimeIndex(table.index).to_pydatetime()
    ]
    assert rows[0][0] == RECEIVED_AT.replace(tzinfo=None)
    assert [row[1] for row in rows] == [20.0, 20.001, 20.376, None, None, None, None]
    assert [row[2] for row in rows] == ["good", "good", "good", "uncertain", "bad", None, None]


def test_a_decimal_comma_comes_with_semicolons(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "wide.csv"
    assert converted("--wide", source, target, "--decimal", ",").exit_code == 0
    assert cells(target, ";")[2][1] == "20,001"


@pytest.mark.parametrize(
    ("options", "separator", "number"),
    [([], ",", "20.001"), (["--separator", ";"], ";", "20.001"), (["--separator", "tab"], "\t", "20.001"),
     (["--separator", "tab", "--decimal", ","], "\t", "20,001"), (["--separator", ","], ",", "20.001")],
)  # fmt: skip
def test_the_separator_can_be_chosen(
    options: list[str], separator: str, number: str, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "wide.csv"
    assert converted("--wide", source, target, *options).exit_code == 0
    assert target.read_text(encoding="utf-8").splitlines()[2].split(separator)[1] == number


def test_a_mark_in_front_shows_excel_that_letters_are_utf_8(source: Path, tmp_path: Path) -> None:
    for options, beginning in (([], b"received_at,"), (["--bom"], b"\xef\xbb\xbfreceived_at,")):
        assert converted("--wide", "--overwrite", source, tmp_path / "wide.csv", *options).exit_code == 0
        assert (tmp_path / "wide.csv").read_bytes().startswith(beginning)
    assert pd.read_csv(tmp_path / "wide.csv").columns[0] == "received_at"


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has one zone for all programs")
@pytest.mark.usefixtures("in_berlin")
class TestLocalTime:
    @pytest.mark.parametrize(("decimal", "text"), [(".", "13:30:45.500"), (",", "13:30:45,500")])
    def test_csv_has_it_beside_utc(self, decimal: str, text: str, source: Path, tmp_path: Path) -> None:
        options = ["--local-time", "--decimal", decimal]
        assert converted("--wide", source, tmp_path / "wide.csv", *options).exit_code == 0
        heading, first, *_ = cells(tmp_path / "wide.csv", ";" if decimal == "," else ",")
        assert heading[:3] == ["received_at", "local_time (CET/CEST)", "I1 [%]"]
        assert first[:2] == ["2026-03-01T12:30:45.500000+00:00", f"2026-03-01 {text}"]

    def test_a_workbook_has_it_beside_utc(self, source: Path, tmp_path: Path) -> None:
        assert converted("--wide", source, tmp_path / "wide.xlsx", "--local-time").exit_code == 0
        ((heading, first, *_),) = sheets(tmp_path / "wide.xlsx")
        assert heading[:3] == ("received_at (UTC)", "local_time (CET/CEST)", "I1 [%]")
        assert first[1] - first[0] == timedelta(hours=1)
        assert first[2] == 20.0


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_no_text_is_a_formula(suffix: str, tmp_path: Path) -> None:
    samples = [attrs.evolve(item, device=device) for device in (EVIL, "b\x07") for item in batch(0)]
    write(tmp_path / "run.jsonl", [samples])
    target = tmp_path / f"wide{suffix}"
    assert converted("--wide", tmp_path / "run.jsonl", target).exit_code == 0
    if suffix == ".csv":
        assert cells(target)[0][1] == f"'{EVIL} I1 [%]"
        return
    sheet = openpyxl.load_workbook(target).active
    assert sheet is not None
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "d"}
    assert sheet.cell(1, 2).value == f"{EVIL} I1 [%]"


def test_a_full_sheet_is_followed_by_another(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wide, "SHEET_ROWS", 4)
    assert converted("--wide", source, tmp_path / "wide.xlsx").exit_code == 0
    parts = sheets(tmp_path / "wide.xlsx")
    assert [len(part) for part in parts] == [4, 4, 2]
    assert len({part[0] for part in parts}) == 1, "each has the headings"


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_what_precedes_damage_is_written_and_the_damage_reported(
    suffix: str, source: Path, tmp_path: Path
) -> None:
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join(lines[:5]) + b"{nonsense\n" + b"".join(lines[5:]))
    target = tmp_path / f"wide{suffix}"
    result = converted("--wide", source, target)
    assert result.exit_code != 0
    assert "line 6" in result.stderr
    rows = cells(target) if suffix == ".csv" else sheets(target)[0]
    assert len(rows) == 2


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_a_file_is_replaced_as_a_whole_or_not_at_all(
    suffix: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / f"wide{suffix}"
    target.write_bytes(b"before")
    result = converted("--wide", source, target)
    assert (result.exit_code, target.read_bytes()) == (2, b"before")
    assert "exists: add --overwrite" in result.stderr
    with monkeypatch.context() as patched:
        patched.setattr(wide, "value_in", lambda *_args: 1 / 0)
        assert converted("--wide", source, target, "--overwrite").exit_code != 0
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.jsonl", target.name]
    assert converted("--wide", source, target, "--overwrite").exit_code == 0
    assert target.read_bytes() != b"before"


def test_a_recording_that_grows_meanwhile_is_an_error_and_no_column_is_left_out(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Growing(Layout):
        def __init__(self, samples: Any) -> None:
            super().__init__(samples)
            later = with_reading(batch(9)[0], name="SO2")
            write(source, [[later]], append=True)

    monkeypatch.setattr(wide, "Layout", Growing)
    result = converted("--wide", source, tmp_path / "wide.csv")
    assert result.exit_code != 0
    assert "was changed while it was read" in result.stderr


@pytest.mark.parametrize(("args", "text"), [
    (["--wide", "wide.parquet"], "ends with .csv or .xlsx"), (["--wide", "wide"], "ends with .csv or .xlsx"),
    (["--wide", "wide.csv", "--append"], "--append cannot be combined with --wide"),
    (["--wide", "wide.csv", "--rotate", "1d"], "--rotate cannot be combined with --wide"),
    (["--wide", "wide.xlsx", "--decimal", ","], "--decimal is for csv files"),
    (["--wide", "wide.xlsx", "--separator", ";"], "--separator is for csv files"),
    (["--wide", "wide.xlsx", "--bom"], "--bom is for csv files"),
    (["--wide", "wide.csv", "--decimal", ",", "--separator", ","], "contradict each other: use --separator ';'"),
    (["--keep", "uncertain", "long.csv"], "--keep is only for a wide table: add --wide"),
    (["--separator", "tab", "long.csv"], "--separator is only for a wide table: add --wide"),
    (["--bom", "long.csv"], "--bom is only for a wide table: add --wide"),
    (["--local-time", "long.csv"], "--local-time is only for a wide table: add --wide"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(
    args: list[str], text: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    result = converted(source, *args)
    assert result.exit_code == 2
    assert text in result.stderr
    assert [path.name for path in source.parent.iterdir()] == ["run.jsonl"]


def test_a_missing_openpyxl_is_reported(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    result = converted("--wide", source, tmp_path / "wide.xlsx")
    assert result.exit_code != 0
    assert '.xlsx needs openpyxl: python -m pip install "servomex[xlsx]"' in result.stderr


def test_a_target_that_cannot_be_written_is_reported(source: Path, tmp_path: Path) -> None:
    result = converted("--wide", source, tmp_path / "nope" / "wide.csv")
    assert result.exit_code != 0
    assert "cannot be written" in result.stderr
