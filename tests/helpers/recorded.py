"""What the tests of recordings share: a source that does what it is told, and samples."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from servomex.enums import ProtocolKind
from servomex.models.sample import Sample
from servomex.telegram import parse_frame
from tests.helpers.frames import REAL


def sample(number: int, device: str = "own") -> Sample:
    """A sample with a reading, that is known by its time."""
    frame = parse_frame(REAL, received_at=datetime.now(UTC), monotonic_ns=number)
    return frame.as_samples(device=device)[0]


class OwnSource:
    """A source of the user's own: each reading is numbered, takes a while, and may fail."""

    name = "own"
    protocol = ProtocolKind.MODBUS_RTU

    def __init__(self, takes_s: float = 0.0, act: Callable[[int], None] = lambda _number: None) -> None:
        self.readings = 0
        self.began: list[float] = []
        self._takes_s = takes_s
        self._act = act

    def poll_samples(self, *, names: Sequence[str] | None = None, timeout: float | None = None) -> list[Sample]:
        self.began.append(time.monotonic())
        self.readings += 1
        time.sleep(self._takes_s)
        self._act(self.readings)
        return [sample(self.readings)]
