"""Broadcasts in virtual time: what an analyser sends, and what an intake makes of it when it comes."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import attrs

from servomex.continuous.intake import Intake
from servomex.errors import ServomexError
from servomex.models.frame import Frame
from servomex.telegram import parse_frame
from tests.helpers.frames import EXTERNALS, block, make

BEGUN = datetime(2026, 3, 1, 8, tzinfo=UTC)
UNSET = b"00-00-00;00:00:00"


@attrs.define
class Sender:
    """An analyser that broadcasts: each value is the second at which it was measured.

    Attributes:
        name: The name of its channel.
        ahead_s: How far its clock is ahead.
        clock: What it shows in place of the time; ``None`` for its clock.
        adds: What its values are above the second; it tells which of several analysers a frame is of.
    """

    name: bytes = b"Oxygen"
    ahead_s: float = 0.0
    clock: bytes | None = None
    adds: float = 0.0

    def at(self, second: float) -> bytes:
        """The broadcast of a second."""
        shown = BEGUN + timedelta(seconds=int(second + self.ahead_s))
        clock = f"{shown:%d-%m-%y;%H:%M:%S}".encode() if self.clock is None else self.clock
        return make(block(name=self.name, value=b"%6.1f" % (self.adds + second % 1000)), *EXTERNALS, clock=clock)


class Line:
    """What comes of broadcasts, in virtual time."""

    def __init__(self) -> None:
        self.intake = Intake("line")
        self.results: list[Frame | ServomexError] = []
        self.now = 0.0

    def come(self, at: float, *messages: bytes) -> list[Frame | ServomexError]:
        """Let broadcasts arrive at one moment, and the line be silent then."""
        for raw in messages:
            stamp = BEGUN + timedelta(seconds=at)
            self.intake.add(parse_frame(raw, received_at=stamp, monotonic_ns=round(at * 1e9)), at)
        self.now = at
        given = self.intake.release()
        self.results += given
        return given

    def regular(self, sender: Sender, seconds: Iterable[float]) -> list[Frame | ServomexError]:
        """Let broadcasts come when they are sent."""
        return [item for second in seconds for item in self.come(second, sender.at(second))]

    @property
    def frames(self) -> list[Frame]:
        """The frames that were believed."""
        return [item for item in self.results if isinstance(item, Frame)]

    @property
    def errors(self) -> list[ServomexError]:
        """What took the place of others."""
        return [item for item in self.results if not isinstance(item, Frame)]


def measured(frame: Frame) -> float:
    """The second at which a frame was sent."""
    value = frame["I1"].value
    assert value is not None
    return value


def looks(frame: Frame) -> float:
    """The second at which a frame says that it came."""
    return frame.monotonic_ns / 1e9
