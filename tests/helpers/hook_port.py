"""A port whose far end is a function of the test."""

from collections.abc import Callable

from servomex.simulator import VirtualAnalyzer
from servomex.simulator.slave import ModbusSlave
from servomex.testing import FakeTransport


class HookPort(FakeTransport):
    """A port whose far end is a function: it is called with what was written and says what arrives, and when."""

    def __init__(self, hook: Callable[["HookPort", bytes], None]) -> None:
        def silent(request: bytes) -> bytes:
            hook(self, request)
            return b""

        super().__init__(silent)

    def at(self, delay: float, data: bytes) -> None:
        self.schedule([data], interval=delay)


def answering(analyser: VirtualAnalyzer) -> Callable[[bytes], bytes]:
    slave = ModbusSlave(analyser)
    return lambda request: slave.answer(request)[1]
