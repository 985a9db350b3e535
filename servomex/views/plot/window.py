"""The samples to be plotted: of files in the order of their time, within a window."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from servomex.durations import parse_duration
from servomex.errors import Argument, ServomexValidationError
from servomex.errors.validation import seconds
from servomex.models.sample import Sample
from servomex.recording.load import files_of, load
from servomex.views.plot.zone import moment_of

if TYPE_CHECKING:
    from servomex.recording.load import Source

LONGEST_S = 3650 * 86_400.0
_NEVER = datetime.max.replace(tzinfo=UTC)
_ALWAYS = datetime.min.replace(tzinfo=UTC)


def samples_of(
    source: "Source | Iterable[Source | Sample]",
    *,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    last: float | str | None = None,
) -> Iterator[Sample]:
    """Return the samples within a window, in the order of time as far as files have one.

    Args:
        source: What :func:`servomex.load` takes, or samples.
        start: From when; ``None`` for the beginning.
        end: Until when.
        last: Only so many seconds before the last sample, or before ``end``; a text such as ``1h`` as well.

    Raises:
        ServomexValidationError: A time is none, or the window is empty.
        ServomexSinkError: A file is missing, damaged or cannot be read.
    """
    if last is not None and start is not None:
        raise ServomexValidationError(
            f"{Argument('last')} and {Argument('start')} both say where the plot begins", cure="Omit one of them"
        )
    first = _ALWAYS if start is None else moment_of(start, "start")
    until = _NEVER if end is None else moment_of(end, "end")
    if first >= until:
        raise ServomexValidationError("the plot would end before it begins", cure="Exchange start and end")
    again = _readable(source, twice=last is not None)
    if last is not None:
        span_s = parse_duration(last) if isinstance(last, str) else seconds(last, "last", longest=LONGEST_S)
        times = (sample.received_at for sample in again() if sample.received_at <= until)
        newest = max(times, default=None)
        if newest is not None:
            first = newest - timedelta(seconds=span_s)
    if first is _ALWAYS and until is _NEVER:
        return again()
    return (sample for sample in again() if first <= sample.received_at <= until)


def _readable(source: "Source | Iterable[Source | Sample]", *, twice: bool) -> Callable[[], Iterator[Sample]]:
    """Return what starts reading the source, once or twice."""
    if isinstance(source, str | os.PathLike) or not isinstance(source, Iterable):
        return _files([source])
    items = iter(source)
    begun = next(items, None)
    if not isinstance(begun, Sample):
        names = [*([] if begun is None else [begun]), *items]
        if any(isinstance(item, Sample) for item in names):
            raise ServomexValidationError("the source has files and samples", cure="Pass either")
        return _files(names)  # type: ignore[arg-type]
    samples = itertools.chain([begun], map(_sample, items))
    if not twice:
        return lambda: samples
    kept = [*samples]
    return lambda: iter(kept)


def _sample(item: object) -> Sample:
    if not isinstance(item, Sample):
        raise ServomexValidationError(f"the source has samples and {item!r}", cure="Pass either samples or files")
    return item


def _files(names: "list[Source]") -> Callable[[], Iterator[Sample]]:
    """Return what reads files, the one that begins first before the others."""
    found = files_of(names)
    if len(found) < 2:
        return lambda: load(found)
    begins: dict[int, datetime] = {}
    for place, file in enumerate(found):
        first = next(iter(load(file)), None)
        begins[place] = _NEVER if first is None else first.received_at
    ordered = [found[place] for place in sorted(begins, key=begins.__getitem__)]
    return lambda: load(ordered)
