"""The computer's clock as the driver sees it, which a campaign sets forward and back."""

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from unittest import mock

from servomex.analyzer import detect
from servomex.continuous import reader as continuous
from servomex.manager import rounds
from servomex.modbus import client as modbus
from servomex.recording import recording


class HostClock:
    """How far the clock of the computer is off, and when it was set."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self._jumps: list[float] = []
        self._lock = threading.Lock()

    def jump(self, by_s: float) -> None:
        """Set it."""
        with self._lock:
            self._jumps.append(time.monotonic())
            self.offset_s += by_s

    def jumped_since(self, at: float) -> bool:
        """Whether it was set after this moment of the monotonic clock."""
        return bool(self._jumps) and self._jumps[-1] >= at

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let the driver see it."""
        self.offset_s = 0.0
        with contextlib.ExitStack() as undo:
            for module in (continuous, detect, modbus, recording, rounds):
                undo.enter_context(mock.patch.object(module, "datetime", _Shifted))
            yield


HOST_CLOCK = HostClock()


class _Shifted(datetime):
    """Stands in for ``datetime`` in the driver's modules."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=HOST_CLOCK.offset_s)
