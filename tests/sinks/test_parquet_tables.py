"""Tables of Parquet hold the values of each row, whether rows share them or not."""

from hypothesis import given, settings
from hypothesis import strategies as st

from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.rows.formats import GROUPED
from servomex.rows.pieces import PLACES, plain_row
from servomex.sinks.parquet_file import schema_of_rows
from servomex.sinks.parquet_tables import table_of
from tests.helpers.any_samples import samples
from tests.helpers.recordings import batch


def values(sample: Sample) -> list[object]:
    *others, tags = plain_row(sample)
    return [*others, [*tags.items()] or None]


@settings(max_examples=60, deadline=None)
@given(st.lists(samples(), min_size=1, max_size=6))
def test_a_table_holds_the_values_of_each_sample(given_: list[Sample]) -> None:
    table = table_of(GROUPED.rows([*given_, *given_]))
    assert table.schema == schema_of_rows()
    assert [[*row.values()] for row in table.to_pylist()] == [values(sample) for sample in [*given_, *given_]]


def test_a_table_of_frames_has_each_text_once() -> None:
    frames = [sample for number in range(50) for sample in batch(number)]
    table = table_of(GROUPED.rows(frames))
    units = dict.fromkeys(item.reading.unit.value for item in frames if item.reading)
    assert table.column("unit").chunk(0).dictionary.to_pylist() == [*units]


def test_the_places_are_all_columns_in_their_order() -> None:
    found: list[str] = []
    for place in PLACES:
        found += ROW_COLUMNS[place] if isinstance(place, slice) else [ROW_COLUMNS[place]]
    assert found == ROW_COLUMNS
