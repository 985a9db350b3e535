"""Analyzer: one analyser, whatever its communication mode."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from servomex.analyzer.abilities import VALUES
from servomex.analyzer.opened import Opened
from servomex.enums import Capability, ChannelId, OverflowPolicy, StreamMode
from servomex.errors import ServomexNoFrameError, ServomexValidationError
from servomex.errors.validation import choice, flag, seconds, whole
from servomex.modbus.safety import check_confirmed
from servomex.models.analyser import CAL_GROUPS, AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.info import ChannelInfo, DeviceInfo
from servomex.models.naming import asked_channel, asked_channels, check_selected, needed
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.recording.polling import checked_names
from servomex.runtime.queues import BUFFER

if TYPE_CHECKING:
    from servomex.calibration.report import CalibrationProgress, CalibrationReport, OnProgress
    from servomex.modbus.client import ModbusClient
    from servomex.recording.streaming import StreamingSession
    from servomex.recording.subscription import Callback, Subscription

_STARTING = "an autocalibration moves calibration gas and takes the group off sample"
_STOPPING = "this stops every autocalibration, even one that was started at the panel"
_NOTHING = Capability(0)


class Analyzer(Opened):
    """One gas analyser: its channels, its state, its identity. A context manager; :func:`open_device` makes one.

    Any thread may call any method, but no other process: in a forked child every call raises
    :class:`ServomexConfigurationError`, and a child opens the analyser itself. Every ``timeout`` is in seconds and
    is a deadline for the whole call, repeated requests and waiting for other callers included; when omitted, it is
    the one given to :func:`open_device`.

    All reading methods raise :class:`ServomexTimeoutError` when nothing usable arrived in time,
    :class:`ServomexConnectionError` when the port is closed or lost, and in the Modbus modes
    :class:`ServomexFrameError` when only damaged replies arrived and :class:`ServomexModbusError` when the
    analyser refused.

    Args:
        link: The port.
        source: What reads from it: a ``ContinuousReader`` that was started, or a ``ModbusClient``.
        timeout: Default for every ``timeout``; ``None`` for one that suits the line, see :attr:`timeout_s`.
        owns_link: Whether :meth:`close` closes the port.
        name: Names the analyser in rows; the port when ``None``, over Modbus with ``:`` and the address.
        tags: Added to every row of the analyser, such as ``{"site": "mill-3"}``.

    Attributes:
        link: The port.
        reader: The receiver of the broadcasts; ``None`` over Modbus.
        client: The Modbus client; ``None`` in continuous mode.
        closed: Whether :meth:`close` was called.
    """

    _last: Frame | None = None
    _info: DeviceInfo | None = None

    @property
    def info(self) -> DeviceInfo | None:
        """What :meth:`identify` found, with the channels of the newest frame; ``None`` before it ran."""
        frame = self._newest
        if self._info is not None and frame is not None:
            channels = _channels_of(frame)
            if channels != self._info.channels:
                self._info = attrs.evolve(self._info, channels=channels)
        return self._info

    def poll(
        self, *, wait_fresh: bool = False, timeout: float | None = None, max_age: float | None = None
    ) -> Frame:
        """Return all channels with their states.

        Over Modbus they are read now. In continuous mode the last broadcast is returned while it is younger than
        ``max_age``; otherwise the call waits for the next one.

        Args:
            wait_fresh: In continuous mode, return only a broadcast that arrives after the call.
            timeout: Seconds.
            max_age: The age in seconds that a broadcast may have; 2.5 observed periods, or 10 s before one is
                known. A frame read over Modbus is never older than the call.

        Raises:
            ServomexStaleError: No new broadcast arrived; the error carries the last frame and its age.
        """
        flag(wait_fresh, "wait_fresh")
        deadline = self._deadline(timeout)
        limit_s = None if max_age is None else seconds(max_age, "max_age", zero=True)
        read = self.mode.reading(max_age=limit_s, wait_fresh=wait_fresh)
        with self._abilities.shown_by(VALUES):
            self._last = frame = read(deadline)
        return frame

    def read_channel(self, channel: ChannelId | str, *, timeout: float | None = None) -> Reading:
        """Return one channel with its state; over Modbus, by its id, only this channel is read.

        Args:
            channel: Its id, such as ``I1``, or its name on the display, such as ``Oxygen``, see :meth:`Frame.get`.
                By name, all channels are read over Modbus, as by :meth:`identify`: only they show whether another
                has been given the same name. That takes as long as a sweep of every channel; an id is cheaper.
                With ``channels=`` given to :func:`open_device`, only the selected channels are searched for a
                name, whatever the others are called.
            timeout: Seconds.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated or was not selected, none has this name, or
                several have it.
            ServomexValidationError: The series does not have such a channel.
        """
        asked = asked_channel(channel)
        check_selected(asked, self.mode.selected, self._context())
        if isinstance(asked, ChannelId):
            deadline = self._deadline(timeout)
            with self._abilities.shown_by(VALUES):
                return self.mode.read_channel(asked, deadline)
        self.mode.look_at_all_channels()
        return self._needed(self.poll(timeout=timeout), asked)

    def read_all(self, *, timeout: float | None = None) -> dict[ChannelId, Reading]:
        """Return all readings by channel, in the analyser's order."""
        return {ChannelId(reading.channel): reading for reading in self.poll(timeout=timeout)}

    def status(self, channel: ChannelId | str, *, timeout: float | None = None) -> ChannelStatus:
        """Return one channel's state; over Modbus only that is read, and every 10 s whether the channel exists.

        By its name a channel is read as :meth:`read_channel` does: the state alone would not show which channel it
        belongs to.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated or was not selected, none has this name, or
                several have it.
            ServomexValidationError: The series does not have such a channel.
        """
        asked = asked_channel(channel)
        check_selected(asked, self.mode.selected, self._context())
        if isinstance(asked, ChannelId):
            deadline = self._deadline(timeout)
            with self._abilities.shown_by(Capability.READ_STATUS):
                return self.mode.read_status(asked, deadline)
        return self.read_channel(asked, timeout=timeout).status

    def analyser_status(self, *, timeout: float | None = None) -> AnalyserStatus:
        """Return the state of the analyser as a whole; over Modbus only that is read."""
        deadline = self._deadline(timeout)
        with self._abilities.shown_by(Capability.READ_STATUS):
            return self.mode.read_analyser(deadline)

    def identify(self, *, timeout: float | None = None) -> DeviceInfo:
        """Read what is known of the analyser: its channels with names and units, and how it was reached."""
        self.mode.look_at_all_channels()
        frame = self.poll(timeout=timeout)
        self._abilities.note(Capability.IDENTIFY)
        self._info = DeviceInfo(
            self.link.port, self.protocol, self.mode.address, self.link.settings, _channels_of(frame)
        )
        return self._info

    def snapshot(self) -> Frame:
        """Return the newest frame at hand without any I/O, however old it is: check its ``age_s``.

        Raises:
            ServomexNoFrameError: There is none yet.
        """
        self.check_process()
        frame = self._newest
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
        """Return one :class:`Sample` per channel, as rows for a recording.

        Args:
            names: The analysers to read, as for every :class:`PollSource`; here only its own :attr:`name` is
                known.
            timeout: Seconds.
            channels: The channels to return, by id or name; all when ``None``.

        Raises:
            ServomexValidationError: An analyser is unknown, or the series does not have such a channel.
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
    ) -> "StreamingSession":
        """Stream samples: ``with analyzer.stream(rate_hz=2) as session: for sample in session: ...``.

        ``next(session)`` returns one; :attr:`StreamingSession.mode` shows how they are taken.

        Args:
            mode: ``autoprint``, each broadcast, in continuous mode; ``poll`` over Modbus.
            rate_hz: Readings per second over Modbus, up to 1000; 1 when omitted. In continuous mode the analyser
                sets it.
            buffer_size: How many readings may wait, 1 to 1,000,000.
            overflow: What happens when more are waiting, see :class:`Recording`; dropped readings are counted.

        Raises:
            ServomexConfigurationError: There is a rate, and an analyser in continuous mode.
            ServomexValidationError: The mode is not that of the analyser, the mode or the policy is unknown, or a
                number is out of range.
        """
        from servomex.recording.recording import Recording
        from servomex.recording.streaming import StreamingSession

        self.check_process()
        usual = self.mode.stream_mode
        wanted = usual if mode is None else choice(StreamMode, mode, "mode")
        if wanted is not usual:
            raise ServomexValidationError(
                f"an analyser in mode {self.protocol} is streamed with {usual}, not {wanted}: "
                + ("it sends on its own" if self.mode.broadcasts else "it sends only what it is asked for"),
                self._context(),
                cure="Omit mode",
            )
        pace = self.mode.pace_hz(rate_hz)
        return StreamingSession(Recording(self, rate_hz=pace, buffer_size=buffer_size, overflow=overflow), usual)

    def subscribe(
        self, callback: "Callback", *, rate_hz: float | None = None, buffer_size: int = BUFFER
    ) -> "Subscription":
        """Call ``callback`` with each frame, and each error in place of one, in a thread of its own.

        Args:
            callback: Takes a :class:`Frame` or a :class:`ServomexError`. Its exceptions are logged and counted.
            rate_hz: Readings per second over Modbus, up to 1000; 1 when omitted. In continuous mode the analyser
                sets it.
            buffer_size: How many frames may wait, 1 to 1,000,000; then the oldest are dropped and counted.

        Raises:
            ServomexConfigurationError: There is a rate, and an analyser in continuous mode.
            ServomexValidationError: A number is out of range, or the callback is not callable.
        """
        from servomex.recording.subscription import Subscription, frames_of

        self.check_process()
        if not callable(callback):
            raise ServomexValidationError(
                f"callback must be callable, not {callback!r}", cure="Pass the function itself, uncalled"
            )
        return Subscription(frames_of(self, self.mode.pace_hz(rate_hz), buffer_size), callback, self.name).start()

    def loopback(self, payload: bytes, *, timeout: float | None = None) -> bytes:
        """Send two bytes to the analyser and return what it sends back (FC08, sub-function 00).

        On a line that echoes, a read is sent first, so that the echo is not taken for the reply.

        Raises:
            ServomexValidationError: ``payload`` is not two bytes.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
        """
        client = self.mode.sender()
        if not isinstance(payload, bytes) or len(payload) != 2:
            raise ServomexValidationError(f"the payload of a loopback is 2 bytes, not {payload!r}")
        deadline = self._deadline(timeout)
        with self._abilities.shown_by(Capability.LOOPBACK):
            return client.loopback(payload, deadline)

    def start_calibration(
        self, group: int, *, confirm: bool = False, verify: bool = True, timeout: float | None = None
    ) -> "CalibrationProgress":
        """Start the autocalibration of a group. It moves calibration gas and takes the group off sample.

        The start coil is brought to 0 if it was left at 1, set to 1, read back, and set back to 0 whatever
        happens. With ``verify`` the group's state is then watched until it shows that the calibration runs: this
        decides, whatever the coil reads back.

        Args:
            group: 1 to 4.
            confirm: Must be ``True``.
            verify: Watch until the calibration runs. Otherwise the result shows the group's state just afterwards.
            timeout: Seconds; 10 s longer than that of a reading when ``None``.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
            ServomexCalibrationError: It did not start, another one is running or starting, or the outcome is
                unknown; see its ``running``.
        """
        from servomex.calibration.procedure import start

        client = self._confirmed("start_calibration", confirm, _STARTING)
        group = whole(group, "group", 1, CAL_GROUPS)
        flag(verify, "verify")
        deadline = self._slow_deadline(timeout)
        client.recognise(deadline)
        with self._abilities.shown_by(Capability.AUTOCAL if verify else _NOTHING):
            return start(client, group, deadline, verify=verify)

    def stop_calibration(self, *, confirm: bool = False, timeout: float | None = None) -> tuple[int, ...]:
        """Stop all autocalibrations, however they were started, and watch until every group is on sample.

        Start coils that were left at 1, as by a program that was killed, are then set back to 0. ``confirm`` and
        ``timeout`` are as for :meth:`start_calibration`.

        Returns:
            The groups whose start coil had been left at 1.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
            ServomexCalibrationError: A group is still on calibration gas, its state is unknown, or a coil stays at
                1; see its ``running``.
        """
        from servomex.calibration.stop import stop

        client = self._confirmed("stop_calibration", confirm, _STOPPING)
        deadline = self._slow_deadline(timeout)
        client.recognise(deadline)
        with self._abilities.shown_by(_NOTHING):  # stopping succeeds even if nothing runs
            return stop(client, deadline)

    def calibration_status(self, group: int = 1, *, timeout: float | None = None) -> "CalibrationProgress":
        """Read a group's state: on sample, or on calibration gas 1 or 2; in continuous mode from the broadcast.

        In the Modbus modes the group's start coil is read as well. A group that is on sample is ``SAMPLING`` while
        a calibration started through this port is running: until it was seen on sample twice, 10 s or
        ``settle`` apart, with no calibration gas in between. If a calibration was started otherwise, at the panel
        or by another program, sample between its gases looks like its end: ``IDLE``.

        Args:
            group: 1 to 4.
            timeout: Seconds.

        Raises:
            ServomexValidationError: The group is not 1 to 4.
        """
        group = whole(group, "group", 1, CAL_GROUPS)
        deadline = self._deadline(timeout)
        with self._abilities.shown_by(Capability.READ_STATUS):
            return self.mode.read_calibration(group, deadline)

    def calibrate(
        self,
        group: int,
        *,
        confirm: bool = False,
        timeout: float,
        settle: float | None = None,
        on_progress: "OnProgress | None" = None,
    ) -> "CalibrationReport":
        """Start the autocalibration of a group, watch it to its end, and report.

        If an interrupt, the timeout or an exception in ``on_progress`` ends it early, it is stopped first; the
        error, or a note on it, says whether that succeeded. Failed readings do not end it.

        Args:
            group: 1 to 4.
            confirm: Must be ``True``.
            timeout: Seconds that the whole may take. Stopping then takes up to 10 s plus one reading, and
                as long again if the calibration begins only then.
            settle: Seconds for which the group must be on sample before the calibration counts as ended, less than
                ``timeout``; 10 when ``None``. A group may show sample for a while between its gases.
            on_progress: Called in this thread about once a second with a :class:`CalibrationProgress`.

        Raises:
            ServomexConfirmationRequiredError: ``confirm`` is not ``True``.
            ServomexProtocolUnsupportedError: The analyser is in continuous mode.
            ServomexCalibrationError: It did not start, did not end in time, or its outcome is unknown; see its
                ``running``.
        """
        from servomex.calibration.procedure import SETTLE_S, Calibration

        client = self._confirmed("calibrate", confirm, _STARTING)
        group = whole(group, "group", 1, CAL_GROUPS)
        limit_s = seconds(timeout, "timeout")
        settle_s = SETTLE_S if settle is None else seconds(settle, "settle", zero=True)
        if settle is not None and settle_s >= limit_s:
            raise ServomexValidationError(f"settle must be shorter than timeout, {limit_s:g} s, not {settle_s:g}")
        if on_progress is not None and not callable(on_progress):
            raise ServomexValidationError(f"on_progress must be callable, not {on_progress!r}")
        client.recognise(self._deadline(limit_s))
        with self._abilities.shown_by(Capability.AUTOCAL):
            return Calibration(client, group, limit_s, settle_s, on_progress).run()

    @property
    def _newest(self) -> Frame | None:
        return self._last if self.mode.latest is None else self.mode.latest

    def _needed(self, frame: Frame, asked: ChannelId | str) -> Reading:
        return needed(frame.readings, asked, self._context(), self.mode.selected)

    def _confirmed(self, operation: str, confirm: bool, why: str) -> "ModbusClient":
        check_confirmed(operation, confirm, why, self._context())
        return self.mode.sender()

    def _slow_deadline(self, timeout: float | None) -> float:
        """Return the deadline for a state that the analyser may be slow to show."""
        from servomex.calibration.stop import WATCH_S

        self.check_process()
        return self._deadline(self.timeout_s + WATCH_S if timeout is None else timeout)


def _channels_of(frame: Frame) -> tuple[ChannelInfo, ...]:
    return tuple(ChannelInfo(ChannelId(item.channel), item.name, item.unit, item.unit_text) for item in frame)
