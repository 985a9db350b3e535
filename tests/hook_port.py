"""A port whose far end is a function of the test."""

from collections.abc import Callable

from servomex.simulator import VirtualAnalyzer
from servomex.simulator.slave import ModbusSlave
from servomex.testing import ScriptedPort


class HookPort(ScriptedPort):
    """A port whose far end is a function: it is called with what was written and says what arrives, and when."""

    def __init__(self, answer: Callable[["HookPort", bytes], None]) -> None:
        super().__init__()
        self._answer = answer

    def at(self, delay: float, data: bytes) -> None:
        self.emit(data, every=delay)

    def write(self, data: bytes) -> int:
        self.written.append(data)
        self._answer(self, data)
        return len(data)


def answering(analyser: VirtualAnalyzer) -> Callable[[bytes], bytes]:
    slave = ModbusSlave(analyser)
    return lambda request: slave.answer(request)[1]
