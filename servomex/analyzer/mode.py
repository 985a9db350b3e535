"""Mode: how an analyser is read in its communication mode, and what can be asked of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from servomex.enums import Capability, ChannelId, ProtocolKind, StreamMode
from servomex.errors import ServomexError
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus, Reading

if TYPE_CHECKING:
    from servomex.calibration.report import CalibrationProgress
    from servomex.modbus.client import ModbusClient


class Mode(Protocol):
    """What an :class:`Analyzer` needs of a communication mode.

    Every ``deadline`` is on ``time.monotonic()`` and covers the whole call. The reading methods raise what
    :class:`ContinuousReader` and :class:`ModbusClient` raise.
    """

    @property
    def protocol(self) -> ProtocolKind:
        """The communication mode; never ``AUTO``."""

    @property
    def address(self) -> int | None:
        """Modbus slave address; ``None`` in continuous mode."""

    @property
    def broadcasts(self) -> bool:
        """Whether the analyser sends on its own, so that listening costs the line no time."""

    @property
    def stream_mode(self) -> StreamMode:
        """How its readings are taken as they arrive."""

    @property
    def selected(self) -> frozenset[ChannelId] | None:
        """Channels that are read; ``None`` for all."""

    @property
    def capabilities(self) -> Capability:
        """The capabilities of the mode."""

    @property
    def patience_s(self) -> float:
        """Seconds that one call may take unless it is given another deadline."""

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
        """Return the age in seconds at which a frame is no longer current.

        Args:
            rate_hz: How often a program reads per second; once when ``None``.
            timeout_s: Seconds that each reading may take.
        """

    def pace_hz(self, rate_hz: float | None) -> float | None:
        """Return how often per second the analyser is read for a program that takes readings as they arrive.

        Args:
            rate_hz: How often the program wants to read; what is usual when ``None``.

        Returns:
            ``None`` for each broadcast.

        Raises:
            ServomexConfigurationError: There is a rate, and the analyser sets its own.
            ServomexValidationError: The rate is out of range.
        """

    def opening_s(self, timeout_s: float, listen_s: float) -> float:
        """Return the seconds that the first reading may take.

        Args:
            timeout_s: Seconds that a call takes at most.
            listen_s: Seconds to wait for the first broadcast.
        """

    def explained(self, error: ServomexError) -> ServomexError:
        """Return the error of a first reading, with what the analyser or its line now shows of the cause."""

    def reading(self, *, max_age: float | None, wait_fresh: bool) -> Callable[[float], Frame]:
        """Return the function that reads all channels until a deadline. The caller calls it: one stack frame less.

        Args:
            max_age: The age in seconds that the frame may have; the default when ``None``.
            wait_fresh: Whether the frame must have been sent after the call.
        """

    def turn(self, deadline: float) -> AbstractContextManager[object]:
        """Take the port for a reading, where others may keep it busy.

        Raises:
            ServomexTimeoutError: Others kept it until the deadline.
        """

    def reply_s(self, wait_s: float) -> float:
        """Return how long a reply on this line may take to begin: ``wait_s``, or longer where it was slower."""

    def get_first_answer(self, wait_s: float) -> None:
        """Ask an analyser that was never heard once, without repeating the question.

        Args:
            wait_s: How long the reply may take to begin.

        Raises:
            ServomexError: It did not answer.
        """

    def look_again(self, ask_s: float, look_s: float) -> None:
        """Look for a sign of an analyser that fell silent.

        Args:
            ask_s: Seconds that a question may take; longer where the line needs more.
            look_s: Seconds to wait for a broadcast.

        Raises:
            ServomexError: There is none.
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

    def read_calibration(self, group: int, deadline: float) -> "CalibrationProgress":
        """Read the state of a calibration group."""

    def sender(self) -> "ModbusClient":
        """Return the client that sends to the analyser.

        Raises:
            ServomexProtocolUnsupportedError: Nothing can be sent in this mode.
        """

    def stop(self) -> None:
        """End the background thread, if there is one.

        Raises:
            ServomexError: It did not end.
        """
