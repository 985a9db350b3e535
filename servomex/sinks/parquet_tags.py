"""Tags in Parquet files: a map of texts, or pandas's form of it, checked before it takes memory."""

from collections.abc import Callable
from typing import Any

from servomex.errors.mappings import FrozenMapping
from servomex.models.plain import LONGEST_TEXT
from servomex.models.tags import LONGEST_VALUE, MOST_TAGS
from servomex.rows.cells import tags_in

_BYTES = 4
"""Bytes that a character may take."""


def pairs_of(tags: FrozenMapping[str]) -> list[tuple[str, str]] | None:
    """Return tags as pyarrow takes a map; ``None`` when there are none."""
    return [*tags.plain().items()] if tags else None


def cast_tags(column: Any, wanted: Any) -> Any:
    """Return tags as a map of texts, after a check that they are few and short: one text may be in many rows.

    Args:
        column: An array of pyarrow: a map of texts, lists of pairs, texts of JSON, or nothing.
        wanted: The type of the map.

    Raises:
        ValueError: There are too many in a row, or one is too long.
    """
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_null(column.type):
        return pyarrow.nulls(len(column), wanted)
    is_map = pyarrow.types.is_map(column.type)
    if not is_map and not pyarrow.types.is_list(column.type):
        _check_lengths(column, LONGEST_TEXT)
        texts = column.to_pylist()
        return pyarrow.array([None if text is None else pairs_of(tags_in(text)) for text in texts], wanted)
    _check_counts(column, range(MOST_TAGS + 1))
    if not is_map:
        _check_counts(column.values, range(2, 3))
        _check_lengths(column.values.values, LONGEST_VALUE)
        rows = column.to_pylist()
        return pyarrow.array([None if row is None else [*map(tuple, row)] for row in rows], wanted)
    _check_lengths(column.keys, LONGEST_VALUE)
    _check_lengths(column.items, LONGEST_VALUE)
    return column.cast(wanted)


def holds_tags(found: Any, is_text: Callable[[Any], bool]) -> bool:
    """Return whether a column of a type of pyarrow can hold tags."""
    from pyarrow import types

    if types.is_map(found):
        return is_text(found.key_type) and is_text(found.item_type)
    if types.is_list(found):
        return bool(types.is_list(found.value_type)) and is_text(found.value_type.value_type)
    return is_text(found)


def _check_counts(lists: Any, allowed: range) -> None:
    import pyarrow
    import pyarrow.compute

    ends = lists.offsets
    found = pyarrow.compute.min_max(pyarrow.compute.subtract(ends[1:], ends[:-1])).as_py()
    if any(count is not None and count not in allowed for count in found.values()):
        raise ValueError(f"a row has {found['max']} tags, or parts of one")


def _check_lengths(texts: Any, longest: int) -> None:
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_dictionary(texts.type):
        texts = texts.dictionary
    if pyarrow.types.is_null(texts.type):
        return
    size = pyarrow.compute.max(pyarrow.compute.binary_length(texts)).as_py()
    if size is not None and size > longest * _BYTES:
        raise ValueError(f"a tag has {size} bytes")
