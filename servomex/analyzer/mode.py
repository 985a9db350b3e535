"""Mode: how an analyser is read in its communication mode, and what it can be asked there."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Protocol

from servomex.calibration import procedure
from servomex.calibration.report import CalibrationProgress, progress_of
from servomex.continuous.intake import FRESH_S, PERIODS_FRESH
from servomex.continuous.reader import ContinuousReader
from servomex.enums import Capability, ChannelId, ProtocolKind
from servomex.errors import ErrorContext, ServomexProtocolUnsupportedError
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.naming import needed
from servomex.models.reading import ChannelStatus, Reading
from servomex.recording.acquisition import USUAL_HZ

if TYPE_CHECKING:
    from servomex.modbus.client import ModbusClient

VALUES = Capability.READ_CHANNELS | Capability.READ_STATUS
READING = VALUES | Capability.IDENTIFY


class Mode(Protocol):
    """What an :class:`Analyzer` needs of a communication mode.

    Every ``deadline`` is on ``time.monotonic()`` and is one for the whole call. The reading methods raise what
    :class:`ContinuousReader` and :class:`ModbusClient` raise.
    """

    @property
    def protocol(self) -> ProtocolKind:
        """The communication mode; never ``AUTO``."""

    @property
    def address(self) -> int | None:
        """Modbus slave address; ``None`` in continuous mode."""

    @property
    def selected(self) -> frozenset[ChannelId] | None:
        """Channels that are read; ``None`` for all."""

    @property
    def capabilities(self) -> Capability:
        """What can be done."""

    @property
    def patience_s(self) -> float:
        """Seconds that one call takes at most unless it is given another deadline."""

    @property
    def period_s(self) -> float | None:
        """Seconds between broadcasts as observed; ``None`` when that is not known."""

    @property
    def latest(self) -> Frame | None:
        """The newest broadcast frame; ``None`` when there is none."""

    @property
    def dropped_frames(self) -> int:
        """How many broadcasts or replies were refused."""

    def fresh_for_s(self, rate_hz: float | None, timeout_s: float) -> float:
        """Return the age in seconds from which a frame is not current any more.

        Args:
            rate_hz: How often a program reads per second; :data:`USUAL_HZ` when ``None``.
            timeout_s: Seconds that each reading may take.
        """

    def reading(self, *, max_age: float | None, wait_fresh: bool) -> Callable[[float], Frame]:
        """Return what reads all channels until a deadline. It is not called here: one frame less on its way.

        Args:
            max_age: Seconds that the frame may be old; what is usual when ``None``.
            wait_fresh: Whether the frame must have been sent after the call.
        """

    def look_at_all_channels(self) -> None:
        """Make the next frame show every channel, also those that were not populated so far."""

    def read_channel(self, channel: ChannelId, deadline: float) -> Reading:
        """Read one channel and its state.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated.
        """

    def read_status(self, channel: ChannelId, deadline: float) -> ChannelStatus:
        """Read one channel's state.

        Raises:
            ServomexChannelNotFoundError: The channel is not populated.
        """

    def read_analyser(self, deadline: float) -> AnalyserStatus:
        """Read the analyser's state."""

    def read_calibration(self, group: int, deadline: float) -> CalibrationProgress:
        """Read what a calibration group is on."""

    def sender(self) -> "ModbusClient":
        """Return what sends to the analyser.

        Raises:
            ServomexProtocolUnsupportedError: Nothing can be sent in this mode.
        """

    def stop(self) -> None:
        """End what runs in the background.

        Raises:
            ServomexError: It did not end.
        """


class ContinuousMode:
    """An analyser that broadcasts: everything is taken from its newest frame, and nothing can be sent.

    Args:
        reader: What receives the broadcasts.
    """

    protocol = ProtocolKind.CONTINUOUS_ASCII
    address = None
    capabilities = READING

    def __init__(self, reader: ContinuousReader) -> None:
        self._reader = reader

    @property
    def selected(self) -> frozenset[ChannelId] | None:
        """Channels that are kept; ``None`` for all."""
        return self._reader.selected

    @property
    def patience_s(self) -> float:
        """0.5 s and one and a half periods, but at least 1 s; 10 s before a period is known."""
        return FRESH_S if self.period_s is None else max(1.0, 0.5 + 1.5 * self.period_s)

    @property
    def period_s(self) -> float | None:
        """Seconds between broadcasts as observed; ``None`` before the second."""
        return self._reader.period_s

    @property
    def latest(self) -> Frame | None:
        """The newest frame, however old it is."""
        return self._reader.latest

    @property
    def dropped_frames(self) -> int:
        """Broadcasts that were refused."""
        return self._reader.dropped_frames

    def fresh_for_s(self, rate_hz: float | None, timeout_s: float) -> float:  # noqa: ARG002 (the analyser sets the pace)
        """Return the age in seconds from which a frame is not current: the analyser sets the pace."""
        return self._reader.fresh_s

    def reading(self, *, max_age: float | None, wait_fresh: bool) -> Callable[[float], Frame]:
        """Return what waits for a frame that is young enough."""
        return functools.partial(self._reader.read_frame, max_age=max_age, wait_fresh=wait_fresh)

    def look_at_all_channels(self) -> None:
        """Do nothing: every broadcast shows all channels."""

    def read_channel(self, channel: ChannelId, deadline: float) -> Reading:
        """Return one channel of the newest frame."""
        frame = self._reader.read_frame(deadline)
        context = ErrorContext(self._reader.link.port, self.protocol)
        return needed(frame.readings, channel, context, self.selected)

    def read_status(self, channel: ChannelId, deadline: float) -> ChannelStatus:
        """Return one channel's state in the newest frame."""
        return self.read_channel(channel, deadline).status

    def read_analyser(self, deadline: float) -> AnalyserStatus:
        """Return the analyser's state in the newest frame."""
        return self._reader.read_frame(deadline).analyser

    def read_calibration(self, group: int, deadline: float) -> CalibrationProgress:
        """Return what a group is on by the newest frame."""
        frame = self._reader.read_frame(deadline)
        return progress_of(frame.analyser, group, frame.received_at, frame=frame)

    def sender(self) -> NoReturn:
        """Refuse: an analyser in continuous mode does not listen.

        Raises:
            ServomexProtocolUnsupportedError: Always.
        """
        raise ServomexProtocolUnsupportedError(
            "nothing can be sent to an analyser in continuous mode",
            ErrorContext(self._reader.link.port, self.protocol),
            cure="Set it to Modbus on its panel",
        )

    def stop(self) -> None:
        """End the thread that receives."""
        self._reader.stop()


class ModbusMode:
    """An analyser that answers: everything is read when it is asked for.

    Args:
        client: What asks.
    """

    capabilities: Capability = READING | Capability.LOOPBACK | Capability.AUTOCAL
    period_s = None
    latest = None

    def __init__(self, client: "ModbusClient") -> None:
        self._client = client
        self.protocol: ProtocolKind = client.protocol
        self.address: int = client.address

    @property
    def selected(self) -> frozenset[ChannelId] | None:
        """Channels that are read; ``None`` for all."""
        return self._client.selected

    @property
    def patience_s(self) -> float:
        """1 s and twice the time that a sweep takes."""
        return self._client.patience_s

    @property
    def dropped_frames(self) -> int:
        """Replies that were refused as damaged or late."""
        return self._client.exchange.damaged_replies + self._client.exchange.late_replies

    def fresh_for_s(self, rate_hz: float | None, timeout_s: float) -> float:
        """Return the age in seconds from which a frame is not current: 2.5 times the pace, and one reading."""
        return PERIODS_FRESH / (USUAL_HZ if rate_hz is None else rate_hz) + timeout_s

    def reading(self, *, max_age: float | None, wait_fresh: bool) -> Callable[[float], Frame]:  # noqa: ARG002 (it is always younger)
        """Return what reads all channels: a frame that is read is never older than the call."""
        return self._client.read_frame

    def look_at_all_channels(self) -> None:
        """Make the next sweep read every block."""
        self._client.look_at_all_channels()

    def read_channel(self, channel: ChannelId, deadline: float) -> Reading:
        """Read one channel and its state."""
        return self._client.read_channel(channel, deadline)

    def read_status(self, channel: ChannelId, deadline: float) -> ChannelStatus:
        """Read one channel's state."""
        return self._client.read_status(channel, deadline)

    def read_analyser(self, deadline: float) -> AnalyserStatus:
        """Read the analyser's state, once it is known to be of the series."""
        self._client.recognise(deadline)
        return self._client.read_analyser(deadline)

    def read_calibration(self, group: int, deadline: float) -> CalibrationProgress:
        """Read what a group is on, and its start coil."""
        self._client.recognise(deadline)
        return procedure.look(self._client, group, deadline)

    def sender(self) -> "ModbusClient":
        """Return the client."""
        return self._client

    def stop(self) -> None:
        """Do nothing: nothing runs in the background."""


def mode_of(source: "ContinuousReader | ModbusClient") -> Mode:
    """Return the communication mode of what receives from an analyser."""
    return ContinuousMode(source) if isinstance(source, ContinuousReader) else ModbusMode(source)
