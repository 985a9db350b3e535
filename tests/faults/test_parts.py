"""The parts of the campaign in which the driver is not alone, or time stands still, each by itself."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import attrs
import pytest

from servomex import open_device
from servomex.models.reading import ChannelStatus
from servomex.port.link import SerialLink
from tests.faults import crowd
from tests.faults.bench import broadcast, judged
from tests.faults.busy import Busy
from tests.faults.checker import Given
from tests.faults.crowd import CACHED_EQUAL, Between, CrowdedLine, request
from tests.faults.hub import Hub
from tests.faults.lively import TURN_S
from tests.faults.remote import Clocks
from tests.faults.sleeping import Slept, build_shim
from tests.faults.strict import CROWD_S, EQUAL_ASKED
from tests.fuzz import oracle
from tests.helpers.background import ended


def test_late_sleeps_are_noticed_also_while_they_go_on() -> None:
    busy = Busy()
    with busy.watched():
        time.sleep(0.1)
        begun = time.monotonic()
        busy._due = begun - 1.0
        assert busy.late_s(begun - 0.5, begun) >= 0.5


def test_what_a_gateway_answers_from_its_memory_is_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """To an equal request, the reply is the answer in every byte: no driver can know that it is old."""
    monkeypatch.setattr(crowd, "CACHED_S", 60.0)
    truth, checker, tally = judged("modbus_rtu", between=Between(cache=1.0))
    line = checker.line
    with open_device(line.url, protocol="modbus_rtu", address=3, identify=False) as analyzer:
        first = analyzer.read_channel("I2")
    line.open(19200)
    reads = [sent for _, sent in line.heard if sent[1] in (2, 4)]
    time.sleep(2 * TURN_S)
    begun = time.monotonic()
    for sent in reads:
        line.write(sent)
    replies(line, 0.05)
    assert len(truth.replayed) == len(reads)
    again = Given.reading(attrs.evolve(first, received_at=datetime.now(UTC), monotonic_ns=time.monotonic_ns()))
    checker.good("from the memory", again, begun)
    assert tally.counts[CACHED_EQUAL] == 1
    assert not tally.findings
    truth.replayed.clear()
    checker.good("old", again, begun)
    assert [finding.kind for finding in tally.findings] == ["stale"]


def test_what_was_said_to_another_just_before_a_call_is_counted_apart() -> None:
    _, checker, tally = judged("modbus_rtu")
    with open_device(checker.line.url, protocol="modbus_rtu", address=3, identify=False) as analyzer:
        given = Given.reading(analyzer.read_channel("I2"))
    checker.crowded = True
    checker.good("read_channel", given, given.stamp - 0.001)
    assert tally.counts[EQUAL_ASKED] == 1
    assert not tally.findings
    time.sleep(3 * CROWD_S)
    now = time.monotonic()
    checker.good("read_channel", attrs.evolve(given, stamp=now), now)
    assert [finding.kind for finding in tally.findings] == ["stale"]


def test_a_broadcast_that_is_stamped_long_before_it_was_said_is_found() -> None:
    """Of those behind a stall nobody can know which were lost: they may be as old as it lasted."""
    truth, checker, tally = judged("continuous")
    checker.good("dated by a clock of whole seconds", broadcast(truth, -1.0), 0.0)
    assert not tally.findings
    checker.good("too old", broadcast(truth, -2.5), 0.0)
    assert [finding.kind for finding in tally.findings] == ["wrong"]
    checker.held_up_s = 2.0
    checker.good("behind a stall", broadcast(truth, -2.5), 0.0)
    assert len(tally.findings) == 1
    checker.good("long before the stall", broadcast(truth, -60.0), 0.0)
    assert len(tally.findings) == 2


def replies(line: CrowdedLine, wait_s: float = 0.0) -> bytes:
    time.sleep(wait_s)
    return line.take(4096)


def test_another_master_is_answered_in_turn_or_not_heard_at_all() -> None:
    for deaf in (False, True):
        truth, checker, _ = judged("modbus_rtu", between=Between(turnaround=0.05, deaf=deaf))
        line, dice = checker.line, Random(1)
        line.open(19200)
        line.others_ask(request("all", 3, "modbus_rtu", dice), heard=True)
        line.write(request("states", 3, "modbus_rtu", dice))
        heard = replies(line, 0.2)
        assert heard.startswith(request("all", 3, "modbus_rtu", dice)), "a request is heard as it is"
        assert [item.function for item in truth.said] == ([4] if deaf else [4, 2])


def test_a_network_that_stands_still_gives_all_at_once() -> None:
    truth, checker, _ = judged("modbus_rtu")
    line = checker.line
    line.open(19200)
    line.write(request("all", 3, "modbus_rtu", Random(1)))
    line.stall(0.3)
    line.write(request("states", 3, "modbus_rtu", Random(1)))
    assert replies(line) == b""
    assert len(truth.said) == 1, "the second request is held up as well"
    replies(line, 0.35)
    assert len(truth.said) == 2


def test_a_serial_server_gives_every_reply_to_both_of_its_clients() -> None:
    _, checker, _ = judged("modbus_rtu")
    with Hub(checker.line) as hub, SerialLink(hub.url) as first, SerialLink(hub.url) as second:
        until = time.monotonic() + 5
        first.write(request("coils", 3, "modbus_rtu", Random(1)))
        heard = []
        for link in (first, second):
            received = b""
            while len(received) < 7 and time.monotonic() < until:
                received += link.read(until)
            heard.append(received)
    assert heard[0] == heard[1] == oracle.rtu_frame(bytes([3, 1, 2, 0, 0]))


def test_states_tell_channel_and_moment() -> None:
    truth, _, _ = judged("modbus_rtu")
    seen: list[tuple[ChannelStatus, ...]] = []
    for _ in range(2):
        truth.discrete_inputs(0, 80)
        moment = truth.said[-1].moment
        alarms = [block.status.alarms for block in moment.blocks.values()]
        assert len({*alarms}) == len(alarms), "no two channels may share their alarms"
        seen.append(tuple(block.status for block in moment.blocks.values()))
        time.sleep(TURN_S)
    assert not {*seen[0]} & {*seen[1]}


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    built = build_shim(tmp_path)
    if built is None:
        pytest.skip("there is no C compiler, or this is not Linux")
    return built


def test_the_monotonic_clock_stands_still_while_a_computer_sleeps(shim: Path, tmp_path: Path) -> None:
    """It has slept an hour when the process begins, and another one in the middle."""
    slept = Slept(tmp_path / "slept", shim)
    slept.add(3600)
    program = (
        "import sys, threading, time\n"
        "def behind(): return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()\n"
        "print(behind(), flush=True)\n"
        "sys.stdin.readline()\n"
        "begun = time.monotonic()\n"
        "time.sleep(0.1); threading.Event().wait(0.1)\n"
        "print(behind(), time.monotonic() - begun, time.time(), flush=True)\n"
    )
    usual = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    asleep = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=slept.environment,
    )
    with ended(asleep) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert float(process.stdout.readline()) == pytest.approx(usual + 3600, abs=0.1)
        slept.add(3600)
        process.stdin.write("go on\n")
        process.stdin.flush()
        behind, waited, wall = map(float, process.stdout.readline().split())
    slept.close()
    assert behind == pytest.approx(usual + 7200, abs=0.1)
    assert 0.2 <= waited < 5
    assert wall == pytest.approx(time.time(), abs=30)


def test_what_a_process_that_slept_reports_is_judged_by_its_age() -> None:
    """A reading of before that looks as if it were of now is found, whatever the clock of the process says."""
    truth, _, _ = judged("continuous")
    given = broadcast(truth)
    clocks = Clocks(given.looked_at - time.monotonic())
    assert clocks.sleep(100.0, 150.0) == 50.0
    assert clocks.sleep(160.0, 170.0) == 10.0
    assert [clocks.moment(at) for at in (99.0, 101.0, 109.0, 111.0)] == [99.0, 151.0, 159.0, 171.0]
    honest = attrs.evolve(given, age_s=7.0, looked_at=given.looked_at + 7.0)
    assert clocks.seen(honest).stamp == pytest.approx(given.stamp, abs=0.1)
    young = attrs.evolve(given, age_s=0.0, looked_at=given.looked_at + 7.0)
    assert clocks.seen(young).stamp == pytest.approx(given.stamp + 7.0, abs=0.1)
