"""How many requests are lost: each is sent once, and counted with what became of it."""

import collections
import itertools
import time

import pytest

from servomex.checkup import losses
from servomex.checkup.tally import Tally
from servomex.enums import ProtocolKind
from servomex.errors import ServomexTimeoutError
from servomex.modbus.client import ModbusClient
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing
from servomex.port import connect as ports
from servomex.port.link import SerialLink
from servomex.simulator import VirtualAnalyzer, VirtualLine, slave
from servomex.testing import FakeTransport
from tests.helpers.hook_port import answering
from tests.helpers.modbus_bytes import rtu

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the silences that are kept and waited for: what comes on a virtual line comes at once."""
    monkeypatch.setattr(losses, "STEADY_GAP_S", 0.04)
    monkeypatch.setattr(ModbusLine, "timing", Timing(quiet_s=0.05, silence_s=0.02))
    monkeypatch.setattr(ports, "READ_TICK_S", 0.01)


def client_on(link: SerialLink) -> ModbusClient:
    return losses.single_attempts(link, 1, ProtocolKind.MODBUS_RTU)


def test_lost_and_damaged_loopbacks_are_counted_and_not_repeated(line: VirtualLine) -> None:
    tally, faults = Tally(), line.analysers[0].faults
    with SerialLink(line.url, gap=0.002) as link:
        steps = losses.loopbacks(client_on(link), 5, tally, timeout=0.1)
        next(steps)
        for faults.silent, faults.corrupt in ((True, 0.0), (False, 0.0), (False, 1.0), (False, 0.0)):
            next(steps)
        assert [*steps] == []
    assert (tally.sent, tally.answered, tally.lost, tally.damaged) == (5, 3, 1, 1)
    assert (len(tally.round_trips_s), tally.late) == (3, 0)


def test_late_loopbacks_are_lost_and_noticed_afterwards(
    line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModbusLine, "timing", Timing(quiet_s=0.2, silence_s=0.02))
    tally, faults = Tally(), line.analysers[0].faults
    with SerialLink(line.url, gap=0.002) as link:
        steps = losses.loopbacks(client_on(link), 2, tally, timeout=0.08)
        next(steps)
        faults.late = 0.11
        next(steps)
        faults.late = 0.0
        assert [*steps] == []
    assert (tally.sent, tally.answered, tally.lost, tally.late) == (2, 1, 1, 1)


def test_an_analyser_that_falls_silent_ends_the_loopbacks(
    line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "RECOVERY_S", 0.15)
    tally = Tally()
    with SerialLink(line.url, gap=0.002) as link:
        steps = losses.loopbacks(client_on(link), 9, tally, timeout=0.3)
        next(steps)
        line.analysers[0].faults.silent = True
        heard = len(line.heard)
        next(steps)
        assert len(line.heard) == heard + 1, "it was repeated"
        with pytest.raises(ServomexTimeoutError):
            next(steps)
    assert (tally.sent, tally.answered, tally.lost) == (2, 1, 1)


def test_each_counted_read_follows_an_exchange_by_the_gap(line: VirtualLine) -> None:
    tallies = {0.03: Tally(), 0.06: Tally()}
    with SerialLink(line.url, gap=0.002) as link:
        collections.deque(losses.gaps(client_on(link), 3, tallies), maxlen=0)
        assert link.gap_s == 0.002
    assert [tally.answered for tally in tallies.values()] == [3, 3]
    moments = [moment for moment, _ in line.heard]  # nothing takes any time on this line
    silences = [after - before for before, after in itertools.pairwise(moments)]
    assert min(silences) >= 0.03
    assert sum(0.03 <= silence < 0.055 for silence in silences) >= 2
    assert sum(0.06 <= silence < 0.085 for silence in silences) >= 2


def test_the_first_read_follows_as_closely_as_the_others(line: VirtualLine) -> None:
    tallies = {0.0: Tally()}
    with SerialLink(line.url, gap=0.04) as link:
        client = client_on(link)
        client.read_analyser(time.monotonic() + 5.0)
        line.analysers[0].faults.gap = 0.03
        time.sleep(0.04)
        collections.deque(losses.gaps(client, 1, tallies, timeout=0.1), maxlen=0)
    assert (tallies[0.0].sent, tallies[0.0].lost) == (1, 1)


def test_reads_that_fail_are_counted_once_and_the_next_is_sent(line: VirtualLine) -> None:
    tally, faults = Tally(), line.analysers[0].faults
    with SerialLink(line.url, gap=0.03) as link:
        steps = losses.reads(client_on(link), 5, tally)
        next(steps)
        for faults.silent, faults.corrupt in ((True, 0.0), (False, 0.0), (False, 1.0), (False, 0.0)):
            next(steps)
        assert [*steps] == []
    assert (tally.sent, tally.answered, tally.lost, tally.damaged) == (5, 3, 1, 1)


def test_a_read_that_is_refused_is_counted_and_not_a_loss(
    line: VirtualLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slave, "SUPPORTED", (4, 8))
    tally = Tally()
    with SerialLink(line.url, gap=0.002) as link:
        collections.deque(losses.reads(client_on(link), 3, tally), maxlen=0)
    assert (tally.sent, tally.refused, tally.failure_rate) == (3, 3, 0.0)


def test_what_it_takes_until_the_line_answers_is_not_counted() -> None:
    answer, until, tally = answering(VirtualAnalyzer()), time.monotonic() + 2.0, Tally()
    port = FakeTransport(lambda request: answer(request) if time.monotonic() > until else b"")
    with SerialLink(port, gap=0.002) as link:
        collections.deque(losses.loopbacks(client_on(link), 1, tally), maxlen=0)
    assert time.monotonic() > until
    assert (tally.sent, tally.answered) == (1, 1)


@pytest.mark.parametrize("code", [0x0A, 0x0B])
def test_what_a_gateway_answers_is_counted_as_a_refusal(code: int) -> None:
    port, tally = FakeTransport(lambda request: rtu(f"01 {request[1] | 0x80:02X} {code:02X}")), Tally()
    with SerialLink(port, gap=0.002) as link:
        collections.deque(losses.gaps(client_on(link), 3, {0.01: tally}, timeout=0.3), maxlen=0)
    assert (tally.sent, tally.refused) == (3, 3)


def test_what_is_lost_or_damaged_makes_the_rate_and_a_refusal_does_not() -> None:
    assert Tally(sent=10, answered=5, lost=2, damaged=1, refused=2).failure_rate == pytest.approx(0.3)
    assert Tally().failure_rate == 0.0
