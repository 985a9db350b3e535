"""Recording: samples of a source at a rate, or of each broadcast, as batches or one by one."""

import functools
from datetime import UTC, datetime
from typing import Self

import attrs

from servomex.acquisition import A_RATE, Acquisition, Feed, Pace, broadcasts_of
from servomex.clock import time
from servomex.continuous import ContinuousReader
from servomex.durations import LONGEST_S
from servomex.enums import ErrorPolicy, OverflowPolicy, ProtocolKind
from servomex.errors import ServomexConfigurationError, ServomexError
from servomex.identities import Identities
from servomex.mappings import FrozenMapping
from servomex.models import Frame, Sample
from servomex.polling import Poll, PollSource, check_source
from servomex.queues import LARGEST, Closed
from servomex.tags import tags_of
from servomex.validation import choice, rate, seconds, whole

BUFFER = 1000
"""Readings that wait to be taken at most, unless told otherwise."""


class Recording(Acquisition[list[Sample]]):
    """An acquisition of samples that is under way. A context manager, and an iterator of batches.

    A batch is the list of samples of one reading. One whose samples have an ``error`` and no reading tells of a
    reading that failed, so that the gap shows. Where a channel gets another name or unit, a sample in front of its
    first reading says so in its ``error``, and the log warns of it: it may not measure the same any more. The
    iterator ends with the acquisition; it raises what ended it.

    Args:
        source: What is read.
        rate_hz: Readings per second, up to 1000; ``None`` for each broadcast of an analyser in continuous mode.
        duration: Seconds until it ends, up to 10 years; never, when ``None``.
        count: Readings until it ends, failed ones included; never, when ``None``.
        overflow: What happens when ``buffer_size`` readings wait: ``block`` waits with the next reading, so that
            moments pass and are counted as late; ``drop_newest`` and ``drop_oldest`` give readings up.
        buffer_size: Readings that wait to be taken at most, 1 to 1,000,000.
        auto_reconnect: Go on when the port was lost: until it is back, each reading is an error. Otherwise the
            loss ends the recording.

    Attributes:
        source: What is read.
        rate_hz: Readings per second; ``None`` for each broadcast.
        expected: How many readings are taken at most; ``None`` when that is not known.
        summary: What became of it so far, an :class:`AcquisitionSummary`; live.
        error: What ended it, if that was an error.

    Raises:
        ServomexConfigurationError: The source needs a rate, or a manager raises errors instead of giving them.
        ServomexValidationError: An argument is out of range.
    """

    def __init__(
        self,
        source: PollSource,
        *,
        rate_hz: float | None = None,
        duration: float | None = None,
        count: int | None = None,
        overflow: OverflowPolicy | str = OverflowPolicy.BLOCK,
        buffer_size: int = BUFFER,
        auto_reconnect: bool = True,
    ) -> None:
        check_source(source)
        policy = choice(OverflowPolicy, overflow, "overflow policy")
        pace = Pace(
            rate_hz=None if rate_hz is None else rate(rate_hz),
            count=None if count is None else whole(count, "count", 1, 10**12),
            duration_s=None if duration is None else seconds(duration, "duration", longest=LONGEST_S),
        )
        buffer_size = whole(buffer_size, "buffer_size", 1, LARGEST)
        self.source = source
        self.rate_hz: float | None = pace.rate_hz
        super().__init__(
            feed_of(source, pace, buffer_size, auto_reconnect=auto_reconnect),
            pace,
            size=buffer_size,
            policy=policy,
            auto_reconnect=auto_reconnect,
        )
        self.expected: int | None = min((limit for limit in (pace.slots, pace.count) if limit), default=None)
        self._identities = Identities()

    @property
    def stream(self) -> Self:
        """The batches as they come: the recording itself, to be iterated over or handed to :func:`pipe`."""
        return self

    @property
    def progress(self) -> float | None:
        """How much of it is done, 0 to 1; ``None`` when it is not known when it ends."""
        passed_s = 0.0 if self._begun is None else time.monotonic() - self._begun
        limits = ((self.summary.attempts, self._pace.count), (passed_s, self._pace.duration_s))
        parts = [done / limit for done, limit in limits if limit is not None]
        return min(1.0, max(parts)) if parts else None

    def _marked(self, taken: list[Sample]) -> list[Sample]:
        events = self._identities.events(taken)
        self.summary.changes += len(events)
        return events + taken

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Sample]:
        try:
            return self.get()
        except Closed:
            raise StopIteration from None


record = Recording
"""Begin a recording: ``with record(analyzer, rate_hz=2, duration=10) as rec: for batch in rec.stream: ...``."""


def feed_of(source: PollSource, pace: Pace, size: int, *, auto_reconnect: bool = True) -> Feed[list[Sample]]:
    """Find out how a source is to be read.

    Raises:
        ServomexConfigurationError: The source and the pace do not fit together.
    """
    if getattr(source, "error_policy", None) is ErrorPolicy.RAISE:
        raise ServomexConfigurationError(
            "one analyser that fails would cost the readings of all others",
            cure="Record a ServomexManager(error_policy='return')",
        )
    if isinstance(getattr(source, "error_policy", None), ErrorPolicy) and not auto_reconnect:
        raise ServomexConfigurationError("a ServomexManager reconnects by itself", cure="Omit auto_reconnect")
    name = str(getattr(source, "name", "") or type(source).__name__)
    tags = tags_of(getattr(source, "tags", None))
    protocol = getattr(source, "protocol", ProtocolKind.AUTO)
    poll, failed = Poll(source), _Failure(name, protocol, tags)
    feed = Feed(
        name=name,
        poll=poll,
        failed=failed,
        outcomes=lambda batch: {name: None} | _errors_by_device(batch, name),
        closed=lambda: _is_closed(source),
    )
    if pace.rate_hz is not None:
        return feed
    reader = getattr(source, "reader", None)
    if not isinstance(reader, ContinuousReader):
        raise ServomexConfigurationError(
            "a rate is needed: only an analyser in continuous mode sets its own",
            cure=f"Pass {A_RATE}",
            argument=A_RATE,
        )
    taken = functools.partial(Frame.as_samples, device=name, metadata=tags)
    return attrs.evolve(feed, follow=lambda: broadcasts_of(reader, size, taken))


def _errors_by_device(batch: list[Sample], name: str) -> dict[str, ServomexError | None]:
    worked = {item.device or name: None for item in batch}
    return worked | {item.device or name: item.error for item in batch if item.error is not None}


def _is_closed(source: PollSource) -> bool:
    return bool(getattr(source, "closed", False))


class _Failure:
    """Makes the row that takes the place of a failed reading."""

    def __init__(self, name: str, protocol: ProtocolKind, tags: FrozenMapping[str]) -> None:
        self._name = name
        self._protocol = protocol
        self._tags = tags

    def __call__(self, error: ServomexError) -> list[Sample]:
        return [
            Sample(
                self._name,
                self._protocol,
                datetime.now(UTC),
                time.monotonic_ns(),
                error=error,
                metadata=self._tags,
            )
        ]
