"""JSON lines: ``.jsonl``, ``.ndjson`` and ``.jsonl.gz``."""

import json
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

from servomex.errors import ServomexSinkSchemaError
from servomex.errors.excerpts import shown
from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.rows.cells import JSON
from servomex.rows.formats import JSON_LINES
from servomex.rows.kinds import check_columns
from servomex.sinks.lines import check_encoding
from servomex.sinks.text import TextSink


class JsonlSink(TextSink):
    """Writes one JSON object per line for each row, with times in ISO 8601 and flags as ``true`` and ``false``.

    The keys are :data:`servomex.ROW_COLUMNS`. There is no place for metadata.
    """

    _beginnings = (f'{{"{ROW_COLUMNS[0]}": "'.encode(),)
    _format = JSON_LINES

    @classmethod
    def _reader_for(cls, path: Path, line: bytes) -> Callable[[str], Sample]:
        check_encoding(path, line)
        try:
            found = _object(line.decode("utf-8-sig"))
        except ValueError as error:
            raise ServomexSinkSchemaError(f"{path}, line 1: {error}") from error
        check_columns(str(path), found)
        return _sample

    @classmethod
    def _is_whole(cls, line: bytes) -> bool:
        """Return whether a line without a line end is whole: the brace that closes it shows that."""
        try:
            _sample(line.decode("utf-8"))
        except ValueError:
            return False
        return True


_values = itemgetter(*ROW_COLUMNS)


def _sample(line: str) -> Sample:
    found = _object(line.removeprefix("\ufeff"))
    try:
        values = _values(found)
    except KeyError as missing:
        raise ValueError(f"it lacks {missing}") from None
    return JSON.sample(values)


def _object(line: str) -> dict[str, Any]:
    """Read a line.

    Raises:
        ValueError: It is not a JSON object.
    """
    try:
        found = json.loads(line)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"not an object: {shown(line)}")  # noqa: TRY004 (it is the line that is wrong)
    return found
