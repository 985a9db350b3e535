"""Writing: batches of samples into several sinks, of which one that fails does not take the others with it."""

import logging
from collections.abc import Callable, Iterable, Sequence

from servomex.errors import ServomexSinkError
from servomex.models import Sample
from servomex.sinks import Sink

_log = logging.getLogger("servomex")


class Writer:
    """Writes to several sinks. One that fails is closed and left out; the last one to fail ends the writing.

    Args:
        sinks: Where to write; they are closed by :meth:`close`.

    Attributes:
        failures: What failed, by the name of the sink.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self.failures: dict[str, ServomexSinkError] = {}
        self._sinks = list(sinks)

    def write(self, samples: Sequence[Sample]) -> None:
        """Write one batch to each sink.

        Raises:
            ServomexSinkError: There is no sink left to write to.
        """
        self._each(lambda sink: sink.write(samples))

    def flush_if_due(self) -> None:
        """Let each sink flush when its interval has passed.

        Raises:
            ServomexSinkError: There is no sink left to write to.
        """
        self._each(lambda sink: sink.flush_if_due())

    def close(self) -> None:
        """Flush and close all sinks.

        Raises:
            ServomexSinkError: One of them failed, now or before.
        """
        for sink in self._sinks:
            try:
                sink.close()
            except ServomexSinkError as error:
                self._note(sink, error)
        self._sinks = []
        if self.failures:
            raise next(iter(self.failures.values()))

    def _each(self, act: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                act(sink)
            except ServomexSinkError as error:
                self._leave_out(sink, error)

    def _leave_out(self, sink: Sink, error: ServomexSinkError) -> None:
        self._note(sink, error)
        self._sinks.remove(sink)
        try:
            sink.close()
        except ServomexSinkError as second:
            error.add_note(f"on closing: {second.message}")
        if not self._sinks:
            raise error
        _log.warning("%s is left out: %s", sink.name, error)

    def _note(self, sink: Sink, error: ServomexSinkError) -> None:
        self.failures.setdefault(sink.name, error)
