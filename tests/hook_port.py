"""A port whose far end is a function of the test."""

import threading
import time
from collections.abc import Callable

from servomex.simulator import VirtualAnalyzer
from servomex.simulator.slave import ModbusSlave


class HookPort:
    """A port whose far end is a function: it is called with what was written and says what arrives, and when."""

    def __init__(self, answer: Callable[["HookPort", bytes], None]) -> None:
        self.port = "hook"
        self.timeout: float | None = 0.05
        self.written: list[bytes] = []
        self._answer = answer
        self._coming: list[tuple[float, bytes]] = []

    def at(self, delay: float, data: bytes) -> None:
        self._coming.append((time.monotonic() + delay, data))
        self._coming.sort(key=lambda item: item[0])

    def write(self, data: bytes) -> int:
        self.written.append(data)
        self._answer(self, data)
        return len(data)

    @property
    def in_waiting(self) -> int:
        now = time.monotonic()
        return sum(len(data) for due, data in self._coming if due <= now)

    def read(self, size: int = 1) -> bytes:
        deadline = time.monotonic() + (self.timeout or 0)
        while not self.in_waiting and time.monotonic() < deadline:
            threading.Event().wait(0.0005)
        taken = b""
        while len(taken) < size and self._coming and self._coming[0][0] <= time.monotonic():
            due, data = self._coming.pop(0)
            count = size - len(taken)
            taken += data[:count]
            if data[count:]:
                self._coming.insert(0, (due, data[count:]))
        return taken

    def reset_input_buffer(self) -> None:
        self._coming.clear()


def answering(analyser: VirtualAnalyzer) -> Callable[[bytes], bytes]:
    slave = ModbusSlave(analyser)
    return lambda request: slave.answer(request)[1]
