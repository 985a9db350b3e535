"""Values for files, JSON and other programs: times in UTC, finite numbers, texts that are Unicode."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import attrs

from servomex.errors import ServomexValidationError
from servomex.errors.excerpts import unicode_text
from servomex.errors.mappings import FrozenMapping
from servomex.errors.validation import number
from servomex.models.columns import ROW_COLUMNS
from servomex.models.tags import NO_TAGS, tags_of

LONGEST_TEXT = 20_000
"""Characters of a text that are kept: csv readers do not accept longer cells."""
FREE_TEXT = ("device", "channel", "name", "unit_text", "error", "error_type")
"""The columns whose text is chosen by the instrument or the user."""
TIMES = ("received_at", "requested_at")
NUMBERS = ("value", "latency_s")
_TEXTS = ("device", "name", "unit_text")
"""Those of them that may be long or not Unicode."""
_TEXTS_OF_ERRORS = (*_TEXTS, "error", "error_type")
LARGEST = 2**63
"""No 64-bit integer is as large."""


def time_text(moment: datetime) -> str:
    """Format a time in ISO 8601: UTC with all six digits, so that texts sort as times; a clock unchanged."""
    if moment.tzinfo is None:
        return moment.isoformat()
    found = moment.astimezone(UTC)
    minute = _minute_text(found.year, found.month, found.day, found.hour, found.minute)
    return f"{minute}:{found.second:02d}.{found.microsecond:06d}+00:00"


@lru_cache(maxsize=64)
def _minute_text(year: int, month: int, day: int, hour: int, minute: int) -> str:
    """Return all that many times have in common: ``isoformat`` takes twice as long as the rest."""
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}"


def utc(moment: datetime) -> datetime:
    """Return a time in UTC.

    Raises:
        ServomexValidationError: It has no zone.
    """
    if moment.tzinfo is None:
        raise ServomexValidationError(f"the time {moment} has no time zone")
    return moment.astimezone(UTC)


def make_plain(row: dict[str, Any]) -> dict[str, Any]:
    """Convert the values of a row to a form that every format can hold, and return it.

    Times are converted to UTC. Anything not Unicode in a text, as in the name of a port in another encoding,
    becomes a ``?``; a text of more than :data:`LONGEST_TEXT` characters is cut off there.

    Raises:
        ServomexValidationError: A time has no zone, or a number is not finite or longer than 64 bits.
    """
    ticks = row["monotonic_ns"]
    if not -LARGEST <= ticks < LARGEST:
        raise ServomexValidationError(f"monotonic_ns is {ticks}, which is more than 64 bits")
    for column in TIMES:
        if row[column] is not None:
            row[column] = utc(row[column])
    for column in NUMBERS:
        if row[column] is not None and not math.isfinite(number(row[column], column)):
            raise ServomexValidationError(f"{column} is {row[column]}; use None for an invalid value")
    for column in _TEXTS_OF_ERRORS if row["error"] is not None else _TEXTS:
        text = row[column]
        if text and not (text.isascii() and len(text) <= LONGEST_TEXT):
            row[column] = unicode_text(text[:LONGEST_TEXT])
    return row


_checked_tags = lru_cache(maxsize=64)(tags_of)


def plain_tags(tags: FrozenMapping[str]) -> FrozenMapping[str]:
    """Check the tags of a sample, see ``tags_of``; repeated ones cost little.

    Raises:
        ServomexValidationError: They are invalid: once written, they could not be read again.
    """
    if tags is NO_TAGS:
        return tags
    try:
        return _checked_tags(tags)
    except TypeError:  # a value cannot be hashed, so it is not a text
        return tags_of(tags)


_NOTHING = dict.fromkeys(ROW_COLUMNS)


@lru_cache(maxsize=64)
def tags_text(tags: FrozenMapping[str]) -> str:
    """Format tags as a JSON object: without spaces, its keys sorted."""
    import json

    return json.dumps(tags.plain(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def json_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row, or some of its columns, as a JSON object.

    Raises:
        ServomexValidationError: See :func:`make_plain`.
    """
    found = make_plain({**_NOTHING, **row})
    return {column: json_value(found[column]) for column in row}


def json_fields(model: Any) -> dict[str, Any]:
    """Return the public fields of a model of attrs as a JSON object, see :func:`json_value`."""
    return {
        field.name: json_value(getattr(model, field.name))
        for field in attrs.fields(type(model))
        if not field.name.startswith("_")
    }


def json_value(value: Any) -> Any:
    """Return the JSON form of a value: the one encoder of this package.

    Times are texts of ISO 8601, see :func:`time_text`, members of an enum their values, bytes hexadecimal, models
    the result of their ``as_json``, or their fields. Anything not Unicode in a text becomes a ``?``.

    Raises:
        ServomexValidationError: A number is not finite, or the value has no JSON form.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return unicode_text(str(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ServomexValidationError(f"JSON cannot hold {value}")
        return value
    return _json_of_others(value)


def _json_of_others(value: Any) -> Any:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, FrozenMapping):
        return value.plain()
    if isinstance(value, Mapping):
        return {unicode_text(str(key)): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if callable(encode := getattr(value, "as_json", None)):
        return encode()
    if attrs.has(type(value)):
        return json_fields(value)
    raise ServomexValidationError(f"JSON cannot represent the type {type(value).__name__}")


def json_text(value: Any) -> str:
    """Format a value, or a model, as one line of JSON."""
    import json

    return json.dumps(json_value(value), ensure_ascii=False, allow_nan=False) + "\n"
