"""Names and tags: a user's facts about an analyser or a recording, such as its site; every row carries them."""

import re
from collections.abc import Mapping

from servomex.errors import ServomexValidationError
from servomex.errors.mappings import FrozenMapping
from servomex.models.columns import ROW_COLUMNS

LONGEST_NAME = 128
MOST_TAGS = 32
LONGEST_KEY = 64
LONGEST_VALUE = 256
"""Characters."""
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_TAKEN = frozenset({*ROW_COLUMNS, "time"})
"""The columns of rows, and the time of a line of InfluxDB."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

NO_TAGS: FrozenMapping[str] = FrozenMapping()


def name_of(given: str) -> str:
    """Check the name of an analyser: a text of 1 to 128 characters on one line, not only spaces.

    Raises:
        ServomexValidationError: It is something else.
    """
    if not isinstance(given, str) or not 0 < len(given) <= LONGEST_NAME or not given.strip():
        raise ServomexValidationError(
            f"the name of an analyser must be a text of 1 to {LONGEST_NAME} characters, not {given!r}"
        )
    if _CONTROL.search(given):
        raise ServomexValidationError(
            f"the name of an analyser must be on one line and without control characters, not {given!r}"
        )
    return given


def tags_of(given: Mapping[str, str] | None) -> FrozenMapping[str]:
    """Check tags, such as ``{"site": "mill-3", "line": "A"}``.

    A key is a word of up to 64 letters, digits, ``_``, ``.`` and ``-`` that begins with a letter, and not the name
    of a column; a value is a text of 1 to 256 characters without control characters. There are at most 32 tags.

    Raises:
        ServomexValidationError: They are something else.
    """
    if given is None:
        return NO_TAGS
    if not isinstance(given, Mapping):
        raise ServomexValidationError(f"tags must be a mapping, not {given!r}", cure="Write {'site': 'mill-3'}")
    if len(given) > MOST_TAGS:
        raise ServomexValidationError(f"there are {len(given)} tags, but at most {MOST_TAGS} can be kept")
    for key, value in given.items():
        if not isinstance(key, str) or len(key) > LONGEST_KEY or not _KEY.fullmatch(key):
            raise ServomexValidationError(
                f"the key of a tag must be a word of letters, digits, '_', '.' and '-', not {key!r}"
            )
        if key in _TAKEN:
            raise ServomexValidationError(
                f"a tag cannot be named {key!r}: a column of each row has this name", cure="Choose another key"
            )
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_VALUE or _CONTROL.search(value):
            raise ServomexValidationError(
                f"the tag {key!r} must be a text of 1 to {LONGEST_VALUE} characters on one line, not {value!r}"
            )
    return FrozenMapping(given)
