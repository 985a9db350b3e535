"""Reading the values of rows back from csv, JSON, databases and Parquet."""

import csv
import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

from servomex.errors.excerpts import shown
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

_NUMBER_PLACES = tuple(ROW_COLUMNS.index(column) for column in NUMBERS)

_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def csv_row(line: str, decimal: str = ".") -> dict[str, Any]:
    """Read a line of csv: the inverse of :func:`csv_text`.

    Raises:
        ValueError: It is not such a line.
    """
    try:
        cells = next(csv.reader([line], delimiter=SEPARATORS[decimal], strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if len(cells) != len(ROW_COLUMNS):
        raise ValueError(f"{len(cells)} cells instead of {len(ROW_COLUMNS)}")
    if decimal == ",":
        for place in _NUMBER_PLACES:
            cells[place] = cells[place].replace(",", ".")
    return _read((cell or None for cell in cells), _FROM_CELLS)


def stored_row(values: Iterable[Any]) -> dict[str, Any]:
    """Read a row of a database, given as values in the order of :data:`ROW_COLUMNS`.

    Raises:
        ValueError: A value is of the wrong kind for its column.
    """
    return _read(values, _FROM_STORED)


def json_row(values: Iterable[Any]) -> dict[str, Any]:
    """Read a row of JSON, whose tags are an object, given as values in the order of :data:`ROW_COLUMNS`.

    Raises:
        ValueError: A value is of the wrong kind for its column.
    """
    return _read(values, _FROM_JSON)


def typed_row(values: Iterable[Any]) -> dict[str, Any]:
    """Read a row of Parquet, whose times are ``datetime``, given as values in the order of :data:`ROW_COLUMNS`.

    Raises:
        ValueError: A value is of the wrong kind for its column.
    """
    return _read(values, _FROM_TYPED)


def _read(values: Iterable[Any], readers: Iterable[Callable[[Any], Any]]) -> dict[str, Any]:
    row = {}
    for column, read, value in zip(ROW_COLUMNS, readers, values, strict=True):
        try:
            row[column] = None if value is None else read(value)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"invalid {column}: {shown(value)}") from None
    return row


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


def _tags_of_object(value: dict[str, str]) -> FrozenMapping[str]:
    if not isinstance(value, dict):
        raise TypeError
    return _tags_from(tuple(value.items()))


def _tags_of_pairs(value: list[tuple[str, str]] | str) -> FrozenMapping[str]:
    return tags_in(value) if isinstance(value, str) else _tags_from(tuple(value))


def _number_of(cell: str) -> float:
    return _number(float(_matching(_NUMBER, cell)))


def _integer_of(cell: str) -> int:
    return _integer(int(_matching(_INTEGER, cell)))


def _flag_of(cell: str) -> bool:
    return _flag(_integer_of(cell))


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
_FROM_STORED = [_STORED[kind] for kind in COLUMN_KINDS.values()]
_FROM_JSON = [_tags_of_object if kind is ColumnKind.TAGS else _STORED[kind] for kind in COLUMN_KINDS.values()]
_FROM_TYPED = [_TYPED[kind] for kind in COLUMN_KINDS.values()]
_FROM_CELLS = [_unguarded if column in FREE_TEXT else _WRITTEN[kind] for column, kind in COLUMN_KINDS.items()]
