"""StreamingSession: the samples of one analyser, one by one, as they arrive."""

from collections import deque
from typing import Self

from servomex.enums import StreamMode
from servomex.errors import ServomexConfigurationError, ServomexConnectionError
from servomex.models.sample import Sample
from servomex.recording.recording import Recording
from servomex.runtime.forks import ProcessBound
from servomex.runtime.queues import Closed

_USAGE = "Write 'with analyzer.stream() as session: for sample in session: ...'"


class StreamingSession(ProcessBound):
    """Samples of an analyser as they arrive. A context manager and an iterator; :meth:`Analyzer.stream` makes one.

    A sample with an ``error`` and no reading stands for a failed reading. Samples that are dropped because they
    were not taken for long are counted.

    Args:
        recording: Where the samples come from.
        mode: How it gets them.

    Attributes:
        mode: How it gets its readings: ``autoprint`` for each broadcast, ``poll`` at a rate.
    """

    def __init__(self, recording: Recording, mode: StreamMode) -> None:
        self.mode = mode
        self._recording = recording
        self._samples: deque[Sample] = deque()
        self._started = False

    @property
    def dropped(self) -> int:
        """Readings that were dropped because they were not taken in time."""
        return self._recording.summary.dropped

    def get(self, timeout: float | None = None) -> Sample:
        """Return the oldest sample, waiting at most ``timeout`` seconds; indefinitely when ``None``.

        Raises:
            ServomexConfigurationError: It is not used with ``with``.
            ServomexTimeoutError: None arrived in time.
            ServomexConnectionError: The session was closed, or the analyser was.
        """
        self._check_started()
        try:
            while not self._samples:
                self._samples.extend(self._recording.get(timeout))
        except Closed:
            raise ServomexConnectionError("the stream was closed") from None
        return self._samples.popleft()

    def close(self) -> None:
        """End the session. A call that waits for a sample ends as well. May be called twice, and by any thread.

        Raises:
            ServomexError: The reading under way did not end within 30 s.
        """
        self._recording.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sample:
        self._check_started()
        try:
            while not self._samples:
                self._samples.extend(self._recording.get())
        except Closed:
            raise StopIteration from None
        return self._samples.popleft()

    def _check_started(self) -> None:
        self.check_process()
        if not self._started:
            raise ServomexConfigurationError("nothing is read yet", cure=_USAGE)

    def __enter__(self) -> Self:
        self._recording.start()
        self._started = True
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
