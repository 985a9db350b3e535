"""Reading the values of rows back from csv, JSON, databases and Parquet."""

import csv
import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from servomex.errors.mappings import FrozenMapping
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import (
    FREE_TEXT,
    LARGEST,
    LONGEST_TEXT,
    NUMBERS,
    utc,
)
from servomex.models.tags import tags_of
from servomex.rows.formats import SEPARATORS
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind
from servomex.rows.readers import RowReader

_NUMBER_PLACES = tuple(ROW_COLUMNS.index(column) for column in NUMBERS)

_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_LONGEST_PLAIN = 100_000
"""Characters of a line that are split without the csv module, which refuses longer cells."""
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def csv_cells(line: str, decimal: str = ".") -> list[str]:
    """Return the cells of a line that :func:`csv_text` made of a row.

    Raises:
        ValueError: It is not such a line.
    """
    separator = SEPARATORS[decimal]
    plain, quote, tags = line.partition('"')
    cells = plain.split(separator)
    if len(cells) != len(ROW_COLUMNS) or (quote and cells[-1]) or "\r" in plain or len(line) > _LONGEST_PLAIN:
        cells = _parsed(line, separator)
    elif quote and tags != '"':
        cells[-1:] = _parsed(quote + tags, separator)
    if len(cells) != len(ROW_COLUMNS):
        raise ValueError(f"{len(cells)} cells instead of {len(ROW_COLUMNS)}")
    if decimal == ",":
        for place in _NUMBER_PLACES:
            cells[place] = cells[place].replace(",", ".")
    return cells


def _parsed(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _time(text: str) -> datetime:
    return utc(datetime.fromisoformat(text))


def _clock(text: str) -> datetime:
    return _without_zone(datetime.fromisoformat(text))


def _without_zone(moment: datetime) -> datetime:
    if moment.tzinfo is not None:
        raise ValueError
    return moment


def _number(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _integer(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    if not -LARGEST <= value < LARGEST:
        raise ValueError
    return value


def _flag(value: int) -> bool:
    if not isinstance(value, int) or value not in (0, 1):
        raise ValueError
    return bool(value)


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError
    if len(value) > LONGEST_TEXT:
        raise ValueError
    if not value.isascii():
        value.encode()  # half a surrogate pair, which JSON can have, is a ValueError
    return value


@lru_cache(maxsize=64)
def tags_in(text: str) -> FrozenMapping[str]:
    """Read tags from the text of a JSON object; many rows have the same.

    Raises:
        ValueError: They are not such a text, or not valid tags.
        TypeError: They are something else.
    """
    if len(_text(text)) > LONGEST_TEXT:
        raise ValueError
    try:
        found = json.loads(text, object_pairs_hook=tuple)
    except RecursionError:
        raise ValueError from None
    if not isinstance(found, tuple):
        raise TypeError
    return _tags_from(found)


@lru_cache(maxsize=64)
def _tags_from(pairs: tuple[tuple[str, str], ...]) -> FrozenMapping[str]:
    """Return these pairs as tags.

    Raises:
        ValueError: A key occurs twice, or see :func:`tags_of`.
        TypeError: They are something else.
    """
    tags = dict(pairs)
    if len(tags) != len(pairs):
        raise ValueError
    return tags_of(tags)


def _tags_of_object(value: dict[str, str] | tuple[tuple[str, str], ...]) -> FrozenMapping[str]:
    if not isinstance(value, dict | tuple):
        raise TypeError
    return _tags_from(tuple(value.items()) if isinstance(value, dict) else value)


def _tags_of_pairs(value: list[tuple[str, str]] | str) -> FrozenMapping[str]:
    return tags_in(value) if isinstance(value, str) else _tags_from(tuple(value))


def _number_of(cell: str) -> float:
    number = float(_matching(_NUMBER, cell))
    if math.isinf(number):
        raise ValueError
    return number


def _integer_of(cell: str) -> int:
    return _integer(int(_matching(_INTEGER, cell)))


def _flag_of(cell: str) -> bool:
    return cell == "1" or (cell != "0" and _flag(_integer_of(cell)))


def _matching(pattern: re.Pattern[str], cell: str) -> str:
    """Refuse text that only Python takes for a number, such as ``1_000``."""
    if not pattern.fullmatch(cell):
        raise ValueError
    return cell


def _unguarded(cell: str) -> str:
    if cell.startswith("'\\"):
        return _text(_ESCAPE.sub(lambda found: chr(int(found[1], 16)), cell[2:]))
    return _text(cell.removeprefix("'"))


_STORED: dict[ColumnKind, Callable[[Any], Any]] = {
    ColumnKind.TIME: _time,
    ColumnKind.CLOCK: _clock,
    ColumnKind.INTEGER: _integer,
    ColumnKind.NUMBER: _number,
    ColumnKind.FLAG: _flag,
    ColumnKind.TEXT: _text,
    ColumnKind.TAGS: tags_in,
}
_WRITTEN: dict[ColumnKind, Callable[[Any], Any]] = {
    **_STORED,
    ColumnKind.INTEGER: _integer_of,
    ColumnKind.NUMBER: _number_of,
    ColumnKind.FLAG: _flag_of,
}
_TYPED: dict[ColumnKind, Callable[[Any], Any]] = {
    **_STORED,
    ColumnKind.TIME: utc,
    ColumnKind.CLOCK: _without_zone,
    ColumnKind.TAGS: _tags_of_pairs,
}
STORED = RowReader([_STORED[kind] for kind in COLUMN_KINDS.values()])
"""Rows of an SQLite database."""
JSON = RowReader(
    [_tags_of_object if kind is ColumnKind.TAGS else _STORED[kind] for kind in COLUMN_KINDS.values()],
    tags_key=lambda tags: tuple(tags.items()) if type(tags) is dict else tags,
)
"""Rows of JSON, whose tags are an object."""
TYPED = RowReader(
    [_TYPED[kind] for kind in COLUMN_KINDS.values()],
    tags_key=lambda tags: tuple(tags) if type(tags) is list else tags,
)
"""Rows of Parquet and PostgreSQL, whose times are ``datetime``."""
CELLS = RowReader(
    [_unguarded if column in FREE_TEXT else _WRITTEN[kind] for column, kind in COLUMN_KINDS.items()], nothing=""
)
"""Rows of csv, see :func:`csv_cells`."""
