"""Rows as text and back: nothing breaks out of a cell, nothing acts as a formula, and everything returns."""

import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servomex.enums import ProtocolKind
from servomex.errors import ServomexError, ServomexSinkSchemaError, ServomexTimeoutError
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import LONGEST_TEXT, json_value, time_text
from servomex.models.sample import Sample
from servomex.rows.cells import CELLS, JSON, STORED, csv_cells
from servomex.rows.formats import csv_text
from servomex.rows.kinds import check_columns
from servomex.rows.pieces import plain_row
from servomex.rows.samples import sample_of
from tests.helpers.any_samples import samples, texts
from tests.helpers.frames import RECEIVED_AT
from tests.helpers.recordings import batch

SAMPLE = batch(0)[0]
FREE = ("device", "name", "unit_text", "error")
TAGGED: dict[str, Any] = {"metadata": {"site": "mill-3", "line": 'A "old"'}}
FORMULAS = "=+-@＝＋－＠"


def with_text(column: str, text: str) -> Sample:
    """Give a sample with a text of somebody's choice."""
    assert SAMPLE.reading
    changes: dict[str, Any] = {column: text}
    if column == "error":
        return attrs.evolve(SAMPLE, error=ServomexError(text))
    if column == "device":
        return attrs.evolve(SAMPLE, **changes)
    return attrs.evolve(SAMPLE, reading=attrs.evolve(SAMPLE.reading, **changes))


def line_of(sample: Sample) -> str:
    return csv_text([plain_row(sample)])


def back(sample: Sample) -> Sample:
    return CELLS.sample(csv_cells(line_of(sample).removesuffix("\n")))


def cells(line: str) -> dict[str, str]:
    """Read a line as any other program would."""
    (found,) = csv.reader(io.StringIO(line, newline=""))
    return dict(zip(ROW_COLUMNS, found, strict=True))


class TestCells:
    @settings(max_examples=60, deadline=None)
    @given(samples())
    def test_every_sample_is_one_line_and_returns_from_it(self, sample: Sample) -> None:
        line = line_of(sample)
        assert line.count("\n") == 1
        assert line.endswith("\n")
        assert all(char.isprintable() or ord(char) >= 0xA0 for char in line[:-1])
        assert back(sample) == sample

    @given(st.sampled_from(FREE), texts)
    def test_no_text_acts_as_a_formula(self, column: str, text: str) -> None:
        cell = cells(line_of(with_text(column, text)))[column]
        assert not cell.lstrip().startswith(tuple(FORMULAS))

    @pytest.mark.parametrize(("text", "cell"), [
        ("Oxygen", "Oxygen"), ("=1+1", "'=1+1"), ("-x", "'-x"), ("+x", "'+x"), ("@x", "'@x"), ("  =x", "'  =x"),
        ("'", "''"), ("'=x", "''=x"), ("''", "'''"), ("it's", "it's"), ("a=b", "a=b"), ("\\x0a", "\\x0a"),
        ("a\nb", "'\\a\\x0ab"), ("\\\n", "'\\\\x5c\\x0a"), ("'\\x0a", "''\\x0a"), ("\t=x", "'\\\\x09=x"),
        ("\x85", "'\\\\x85"), ('a"b,c;d', 'a"b,c;d'), ("", ""), (" ", " "), ("＝x", "'＝x"),
    ])  # fmt: skip
    def test_texts_and_their_cells(self, text: str, cell: str) -> None:
        sample = with_text("device", text)
        assert cells(line_of(sample))["device"] == cell
        assert back(sample) == sample

    @pytest.mark.parametrize("column", ["name", "error"])
    def test_an_empty_text_is_distinguished_from_none(self, column: str) -> None:
        for text, cell in (("", "'"), ("'", "''")):
            sample = with_text(column, text)
            assert cells(line_of(sample))[column] == cell
            assert back(sample) == sample

    def test_numbers_are_no_formulas(self) -> None:
        assert SAMPLE.reading
        sample = attrs.evolve(SAMPLE, reading=attrs.evolve(SAMPLE.reading, value=-1.5), monotonic_ns=-7)
        assert cells(line_of(sample))["value"] == "-1.5"

    def test_what_spreadsheets_and_people_see(self) -> None:
        found = cells(line_of(SAMPLE))
        assert (found["received_at"], found["value"], found["ok"], found["fault"], found["error"]) == (
            "2026-03-01T12:30:45.500000+00:00", "20.0", "1", "0", "",
        )  # fmt: skip
        assert found["analyser_clock"] == "2020-10-06T02:54:12"


class TestPlainRows:
    def test_times_become_utc_with_all_digits(self) -> None:
        east = RECEIVED_AT.replace(microsecond=0).astimezone(timezone(timedelta(hours=5, minutes=30)))
        row = plain_row(attrs.evolve(SAMPLE, reading=None, received_at=east))
        assert row[0].tzinfo is UTC
        assert time_text(east) == time_text(row[0]) == "2026-03-01T12:30:45.000000+00:00"

    def test_texts_sort_as_their_times_do(self) -> None:
        moments = [RECEIVED_AT + timedelta(microseconds=step) for step in (-500_000, 0, 1, 499_999, 500_000)]
        assert sorted(map(time_text, moments)) == [*map(time_text, moments)]

    @pytest.mark.parametrize("field", ["received_at", "requested_at"])
    def test_a_time_without_a_zone_is_refused(self, field: str) -> None:
        changes: dict[str, Any] = {field: RECEIVED_AT.replace(tzinfo=None)}
        naive = attrs.evolve(SAMPLE, reading=None, **changes)
        with pytest.raises(ValueError, match="has no time zone"):
            plain_row(naive)

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_a_number_that_is_not_finite_is_refused(self, number: float) -> None:
        with pytest.raises(ValueError, match=r"latency_s is -?(nan|inf); use None for an invalid value"):
            plain_row(attrs.evolve(SAMPLE, latency_s=number))

    @pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
    def test_a_time_of_more_than_64_bits_is_refused(self, number: int) -> None:
        with pytest.raises(ValueError, match="64 bits"):
            plain_row(attrs.evolve(SAMPLE, reading=None, monotonic_ns=number))

    def test_what_is_no_unicode_becomes_a_question_mark(self) -> None:
        assert back(attrs.evolve(SAMPLE, device="/dev/tty\udcff")).device == "/dev/tty?"

    def test_a_text_without_end_is_cut_off_so_that_it_can_be_read_again(self) -> None:
        sample = attrs.evolve(SAMPLE, error=ServomexError("\0" * 10**6))
        assert str(back(sample).error) == "\0" * LONGEST_TEXT


def stored(**changes: Any) -> list[Any]:
    """Give a row as JSON or SQLite give it, with changes."""
    row = dict(zip(ROW_COLUMNS, plain_row(SAMPLE), strict=True)) | changes
    row["tags"] = changes.get("tags")
    return [time_text(value) if isinstance(value, datetime) else value for value in row.values()]


class TestStoredRows:
    @settings(max_examples=60, deadline=None)
    @given(samples())
    def test_every_sample_returns_from_json(self, sample: Sample) -> None:
        values = json.loads(json.dumps(plain_row(sample), default=json_value))
        assert JSON.sample(values) == sample

    def test_flags_may_be_numbers(self) -> None:
        assert STORED.sample([int(item) if isinstance(item, bool) else item for item in stored()]) == SAMPLE

    @pytest.mark.parametrize("changes", [
        {"received_at": "yesterday"}, {"received_at": 5}, {"received_at": "2026-03-01T12:30:45"},
        {"requested_at": True}, {"analyser_clock": "x"}, {"monotonic_ns": 1.5}, {"monotonic_ns": True},
        {"monotonic_ns": "1"}, {"value": "1"}, {"value": True}, {"value": math.nan}, {"value": math.inf},
        {"fault": 2}, {"fault": "1"}, {"fault": 1.0}, {"device": 7}, {"name": b"x"}, {"error": 0},
    ])  # fmt: skip
    def test_a_value_of_another_kind_is_reported_with_its_column(self, changes: dict[str, Any]) -> None:
        ((column, value),) = changes.items()
        with pytest.raises(ValueError, match="invalid") as caught:
            STORED.sample(stored(**changes))
        assert str(caught.value) == f"invalid {column}: {value!r}"


class TestDamagedLines:
    @pytest.mark.parametrize(("column", "cell"), [
        ("received_at", "2026-03-01"), ("received_at", "01.03.2026 12:30"), ("monotonic_ns", "1_000"),
        ("monotonic_ns", " 1"), ("monotonic_ns", "1.0"), ("value", "1_0.5"), ("value", "nan"), ("value", "inf"),
        ("value", "1e999"), ("value", "20,4"), ("value", "１"), ("ok", "TRUE"), ("ok", "2"), ("fault", "-1"),
    ])  # fmt: skip
    def test_a_cell_that_cannot_be_is_reported_with_its_column(self, column: str, cell: str) -> None:
        values = cells(line_of(SAMPLE)) | {column: cell}
        line = ",".join(f'"{value}"' for value in values.values())
        with pytest.raises(ValueError, match="invalid") as caught:
            CELLS.sample(csv_cells(line))
        assert str(caught.value) == f"invalid {column}: {cell!r}"

    @pytest.mark.parametrize(("line", "words"), [
        ("a,b", "2 cells instead of 29"), (",".join("x" * 30), "30 cells"), ('"a', "unexpected end of data"),
        ('"a"b' + "," * 28, "expected after"), ("x" * 200_000, "field larger"),
    ])  # fmt: skip
    def test_a_line_that_is_no_row(self, line: str, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            CELLS.sample(csv_cells(line))

    @pytest.mark.parametrize(("changes", "words"), [
        ({"received_at": None}, "received_at is empty"), ({"monotonic_ns": None}, "monotonic_ns is empty"),
        ({"protocol": None}, "protocol is empty"), ({"protocol": "profibus"}, "invalid protocol: 'profibus'"),
        ({"channel": "I9"}, "invalid channel: 'I9'"), ({"unit": "bar"}, "invalid unit: 'bar'"),
        ({"unit": None}, "unit is empty"), ({"kind": "measured"}, "invalid kind of I1: 'measured'"),
        ({"kind": "derived"}, "invalid kind of I1"), ({"kind": None}, "'I1' is not allowed as a channel"),
        ({"channel": "furnace"}, "invalid channel: 'furnace'"),
        ({"channel": "I7", "kind": None}, "'I7' is not allowed as a channel"),
        ({"channel": "", "kind": None}, "a channel must be a ChannelId or a text of 1 to 32 characters"),
        ({"channel": "x" * 33, "kind": None}, "a channel must be a ChannelId or a text of 1 to 32 characters"),
        ({"alarm4": None}, "alarm4 is empty"),
        ({"channel": None}, "channel is empty, but kind is 'transducer'"),
        ({"analyser_fault": None}, "analyser_fault is empty, but analyser_maintenance is False"),
        ({"analyser_maintenance": None}, "analyser_maintenance is empty"),
        ({"cal_groups": "S1x"}, "invalid cal_groups: 'S1x'"), ({"cal_groups": "1S"}, "invalid cal_groups"),
    ])  # fmt: skip
    def test_a_row_that_no_sample_has(self, changes: dict[str, Any], words: str) -> None:
        row = SAMPLE.as_dict()
        assert sample_of(row) == SAMPLE
        with pytest.raises(ValueError, match=words):
            sample_of(row | changes)

    def test_what_follows_from_the_rest_is_not_looked_at(self) -> None:
        assert sample_of(SAMPLE.as_dict() | {"ok": None, "quality": None}) == SAMPLE


class TestColumns:
    def test_ours_are_ours(self) -> None:
        check_columns("x", ROW_COLUMNS)

    @pytest.mark.parametrize(("found", "words"), [
        (ROW_COLUMNS[:-1], "it lacks 'tags'"), ([*ROW_COLUMNS, "note"], "it also has 'note'"),
        (ROW_COLUMNS[::-1], "they are in another order"), ([*ROW_COLUMNS, "error"], "they are in another order"),
        (["a"], "it lacks 'received_at', 'monotonic_ns', 'device', 'protocol' and 25 more and it also has 'a'"),
        ([], "and 25 more"),
    ])  # fmt: skip
    def test_the_difference_is_reported(self, found: list[str], words: str) -> None:
        with pytest.raises(ServomexSinkSchemaError) as caught:
            check_columns("run.csv", found)
        assert str(caught.value).startswith("run.csv does not have the columns that this package writes: ")
        assert words in str(caught.value)


def test_an_error_alone_is_a_row_too() -> None:
    sample = Sample("", ProtocolKind.AUTO, RECEIVED_AT, 0, error=ServomexTimeoutError("=1\n"))
    assert back(sample) == sample
