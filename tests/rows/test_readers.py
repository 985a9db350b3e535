"""Samples of many rows are those of each row alone, whatever was read before."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.rows.cells import CELLS, JSON, STORED, TYPED, csv_cells
from servomex.rows.formats import CSV, JSON_LINES, PLAIN, SQL
from servomex.rows.readers import LONGEST_KEPT, MOST_CHANNELS, RowReader
from servomex.rows.samples import sample_of
from tests.helpers.any_samples import samples
from tests.helpers.recordings import batch

SAMPLE = batch(0)[0]


def csv_values(sample: Sample) -> Sequence[Any]:
    return csv_cells(CSV["."].rows([sample])[0].removesuffix("\n"))


def json_values(sample: Sample) -> Sequence[Any]:
    found = json.loads(JSON_LINES.rows([sample])[0])
    return [found[column] for column in ROW_COLUMNS]


def sql_values(sample: Sample) -> Sequence[Any]:
    return SQL.rows([sample])[0]


def typed_values(sample: Sample) -> Sequence[Any]:
    *values, tags = PLAIN.rows([sample])[0]
    return [*values, [*tags.items()]]


READERS = {
    "csv": (CELLS, csv_values),
    "JSON": (JSON, json_values),
    "SQL": (STORED, sql_values),
    "Parquet": (TYPED, typed_values),
}
every_reader = pytest.mark.parametrize(("reader", "values_of"), READERS.values(), ids=READERS)
NASTY: list[Any] = [
    None, "", "x", "0", "1", "-0", "01", "1.0", "nan", "1e999", "1_0", "I1", "I9", "good", "true", "2026-03-01",
    "2026-03-01T12:30:45+02:00", "2026-03-01T12:30:45", "{}", '{"site":"x"}', "S1S1", "'\\x0a", "x" * 30_000,
    True, False, 0, 1, 2, 1.0, 0.5, -1, 2**63, float("nan"), [], {}, [["a", "b"]], [("a", "b")],
    {"a": "b"}, {"a": ["b"]}, {"a": 1},
]  # fmt: skip


def outcome(act: Any, *arguments: Any) -> Any:
    """Return what comes of it: a value, or an error."""
    try:
        return act(*arguments)
    except Exception as error:
        return type(error), str(error)


def alone(reader: RowReader, values: Sequence[Any]) -> Sample:
    return sample_of(reader.row(values))


@every_reader
class TestReaders:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(samples(), max_size=5))
    def test_every_sample_comes_back(self, reader: RowReader, values_of: Any, given_: list[Sample]) -> None:
        rows = [*map(values_of, given_)]
        assert [*map(reader.sample, rows)] == given_ == [alone(reader, row) for row in rows]

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(range(len(ROW_COLUMNS))), st.sampled_from(NASTY))
    def test_a_damaged_row_is_read_or_refused_as_alone(
        self, reader: RowReader, values_of: Any, place: int, value: Any
    ) -> None:
        good = [*values_of(SAMPLE)]
        damaged = [*good]
        damaged[place] = value
        for rows in ([], [good]):
            for row in rows:
                assert reader.sample(row) == SAMPLE
            assert outcome(reader.sample, damaged) == outcome(alone, reader, damaged)
        assert reader.sample(good) == SAMPLE

    def test_every_row_gets_a_reading_of_its_own_moment(self, reader: RowReader, values_of: Any) -> None:
        frames = [batch(number) for number in range(5)]
        for frame in frames:
            assert [reader.sample(values_of(sample)) for sample in frame] == frame


class TestMemory:
    def test_few_channels_are_kept(self) -> None:
        reader = RowReader([lambda value: value] * len(ROW_COLUMNS))
        values = [*PLAIN.rows([SAMPLE])[0]]
        for number in range(3 * MOST_CHANNELS):
            values[ROW_COLUMNS.index("name")] = f"gas {number}"
            reader.sample(values)
        assert reader._channel.cache_info().currsize == MOST_CHANNELS  # type: ignore[attr-defined]

    @pytest.mark.parametrize("column", ["device", "name", "unit_text", "tags"])
    def test_long_texts_are_not_kept(self, column: str) -> None:
        reader = RowReader([lambda value: value] * len(ROW_COLUMNS))
        values = [*PLAIN.rows([SAMPLE])[0]]
        values[ROW_COLUMNS.index(column)] = {"k": "x" * LONGEST_KEPT} if column == "tags" else "x" * LONGEST_KEPT
        reader.sample(values)
        assert reader._channel.cache_info().currsize == 0  # type: ignore[attr-defined]
