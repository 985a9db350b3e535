"""Recording: samples of a source at a rate, or of each broadcast, as batches or one by one."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Self

import attrs

from servomex.continuous.reader import ContinuousReader
from servomex.durations import LONGEST_S
from servomex.enums import OverflowPolicy, ProtocolKind
from servomex.errors import (
    ServomexConfigurationError,
    ServomexError,
    ServomexParseError,
    ServomexValidationError,
)
from servomex.errors.mappings import FrozenMapping
from servomex.errors.validation import choice, flag, rate, seconds, whole
from servomex.models.frame import Frame
from servomex.models.sample import Sample
from servomex.models.tags import NO_TAGS, tags_of
from servomex.recording.acquisition import A_RATE, Acquisition, Pace
from servomex.recording.feeds import Feed
from servomex.recording.identities import Identities
from servomex.recording.polling import Poll, PollSource, check_source, checked_names, is_manager, names_here
from servomex.recording.renewal import ReconnectFactory, Renewal
from servomex.runtime.clock import time
from servomex.runtime.queues import BUFFER, LARGEST, Closed


@attrs.frozen(kw_only=True)
class ReadOptions:
    """How a source is read.

    Attributes:
        names: The analysers that are read; all when ``None``.
        timeout_s: Seconds that each reading may take.
        tags: Added to every sample.
        factory: Opens a lost source again.
    """

    names: tuple[str, ...] | None = None
    timeout_s: float | None = None
    tags: FrozenMapping[str] = NO_TAGS
    factory: ReconnectFactory | None = None


class Recording(Acquisition[list[Sample]]):
    """An acquisition of samples that is under way. A context manager, and an iterator of batches.

    A batch is the list of samples of one reading. Samples with an ``error`` and no reading stand for a failed
    reading, so that the gap shows. Where a channel gets another name or unit, a sample before its first
    reading says so in its ``error``, and the log warns of it: it may not measure the same any more. The iterator
    ends with the acquisition, and raises the error that ended it.

    Args:
        source: What is read.
        rate_hz: Readings per second, up to 1000; ``None`` for each broadcast of an analyser in continuous mode.
        duration: Seconds until it ends, up to 10 years; never, when ``None``.
        count: Readings until it ends, failed ones included; never, when ``None``.
        names: The analysers of a manager that are read; all when ``None``. An :class:`Analyzer` has only its own
            :attr:`~Analyzer.name`, and a source of your own gets what is passed here.
        timeout: Seconds that each reading may take, passed to the source; its default when ``None``.
        overflow: What happens when ``buffer_size`` readings wait: ``block`` waits with the next reading, so that
            moments pass and are counted as late; ``drop_newest`` and ``drop_oldest`` discard readings.
        buffer_size: How many readings may wait to be taken, 1 to 1,000,000.
        auto_reconnect: Continue when the port was lost: until it is back, each reading is an error. Otherwise the
            loss ends the recording.
        reconnect_factory: Reopens a source of your own, and returns the one to read from then on. It is
            called after a :class:`ServomexConnectionError` of the source, in the thread that reads, at the first
            moment after 0.5 s, and after 1, 2, 5, 10 and every further 30 s as long as it raises a
            :class:`ServomexError` or an ``OSError``, or its source is lost without a reading. Until then each
            reading fails at once; moments that pass while it runs are late. The recording closes each source that
            it was given by the factory, when it is lost and at the end, if it has a ``close``; it does not close
            ``source``.
        tags: Tags of the recording, such as ``{"run": "7"}``, in the ``metadata`` of every sample. They take
            precedence over the tags of its analyser.

    Attributes:
        source: The source that is read, or was at first.
        names: The analysers that are read; ``None`` for all.
        rate_hz: Readings per second; ``None`` for each broadcast.
        expected: The most readings that will be taken; ``None`` when that is not known.
        summary: The outcome so far, an :class:`AcquisitionSummary`; live.
        error: The error that ended it, if any.

    Raises:
        ServomexConfigurationError: It is not a source, it needs a rate, or an argument does not apply to it: a
            ``timeout`` where each broadcast is taken as it arrives, ``auto_reconnect=False`` for a manager, or a
            ``reconnect_factory`` for an :class:`Analyzer` or a manager, which reconnect by themselves.
        ServomexValidationError: An argument is out of range, or a name is unknown.
    """

    _usage: str = "Write 'with record(...) as recording: for batch in recording: ...', or call start()"

    def __init__(
        self,
        source: PollSource,
        *,
        rate_hz: float | None = None,
        duration: float | None = None,
        count: int | None = None,
        names: Iterable[str] | None = None,
        timeout: float | None = None,
        overflow: OverflowPolicy | str = OverflowPolicy.BLOCK,
        buffer_size: int = BUFFER,
        auto_reconnect: bool = True,
        reconnect_factory: ReconnectFactory | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        check_source(source)
        flag(auto_reconnect, "auto_reconnect")
        policy = choice(OverflowPolicy, overflow, "overflow policy")
        pace = Pace(
            rate_hz=None if rate_hz is None else rate(rate_hz),
            count=None if count is None else whole(count, "count", 1, 10**12),
            duration_s=None if duration is None else seconds(duration, "duration", longest=LONGEST_S),
        )
        buffer_size = whole(buffer_size, "buffer_size", 1, LARGEST)
        self.source = source
        self.rate_hz: float | None = pace.rate_hz
        self.names: tuple[str, ...] | None = None if names is None else checked_names(names, names_here(source))
        options = ReadOptions(
            names=self.names,
            timeout_s=None if timeout is None else seconds(timeout, "timeout"),
            tags=tags_of(tags),
            factory=_factory_for(source, reconnect_factory, auto_reconnect=auto_reconnect),
        )
        feed = SampleFeed(source, pace, options)
        super().__init__(feed, pace, size=buffer_size, policy=policy, auto_reconnect=auto_reconnect)
        self.expected: int | None = min((limit for limit in (pace.slots, pace.count) if limit), default=None)
        self._identities = Identities()

    @property
    def stream(self) -> Self:
        """The batches as they arrive: the recording itself, to be iterated over or passed to :func:`pipe`."""
        return self

    @property
    def progress(self) -> float | None:
        """How much of it is done, 0 to 1; ``None`` when its end is not known."""
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
"""Start a recording: ``with record(analyzer, rate_hz=2, duration=10) as rec: for batch in rec.stream: ...``."""


def _factory_for(
    source: PollSource, factory: ReconnectFactory | None, *, auto_reconnect: bool
) -> ReconnectFactory | None:
    """Check whether a source can be reconnected as requested.

    Raises:
        ServomexConfigurationError: It reconnects by itself, or must not reconnect.
        ServomexValidationError: The factory is not callable.
    """
    if is_manager(source) and not auto_reconnect:
        raise ServomexConfigurationError("a ServomexManager reconnects by itself", cure="Omit auto_reconnect")
    if factory is None:
        return None
    if not callable(factory):
        raise ServomexValidationError(
            f"reconnect_factory must be callable, not {factory!r}",
            cure="Pass the function itself, uncalled",
        )
    if names_here(source) is not None:
        raise ServomexConfigurationError(
            f"{type(source).__name__} reconnects by itself: reconnect_factory is for your own sources",
            cure="Omit reconnect_factory",
        )
    if not auto_reconnect:
        raise ServomexConfigurationError(
            "a reconnect_factory is never called with auto_reconnect=False",
            cure="Omit reconnect_factory, or auto_reconnect=False",
        )
    return factory


class SampleFeed(Feed[list[Sample]]):
    """The samples of a source.

    Args:
        source: What is read.
        pace: When it is read.
        options: How it is read.

    Raises:
        ServomexConfigurationError: The pace does not suit the source.
        ServomexValidationError: Source and recording together have too many tags.
    """

    def __init__(self, source: PollSource, pace: Pace, options: ReadOptions) -> None:
        reader = getattr(source, "reader", None)
        super().__init__(
            str(getattr(source, "name", "") or type(source).__name__),
            reader if isinstance(reader, ContinuousReader) else None,
        )
        self._source = source
        self._protocol: ProtocolKind = getattr(source, "protocol", ProtocolKind.AUTO)
        self._tags = tags_of({**tags_of(getattr(source, "tags", None)), **options.tags})
        self._renewal = Renewal(source, options.factory) if options.factory else None
        self._poll = Poll(
            self._renewal or source, names=options.names, timeout=options.timeout_s, tags=options.tags
        )
        if pace.rate_hz is not None:
            return
        if self.reader is None:
            raise ServomexConfigurationError(
                "a rate is needed: only an analyser in continuous mode sets its own",
                cure=f"Pass {A_RATE}",
                argument=A_RATE,
            )
        if options.timeout_s is not None:
            raise ServomexConfigurationError(
                "a timeout is for readings at a rate, and here each broadcast is taken as it arrives",
                cure="Omit timeout, or pass rate_hz as well",
            )

    @property
    def closed(self) -> bool:
        """Whether the source is closed and will not be reopened."""
        return self._renewal is None and bool(getattr(self._source, "closed", False))

    def poll(self) -> list[Sample] | None:
        """Read the samples of this moment; ``None`` when there is nothing newer than before."""
        return self._poll()

    def taken(self, frame: Frame) -> list[Sample]:
        """Return the samples of a broadcast."""
        return frame.as_samples(device=self.name, metadata=self._tags)

    def failed(self, error: ServomexError) -> list[Sample]:
        """Return the sample that takes the place of a failed reading."""
        at, at_ns = None, None
        if isinstance(error, ServomexParseError):  # a broadcast that was refused
            at, at_ns = error.received_at, error.monotonic_ns
        return [
            Sample(
                self.name,
                self._protocol,
                at or datetime.now(UTC),
                time.monotonic_ns() if at_ns is None else at_ns,
                error=error,
                metadata=self._tags,
            )
        ]

    def outcomes(self, taken: list[Sample]) -> Mapping[str, ServomexError | None]:
        """Return the analysers of a batch, each with its error, or ``None`` for a good reading."""
        worked = {item.device or self.name: None for item in taken}
        failed = {item.device or self.name: item.error for item in taken if item.error is not None}
        return {self.name: None} | worked | failed

    def end(self) -> None:
        """Close the source that was opened in place of a lost one."""
        if self._renewal:
            self._renewal.close()
