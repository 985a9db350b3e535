"""A recording in several files, each with the time of its start in its name."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from servomex.durations import parse_duration, parse_size
from servomex.errors import Argument, ServomexSinkError, ServomexValidationError
from servomex.models.sample import Sample
from servomex.runtime.logs import package_log
from servomex.sinks.base import Sink
from servomex.sinks.files import FileSink, explained
from servomex.sinks.places import check_folder
from servomex.sinks.retention import STAMP, Keeper, Retention, parse_keep

_log = package_log("servomex")

ROW_BYTES = 1000
"""More bytes than a row takes in any format: the true size is checked once that could reach the limit."""

_HOW = "Write a size, a time or both for the rotation, as 100MB, 1d or 100MB,1d"


@attrs.frozen
class Rotation:
    """When a recording continues in a new file.

    Attributes:
        size: Continue at this number of bytes; ``None`` for no limit.
        period_s: Continue at each multiple of this number of seconds, counted in UTC from 1970; ``None`` for
            never.
    """

    size: int | None = None
    period_s: float | None = None


def parse_rotation(text: str) -> Rotation:
    """Read ``100MB``, ``1d``, ``1h``, ``15m``, or a size and a time as ``100MB,1d``.

    Raises:
        ServomexValidationError: It is none of these, or a time below a second.
    """
    words = [word.strip() for word in text.split(",")]
    sizes = [word for word in words if word.lower().endswith("b")]
    times = [word for word in words if word not in sizes]
    if len(sizes) > 1 or len(times) > 1:
        raise ServomexValidationError(f"{text!r} has more than one size or time", cure=_HOW)
    if any(word.isdecimal() for word in words):
        raise ServomexValidationError(f"{text!r} has no unit", cure=_HOW)
    period_s = parse_duration(times[0]) if times else None
    if period_s is not None and period_s < 1:
        raise ServomexValidationError(f"files cannot be rotated every {period_s:g} s: 1 s or more")
    return Rotation(parse_size(sizes[0]) if sizes else None, period_s)


class RotatingSink(Sink):
    """Writes to files of one kind in turn: ``NAME-20261122T103000Z.csv`` and so on.

    The time in a name is the arrival of the first sample in the file, UTC; a second file of the same second gets
    ``_02`` appended. A file that exists already is never touched. A batch is never divided. The time of the
    samples counts, not that of the computer, so that converting a recording later divides it the same way.

    Args:
        kind: The sink of one file.
        path: ``NAME.csv``.
        suffix: The suffix in it; may be empty.
        rotate: When the next file begins, see :func:`parse_rotation`.
        keep: How much of the files is kept, see :func:`parse_keep`; all when ``None``.
        min_free: A size such as ``1GB`` that is to stay free on the disk: when it does not, the oldest files go.
        options: The options of each file.

    Raises:
        ServomexSinkError: No file can be written there.
        ServomexValidationError: An option is invalid.
    """

    closed: bool = True
    keeps_count = True

    def __init__(
        self,
        kind: type[FileSink],
        path: Path,
        suffix: str,
        rotate: str,
        *,
        keep: str | None = None,
        min_free: str | None = None,
        **options: Any,
    ) -> None:
        if options.pop("append", False) or options.pop("overwrite", False):
            raise ServomexValidationError(
                "rotated files are always new ones",
                cure=f"Omit {Argument('append')} and {Argument('overwrite')}",
            )
        self.name: str = str(path)
        self._kind = kind
        self._path = path.absolute()
        self._suffix = path.name[len(path.name) - len(suffix) :]
        self._limit = parse_rotation(rotate)
        kept = Retention() if keep is None else parse_keep(keep)
        kept = attrs.evolve(kept, free=None if min_free is None else parse_size(min_free))
        self._keeper = None if kept == Retention() else Keeper(self._path, self._suffix, kept)
        self._options = options
        self._current: FileSink | None = None
        self._closing: FileSink | None = None
        self._failure: ServomexSinkError | None = None
        self._removed = 0
        self._period = 0
        kind.check_installed()
        with explained(self.name):
            check_folder(self._path)  # else the error would be raised by the first sample
        self.closed = False
        self.rows: int = 0

    @property
    def kind(self) -> type[FileSink]:
        """The sink of one file."""
        return self._kind

    def newest_file(self) -> Path | None:
        """Return the newest of its files, of this run or an earlier one; ``None`` when there is none."""
        stem = re.escape(self._path.name.removesuffix(self._suffix))
        name = re.compile(rf"({stem}-(\d{{8}}T\d{{6}}Z)(?:_(\d+))?{re.escape(self._suffix)})(?:\.parts)?")
        found = [named for path in self._path.parent.iterdir() if (named := name.fullmatch(path.name))]
        newest = max(found, key=lambda named: (named[2], int(named[3] or 1)), default=None)
        return None if newest is None else self._path.with_name(newest[1])

    @property
    def removed(self) -> int:
        """Rows that were written to a file, and that another program removed while it was the current one."""
        return self._removed + (self._current.removed if self._current else 0)

    @property
    def unstored(self) -> int:
        """Rows of the current file that wait for the next flush or are being written."""
        return self._current.unstored if self._current else 0

    @property
    def moved_at(self) -> float:
        """When writing or closing a file last made progress, on the monotonic clock."""
        return max((file.moved_at for file in (self._current, self._closing) if file), default=0.0)

    def leave(self) -> None:
        """Leave the current file, and one that is being closed, open permanently."""
        super().leave()
        for file in (self._current, self._closing):
            if file:
                file.leave()

    def write(self, samples: Sequence[Sample]) -> None:
        """Write one batch, into a new file if that is due; the errors are those of :meth:`Sink.write`."""
        self.check_process()
        if self.closed:
            raise ServomexSinkError(f"{self.name} is closed: nothing more can be written to it")
        if samples:
            current = self._current_for(samples[0].received_at)
            before = current.rows
            try:
                current.write(samples)
            finally:
                self.rows += current.rows - before

    def flush(self) -> None:
        """Flush the current file."""
        self.check_process()
        if self._current:
            self._current.flush()

    def sync(self) -> None:
        """Sync the current file."""
        self.check_process()
        if self._current:
            self._current.sync()

    def flush_if_due(self) -> None:
        """Flush and sync the current file when that is due."""
        self.check_process()
        if self._current:
            self._current.flush_if_due()
            if self._keeper:
                self._keeper.look_if_due(self._current.path)

    def close(self) -> None:
        """Close the current file.

        Raises:
            ServomexSinkError: It, or one before it, could not be finished.
        """
        if self.closed or not self.made_here:
            return
        self.closed = True
        current, self._current = self._current, None
        if current:
            self._close(current)
        if self._failure:
            raise self._failure

    def _current_for(self, moment: datetime) -> FileSink:
        period = int(moment.timestamp() // self._limit.period_s) if self._limit.period_s else 0
        current = self._current
        # One period back is a sample slightly older than the one before; more means that the clock was set.
        if current and period in (self._period - 1, self._period) and not self._is_full(current):
            return current
        if current:
            current.flush()
        following = self._kind(self._unused(moment), **self._options)
        self._current, self._period = following, period
        if current:
            self._finish(current)
        if self._keeper:
            self._keeper.tidy(following.path, moment)
        return following

    def _finish(self, file: FileSink) -> None:
        """Close a file; the next one must not wait for it, so a failure is raised at the end."""
        try:
            self._close(file)
        except ServomexSinkError as error:
            _log.warning("%s", error)
            self._failure = self._failure or error

    def _close(self, file: FileSink) -> None:
        rows, self._closing = file.rows, file
        try:
            file.close()
        finally:
            self._closing = None
            self.rows -= rows - file.rows
            self._removed += file.removed

    def _is_full(self, current: FileSink) -> bool:
        limit = self._limit.size
        if limit is None or current.size + current.pending * ROW_BYTES < limit:
            return False
        current.flush()
        return current.size >= limit

    def _unused(self, moment: datetime) -> Path:
        """Return the name of the next file."""
        stem = f"{self._path.name.removesuffix(self._suffix)}-{moment.astimezone(UTC).strftime(STAMP)}"
        path = self._path.with_name(f"{stem}{self._suffix}")
        number = 1
        while self._kind.exists(path):
            number += 1
            path = self._path.with_name(f"{stem}_{number:02d}{self._suffix}")
        return path
