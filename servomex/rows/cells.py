"""Converting the values of rows to the form of csv, JSON, databases and Parquet, and back."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from servomex.errors.excerpts import shown
from servomex.errors.mappings import FrozenMapping
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import (
    FREE_TEXT,
    LONGEST_TEXT,
    NUMBERS,
    make_plain,
    plain_tags,
    tags_text,
    time_text,
    utc,
)
from servomex.models.sample import Sample
from servomex.models.tags import NO_TAGS, tags_of
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind

_LARGEST = 2**63
_NUMBER_PLACES = tuple(ROW_COLUMNS.index(column) for column in NUMBERS)

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠']")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def plain_row(sample: Sample) -> tuple[Any, ...]:
    """Flatten a sample to values that every format can hold, one for each column; see :func:`make_plain`.

    Raises:
        ValueError: A time has no zone, a number is not finite or longer than 64 bits, or the tags are invalid.
    """
    row = make_plain(sample.as_dict())
    row["tags"] = plain_tags(sample.metadata)
    return tuple(row.values())


SEPARATORS = {".": ",", ",": ";"}
"""The separator of csv cells, by the decimal sign."""


def csv_text(rows: Iterable[Sequence[Any]], decimal: str = ".") -> str:
    r"""Format rows, given as values in the order of :data:`ROW_COLUMNS`, as csv: always one line each.

    Times are ISO 8601, flags 1 and 0, and unknown values are empty. A text that a spreadsheet would take
    for a formula gets an apostrophe in front, and so does one that begins with an apostrophe. One with control
    characters, line ends among them, begins with ``'\`` and has these and backslashes as ``\x0a``.

    With a comma as the decimal sign the cells are separated by semicolons, as spreadsheets of many countries do.

    The last cell, the tags, is always in quotation marks, even when it is empty: this shows that a line is whole.
    """
    text = io.StringIO()
    separator = SEPARATORS[decimal]
    cells = map(_cells, rows)
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(
        cells if decimal == "." else map(_with_commas, cells)
    )
    return text.getvalue().replace(f"{separator}\n", f'{separator}""\n')


def _cells(row: Sequence[Any]) -> list[Any]:
    return [write(value) if write else value for write, value in zip(_CELLS, row, strict=True)]


def _with_commas(cells: list[Any]) -> list[Any]:
    for place in _NUMBER_PLACES:
        if cells[place] is not None:
            cells[place] = repr(cells[place]).replace(".", ",")
    return cells


def _flag_cell(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _time_cell(value: datetime | None) -> str | None:
    return None if value is None else time_text(value)


def tags_cell(tags: FrozenMapping[str]) -> str | None:
    """Format tags as a JSON object for csv and databases; return ``None`` when there are none."""
    return None if tags is NO_TAGS or not tags else tags_text(tags)


def guarded(text: str | None) -> str | None:
    """Format a text so that no spreadsheet takes it for a formula, and on one line, see :func:`csv_text`."""
    if text is None:
        return None
    if _CONTROL.search(text):
        return "'\\" + _ESCAPED.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return f"'{text}" if _FORMULA.match(text) else text


def _guarded_or_empty(text: str | None) -> str | None:
    """Return an apostrophe for an empty text, to distinguish it from a missing one."""
    return "'" if text == "" else guarded(text)


_WRITERS: dict[ColumnKind, Callable[[Any], Any]] = {
    ColumnKind.TIME: _time_cell,
    ColumnKind.CLOCK: _time_cell,
    ColumnKind.FLAG: _flag_cell,
    ColumnKind.TAGS: tags_cell,
}
_TEXT_WRITERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(FREE_TEXT, guarded),
    **dict.fromkeys(("name", "error"), _guarded_or_empty),
}
_CELLS = [_TEXT_WRITERS.get(column, _WRITERS.get(kind)) for column, kind in COLUMN_KINDS.items()]


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
            raise ValueError(f"{column} cannot be {shown(value)}") from None
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
    if not -_LARGEST <= value < _LARGEST:
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
