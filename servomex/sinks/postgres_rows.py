r"""Rows as a table of PostgreSQL holds them, and back.

A text of PostgreSQL cannot have the character NUL. One that does, or that begins with ``'\``, is stored with
``'\`` in front, and has its NULs as ``\x00`` and its backslashes as ``\x5c``.
"""

from collections.abc import Sequence
from typing import Any

from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.rows.cells import TYPED
from servomex.rows.formats import tags_cell
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind

LONGEST_STORED = 100_000
"""Characters of a text that are read: more than any text that was written has, escapes for NULs included."""
_MARK = "'\\"
_TEXTS = [place for place, kind in enumerate(COLUMN_KINDS.values()) if kind is ColumnKind.TEXT]
_TAGS = ROW_COLUMNS.index("tags")


def stored(row: Sequence[Any]) -> list[Any]:
    """Return the values of a row in the form that the columns of the table take."""
    values = list(row)
    for place in _TEXTS:
        if values[place] is not None:
            values[place] = text_without_nul(values[place])
    values[_TAGS] = tags_cell(values[_TAGS])
    return values


def sample_from(values: Sequence[Any]) -> Sample:
    """Build a sample from the values of a row of the table, whose tags are JSON.

    Raises:
        ValueError: A value does not occur in a row of this package.
    """
    row = list(values)
    for place in _TEXTS:
        if row[place] is not None:
            row[place] = text_with_nul(row[place])
    return TYPED.sample(row)


def text_without_nul(text: str) -> str:
    """Return a text as PostgreSQL can hold it."""
    if "\0" not in text and not text.startswith(_MARK):
        return text
    return _MARK + text.replace("\\", "\\x5c").replace("\0", "\\x00")


def text_with_nul(text: str) -> str:
    """Return the text that :func:`text_without_nul` was given."""
    if not text.startswith(_MARK):
        return text
    return text.removeprefix(_MARK).replace("\\x00", "\0").replace("\\x5c", "\\")
