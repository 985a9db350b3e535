"""Rows that a file has already: an attempt to store them was cut off before the outbox could note it."""

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from servomex.errors import ServomexError
from servomex.models.sample import Sample
from servomex.runtime.logs import package_log
from servomex.sinks.base import Sink

_log = package_log("servomex")


def _key(sample: Sample) -> Hashable:
    error = None if sample.error is None else str(sample.error)
    return sample.device, sample.channel, sample.received_at, sample.monotonic_ns, error


class Known:
    """Rows that a sink has.

    Args:
        samples: The rows.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._numbers = Counter(map(_key, samples))

    def without(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples that the sink does not have; each row that it has stands for one of them."""
        left = []
        for sample in samples:
            key = _key(sample)
            if self._numbers[key] > 0:
                self._numbers[key] -= 1
            else:
                left.append(sample)
        return left


def known_rows(sink: Sink, most: int) -> Known:
    """Return the newest rows of a sink that can be read back; a database server stores a row once anyway."""
    try:
        return Known(_last_rows(sink, most))
    except (ServomexError, OSError) as error:
        _log.warning("%s cannot be checked for rows that it has already: %s", sink.name, error)
        return Known()


def _last_rows(sink: Sink, most: int) -> Iterable[Sample]:
    from servomex.sinks.files import FileSink
    from servomex.sinks.rotation import RotatingSink
    from servomex.sinks.sqlite import SqliteSink
    from servomex.sinks.text import TextSink

    kind: type[Any] = type(sink)
    path = sink.path if isinstance(sink, FileSink) else None
    if isinstance(sink, RotatingSink):
        kind, path = sink.kind, sink.newest_file()
    if path is None or not kind.exists(path):
        return []
    if isinstance(sink, SqliteSink):
        return SqliteSink.read_last(path, most, sink.table)
    if issubclass(kind, SqliteSink | TextSink):
        return kind.read_last(path, most)
    return deque(kind.read(path), most)


def is_costly(sink: Sink) -> bool:
    """Return whether each sync of a sink leaves something behind, so that it should be rare."""
    from servomex.sinks.parquet import ParquetSink
    from servomex.sinks.rotation import RotatingSink

    return issubclass(sink.kind if isinstance(sink, RotatingSink) else type(sink), ParquetSink)
