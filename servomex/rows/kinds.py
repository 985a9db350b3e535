"""The columns of a row: the kind of value that each holds, and the check that a file has them."""

from collections.abc import Iterable
from enum import Enum, auto

from servomex.errors import ServomexSinkSchemaError
from servomex.errors.excerpts import shown
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import NUMBERS, TIMES


class ColumnKind(Enum):
    """What a column holds. Each may be empty."""

    TIME = auto()
    """A moment, UTC."""
    CLOCK = auto()
    """A moment without a zone."""
    INTEGER = auto()
    NUMBER = auto()
    FLAG = auto()
    TEXT = auto()
    TAGS = auto()
    """Texts by their keys."""


ANALYSER_FLAGS = ("analyser_fault", "analyser_maintenance")
CHANNEL_FLAGS = "ok fault maintenance calibrating warming_up alarm1 alarm2 alarm3 alarm4".split()
FLAGS = (*CHANNEL_FLAGS, *ANALYSER_FLAGS)
_SPECIAL = {
    **dict.fromkeys(TIMES, ColumnKind.TIME),
    **dict.fromkeys(NUMBERS, ColumnKind.NUMBER),
    **dict.fromkeys(FLAGS, ColumnKind.FLAG),
    "analyser_clock": ColumnKind.CLOCK,
    "monotonic_ns": ColumnKind.INTEGER,
    "tags": ColumnKind.TAGS,
}
COLUMN_KINDS = {column: _SPECIAL.get(column, ColumnKind.TEXT) for column in ROW_COLUMNS}
UNUSUAL = (ValueError, TypeError, AttributeError, LookupError, OverflowError)
"""What comes of values that are not as usual; not all errors: a signal handler may raise one at any moment."""


def check_columns(where: str, found: Iterable[str]) -> None:
    """Check the names of a file's columns and their order.

    Raises:
        ServomexSinkSchemaError: They are not those of :data:`ROW_COLUMNS`; the error names the difference.
    """
    there = list(found)
    if there == list(ROW_COLUMNS):
        return
    missing = [column for column in ROW_COLUMNS if column not in there]
    more = [column for column in there if column not in ROW_COLUMNS]
    differences = [
        f"it {verb} {_listed(names)}" for verb, names in (("lacks", missing), ("also has", more)) if names
    ]
    difference = " and ".join(differences) or "they are in another order"
    raise ServomexSinkSchemaError(f"{where} does not have the columns that this package writes: {difference}")


def _listed(names: list[str]) -> str:
    return ", ".join(map(shown, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
