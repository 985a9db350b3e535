"""Which rotated files of a recording are kept, for how long and up to which size; the oldest go first."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs

from servomex.durations import BYTES, parse_duration, parse_size
from servomex.errors import ServomexValidationError
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log

_log = package_log("servomex")

STAMP = "%Y%m%dT%H%M%SZ"
"""The time in the name of a rotated file: the arrival of its first sample, UTC."""
MOST_EXPIRED = 2
"""How many files go at once because of their age, so that a clock that is wrong for a moment does not take all."""
LOOK_S = 10.0
"""How often the free space is looked at."""
_HOW = "Write how much of the rotated files is kept as 90d, 20GB or 90d,20GB"


@attrs.frozen
class Retention:
    """How much of rotated files is kept.

    Attributes:
        age_s: For how many seconds after its last sample a file is kept; ``None`` for ever.
        size: How many bytes all files may have together; ``None`` for no limit.
        free: How many bytes are to stay free on the disk; ``None`` if that does not matter.
    """

    age_s: float | None = None
    size: int | None = None
    free: int | None = None


def parse_keep(text: str) -> Retention:
    """Read ``90d``, ``20GB`` or both as ``90d,20GB``.

    Raises:
        ServomexValidationError: It is none of these.
    """
    words = [word.strip() for word in text.split(",")]
    sizes = [word for word in words if word.lower().endswith(tuple(BYTES))]
    times = [word for word in words if word not in sizes]
    if len(sizes) > 1 or len(times) > 1:
        raise ServomexValidationError(f"{text!r} has more than one size or time", cure=_HOW)
    if any(word.isdecimal() for word in words):
        raise ServomexValidationError(f"{text!r} has no unit", cure=_HOW)
    return Retention(parse_duration(times[0]) if times else None, parse_size(sizes[0]) if sizes else None)


class Keeper:
    """Removes the oldest files of a rotated recording when they are not to be kept any longer.

    Only files count whose names are those of this recording: its name, a time and its suffix. The one that is
    being written always stays.

    Args:
        path: The name that the files are named after.
        suffix: The suffix in it.
        retention: What is kept.
    """

    def __init__(self, path: Path, suffix: str, retention: Retention) -> None:
        self._folder = path.parent
        self._retention = retention
        stem = re.escape(path.name.removesuffix(suffix))
        self._name = re.compile(rf"{stem}-(\d{{8}}T\d{{6}}Z)(?:_(\d+))?{re.escape(suffix)}")
        self._look_at = time.monotonic()
        self._short = False

    def tidy(self, current: Path, newest: datetime) -> None:
        """Remove what is too old or too much, after the next file has begun.

        Args:
            current: The file that is being written.
            newest: The time of its first sample; the age of files is counted from here.
        """
        try:
            self._tidy(current, newest)
        except OSError as error:
            _log.warning("older files of %s cannot be removed: %s", current, error.strerror or error)

    def _tidy(self, current: Path, newest: datetime) -> None:
        files = list(self._others(current))
        limit_s = self._retention.age_s
        if limit_s is not None:
            following = [began for began, _ in files[1:]]  # a file ends where the next one begins
            ages = [(newest - began).total_seconds() for began in following]
            expired = [file for (_, file), age_s in zip(files, ages, strict=False) if age_s > limit_s]
            for file in expired[:MOST_EXPIRED]:
                self._remove(file, "it is older than is kept")
        if (most := self._retention.size) is not None:
            sizes = [(file, _size(file)) for _, file in self._others(current)]
            total = sum(size for _, size in sizes) + _size(current)
            for file, size in sizes:
                if total <= most:
                    break
                total -= size if self._remove(file, "all files together are larger than is kept") else 0

    def look_if_due(self, current: Path) -> None:
        """Every ten seconds, remove the oldest files if the disk is nearly full; log it when none is left."""
        if self._retention.free is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        try:
            short = shutil.disk_usage(self._folder).free < self._retention.free
            if short and (files := list(self._others(current))):
                short = not self._remove(files[0][1], "the disk is nearly full")
        except OSError as error:
            _log.warning("the free space beside %s cannot be found out: %s", current, error.strerror or error)
            return
        if short and not self._short:
            _log.warning("%s: the disk is nearly full, and no older file can be removed", current)
        self._short = short

    def _others(self, current: Path) -> Iterator[tuple[datetime, Path]]:
        """Yield the files of the recording that are older than the current one, each with its time."""
        found: list[tuple[str, int, Path]] = []
        for path in self._folder.iterdir():
            named = self._name.fullmatch(path.name)
            if named and path != current and path.is_file():
                found.append((named[1], int(named[2] or 1), path))
        here = self._name.fullmatch(current.name)
        before = (here[1], int(here[2] or 1)) if here else ("", 0)
        for stamp, number, path in sorted(found):
            if (stamp, number) < before:
                yield datetime.strptime(stamp, STAMP).replace(tzinfo=UTC), path

    def _remove(self, file: Path, why: str) -> bool:
        """Remove a file, and return whether it is gone; one that another program uses is tried again later."""
        try:
            file.unlink()
        except OSError as error:
            _log.warning("%s cannot be removed: %s", file, error.strerror or error)
            return False
        _log.info("%s was removed: %s", file, why)
        return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # removed meanwhile, or not written yet
