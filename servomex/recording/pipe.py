"""pipe: batches of samples from anywhere, written to sinks while the caller waits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from servomex.enums import OverflowPolicy
from servomex.errors import ServomexError, ServomexValidationError
from servomex.models.sample import Sample
from servomex.recording.fan_out import FanOut, Target, open_fan_out
from servomex.recording.provenance import metadata_of
from servomex.recording.recording import Recording
from servomex.recording.summary import AcquisitionSummary
from servomex.recording.writer import SinkWriter
from servomex.runtime.queues import BoundedQueue
from servomex.sinks.opening import SinkOptions

AHEAD = 100
"""The most batches that may wait to be written."""
A_BATCH = "Pass lists of samples, such as frame.as_samples()"


def pipe(
    stream: Iterable[Sequence[Sample] | Sample], *sinks: Target, sink_options: SinkOptions | None = None
) -> AcquisitionSummary:
    """Write batches of samples to sinks until they end.

    A separate thread writes while the caller waits. Whatever ends it, an exception of ``stream`` or Ctrl-C,
    everything read so far is written first.

    Args:
        stream: The source: a :class:`Recording` that was started, as ``with record(...) as recording`` does, a
            :class:`StreamingSession`, a list of batches, or any other iterable of lists of samples. A recording is
            closed at the end.
        sinks: Where to write, as for :class:`Recorder`: those that are named are closed at the end, and those that
            are passed open stay open.
        sink_options: Options of :func:`open_sink` for those that are named, such as ``{"append": True}``.

    Returns:
        The summary of the recording. That of another iterable has its times, the number of its batches, how many
        of them report a failure, and what could not be written.

    Raises:
        ServomexSinkError: A sink failed, or cannot be opened.
        ServomexValidationError: An item is not a batch of samples.
        BaseException: The error that ended ``stream``; a later failure of a sink is added as a note.
    """
    options: SinkOptions = sink_options or {}
    if isinstance(stream, Recording):
        stream.check_process()
        return _write_recording(
            stream, open_fan_out(sinks, {"metadata": metadata_of(stream.source, stream.names), **options})
        )
    if isinstance(stream, str | bytes | Mapping) or not isinstance(stream, Iterable):
        raise ServomexValidationError(
            f"the stream must be batches of samples, not {type(stream).__name__}", cure=A_BATCH
        )
    return _write_stream(stream, open_fan_out(sinks, options))


def _write_recording(recording: Recording, sinks: FanOut) -> AcquisitionSummary:
    writer = SinkWriter(recording, sinks)
    try:
        writer.start()
        writer.join()
    finally:
        try:
            recording.close()
        finally:
            writer.finish()
    return recording.summary


def _write_stream(stream: Iterable[Sequence[Sample] | Sample], sinks: FanOut) -> AcquisitionSummary:
    queue = BatchQueue()
    writer = SinkWriter(queue, sinks)
    try:
        writer.start()
        for item in stream:
            if not queue.put(_batch(item), lambda: writer.join(0.0)):
                break  # no sink is left
    except BaseException as error:
        queue.close()
        try:
            writer.finish()
        except ServomexError as second:
            error.add_note(f"on writing: {second}")
        raise
    queue.close()
    writer.finish()
    return queue.summary


class BatchQueue:
    """Batches on their way from the thread that takes them to the one that writes them.

    Attributes:
        name: Names the thread that writes.
        summary: The outcome so far.
    """

    def __init__(self) -> None:
        self.name = "pipe"
        self.summary: AcquisitionSummary = AcquisitionSummary(started_at=datetime.now(UTC))
        self._queue: BoundedQueue[list[Sample]] = BoundedQueue(AHEAD, OverflowPolicy.BLOCK)

    def put(self, batch: list[Sample], look: Callable[[], object]) -> bool:
        """Pass on a batch when there is room for it; return whether it was taken.

        ``look`` is called from time to time while there is no room.
        """

        def wait() -> bool:
            look()
            return False

        return not self._queue.put(batch, wait)

    def take(self, most: int, timeout: float | None = None) -> list[list[Sample]]:
        """Return the oldest batch and those waiting after it, up to ``most``, to be written."""
        batches = self._queue.take(most, timeout)
        self.summary.samples_emitted += len(batches)
        self.summary.errors += sum(any(item.error is not None for item in batch) for batch in batches)
        return batches

    def close(self) -> None:
        """Accept no more batches. May be called twice."""
        self._queue.close()
        self.summary.finished_at = self.summary.finished_at or datetime.now(UTC)

    def drop_waiting(self) -> None:
        """Drop what is still waiting, and count it."""
        if number := len(self._queue):
            self.summary.dropped += len(self._queue.take(number, 0))


def _batch(item: Sequence[Sample] | Sample) -> list[Sample]:
    """Check an item of a stream.

    Raises:
        ServomexValidationError: It is neither a sample nor a list of samples.
    """
    if isinstance(item, Sample):
        return [item]
    if not isinstance(item, Sequence) or isinstance(item, str):
        raise ServomexValidationError(
            f"a batch must be a list of samples, not {type(item).__name__}", cure=A_BATCH
        )
    for sample in item:
        if not isinstance(sample, Sample):
            raise ServomexValidationError(
                f"a batch must be a list of samples, but this one has a {type(sample).__name__}", cure=A_BATCH
            )
    return list(item)
