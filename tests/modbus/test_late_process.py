"""A process that stood still in mid-call: what it finds then was true once, and is not given as new."""

import time
from collections.abc import Callable

import pytest

from servomex import Analyzer, ServomexTimeoutError, open_device
from servomex.registers import Span
from servomex.simulator import VirtualAnalyzer
from tests.helpers.hook_port import HookPort, answering

pytestmark = pytest.mark.virtual_time

STOOD_S = 3.0


def coils(analyzer: Analyzer, timeout: float) -> object:
    assert analyzer.client is not None
    return analyzer.client.read_coils(Span(0, 4), time.monotonic() + timeout)


def analyser_state(analyzer: Analyzer, timeout: float) -> object:
    assert analyzer.client is not None
    return analyzer.client.read_analyser(time.monotonic() + timeout)


CALLS: dict[str, Callable[[Analyzer, float], object]] = {
    "poll": lambda analyzer, timeout: analyzer.poll(timeout=timeout),
    "read_channel": lambda analyzer, timeout: analyzer.read_channel("I1", timeout=timeout),
    "status": lambda analyzer, timeout: analyzer.status("I1", timeout=timeout),
    "the analyser's state": analyser_state,
    "coils": coils,
}


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
@pytest.mark.parametrize("call", CALLS)
def test_a_reply_that_waited_until_long_after_the_deadline_is_refused(call: str, mode: str) -> None:
    answer = answering(VirtualAnalyzer(mode=mode))
    stands = False

    def end(port: HookPort, data: bytes) -> None:
        port.at(0.01, answer(data))
        if stands and (data[3:5] if data[:1] == b":" else data[1:2].hex().encode()) in (b"01", b"02"):
            time.sleep(STOOD_S)

    with open_device(HookPort(end), protocol=mode) as analyzer:
        CALLS[call](analyzer, 1.0)
        stands = True
        with pytest.raises(ServomexTimeoutError):
            CALLS[call](analyzer, 1.0)
        stands = False
        CALLS[call](analyzer, 1.0)
