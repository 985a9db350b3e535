"""Recorder: a recording that is written to sinks in the background; pipe() does so in the foreground."""

import contextlib
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Self

from servomex.acquisition import AcquisitionSummary
from servomex.errors import ServomexError, ServomexTimeoutError, ServomexValidationError
from servomex.models import DeviceInfo
from servomex.queues import Closed
from servomex.recording import Recording, Source
from servomex.sinks import Sink, open_sink
from servomex.validation import seconds
from servomex.worker import Worker
from servomex.writing import Writer

TICK_S = 0.25
"""How often sinks may flush while nothing comes."""
MOST_AT_ONCE = 500
"""Samples that are written in one go, when they have piled up."""
DRAIN_S = 60.0
"""How long stopping waits for what is still to be written."""


class Recorder:
    """Records a source to sinks in the background: one thread reads, another one writes. A context manager.

    A slow disk therefore moves no reading; what happens when it stays slow is ``overflow``. A sink that fails is
    closed and left out, and the others go on; when none is left the recording ends. :meth:`stop` raises what
    failed.

    Args:
        source: What is read; see :class:`Recording`.
        sinks: Where to write: :class:`Sink` objects, file names or URLs as :func:`open_sink` takes them. All of
            them are closed at the end.
        sink_options: Options of :func:`open_sink` for those that are named, such as ``append``.
        options: Those of :class:`Recording`: ``rate_hz``, ``duration``, ``count``, ``overflow`` and so on.

    Raises:
        ServomexConfigurationError: See :class:`Recording`.
        ServomexSinkError: A sink cannot be opened; none is left open then.
    """

    def __init__(
        self,
        source: Source,
        sinks: Iterable[Sink | str | os.PathLike[str]],
        *,
        sink_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._started = False
        self.recording = Recording(source, **options)
        self._writer = Writer(_opened(sinks, {"metadata": metadata_of(source), **(sink_options or {})}))
        self._worker = Worker(f"servomex-recorder {self.recording.name}", self._write)

    @property
    def summary(self) -> AcquisitionSummary:
        """What became of the recording so far; live."""
        return self.recording.summary

    @property
    def running(self) -> bool:
        """Whether it reads or still writes."""
        return self._worker.alive

    def start(self) -> Self:
        """Begin."""
        self.recording.start()
        self._started = True
        self._worker.start()
        return self

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it ends by itself; tell whether it has.

        Args:
            timeout: Seconds; without end when ``None``.
        """
        return self._worker.join(None if timeout is None else seconds(timeout, "timeout", zero=True))

    def stop(self) -> None:
        """End it after the reading that goes on, write what is still to be written, and close the sinks.

        May be called twice.

        Raises:
            ServomexSinkError: A sink failed.
            ServomexError: What ended the source, or writing did not end within 60 s.
            BaseException: What the source raised that is no ``ServomexError``.
        """
        try:
            self.recording.close()
        finally:
            self._worker.stop(DRAIN_S)
            if not self._started:
                self._writer.close()
        if self._worker.error is not None:
            raise self._worker.error

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self.stop()
        except ServomexError as second:
            if error is None:
                raise
            error.add_note(f"the recording: {second}")

    def _write(self, _stopping: threading.Event) -> None:
        """Write until nothing comes any more: the end of the recording, or a failure."""
        with contextlib.ExitStack() as ends:
            ends.callback(self.recording.close)
            ends.callback(self._writer.close)
            pour(self.recording, self._writer)


def pipe(recording: Recording, *sinks: Sink | str | os.PathLike[str]) -> AcquisitionSummary:
    """Write a recording to sinks until it ends, in the calling thread, and close them.

    Raises:
        ServomexSinkError: A sink failed, or cannot be opened.
        BaseException: What ended the recording.
    """
    writer = Writer(_opened(sinks, {}))
    try:
        pour(recording, writer)
    finally:
        writer.close()
    return recording.summary


def pour(recording: Recording, writer: Writer) -> None:
    """Write what comes until the recording ends; what has piled up is written in one go."""
    while True:
        try:
            samples = recording.get(TICK_S)
            while len(samples) < MOST_AT_ONCE and recording.waiting:
                samples = samples + recording.get(0)
        except ServomexTimeoutError:
            writer.flush_if_due()
        except Closed:
            return
        else:
            writer.write(samples)


def metadata_of(source: Source) -> dict[str, str]:
    """Give what a file should tell of where its rows are from: the software, the port, the channels."""
    found = {"software": "servomex", "source": str(getattr(source, "name", type(source).__name__))}
    info = getattr(source, "info", None)
    if isinstance(info, DeviceInfo):
        found |= {
            "port": info.port,
            "protocol": info.protocol.value,
            "address": "" if info.address is None else str(info.address),
            "serial_settings": str(info.serial_settings),
            "channels": ", ".join(f"{item.channel} {item.name or ''} {item.unit_text}" for item in info.channels),
        }
    return found


def _opened(sinks: Iterable[Sink | str | os.PathLike[str]], options: Mapping[str, Any]) -> list[Sink]:
    """Open those that are named. When one cannot be, those that were opened here are closed again."""
    opened: list[Sink] = []
    with contextlib.ExitStack() as undo:
        for item in sinks:
            sink = item if isinstance(item, Sink) else open_sink(item, **options)
            if sink is not item:
                undo.callback(sink.close)
            opened.append(sink)
        if not opened:
            raise ServomexValidationError("there is no sink to write to")
        undo.pop_all()
    return opened
