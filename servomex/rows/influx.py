"""The line protocol of InfluxDB, which VictoriaMetrics and Telegraf read as well."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from servomex.models.columns import ROW_COLUMNS
from servomex.rows.kinds import FLAGS

MEASUREMENT = "servomex"
"""The measurement of every line."""
QUALITY_CODES = {"bad": 0, "uncertain": 1, "good": 2}
"""The quality as a number, for databases that hold no texts."""

_TAGS = ("device", "protocol", "channel", "kind", "name", "unit")
_TAG_ESCAPES = str.maketrans(
    {"\\": "\\\\", ",": "\\,", "=": "\\=", " ": "\\ ", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)
_STRING_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def influx_line(values: Sequence[Any]) -> str:
    """Return the line of a row, given in the order of :data:`ROW_COLUMNS`, with its time in nanoseconds.

    A row of an error has the fields ``error``, ``error_type`` and ``failed=1i``, and no others.
    """
    row = dict(zip(ROW_COLUMNS, values, strict=True))
    timestamp = (row["received_at"] - _EPOCH) // timedelta(microseconds=1) * 1000
    return f"{_series(row)} {','.join(_fields(row))} {timestamp}\n"


def _series(row: Mapping[str, Any]) -> str:
    """Return the measurement and the tags; those of the user follow those of the row."""
    own = {key: row[key] for key in _TAGS if row[key]}
    return ",".join([MEASUREMENT, *(f"{key}={_tag(text)}" for key, text in (own | row["tags"].plain()).items())])


def _fields(row: Mapping[str, Any]) -> Iterable[str]:
    if row["error"] is not None or row["quality"] is None:
        texts = [f"{key}={_string(row[key])}" for key in ("error", "error_type") if row[key] is not None]
        return [*texts, "failed=1i"]
    found = [] if row["value"] is None else [f"value={float(row['value'])!r}"]
    found += [f"quality={_string(row['quality'])}", f"quality_code={QUALITY_CODES[row['quality']]}i"]
    found += [f"{key}={str(row[key]).lower()}" for key in FLAGS if row[key] is not None]
    return found if row["cal_groups"] is None else [*found, f"cal_groups={_string(row['cal_groups'])}"]


def _tag(text: str) -> str:
    """Return a tag's value, escaped. InfluxDB's parser rejects one that ends with a backslash, escaped or not."""
    return (f"{text} " if text.endswith("\\") else text).translate(_TAG_ESCAPES)


def _string(text: str) -> str:
    return f'"{text.translate(_STRING_ESCAPES)}"'
