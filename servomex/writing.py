"""Writing: batches of samples into several sinks, of which one that fails does not take the others with it."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence

from servomex.errors import ServomexSinkError, ServomexSinkWriteError
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
        with contextlib.ExitStack() as ends:
            for sink in self._sinks:
                ends.callback(self._close, sink)
            self._sinks = []
        if self.failures:
            raise next(iter(self.failures.values()))

    def _each(self, act: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                act(sink)
            except Exception as error:  # noqa: BLE001 (a sink of the user's own may raise anything)
                self._leave_out(sink, _sink_error(sink, error))

    def _leave_out(self, sink: Sink, error: ServomexSinkError) -> None:
        self.failures.setdefault(sink.name, error)
        self._sinks.remove(sink)
        self._close(sink)
        if not self._sinks:
            raise error
        _log.warning("%s is left out: %s", sink.name, error)

    def _close(self, sink: Sink) -> None:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001 (the others must be closed as well)
            self.failures.setdefault(sink.name, _sink_error(sink, error))


def _sink_error(sink: Sink, error: Exception) -> ServomexSinkError:
    if isinstance(error, ServomexSinkError):
        return error
    wrapped = ServomexSinkWriteError(f"{sink.name} failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
