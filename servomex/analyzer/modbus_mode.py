"""ModbusMode: an analyser that answers what it is asked."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from servomex.analyzer.abilities import READING
from servomex.continuous.cadence import PERIODS_FRESH
from servomex.enums import Capability, ChannelId, ProtocolKind, StreamMode
from servomex.errors import (
    ServomexChannelError,
    ServomexChannelNotFoundError,
    ServomexError,
    ServomexModbusError,
    ServomexTimeoutError,
)
from servomex.errors.validation import rate
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.naming import listed
from servomex.models.reading import ChannelStatus, Reading
from servomex.runtime.clock import time

if TYPE_CHECKING:
    from servomex.calibration.report import CalibrationProgress
    from servomex.modbus.client import ModbusClient
    from servomex.modbus.exchange import Exchange

USUAL_HZ = 1.0
"""How often an analyser is read where no rate is given."""
OPENING_S = 5.0
"""The first sweep may take this long, whatever the timeout: it also proves the line and measures its speed."""
ANSWER_S = 2.0
"""How long a first answer may take: the silence before it, a fence, and replies on a slow line."""
SIGN_REQUESTS = 3
"""The question at its longest: a read that shows whether the line echoes, the fence, and the state."""


class ModbusMode:
    """An analyser that answers: every value is read on request.

    Args:
        client: The Modbus client.
    """

    broadcasts = False
    capabilities: Capability = READING | Capability.LOOPBACK | Capability.AUTOCAL
    stream_mode = StreamMode.POLL
    period_s = None
    latest = None

    def __init__(self, client: "ModbusClient") -> None:
        self._client = client
        self.protocol: ProtocolKind = client.protocol
        self.address: int = client.address
        self._asking: Exchange | None = None

    @property
    def selected(self) -> frozenset[ChannelId] | None:
        """Channels that are read; ``None`` for all."""
        return self._client.selected

    @property
    def patience_s(self) -> float:
        """1 s plus twice the time that a sweep takes."""
        return self._client.patience_s

    @property
    def dropped_frames(self) -> int:
        """Replies that were refused as damaged or late."""
        return self._client.exchange.damaged_replies + self._client.exchange.late_replies

    def fresh_for_s(self, rate_hz: float | None, timeout_s: float) -> float:
        """Return the age in seconds at which a frame is no longer current: 2.5 intervals plus one reading."""
        return PERIODS_FRESH / (USUAL_HZ if rate_hz is None else rate_hz) + timeout_s

    def pace_hz(self, rate_hz: float | None) -> float:
        """Return the rate; once a second when it is ``None``."""
        return rate(USUAL_HZ if rate_hz is None else rate_hz)

    def opening_s(self, timeout_s: float, listen_s: float) -> float:  # noqa: ARG002 (it is asked)
        """Return how long the first sweep may take."""
        return max(timeout_s, OPENING_S)

    def explained(self, error: ServomexError) -> ServomexError:
        """Return the error with the channels that the analyser has, or that its line needs Modbus TCP."""
        if isinstance(error, ServomexChannelError):
            message = f"{error.message}{self._channels_there()}"
            return ServomexChannelNotFoundError(message, error.context, cure=error.cure)
        from servomex.analyzer.detect import answers_modbus_tcp
        from servomex.traffic.symptoms import MODBUS_TCP

        if answers_modbus_tcp(self._client.link, self.address):
            return ServomexTimeoutError(MODBUS_TCP.seen, error.context, cure=MODBUS_TCP.cure)
        return error

    def _channels_there(self) -> str:
        """Name the channels that the analyser has, whichever were selected; empty when reading them fails."""
        with contextlib.suppress(ServomexError):
            unselected = type(self._client)(self._client.link, self.address, self.protocol)
            return f"; this analyser has {listed(unselected.read_frame(time.monotonic() + OPENING_S))}"
        return ""

    def reading(self, *, max_age: float | None, wait_fresh: bool) -> Callable[[float], Frame]:  # noqa: ARG002 (it is always younger)
        """Return the function that reads all channels: such a frame is never older than the call."""
        return self._client.read_frame

    def turn(self, deadline: float) -> AbstractContextManager[object]:
        """Take the port: that others keep it busy says nothing about the analyser."""
        return self._client.link.lock_held(deadline)

    def reply_s(self, wait_s: float) -> float:
        """Return ``wait_s``, or longer where its replies were slower."""
        return self._client.exchange.pace.patient_s(wait_s)

    def get_first_answer(self, wait_s: float) -> None:
        """Ask, unless the line has shown that it answers. A refusal is an answer."""
        if self.address in self._client.line.proven:
            return
        from servomex.modbus.exchange import Exchange
        from servomex.modbus.presence import await_answer

        if self._asking is None:  # one of its own: that of the client would repeat the question
            self._asking = Exchange(self._client.link, self.address, self.protocol, retries=0)
        deadline = time.monotonic() + ANSWER_S
        wait_s = self._asking.pace.patient_s(wait_s)
        with self._client.link.conversation(deadline):
            await_answer(self._asking, deadline, wait_s)

    def look_again(self, ask_s: float, look_s: float) -> None:  # noqa: ARG002 (it is asked)
        """Ask for its state. A refusal is an answer."""
        from servomex.modbus.client import state_s

        slow_s = state_s(self._client, SIGN_REQUESTS, self._client.exchange.pace.slowest_s)
        with contextlib.suppress(ServomexModbusError):
            self._client.read_analyser(time.monotonic() + max(ask_s, slow_s))

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
        """Read the analyser's state, once it is known to belong to the series."""
        self._client.recognise(deadline)
        return self._client.read_analyser(deadline)

    def read_calibration(self, group: int, deadline: float) -> "CalibrationProgress":
        """Read the state of a group, and its start coil."""
        from servomex.calibration.procedure import look

        self._client.recognise(deadline)
        return look(self._client, group, deadline)

    def sender(self) -> "ModbusClient":
        """Return the client."""
        return self._client

    def stop(self) -> None:
        """Do nothing: nothing runs in the background."""
