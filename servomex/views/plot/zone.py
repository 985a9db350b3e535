"""The local time of this computer: as a zone for axes, its name, and times as people write them."""

import contextlib
from datetime import UTC, datetime, timedelta, tzinfo

from servomex.errors import ServomexValidationError
from servomex.errors.excerpts import shown

_NONE = timedelta(0)


def at(seconds: float) -> datetime:
    """Return a time of day, UTC, from seconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def local(moment: datetime) -> datetime:
    """Return a time in the local zone, where one without a zone is; in UTC where this computer knows no other."""
    try:
        return moment.astimezone()
    except (OSError, OverflowError, ValueError):
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class LocalZone(tzinfo):
    """The local zone with its changes over the year, which the system knows."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        """Return the difference to UTC."""
        return _NONE if dt is None else local(dt.replace(tzinfo=None)).utcoffset() or _NONE

    def dst(self, _dt: datetime | None) -> timedelta:
        """Return nothing: the difference to UTC contains it."""
        return _NONE

    def tzname(self, dt: datetime | None) -> str:
        """Return the name of the zone."""
        return "" if dt is None else local(dt.replace(tzinfo=None)).tzname() or ""

    def fromutc(self, dt: datetime) -> datetime:
        """Return a time that is in UTC in this zone."""
        there = local(dt.replace(tzinfo=UTC))
        second = local(there.replace(tzinfo=None)).utcoffset() != there.utcoffset()  # where the clock is set back
        return there.replace(tzinfo=self, fold=int(second))


def zone_name(begin: float, end: float) -> str:
    """Return the name of the local zone within a time, such as ``CET, UTC+01:00``; two where it changes."""
    names = dict.fromkeys(_name(local(at(moment))) for moment in (begin, end))
    return " to ".join(names)


def _name(moment: datetime) -> str:
    offset = moment.strftime("%z")
    name, utc = moment.tzname() or "", f"UTC{offset[:3]}:{offset[3:5]}"
    if name == "UTC" or utc == "UTC+00:00":
        return name or "UTC"
    return utc if name.startswith(("UTC", "+", "-")) or not name else f"{name}, {utc}"


def changes(begin: float, end: float, most: int = 100) -> list[tuple[float, int]]:
    """Return from when on the local zone differs from UTC by how many seconds, beginning with ``begin``."""
    found = [(begin, _offset(begin))]
    step, moment = max(86_400.0, (end - begin) / 4_000), begin
    while moment < end and len(found) < most:
        later = min(moment + step, end)
        if _offset(later) != found[-1][1]:
            found.append((_change(moment, later), _offset(later)))
        moment = later
    return found


def _change(before: float, after: float) -> float:
    while after - before > 1:
        middle = (before + after) / 2
        if _offset(middle) == _offset(before):
            before = middle
        else:
            after = middle
    return float(round(after))


def _offset(seconds: float) -> int:
    with contextlib.suppress(OverflowError):
        return round((local(at(seconds)).utcoffset() or _NONE).total_seconds())
    return 0


def moment_of(value: datetime | str, what: str) -> datetime:
    """Return a time: a text without a zone is local time.

    Args:
        value: A time with a zone, or a text such as ``2026-03-01 12:30``.
        what: What it is, for the error.

    Raises:
        ServomexValidationError: It is no such text, or a time without a zone.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ServomexValidationError(f"{what} has no zone", cure="Write a datetime with tzinfo, or a text")
        return value.astimezone(UTC)
    try:
        return local(datetime.fromisoformat(value.strip())).astimezone(UTC)
    except (ValueError, AttributeError, TypeError, OverflowError):
        raise ServomexValidationError(
            f"{what}: {shown(value)} is not a time",
            cure="Write it as '2026-03-01 12:30', local time, or with +01:00",
        ) from None
