"""Analyzer: one analyser, whatever its communication mode."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

import attrs

from servomex.analyzer.abilities import Abilities
from servomex.calibration import procedure as calibration
from servomex.calibration import stop as calibration_stop
from servomex.calibration.report import CalibrationProgress, CalibrationReport, OnProgress, progress_of
from servomex.continuous.intake import FRESH_S, PERIODS_FRESH
from servomex.continuous.reader import ContinuousReader
from servomex.enums import Availability, Capability, ChannelId, OverflowPolicy, ProtocolKind, StreamMode
from servomex.errors import (
    ErrorContext,
    ServomexConnectionError,
    ServomexNoFrameError,
    ServomexProtocolUnsupportedError,
    ServomexValidationError,
)
from servomex.errors.mappings import FrozenMapping
from servomex.errors.validation import choice, flag, rate, seconds, whole
from servomex.modbus.safety import check_confirmed
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.info import ChannelInfo, DeviceInfo
from servomex.models.naming import asked_channel, asked_channels, check_selected, needed
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.models.tags import name_of, tags_of
from servomex.port.link import SerialLink
from servomex.recording.acquisition import USUAL_HZ
from servomex.recording.polling import checked_names
from servomex.recording.recording import BUFFER
from servomex.recording.streaming import StreamingSession, session_of
from servomex.recording.subscription import Callback, Subscription, frames_of
from servomex.registers import CAL_GROUPS
from servomex.runtime.at_exit import at_exit
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound

if TYPE_CHECKING:
    from servomex.modbus.client import ModbusClient

REOPEN = "Open it again with open_device(), and use it before it is closed"
_STARTING = "an autocalibration moves calibration gas and takes the group off its sample"
_STOPPING = "this stops every autocalibration, also one that was started at the panel"
_VALUES = Capability.READ_CHANNELS | Capability.READ_STATUS
_READING = _VALUES | Capability.IDENTIFY
_NOTHING = Capability(0)


class Analyzer(ProcessBound):
    """One gas analyser: its channels, its state, its identity. A context manager; :func:`open_device` makes one.

    Any thread may call any method, but no other process: in a forked child every call raises
    :class:`ServomexConfigurationError`, and a child opens the analyser itself. Every ``timeout`` is in seconds and
    is a deadline for the whole call, repeated requests and waiting for other callers included; left out, it is the
    one given to :func:`open_device`.

    All reading methods raise :class:`ServomexTimeoutError` when nothing usable came in time,
    :class:`ServomexConnectionError` when the port is closed or lost, and in the Modbus modes
    :class:`ServomexFrameError` when only damaged replies came and :class:`ServomexModbusError` when the analyser
    refused.

    Args:
        link: The port.
        source: What receives from it: a ``ContinuousReader`` that was started, or a ``ModbusClient``.
        timeout: Default for every ``timeout``; ``None`` for one that suits the line, see :attr:`timeout_s`.
        owns_link: Whether :meth:`close` closes the port.
        name: Names the analyser in rows; the port when ``None``, over Modbus with ``:`` and the address.
        tags: What every row says of the analyser beside its name, such as ``{"site": "mill-3"}``.

    Attributes:
        link: The port.
        reader: What receives the broadcasts; ``None`` over Modbus.
        client: What asks; ``None`` in continuous mode.
        closed: Whether :meth:`close` was called.
    """

    def __init__(
        self,
        link: SerialLink,
        source: "ContinuousReader | ModbusClient",
        *,
        timeout: float | None = None,
        owns_link: bool = True,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.link = link
        self.closed: bool = False
        self.reader: ContinuousReader | None = None
        self.client: ModbusClient | None = None
        if isinstance(source, ContinuousReader):
            self.reader = source
            usual_name = link.port
        else:
            self.client = source
            usual_name = f"{link.port}:{source.address}"
        self._name = usual_name if name is None else name_of(name)
        self._tags = tags_of(tags)
        self._timeout_s = None if timeout is None else seconds(timeout, "timeout")
        self._owns_link = owns_link
        self._last: Frame | None = None
        self._info: DeviceInfo | None = None
        self._abilities = Abilities()
        at_exit(self._close_forgotten)

    @property
    def name(self) -> str:
        """Names the analyser in rows. It stays the same: rows of one analyser are not to have two names."""
        return self._name

    @property
    def tags(self) -> FrozenMapping[str]:
        """What every row says of the analyser beside its name; empty unless given when it was opened."""
        return self._tags

    @property
    def protocol(self) -> ProtocolKind:
        """The communication mode in use; never ``AUTO``."""
        return self.client.protocol if self.client else ProtocolKind.CONTINUOUS_ASCII

    @property
    def capabilities(self) -> Capability:
        """What can be done in this mode. In continuous mode nothing can be sent to the analyser."""
        return _READING | Capability.LOOPBACK | Capability.AUTOCAL if self.client else _READING

    def availability(self, capability: Capability) -> Availability:
        """Return whether a capability can be used, as far as that is known. Nothing is sent for it.

        ``unavailable`` is what the communication mode has not got, and what the device refused as a function that
        it does not know; ``available`` what was seen to work since it was opened; everything else is ``unknown``.
        A calibration counts once it was seen to run.

        Args:
            capability: One, or several together: then ``unavailable`` if one of them is, ``available`` if all are.

        Raises:
            ServomexValidationError: It is not a :class:`Capability`, or none.
        """
        self.check_process()
        if self.reader and self.reader.latest is not None:
            self._abilities.note(_READING)
        return self._abilities.availability(capability, self.capabilities)

    @property
    def timeout_s(self) -> float:
        """Seconds that a call takes at most when it is given no ``timeout``.

        Unless it was set: over Modbus 1 s and twice the time a sweep takes here; in continuous mode 0.5 s
        and one and a half broadcast periods, but at least 1 s, and 10 s before a period is known.
        """
        if self._timeout_s is not None:
            return self._timeout_s
        if self.client:
            return self.client.patience_s
        period_s = self._broadcasts.period_s
        return FRESH_S if period_s is None else max(1.0, 0.5 + 1.5 * period_s)

    @property
    def dropped_frames(self) -> int:
        """How many damaged broadcasts, or damaged and late Modbus replies, were refused since it was opened."""
        if self.client:
            return self.client.exchange.damaged_replies + self.client.exchange.late_replies
        return self.reader.dropped_frames if self.reader else 0

    @property
    def period_s(self) -> float | None:
        """Seconds between broadcasts as observed; ``None`` over Modbus and before the second broadcast."""
        return self.reader.period_s if self.reader else None

    def fresh_for_s(self, rate_hz: float | None = None) -> float:
        """Give the age in seconds at which a frame that is shown is not current any more.

        In continuous mode 2.5 broadcast periods as observed, and 10 s before a period is known. Over Modbus, where
        the program sets the pace, 2.5 times that and one :attr:`timeout_s`, which a reading on its way may take.

        Args:
            rate_hz: How often a program reads over Modbus, per second; once when left out, as :meth:`subscribe`
                does. In continuous mode the analyser sets the pace, whatever is given here.
        """
        pace_hz = USUAL_HZ if rate_hz is None else rate(rate_hz)
        return self.reader.fresh_s if self.reader else PERIODS_FRESH / pace_hz + self.timeout_s

    @property
    def info(self) -> DeviceInfo | None:
        """What :meth:`identify` found, with the channels of the newest frame; ``None`` before it ran."""
        frame = self.reader.latest if self.reader else self._last
        if self._info is not None and frame is not None:
            channels = _channels_of(frame)
            if channels != self._info.channels:
                self._info = attrs.evolve(self._info, channels=channels)
        return self._info

    def poll(
        self, *, wait_fresh: bool = False, timeout: float | None = None, max_age: float | None = None
    ) -> Frame:
        """Give all channels with their states.

        Over Modbus they are read now. In continuous mode the last broadcast is given while it is younger than
        ``max_age``; otherwise the next one is waited for.

        Args:
            wait_fresh: In continuous mode, give only a broadcast that arrives after the call.
            timeout: Seconds.
            max_age: Seconds a broadcast may be old; 2.5 periods as observed, or 10 s before one is known. What
                Modbus reads is never older than the call.

        Raises:
            ServomexStaleError: No new broadcast came; the error carries the last frame and its age.
        """
        flag(wait_fresh, "wait_fresh")
        deadline = self._deadline(timeout)
        limit_s = None if max_age is None else seconds(max_age, "max_age", zero=True)
        if self.client:
            with self._abilities.shown_by(_VALUES):
                frame = self.client.read_frame(deadline)
        else:
            frame = self._broadcasts.read_frame(deadline, max_age=limit_s, wait_fresh=wait_fresh)
        self._last = frame
        return frame

    def read_channel(self, channel: ChannelId | str, *, timeout: float | None = None) -> Reading:
        """Return one channel with its state; over Modbus, by its id, only this channel is read.

        Args:
            channel: Its id, such as ``I1``, or its name on the display, such as ``Oxygen``, see :meth:`Frame.get`.
                By a name all channels are read over Modbus, as by :meth:`identify`: only they show whether another
                has been given the same name. That takes as long as a sweep of every channel; an id is cheaper.
                With ``channels=`` given to :func:`open_device` a name is looked for among those selected only,
                whatever the others are named.
            timeout: Seconds.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated or was not selected, none has this name, or
                several have it.
            ServomexValidationError: There is no such channel in the series.
        """
        asked = asked_channel(channel)
        check_selected(asked, self._selected, self._context())
        if self.client and isinstance(asked, ChannelId):
            deadline = self._deadline(timeout)
            with self._abilities.shown_by(_VALUES):
                return self.client.read_channel(asked, deadline)
        if self.client:
            self.client.look_at_all_channels()
        return self._needed(self.poll(timeout=timeout), asked)

    def read_all(self, *, timeout: float | None = None) -> dict[ChannelId, Reading]:
        """Give all readings by channel, in the analyser's order."""
        return {ChannelId(reading.channel): reading for reading in self.poll(timeout=timeout)}

    def status(self, channel: ChannelId | str, *, timeout: float | None = None) -> ChannelStatus:
        """Return one channel's state; over Modbus only that is read, and every 10 s whether the channel is there.

        By its name a channel is read as :meth:`read_channel` does: the state alone would not show whose it is.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated or was not selected, none has this name, or
                several have it.
            ServomexValidationError: There is no such channel in the series.
        """
        asked = asked_channel(channel)
        check_selected(asked, self._selected, self._context())
        if self.client and isinstance(asked, ChannelId):
            with self._abilities.shown_by(Capability.READ_STATUS):
                return self.client.read_status(asked, self._deadline(timeout))
        return self.read_channel(asked, timeout=timeout).status

    def analyser_status(self, *, timeout: float | None = None) -> AnalyserStatus:
        """Give the state of the analyser as a whole; over Modbus only that is read."""
        if self.client:
            deadline = self._deadline(timeout)
            with self._abilities.shown_by(Capability.READ_STATUS):
                self.client.recognise(deadline)
                return self.client.read_analyser(deadline)
        return self.poll(timeout=timeout).analyser

    def identify(self, *, timeout: float | None = None) -> DeviceInfo:
        """Read what is known of the analyser: its channels with names and units, and how it was reached."""
        if self.client:
            self.client.look_at_all_channels()
        frame = self.poll(timeout=timeout)
        self._abilities.note(Capability.IDENTIFY)
        self._info = DeviceInfo(
            self.link.port,
            self.protocol,
            self.client.address if self.client else None,
            self.link.settings,
            _channels_of(frame),
        )
        return self._info

    def snapshot(self) -> Frame:
        """Give the newest frame at hand without any I/O, however old it is: look at its ``age_s``.

        Raises:
            ServomexNoFrameError: There is none yet.
        """
        self.check_process()
        frame = self.reader.latest if self.reader else self._last
        if frame is None:
            raise ServomexNoFrameError("no frame has been received yet", self._context(), cure="Call poll() first")
        return frame

    def poll_samples(
        self,
        *,
        names: Iterable[str] | None = None,
        timeout: float | None = None,
        channels: Iterable[ChannelId | str] | None = None,
    ) -> list[Sample]:
        """Give one :class:`Sample` a channel, as rows for a recording.

        Args:
            names: The analysers that are wanted, as of every :class:`PollSource`: only its own :attr:`name` is
                known here.
            timeout: Seconds.
            channels: The channels that are wanted, by id or name; all when ``None``.

        Raises:
            ServomexValidationError: An analyser is unknown, or there is no such channel in the series.
            ServomexChannelNotFoundError: A channel is not populated or was not selected, none has this name, or
                several have it.
        """
        if names is not None:
            checked_names(names, [self.name])
        wanted = None if channels is None else asked_channels(channels)
        frame = self.poll(timeout=timeout)
        shown = frame if wanted is None else frame.only(self._needed(frame, item).channel for item in wanted)
        return shown.as_samples(device=self.name, metadata=self.tags)

    def stream(
        self,
        *,
        mode: StreamMode | str | None = None,
        rate_hz: float | None = None,
        buffer_size: int = BUFFER,
        overflow: OverflowPolicy | str = OverflowPolicy.DROP_OLDEST,
    ) -> StreamingSession:
        """Give samples as they come: ``with analyzer.stream(rate_hz=2) as session: for sample in session: ...``.

        ``next(session)`` gives one; :attr:`StreamingSession.mode` is how they are taken.

        Args:
            mode: ``autoprint``, each broadcast, in continuous mode; ``poll`` over Modbus.
            rate_hz: Readings per second over Modbus, up to 1000; 1 when left out. In continuous mode the analyser
                sets it.
            buffer_size: Readings that wait at most, 1 to 1,000,000.
            overflow: What happens then, see :class:`Recording`; what is dropped is counted.

        Raises:
            ServomexConfigurationError: There is a rate, and an analyser in continuous mode.
            ServomexValidationError: The mode is not that of the analyser, the mode or the policy is unknown, or a
                number is out of range.
        """
        self.check_process()
        wanted = None if mode is None else choice(StreamMode, mode, "mode")
        return session_of(self, wanted, rate_hz, buffer_size, overflow)

    def subscribe(
        self, callback: Callback, *, rate_hz: float | None = None, buffer_size: int = BUFFER
    ) -> Subscription:
        """Let a callback be given each frame, and each error in the place of one, by a thread of its own.

        Args:
            callback: Is given a :class:`Frame` or a :class:`ServomexError`. What it raises is logged and counted.
            rate_hz: Readings per second over Modbus, up to 1000; 1 when left out. In continuous mode the analyser
                sets it.
            buffer_size: Frames that wait at most, 1 to 1,000,000; then the oldest are dropped and counted.

        Raises:
            ServomexConfigurationError: There is a rate, and an analyser in continuous mode.
            ServomexValidationError: A number is out of range, or the callback cannot be called.
        """
        self.check_process()
        if not callable(callback):
            raise ServomexValidationError(
                f"callback must be something to call, not {callback!r}",
                cure="Pass the function itself, uncalled",
            )
        return Subscription(frames_of(self, rate_hz, buffer_size), callback, self.name).start()

    def loopback(self, payload: bytes, *, timeout: float | None = None) -> bytes:
        """Send two bytes to the analyser and give what it sends back (FC08, sub-function 00).

        On a line that echoes, an analyser is asked first, so that the echo is not taken for it.

        Raises:
            ServomexValidationError: ``payload`` is not two bytes.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
        """
        client = self._addressable()
        if not isinstance(payload, bytes) or len(payload) != 2:
            raise ServomexValidationError(f"the payload of a loopback is 2 bytes, not {payload!r}")
        deadline = self._deadline(timeout)
        with self._abilities.shown_by(Capability.LOOPBACK):
            return client.loopback(payload, deadline)

    def start_calibration(
        self, group: int, *, confirm: bool = False, verify: bool = True, timeout: float | None = None
    ) -> CalibrationProgress:
        """Start the autocalibration of a group. It moves calibration gas and takes the group off its sample.

        The start coil is brought to 0 if it was left at 1, set to 1, read back, and set back to 0 whatever
        happens. With ``verify`` the group's state is then watched until it shows that the calibration runs: this
        decides, whatever the coil reads back.

        Args:
            group: 1 to 4.
            confirm: Must be ``True``.
            verify: Watch until the calibration runs. Without, the answer tells what the group is on just after.
            timeout: Seconds; 10 s longer than that of a reading when ``None``.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
            ServomexCalibrationError: It did not start, one runs already or is being started, or that is unknown;
                see its ``running``.
        """
        client = self._confirmed("start_calibration", confirm, _STARTING)
        group = whole(group, "group", 1, CAL_GROUPS)
        flag(verify, "verify")
        deadline = self._slow_deadline(timeout)
        client.recognise(deadline)
        with self._abilities.shown_by(Capability.AUTOCAL if verify else _NOTHING):
            return calibration.start(client, group, deadline, verify=verify)

    def stop_calibration(self, *, confirm: bool = False, timeout: float | None = None) -> tuple[int, ...]:
        """Stop all autocalibrations, however they were started, and watch until every group is on sample.

        Start coils that were left at 1, as by a program that was killed, are then set back to 0. ``confirm`` and
        ``timeout`` are as for :meth:`start_calibration`.

        Returns:
            The groups whose start coil had been left at 1.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
            ServomexCalibrationError: A group is still on calibration gas, that is unknown, or a coil stays at 1;
                see its ``running``.
        """
        client = self._confirmed("stop_calibration", confirm, _STOPPING)
        deadline = self._slow_deadline(timeout)
        client.recognise(deadline)
        with self._abilities.shown_by(_NOTHING):  # it ends well also where nothing runs
            return calibration_stop.stop(client, deadline)

    def calibration_status(self, group: int = 1, *, timeout: float | None = None) -> CalibrationProgress:
        """Read what a group is on: sample, or calibration gas 1 or 2; in continuous mode from the broadcast.

        In the Modbus modes the group's start coil is read as well. A group that is on sample is ``SAMPLING`` while
        a calibration goes on that was started through this port: until it was on sample at two looks, 10 s or
        ``settle`` apart, with no calibration gas in between. Of a calibration that was started otherwise, as at
        the panel or by another program, sample between its gases cannot be told from its end: it is ``IDLE``.

        Args:
            group: 1 to 4.
            timeout: Seconds.

        Raises:
            ServomexValidationError: There is no such group.
        """
        group = whole(group, "group", 1, CAL_GROUPS)
        if self.client:
            deadline = self._deadline(timeout)
            with self._abilities.shown_by(Capability.READ_STATUS):
                self.client.recognise(deadline)
                return calibration.look(self.client, group, deadline)
        frame = self.poll(timeout=timeout)
        return progress_of(frame.analyser, group, frame.received_at, frame=frame)

    def calibrate(
        self,
        group: int,
        *,
        confirm: bool = False,
        timeout: float,
        settle: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> CalibrationReport:
        """Start the autocalibration of a group, watch it to its end, and report.

        Whatever ends it before, an interrupt, the time, an exception in ``on_progress``, it is stopped first; the
        error, or a note on it, says whether that succeeded. Readings that fail meanwhile do not end it.

        Args:
            group: 1 to 4.
            confirm: Must be ``True``.
            timeout: Seconds that the whole may take. Stopping then takes up to 10 s and one reading more, and
                as long again when the calibration begins only then.
            settle: Seconds for which the group must be on sample before the calibration counts as ended, less than
                ``timeout``; 10 when ``None``. A group may show sample for a while between its gases.
            on_progress: Called in this thread about once a second with a :class:`CalibrationProgress`.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
            ServomexCalibrationError: It did not start, did not end in time, or that is unknown; see its
                ``running``.
        """
        client = self._confirmed("calibrate", confirm, _STARTING)
        group = whole(group, "group", 1, CAL_GROUPS)
        limit_s = seconds(timeout, "timeout")
        settle_s = calibration.SETTLE_S if settle is None else seconds(settle, "settle", zero=True)
        if settle is not None and settle_s >= limit_s:
            raise ServomexValidationError(f"settle must be shorter than timeout, {limit_s:g} s, not {settle_s:g}")
        if on_progress is not None and not callable(on_progress):
            raise ServomexValidationError(f"on_progress must be something to call, not {on_progress!r}")
        client.recognise(self._deadline(limit_s))
        with self._abilities.shown_by(Capability.AUTOCAL):
            return calibration.Calibration(client, group, limit_s, settle_s, on_progress).run()

    def close(self) -> None:
        """End the thread, if there is one, and close the port, if it was opened for this analyser.

        May be called twice, and by any thread: calls that wait end with a :class:`ServomexConnectionError`.

        Raises:
            ServomexError: The thread did not end within 5 s.
        """
        if self.closed or not self.made_here:
            return
        self.closed = True
        try:
            if self.reader:
                self.reader.stop()
        finally:
            if self._owns_link:
                self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self._close_forgotten()

    def _close_forgotten(self) -> None:
        if self.closed or not self.made_here:
            return
        warnings.warn(
            f"the analyser on {self.link.port} was never closed: use 'with', or call close()",
            ResourceWarning,
            stacklevel=1,
        )
        if not sys.is_finalizing():  # then its thread stands still, and cannot be waited for
            self.close()

    def __repr__(self) -> str:
        return f"<Analyzer {self.name} {self.protocol}>"

    @property
    def _broadcasts(self) -> ContinuousReader:
        assert self.reader is not None  # noqa: S101 (there is a reader wherever there is no client)
        return self.reader

    @property
    def _selected(self) -> frozenset[ChannelId] | None:
        return (self.client or self._broadcasts).selected

    def _needed(self, frame: Frame, asked: ChannelId | str) -> Reading:
        return needed(frame.readings, asked, self._context(), self._selected)

    def _addressable(self) -> "ModbusClient":
        if not self.client:
            raise ServomexProtocolUnsupportedError(
                "nothing can be sent to an analyser in continuous mode",
                self._context(),
                cure="Set it to Modbus on its panel",
            )
        return self.client

    def _confirmed(self, operation: str, confirm: bool, why: str) -> "ModbusClient":
        check_confirmed(operation, confirm, why, self._context())
        return self._addressable()

    def _slow_deadline(self, timeout: float | None) -> float:
        """The deadline of what the analyser may take its time to show."""
        self.check_process()
        return self._deadline(self.timeout_s + calibration_stop.WATCH_S if timeout is None else timeout)

    def _deadline(self, timeout: float | None) -> float:
        self.check_process()
        limit_s = self.timeout_s if timeout is None else seconds(timeout, "timeout")
        if self.closed:
            raise ServomexConnectionError("the analyser was closed", self._context(), cure=REOPEN)
        return time.monotonic() + limit_s

    def _context(self) -> ErrorContext:
        return ErrorContext(self.link.port, self.protocol)


def _channels_of(frame: Frame) -> tuple[ChannelInfo, ...]:
    return tuple(ChannelInfo(ChannelId(item.channel), item.name, item.unit, item.unit_text) for item in frame)
