"""Recording: samples of a source at a rate, or of each broadcast, as batches or one by one."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol, Self

from servomex.acquisition import Acquisition, AcquisitionSummary, Broadcasts, Feed, Pace
from servomex.continuous import ContinuousReader
from servomex.enums import ErrorPolicy, OverflowPolicy, ProtocolKind
from servomex.errors import ServomexConfigurationError, ServomexError, ServomexValidationError
from servomex.models import Sample
from servomex.queues import Closed
from servomex.validation import choice, seconds, whole

BUFFER = 1000
"""Readings that wait to be taken at most, unless told otherwise."""
FASTEST_HZ = 1000.0


class Source(Protocol):
    """What can be recorded: an :class:`Analyzer`, a :class:`ServomexManager`, or anything with this method.

    Its ``name`` and ``protocol``, if it has them, are those of the rows that tell of a failed reading.
    """

    def poll_samples(self) -> list[Sample]:
        """Give the samples of this moment. A :class:`ServomexError` is a gap in the recording."""


class Recording:
    """An acquisition of samples that is under way. A context manager, and an iterator of batches.

    A batch is the list of samples of one reading. One whose samples have an ``error`` and no reading tells of a
    reading that failed, so that the gap shows. The iterator ends with the acquisition; it raises what ended it.

    Args:
        source: What is read.
        rate_hz: Readings per second, up to 1000; ``None`` for each broadcast of an analyser in continuous mode.
        duration: Seconds until it ends; never, when ``None``.
        count: Readings until it ends, failed and missed ones included; never, when ``None``.
        overflow: What happens when ``buffer`` readings wait: ``block`` waits with the next reading, so that
            moments pass and are counted as late; ``drop_newest`` and ``drop_oldest`` give readings up.
        buffer: Readings that wait to be taken at most, 1 to 1,000,000.
        auto_reconnect: Go on when the port was lost: until it is back, each reading is an error. Otherwise the
            loss ends the recording.

    Raises:
        ServomexConfigurationError: The source needs a rate, or a manager raises errors instead of giving them.
        ServomexValidationError: An argument is out of range.
    """

    def __init__(
        self,
        source: Source,
        *,
        rate_hz: float | None = None,
        duration: float | None = None,
        count: int | None = None,
        overflow: OverflowPolicy | str = OverflowPolicy.BLOCK,
        buffer: int = BUFFER,
        auto_reconnect: bool = True,
    ) -> None:
        policy = choice(OverflowPolicy, overflow, "overflow policy")
        pace = Pace(
            rate_hz=None if rate_hz is None else checked_rate(rate_hz),
            count=None if count is None else whole(count, "count", 1, 10**12),
            duration_s=None if duration is None else seconds(duration, "duration"),
        )
        whole(buffer, "buffer", 1, 1_000_000)
        self._feed = feed_of(source, pace, buffer)
        self._acquisition = Acquisition(self._feed, pace, size=buffer, policy=policy, reconnect=auto_reconnect)
        self.expected = pace.slots

    @property
    def summary(self) -> AcquisitionSummary:
        """What became of it so far; live."""
        return self._acquisition.summary

    @property
    def name(self) -> str:
        """Names the source."""
        return self._feed.name

    @property
    def waiting(self) -> int:
        """How many batches wait to be taken."""
        return self._acquisition.waiting

    @property
    def stream(self) -> Self:
        """The batches as they come: the recording itself, to be iterated over or handed to :func:`pipe`."""
        return self

    def start(self) -> Self:
        """Begin."""
        self._acquisition.start()
        return self

    def get(self, timeout: float | None = None) -> list[Sample]:
        """Take the oldest batch, waiting for one ``timeout`` seconds at most; without end when ``None``.

        Raises:
            ServomexTimeoutError: None came in time.
            Closed: It has ended, nothing is left, and no error ended it.
            BaseException: What ended it.
        """
        try:
            return self._acquisition.get(timeout)
        except Closed:
            if self._acquisition.error is not None:
                raise self._acquisition.error from None
            raise

    def close(self) -> None:
        """End it. What was taken can still be had. May be called twice, and by any thread.

        Raises:
            ServomexError: The thread did not end.
        """
        self._acquisition.stop()

    def __iter__(self) -> Iterator[list[Sample]]:
        while True:
            try:
                batch = self.get()
            except Closed:
                return
            yield batch

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()


record = Recording
"""Begin a recording: ``with record(analyzer, rate_hz=2, duration=10) as rec: for batch in rec.stream: ...``."""


def feed_of(source: Source, pace: Pace, size: int) -> Feed[list[Sample]]:
    """Find out how a source is to be read.

    Raises:
        ServomexConfigurationError: The source and the pace do not fit together.
    """
    if getattr(source, "error_policy", None) is ErrorPolicy.RAISE:
        raise ServomexConfigurationError(
            "one analyser that fails would cost the readings of all others: record a "
            "ServomexManager(error_policy='return')"
        )
    name = str(getattr(source, "name", "") or type(source).__name__)
    protocol = getattr(source, "protocol", ProtocolKind.AUTO)
    poll, failed = _Poll(source), _Failure(name, protocol)
    if pace.rate_hz is not None:
        return Feed(name=name, poll=poll, failed=failed)
    reader = getattr(source, "reader", None)
    if not isinstance(reader, ContinuousReader):
        raise ServomexConfigurationError(
            "a rate is needed, such as rate_hz=1: only an analyser in continuous mode sets its own"
        )
    queue = reader.subscribe(size)
    broadcasts: Broadcasts[list[Sample]] = Broadcasts(
        frames=queue,
        taken=lambda frame: frame.as_samples(device=name),
        patience_s=lambda: reader.fresh_s,
        release=lambda: reader.unsubscribe(queue),
    )
    return Feed(name=name, poll=poll, failed=failed, broadcasts=broadcasts)


class _Poll:
    """Reads a source, and leaves out what it has given before."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._newest: dict[str, int] = {}

    def __call__(self) -> list[Sample] | None:
        samples = self._source.poll_samples()
        newest = dict(self._newest)
        fresh = [item for item in samples if item.error or item.monotonic_ns > newest.get(item.device, -1)]
        for item in fresh:
            self._newest[item.device] = max(item.monotonic_ns, self._newest.get(item.device, -1))
        return fresh if fresh or not samples else None


class _Failure:
    """Makes the row that takes the place of a failed reading."""

    def __init__(self, name: str, protocol: ProtocolKind) -> None:
        self._name = name
        self._protocol = protocol

    def __call__(self, error: ServomexError) -> list[Sample]:
        return [Sample(self._name, self._protocol, datetime.now(UTC), time.monotonic_ns(), error=str(error))]


def checked_rate(value: float) -> float:
    """Check a number of readings per second.

    Raises:
        ServomexValidationError: It is not a number, 0 or less, or more than 1000.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ServomexValidationError(f"rate_hz must be a number of readings per second, not {value!r}")
    if not 0 < value <= FASTEST_HZ:
        raise ServomexValidationError(f"rate_hz must be more than 0 and at most {FASTEST_HZ:g}, not {value!r}")
    return float(value)
