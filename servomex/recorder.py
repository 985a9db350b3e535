"""Recorder: a recording that is written to sinks in the background; pipe() waits for it."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Self, Unpack

from servomex.errors import (
    ServomexConfigurationError,
    ServomexError,
    ServomexValidationError,
)
from servomex.exits import at_exit
from servomex.link import SerialLink
from servomex.manager import ServomexManager
from servomex.models import DeviceInfo
from servomex.polling import PollSource
from servomex.pouring import Pouring
from servomex.process import ProcessBound
from servomex.recording import Recording
from servomex.sinks import Sink, SinkOptions, check_targets, open_sink, options_of
from servomex.summary import AcquisitionSummary
from servomex.validation import seconds

NAME_FILES = "Name one or more files, as in ['run.csv']"


Target = Sink | str | os.PathLike[str]
"""Where samples are written: an open sink, a file name, or a URL."""
_OF_SINKS = frozenset(SinkOptions.__annotations__)
_TARGETS = (Sink, str, os.PathLike)


class Recorder(ProcessBound):
    """Records a source to sinks in the background: one thread reads, another one writes. A context manager.

    A slow disk therefore moves no reading; what happens when it stays slow is ``overflow``. A sink that cannot be
    written is tried again for 30 s; then it is closed and left out, and the others go on. When none is left the
    recording ends. :meth:`close` raises what failed.

    Args:
        source: What is read; see :class:`Recording`.
        sinks: Where to write: a :class:`Sink`, a file name or a URL as :func:`open_sink` takes it, or several in
            a list. All of them are closed at the end.
        sink_options: Options of :func:`open_sink` for those that are named, such as ``append``.
        options: Those of :class:`Recording`: ``rate_hz``, ``duration``, ``count``, ``overflow`` and so on.

    Raises:
        ServomexConfigurationError: See :class:`Recording`.
        ServomexSinkError: A sink cannot be opened; none is left open then.
    """

    def __init__(
        self,
        source: PollSource,
        sinks: Target | Iterable[Target],
        *,
        sink_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._started = False
        for name in _OF_SINKS & options.keys():
            raise ServomexValidationError(
                f"{name} is an option of the files", cure=f"Write sink_options={{{name!r}: {options[name]!r}}}"
            )
        self.recording: Recording = Recording(source, **options)
        options = {"metadata": metadata_of(source), **(sink_options or {})}
        self._pouring = Pouring(self.recording, open_sinks(sinks, **options))

    @property
    def summary(self) -> AcquisitionSummary:
        """What became of the recording so far; live."""
        return self.recording.summary

    @property
    def running(self) -> bool:
        """Whether it reads or still writes."""
        return self._pouring.alive

    def start(self) -> Self:
        """Begin.

        Raises:
            ServomexConfigurationError: It was started before.
        """
        self.check_process()
        if self._started:
            raise ServomexConfigurationError("a recorder can be started once only", cure="Make a new one")
        self._started = True
        try:
            self.recording.start()
            self._pouring.start()
        except BaseException:
            self.close()
            raise
        at_exit(self._close_forgotten)
        return self

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it ends by itself; tell whether it has.

        Args:
            timeout: Seconds; without end when ``None``.

        Raises:
            ServomexConfigurationError: It was not started.
        """
        self.check_process()
        if not self._started:
            raise ServomexConfigurationError("the recorder was not started", cure="Use 'with', or call start()")
        return self._pouring.join(None if timeout is None else seconds(timeout, "timeout", zero=True))

    def close(self) -> None:
        """End it after the reading that goes on, write what is still to be written, and close the sinks.

        May be called twice. In the thread that reads or writes, which a source or a sink may do, it does not wait.

        Raises:
            ServomexSinkError: A sink failed.
            ServomexError: What ended the source, or writing did not end within 60 s.
            BaseException: What the source raised that is no ``ServomexError``.
        """
        if not self.made_here:
            return
        try:
            self.recording.close()
        finally:
            if not self.recording.is_current:
                self._pouring.finish()

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


def pipe(recording: Recording, *sinks: Target) -> AcquisitionSummary:
    """Write a recording to sinks until it ends, and close them.

    They are written by a thread of their own while the caller waits, so that Ctrl-C ends the recording with all
    that was read so far in them.

    Args:
        recording: What comes; it must have been started, as ``with record(...) as recording`` does.
        sinks: Where to write, as for :class:`Recorder`; all of them are closed at the end.

    Raises:
        ServomexSinkError: A sink failed, or cannot be opened.
        BaseException: What ended the recording.
    """
    if not isinstance(recording, Recording):
        raise ServomexValidationError(
            f"a Recording comes first, not {type(recording).__name__}",
            cure="Write with record(analyzer, ...) as recording: pipe(recording, 'run.csv')",
        )
    recording.check_process()
    pouring = Pouring(recording, open_sinks(sinks, metadata=metadata_of(recording.source)))
    try:
        pouring.start()
        pouring.join()
    finally:
        try:
            recording.close()
        finally:
            pouring.finish()
    return recording.summary


def metadata_of(source: PollSource) -> dict[str, str]:
    """Give what a file should tell of where its rows are from: the software, the port, the channels."""
    from servomex import __version__  # which imports this module

    found = {
        "software": f"servomex {__version__}",
        "source": str(getattr(source, "name", type(source).__name__)),
    }
    if isinstance(source, ServomexManager):
        for name in source.names:
            told = _told_of(source.get(name))
            found |= {f"{name}.{key}": text for key, text in told.items()}
        return found
    return found | _told_of(source)


def _told_of(source: object) -> dict[str, str]:
    info, link = getattr(source, "info", None), getattr(source, "link", None)
    if not isinstance(info, DeviceInfo):
        return {}
    usb_serial = link.usb_serial if isinstance(link, SerialLink) else None
    told = {} if usb_serial is None else {"usb_serial": usb_serial}
    return told | {
        "port": info.port,
        "protocol": info.protocol.value,
        "address": "" if info.address is None else str(info.address),
        "serial_settings": str(info.serial_settings),
        "channels": ", ".join(f"{item.channel} {item.name or ''} {item.unit_text}" for item in info.channels),
    }


def open_sinks(sinks: Target | Iterable[Target], **options: Unpack[SinkOptions]) -> list[Sink]:
    """Open those that are named. When one cannot be, those that were opened here are closed again.

    Raises:
        ServomexValidationError: There is none, or see :func:`open_sink`.
        ServomexSinkError: See :func:`open_sink`.
    """
    single = isinstance(sinks, _TARGETS) or hasattr(sinks, "write")  # as an open file has, which is refused below
    wanted: list[Any] = [sinks] if single else list(sinks)  # type: ignore[arg-type]
    if not wanted:
        raise ServomexValidationError("there is no sink to write to", cure=NAME_FILES)
    for item in wanted:
        if not isinstance(item, _TARGETS):
            raise ServomexValidationError(f"a sink is a Sink or a file name, not {item!r}", cure=NAME_FILES)
    named = [item for item in wanted if not isinstance(item, Sink)]
    check_targets(named, **options)  # before a file is made or emptied for one in front of it
    opened: list[Sink] = []
    with contextlib.ExitStack() as undo:
        for item in wanted:
            sink = item if isinstance(item, Sink) else open_sink(item, **options_of(item, options))
            if sink is not item:
                undo.callback(sink.close)
            opened.append(sink)
        undo.pop_all()
    return opened
