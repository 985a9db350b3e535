"""ContinuousMode: an analyser that broadcasts on its own."""

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NoReturn

from servomex.analyzer.abilities import READING
from servomex.continuous.intake import FRESH_S
from servomex.continuous.reader import ContinuousReader
from servomex.enums import ChannelId, ProtocolKind, StreamMode
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexChannelError,
    ServomexChannelNotFoundError,
    ServomexConfigurationError,
    ServomexError,
    ServomexProtocolUnsupportedError,
)
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.naming import needed
from servomex.models.reading import ChannelStatus, Reading
from servomex.runtime.clock import time

if TYPE_CHECKING:
    from servomex.calibration.report import CalibrationProgress


class ContinuousMode:
    """An analyser that broadcasts: all values are taken from its newest frame, and nothing can be sent.

    Args:
        reader: The receiver of the broadcasts.
    """

    protocol = ProtocolKind.CONTINUOUS_ASCII
    address = None
    broadcasts = True
    capabilities = READING
    stream_mode = StreamMode.AUTOPRINT

    def __init__(self, reader: ContinuousReader) -> None:
        self._reader = reader

    @property
    def selected(self) -> frozenset[ChannelId] | None:
        """Channels that are kept; ``None`` for all."""
        return self._reader.selected

    @property
    def patience_s(self) -> float:
        """0.5 s plus one and a half periods, but at least 1 s; 10 s before a period is known."""
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
        """Return the age in seconds at which a frame is no longer current: the analyser sets the pace."""
        return self._reader.fresh_s

    def pace_hz(self, rate_hz: float | None) -> None:
        """Return ``None``: the analyser sets the pace.

        Raises:
            ServomexConfigurationError: There is a rate.
        """
        if rate_hz is not None:
            given = Argument("rate_hz")
            raise ServomexConfigurationError(
                "an analyser in continuous mode sets the rate itself, on its panel",
                ErrorContext(self._reader.link.port, self.protocol),
                cure=f"Omit {given}",
                argument=given,
            )

    def opening_s(self, timeout_s: float, listen_s: float) -> float:  # noqa: ARG002 (its first broadcast may take longer)
        """Return the seconds to wait for the first broadcast."""
        return listen_s

    def explained(self, error: ServomexError) -> ServomexError:
        """Return the error as one of opening: nothing more can be found out by listening."""
        if isinstance(error, ServomexChannelError):
            return ServomexChannelNotFoundError(error.message, error.context, cure=error.cure)
        return error

    def reading(self, *, max_age: float | None, wait_fresh: bool) -> Callable[[float], Frame]:
        """Return the function that waits for a recent enough frame."""
        return functools.partial(self._reader.read_frame, max_age=max_age, wait_fresh=wait_fresh)

    def turn(self, deadline: float) -> AbstractContextManager[None]:  # noqa: ARG002 (nothing is sent)
        """Do nothing: its thread keeps the port."""
        return contextlib.nullcontext()

    def reply_s(self, wait_s: float) -> float:
        """Return ``wait_s``: there are no replies."""
        return wait_s

    def get_first_answer(self, wait_s: float) -> None:
        """Do nothing: its thread listens."""

    def look_again(self, ask_s: float, look_s: float) -> None:  # noqa: ARG002 (nothing is asked)
        """Wait for a broadcast."""
        self._reader.read_frame(time.monotonic() + look_s)

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

    def read_calibration(self, group: int, deadline: float) -> "CalibrationProgress":
        """Return the state of a group in the newest frame."""
        from servomex.calibration.report import progress_of

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
