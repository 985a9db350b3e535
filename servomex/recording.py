"""Recording: samples of a source at a rate, or of each broadcast, as batches or one by one."""

import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol, Self

from servomex.acquisition import Acquisition, AcquisitionSummary, Feed, Pace, broadcasts_of
from servomex.continuous import ContinuousReader
from servomex.durations import LONGEST_S
from servomex.enums import ChannelId, ErrorPolicy, OverflowPolicy, ProtocolKind
from servomex.errors import ServomexConfigurationError, ServomexError
from servomex.models import Sample
from servomex.queues import Closed
from servomex.validation import choice, rate, seconds, whole

BUFFER = 1000
"""Readings that wait to be taken at most, unless told otherwise."""


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
        duration: Seconds until it ends, up to 10 years; never, when ``None``.
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
            rate_hz=None if rate_hz is None else rate(rate_hz),
            count=None if count is None else whole(count, "count", 1, 10**12),
            duration_s=None if duration is None else seconds(duration, "duration", longest=LONGEST_S),
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
    def is_current(self) -> bool:
        """Whether it is the thread that reads that asks."""
        return self._acquisition.is_current

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
            ServomexConfigurationError: It was not started.
            ServomexTimeoutError: None came in time.
            Closed: It has ended, nothing is left, and no error ended it.
            BaseException: What ended it.
        """
        return self.take(1, timeout)[0]

    def take(self, most: int, timeout: float | None = None) -> list[list[Sample]]:
        """Take the oldest batch, and those that wait behind it up to ``most``; see :meth:`get`."""
        try:
            return self._acquisition.take(most, timeout)
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

    def drop_waiting(self) -> int:
        """Give up the batches that wait to be taken when it has ended; they are counted as dropped.

        Returns:
            How many they were.
        """
        return self._acquisition.drop_waiting()

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
    return Feed(
        name=name,
        poll=poll,
        failed=failed,
        follow=lambda: broadcasts_of(reader, size, lambda frame: frame.as_samples(device=name)),
    )


class _Poll:
    """Reads a source, and leaves out what it has given before."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._given: dict[tuple[str, ChannelId | None], set[int]] = {}

    def __call__(self) -> list[Sample] | None:
        samples = self._source.poll_samples()
        fresh = [item for item in samples if not self._was_given(item)]
        given = defaultdict[tuple[str, ChannelId | None], set[int]](set)
        for item in samples:
            given[item.device, item.channel].add(item.monotonic_ns)
        self._given |= given
        return fresh if fresh or not samples else None

    def _was_given(self, item: Sample) -> bool:
        """Whether it is the broadcast that was the newest at the moment before already."""
        repeats = item.protocol is ProtocolKind.CONTINUOUS_ASCII and not item.error
        return repeats and item.monotonic_ns in self._given.get((item.device, item.channel), ())


class _Failure:
    """Makes the row that takes the place of a failed reading."""

    def __init__(self, name: str, protocol: ProtocolKind) -> None:
        self._name = name
        self._protocol = protocol

    def __call__(self, error: ServomexError) -> list[Sample]:
        return [Sample(self._name, self._protocol, datetime.now(UTC), time.monotonic_ns(), error=str(error))]
