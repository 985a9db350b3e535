"""Recorder: a recording that is written to sinks in the background."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Self

from servomex.enums import OverflowPolicy
from servomex.errors import ServomexConfigurationError, ServomexError
from servomex.errors.validation import seconds
from servomex.recording.fan_out import Target, open_fan_out
from servomex.recording.polling import PollSource
from servomex.recording.provenance import metadata_of
from servomex.recording.recording import Recording
from servomex.recording.renewal import ReconnectFactory
from servomex.recording.retry import SinkState
from servomex.recording.summary import AcquisitionSummary
from servomex.recording.writer import SinkWriter
from servomex.runtime.at_exit import at_exit
from servomex.runtime.forks import ProcessBound
from servomex.runtime.queues import BUFFER
from servomex.sinks.opening import SinkOptions


class Recorder(ProcessBound):
    """Records a source to sinks in the background: one thread reads, another writes. A context manager.

    A slow disk therefore delays no reading; ``overflow`` sets what happens when it stays slow. A sink that cannot
    be written is retried for 30 s; then it is dropped, and the others continue. When none is left, the
    recording ends. :meth:`close` raises what failed.

    Args:
        source: What is read, and how: this and the other arguments are those of :class:`Recording`.
        sinks: Where to write: a file name or a URL as :func:`open_sink` takes it, a :class:`Sink`, or several in a
            list. Those that are named are opened here and closed at the end. Those that are passed open stay open,
            with everything written and synced at the end, unless they were dropped.
        sink_options: Options of :func:`open_sink` for those that are named, such as ``{"append": True}``.

    Attributes:
        recording: The :class:`Recording` that is written.

    Raises:
        ServomexConfigurationError: See :class:`Recording`.
        ServomexSinkError: A sink cannot be opened; those given by name are closed again.
    """

    def __init__(
        self,
        source: PollSource,
        sinks: Target | Iterable[Target],
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
        sink_options: SinkOptions | None = None,
    ) -> None:
        self._started = False
        self.recording: Recording = Recording(
            source,
            rate_hz=rate_hz,
            duration=duration,
            count=count,
            names=names,
            timeout=timeout,
            overflow=overflow,
            buffer_size=buffer_size,
            auto_reconnect=auto_reconnect,
            reconnect_factory=reconnect_factory,
            tags=tags,
        )
        options: SinkOptions = {"metadata": metadata_of(source, self.recording.names), **(sink_options or {})}
        self._writer = SinkWriter(self.recording, open_fan_out(sinks, options))

    @property
    def summary(self) -> AcquisitionSummary:
        """The outcome of the recording so far; live."""
        return self.recording.summary

    @property
    def sink_states(self) -> tuple[SinkState, ...]:
        """What each sink is doing now, each a :class:`~servomex.recording.retry.SinkState`; waits for none."""
        return self._writer.sink_states

    @property
    def running(self) -> bool:
        """Whether it is still reading or writing."""
        return self._writer.alive

    def start(self) -> Self:
        """Start.

        Raises:
            ServomexConfigurationError: It was started before.
        """
        self.check_process()
        if self._started:
            raise ServomexConfigurationError("a recorder can be started only once", cure="Make a new one")
        self._started = True
        try:
            self.recording.start()
            self._writer.start()
        except BaseException:
            self.close()
            raise
        at_exit(self._close_forgotten)
        return self

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it ends by itself; return whether it has.

        Args:
            timeout: Seconds; indefinitely when ``None``.

        Raises:
            ServomexConfigurationError: It was not started.
        """
        self.check_process()
        if not self._started:
            raise ServomexConfigurationError("the recorder was not started", cure="Use 'with', or call start()")
        return self._writer.join(None if timeout is None else seconds(timeout, "timeout", zero=True))

    def close(self) -> None:
        """End after the reading in progress, write the rest, and close the sinks.

        May be called twice. In the thread that reads or writes, which a source or a sink may do, it does not wait.

        Raises:
            ServomexSinkError: A sink failed.
            ServomexError: The error that ended the source, or writing did not end within 60 s.
            BaseException: Any other exception that the source raised.
        """
        if not self.made_here:
            return
        try:
            self.recording.close()
        finally:
            if not self.recording.is_current:
                self._writer.finish()

    def _close_forgotten(self) -> None:
        if self.running:
            warnings.warn(
                f"the recorder of {self.recording.name} was never closed: use 'with', or call close()",
                ResourceWarning,
                stacklevel=1,
            )
            self.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except ServomexError as second:
            if error is None:
                raise
            error.add_note(f"the recording: {second}")
