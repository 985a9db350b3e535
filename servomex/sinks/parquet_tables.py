"""Tables of pyarrow made of rows: values that many rows share are converted once."""

from collections.abc import Sequence
from typing import Any

from servomex.rows.pieces import PLACES, distinct
from servomex.sinks.parquet_file import imported_pyarrow, schema_of_rows
from servomex.sinks.parquet_tags import pairs_of


def table_of(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Return rows, as :data:`servomex.rows.formats.GROUPED` makes them, as a table of pyarrow."""
    fields = [*schema_of_rows()]
    columns: list[Any] = []
    for number, place in enumerate(PLACES):
        values = [row[number] for row in rows]  # zip(*rows) would make an object for each row
        if isinstance(place, slice):
            columns += _shared(values, fields[place])
        else:
            columns.append(_array(values, fields[place]))
    return imported_pyarrow().Table.from_arrays(columns, schema=schema_of_rows())


def _shared(groups: Sequence[tuple[Any, ...]], fields: Sequence[Any]) -> list[Any]:
    """Return the columns of groups of values, many of which are the same object."""
    different, places = distinct(groups)
    indices = imported_pyarrow().array(places)
    columns = zip(*different, strict=True)
    return [_array(values, field).take(indices) for values, field in zip(columns, fields, strict=True)]


def _array(values: Sequence[Any], field: Any) -> Any:
    arrow = imported_pyarrow()
    found = [*map(pairs_of, values)] if arrow.types.is_map(field.type) else values
    return arrow.array(found, field.type)
