"""The formats of rows: csv, JSON lines, and tuples for databases and Parquet."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from servomex.errors.mappings import FrozenMapping
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import FREE_TEXT, json_value, tags_text, time_text
from servomex.models.tags import NO_TAGS
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind
from servomex.rows.pieces import RowFormat

SEPARATORS = {".": ",", ",": ";"}
"""The separator of csv cells, by the decimal sign."""

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠']")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


def csv_text(rows: Iterable[Sequence[Any]], decimal: str = ".") -> str:
    r"""Format rows, given as values in the order of :data:`ROW_COLUMNS`, as csv: always one line each.

    Times are ISO 8601, flags 1 and 0, and unknown values are empty. A text that a spreadsheet would take
    for a formula gets an apostrophe in front, and so does one that begins with an apostrophe. One with control
    characters, line ends among them, begins with ``'\`` and has these and backslashes as ``\x0a``.

    With a comma as the decimal sign the cells are separated by semicolons, as spreadsheets of many countries do.

    The last cell, the tags, is always in quotation marks, even when it is empty: this shows that a line is whole.
    """
    return "".join(map(CSV[decimal].row, rows))


def tags_cell(tags: FrozenMapping[str]) -> str | None:
    """Format tags as a JSON object for csv and databases; return ``None`` when there are none."""
    return None if tags is NO_TAGS or not tags else tags_text(tags)


def guarded(text: str) -> str:
    """Format a text so that no spreadsheet takes it for a formula, and on one line, see :func:`csv_text`."""
    if _CONTROL.search(text):
        return "'\\" + _ESCAPED.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return f"'{text}" if _FORMULA.match(text) else text


def _lines(write: Sequence[Callable[[Any], str]], before: Sequence[str], nothing: str, end: str) -> RowFormat[str]:
    """Return a format of lines.

    Args:
        write: The function that formats the values of each column.
        before: The text in front of the value of each column.
        nothing: The form of an unknown value.
        end: The end of a line.
    """

    def cell(write: Callable[[Any], str], before: str, after: str) -> Callable[[Any], str]:
        without = before + nothing + after
        return lambda value: without if value is None else before + write(value) + after

    ends = [*[""] * (len(write) - 1), end]
    return RowFormat([*map(cell, write, before, ends)], "".join)


def _csv_format(decimal: str) -> RowFormat[str]:
    separator = SEPARATORS[decimal]

    def quoted(text: str) -> str:
        is_plain = separator not in text and '"' not in text
        return text if is_plain else '"' + text.replace('"', '""') + '"'

    def number(value: float) -> str:
        return str(value).replace(".", decimal)

    kinds: dict[ColumnKind, Callable[[Any], str]] = {
        ColumnKind.TIME: time_text,
        ColumnKind.CLOCK: time_text,
        ColumnKind.INTEGER: str,
        ColumnKind.NUMBER: str if decimal == "." else number,
        ColumnKind.FLAG: lambda flag: str(int(flag)),
        ColumnKind.TEXT: quoted,
        ColumnKind.TAGS: lambda tags: quoted(tags_cell(tags) or "") or '""',
    }
    texts: dict[str, Callable[[str], str]] = {
        **dict.fromkeys(FREE_TEXT, lambda text: quoted(guarded(text))),
        # An apostrophe distinguishes an empty text from a missing one.
        **dict.fromkeys(("name", "error"), lambda text: quoted(guarded(text)) or "'"),
    }
    write = [texts.get(column) or kinds[kind] for column, kind in COLUMN_KINDS.items()]
    return _lines(write, ["", *[separator] * (len(write) - 1)], "", "\n")


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=json_value).encode
"""``json.dumps`` would rebuild its encoder for each value."""
_JSON_FLAGS = {True: "true", False: "false"}


def _json_format() -> RowFormat[str]:
    kinds: dict[ColumnKind, Callable[[Any], str]] = {
        ColumnKind.TIME: lambda moment: _json(time_text(moment)),
        ColumnKind.CLOCK: lambda moment: _json(time_text(moment)),
        ColumnKind.INTEGER: lambda number: str(number) if type(number) is int else _json(number),
        ColumnKind.NUMBER: lambda number: str(number) if type(number) is float else _json(number),
        ColumnKind.FLAG: lambda flag: _JSON_FLAGS[flag] if type(flag) is bool else _json(flag),
        ColumnKind.TEXT: _json,
        ColumnKind.TAGS: lambda tags: _json(tags.plain()) if tags else "{}",
    }
    write = [kinds[kind] for kind in COLUMN_KINDS.values()]
    first, *others = ROW_COLUMNS
    return _lines(write, [f'{{"{first}": ', *(f', "{column}": ' for column in others)], "null", "}\n")


def _tuples(
    kinds: Mapping[ColumnKind, Callable[[Any], Any]], join: Callable[[Iterable[tuple[Any, ...]]], tuple[Any, ...]]
) -> RowFormat[tuple[Any, ...]]:
    """Return a format of tuples.

    Args:
        kinds: By the kind of a column, what converts its values, if it is not to hold them as they are.
        join: What puts the tuples of several values together.
    """

    def item(write: Callable[[Any], Any] | None) -> Callable[[Any], tuple[Any, ...]]:
        if write is None:
            return lambda value: (value,)
        return lambda value: (None if value is None else write(value),)

    return RowFormat([item(kinds.get(kind)) for kind in COLUMN_KINDS.values()], join)


def _flat(items: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(chain.from_iterable(items))


CSV = {decimal: _csv_format(decimal) for decimal in SEPARATORS}
"""Lines of csv, by the decimal sign; see :func:`csv_text`."""
JSON_LINES = _json_format()
"""JSON objects, one on each line."""
PLAIN = _tuples({}, _flat)
"""The values as they are."""
GROUPED = _tuples({}, lambda items: (_flat(items),))
"""The same, but those of each slice of :data:`PLACES` are a tuple of their own, the same one in many rows."""
SQL = _tuples({
    ColumnKind.TIME: time_text,
    ColumnKind.CLOCK: time_text,
    ColumnKind.FLAG: int,  # sqlite3 looks for an adapter of each bool
    ColumnKind.TAGS: tags_cell,
}, _flat)  # fmt: skip
"""The values as SQLite takes them: texts for times and tags, and 1 or 0 for flags."""
